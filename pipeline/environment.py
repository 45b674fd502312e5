"""Settings of the process that commands run in: garbage collection and processor instructions."""

import atexit
import gc
import os
from pathlib import Path

GARBAGE_THRESHOLD = 100_000
"""New objects after which Python looks for garbage; its own default, 700 or 2,000, makes every import slower."""
WITHOUT_AVX512 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
"""Environment variables that torch and oneDNN read before their first computation."""
CPUINFO = Path("/proc/cpuinfo")


def prepare_process() -> None:
    """Apply the settings that every command needs. The command line calls this first, before anything is imported."""
    speed_up_start_and_exit()
    disable_avx512()


def speed_up_start_and_exit() -> None:
    """Collect garbage rarely, and never at exit.

    Imported modules stay until the process ends, so looking for garbage among them is wasted: it took a quarter of the
    time of a command that does nothing.
    """
    gc.set_threshold(GARBAGE_THRESHOLD)
    atexit.register(gc.freeze)


def disable_avx512() -> None:
    """Make torch compute with AVX2 on processors that have AVX-512, so that all AMD processors give the same bits.

    Variables that the user has set are kept. Nothing is lost: most time goes into MKL's matrix products, which use AVX2
    on AMD anyway. On Intel processors MKL uses AVX-512, so their last digits differ.
    """
    try:
        with CPUINFO.open() as processors:
            flags = processors.read(4096).split()
    except OSError:  # not Linux
        return
    if "avx512f" in flags:
        for name, value in WITHOUT_AVX512.items():
            os.environ.setdefault(name, value)
