"""`python -m powerless ...` is `python -m pipeline ...`, for which permissions hold even if root runs it."""

import ctypes
import os
import runpy

if __name__ == "__main__":
    system = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the version of the interface, and this process
    sets = (ctypes.c_uint32 * 6)()
    failed = system.capget(header, sets)
    sets[0] &= ~(1 << 1 | 1 << 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, of capabilities(7)
    if failed or system.capset(header, sets):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    runpy.run_module("pipeline", run_name="__main__")
