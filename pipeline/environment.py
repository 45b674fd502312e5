"""Settings of the process that commands run in: garbage, processor instructions, threads, memory and warnings."""

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
"""New objects after which Python looks for garbage; its own default, 700 or 2,000, makes every import slower."""
AVX2_VARIABLES = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
"""Environment variables that torch and oneDNN read before their first computation."""
CPU_INFO_FILE = Path("/proc/cpuinfo")
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Numbers of two settings of `mallopt`, from glibc's malloc.h."""
HIDDEN_LIGHTNING_WARNINGS = (
    ".*does not have many workers.*",
    ".*LeafSpec.*",  # a deprecated function of torch that Lightning uses
    ".*GPU available but not used.*",
    ".*`srun` command is available.*",
)


def prepare_process() -> None:
    """Apply the settings that every command needs. The command line calls this first, before anything is imported."""
    speed_up_start_and_exit()
    disable_avx512()


def speed_up_start_and_exit() -> None:
    """Collect garbage rarely, and never at exit.

    Imported modules stay until the process ends, so looking for garbage among them is wasted: it took a quarter of the
    time of a command that does nothing.
    """
    gc.set_threshold(GARBAGE_COLLECTION_THRESHOLD)
    atexit.register(gc.freeze)


def disable_avx512() -> None:
    """Make torch compute with AVX2 on processors that have AVX-512, so that all AMD processors give the same bits.

    Variables that the user has set are kept. Nothing is lost: most time goes into MKL's matrix products, which use AVX2
    on AMD anyway. On Intel processors MKL uses AVX-512, so their last digits differ.
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
    """Let torch compute with `count` threads inside the context, because the last digits of a result depend on it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(thread_count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Make the C library (only glibc can) keep freed memory for the next training step.

    Otherwise it returns large blocks to the system. Getting them back, page by page, took a tenth (causal attention) to
    a quarter (full attention) of a step.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def silence_lightning() -> None:
    """Hide Lightning's log of devices, and its advice on data loaders: here batches are only indices."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in HIDDEN_LIGHTNING_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
