"""Results of commands as JSON for programs, alone on standard output; what people read goes to standard error."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Annotated, Any

import typer

from pipeline.addresses import hide_password

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, to stdout.")]


@contextmanager
def json_result(is_wanted: bool) -> Iterator[dict[str, Any]]:
    """Yield a dictionary for the result of a command; if it is wanted, print it as JSON when the block has ended.

    Then all that the block and the processes that it starts print goes to standard error. After an exception, nothing
    is printed.
    """
    result: dict[str, Any] = {}
    if not is_wanted:
        yield result
        return
    stdout = os.dup(1)
    os.dup2(2, 1)  # for the processes that the block starts
    try:
        with redirect_stdout(sys.stderr):
            yield result
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
    print(hide_password(json.dumps(result, indent=2)))
