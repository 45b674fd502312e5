"""Settings of the Python process: garbage collection, processor instructions, threads, memory and warnings."""

import atexit
import ctypes
import gc
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

AVX2_VARIABLES = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
"""Environment variables with which torch and oneDNN use AVX2 instructions at most."""
CPU_INFO_FILE = Path("/proc/cpuinfo")
"""File in which Linux lists the instructions that the processor has."""


def prepare_process() -> None:
    """Apply the process settings that every command needs. Must be called before torch is imported."""
    # collect garbage rarely, and never at exit: to search imported modules for it is useless, and took a quarter of
    # the time of a command that does nothing
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    disable_avx512()


def disable_avx512() -> None:
    """Make torch compute with AVX2 on processors that have AVX-512, so that all AMD processors give the same bits.

    Environment variables that the user has set are kept. Speed does not suffer: most time goes into MKL's matrix
    products, which use AVX2 on AMD anyway. On Intel processors MKL uses AVX-512, so the last digits differ there.
    """
    if not CPU_INFO_FILE.exists():  # not Linux
        return
    with CPU_INFO_FILE.open() as processors:
        flags = processors.read(4096).split()  # those of the first processor
    if "avx512f" in flags:
        for name, value in AVX2_VARIABLES.items():
            os.environ.setdefault(name, value)


@contextmanager
def limit_threads(thread_count: int) -> Iterator[None]:
    """Context manager in which torch uses `thread_count` threads, on which the last digits of results depend."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(thread_count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Make the C library glibc keep freed memory for the next training step; other C libraries are left unchanged.

    By default glibc returns large blocks to the system. Requesting them again, page by page, took a tenth (causal
    attention) to a quarter (full attention) of a step.
    """
    library = ctypes.CDLL(None)
    trim_threshold, mmap_max = -1, -4  # codes of two settings, from malloc.h
    if hasattr(library, "mallopt"):
        library.mallopt(mmap_max, 0)
        library.mallopt(trim_threshold, 2**31 - 1)


def silence_lightning() -> None:
    """Hide Lightning's messages about devices, and its warnings that do not apply here."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*LeafSpec.*",  # a deprecated function of torch that Lightning uses
        ".*GPU available but not used.*",
        ".*`srun` command is available.*",
    ):
        warnings.filterwarnings("ignore", message=message)
