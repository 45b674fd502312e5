"""What training asks of the processor: its threads, and to leave it its memory."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """`count` threads for torch's arithmetic, whose last digits depend on it; then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Keep freed memory for the next step, where the C library is glibc: it gives large blocks back to the system,
    and to get them again, page by page, was a tenth (causal attention) to a quarter (full) of a step's time."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
