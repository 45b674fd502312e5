"""`python -m powerless ...` is `python -m pipeline ...`, for which permissions hold even if root runs it."""

import ctypes
import os
import runpy

VERSION = 0x20080522
ANYWHERE = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, of capabilities(7)."""


def give_up() -> None:
    """What lets root read and write where nobody may."""
    system = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
    failed = system.capget(header, sets)
    sets[0] &= ~ANYWHERE  # of those in effect, the first 32
    if failed or system.capset(header, sets):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    give_up()
    runpy.run_module("pipeline", run_name="__main__")
