"""Ctrl-C where it does no harm.

By a handler, not by a mask of signals: a thread of some library that does not mask it would take it.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Held:
    """Ctrl-C of a block in which it is held."""

    def __init__(self) -> None:
        self.came = False
        self._listening = False

    def __call__(self, *_: object) -> None:
        """The signal's handler."""
        self.came = True
        if self._listening:
            raise KeyboardInterrupt

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Within, it comes at once, also if it came before."""
        self._listening = True
        try:
            if self.came:
                raise KeyboardInterrupt
            yield
        finally:
            self._listening = False


@contextmanager
def defer_interrupts() -> Iterator[Held]:
    """Within, Ctrl-C waits for the end of the block. (Python gives it to the main thread; others are as they were.)"""
    interrupt = Held()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupt.came:
        raise KeyboardInterrupt
