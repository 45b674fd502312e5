"""Ctrl-C that is held comes once, where it is heard or at the end."""

import os
import signal
from collections.abc import Callable

import pytest

from pipeline.search.interrupts import defer_interrupts


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def interrupted(block: Callable[[], None]) -> bool:
    try:
        block()
    except KeyboardInterrupt:
        return True
    return False


def test_it_waits_for_the_end_of_the_block() -> None:
    done = []

    def block() -> None:
        with defer_interrupts():
            ctrl_c()
            ctrl_c()
            done.append("all")

    assert interrupted(block)
    assert done == ["all"]


@pytest.mark.parametrize("before", [True, False])
def test_it_comes_at_once_where_it_is_heard(before: bool) -> None:
    done = []

    def block() -> None:
        with defer_interrupts() as interrupt:
            if before:
                ctrl_c()
            done.append("before")
            with interrupt.heard():
                ctrl_c()
                done.append("heard")

    assert interrupted(block)
    assert done == ["before"]


def test_afterwards_all_is_as_it_was() -> None:
    handler = signal.getsignal(signal.SIGINT)
    with defer_interrupts() as interrupt, interrupt.heard():
        pass
    assert signal.getsignal(signal.SIGINT) is handler
    assert interrupted(ctrl_c)


def test_a_return_from_the_block_is_interrupted_too() -> None:
    def leave() -> None:
        with defer_interrupts():
            ctrl_c()
            return

    assert interrupted(leave)
