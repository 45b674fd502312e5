"""Failures of MLflow end a command that needs it with a one-line error; every other command warns and goes on."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.errors import RunError

if TYPE_CHECKING:
    from pipeline.tracking.store import MlflowStore


class Unreachable(RunError):
    """Raised when MLflow does not answer, or answers with an error."""


class BestEffortWriter:
    """Base class for writing to MLflow while results are computed. After a failure it warns, and writes no more."""

    store: "MlflowStore | None" = None
    """Store to write to; None before it is open and after a failure."""
    rebuild_command = "python -m pipeline track"
    """Command that writes the missing runs later."""

    @contextmanager
    def warn_on_failure(self) -> Iterator[None]:
        """Print any error of the block as a one-line warning on stderr, and close the store."""
        try:
            yield
        except Exception as error:  # no error of MLflow, whatever its type, is worth a training
            self.store = None
            later = f"the results are in the files, `{self.rebuild_command}` shows them later"
            print(f"warning: not tracked ({one_line(error)}); {later}", file=sys.stderr)


@contextmanager
def raise_unreachable(uri: str, errors: type[Exception] | tuple[type[Exception], ...]) -> Iterator[None]:
    """Raise `Unreachable`, which names the store, in place of these errors of the block."""
    try:
        yield
    except errors as error:
        raise Unreachable(f"no MLflow at {hide_password(uri)}: {one_line(error)}") from None


def one_line(error: Exception) -> str:
    """Return the first line of the error's message, without passwords and cut to 200 characters."""
    message = str(error).strip() or type(error).__name__
    return hide_password(message.splitlines()[0])[:200]


def hide_password(text: str) -> str:
    """Replace user and password of every address in the text by `***`."""
    return re.sub(r"://[^/\s]*@", "://***@", text)
