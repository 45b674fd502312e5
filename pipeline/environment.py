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

GARBAGE_COLLECTION_THRESHOLD = 100_000
"""Number of new objects after which Python collects garbage; the default of 700 or 2,000 makes imports slower."""
AVX2_VARIABLES = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
"""Environment variables with which torch and oneDNN use AVX2 instructions at most."""
CPU_INFO_FILE = Path("/proc/cpuinfo")
"""File in which Linux lists the instructions that the processor has."""
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Codes by which glibc's function `mallopt` identifies two of its settings, from malloc.h."""
HIDDEN_LIGHTNING_WARNINGS = (
    ".*does not have many workers.*",
    ".*LeafSpec.*",  # a deprecated function of torch that Lightning uses
    ".*GPU available but not used.*",
    ".*`srun` command is available.*",
)
"""Patterns of Lightning's warnings that do not apply here and are hidden."""


def prepare_process() -> None:
    """Apply the process settings that every command needs. Must be called before torch is imported."""
    speed_up_start_and_exit()
    disable_avx512()


def speed_up_start_and_exit() -> None:
    """Make Python collect garbage rarely, and never at exit.

    Searching imported modules for garbage is useless, and took a quarter of the time of a command that does nothing.
    """
    gc.set_threshold(GARBAGE_COLLECTION_THRESHOLD)
    atexit.register(gc.freeze)


def disable_avx512() -> None:
    """Make torch compute with AVX2 on processors that have AVX-512, so that all AMD processors give the same bits.

    Environment variables that the user has set are kept. Speed does not suffer: most time goes into MKL's matrix
    products, which use AVX2 on AMD anyway. On Intel processors MKL uses AVX-512, so the last digits differ there.
    """
    try:
        with CPU_INFO_FILE.open() as processors:
            flags = processors.read(4096).split()
    except OSError:  # not Linux
        return
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
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def silence_lightning() -> None:
    """Hide Lightning's messages about devices and its warnings about data loaders."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in HIDDEN_LIGHTNING_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
