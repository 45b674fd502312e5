"""What happens when MLflow fails: a command that needs it ends with one line, all others warn and go on."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.errors import RunError

if TYPE_CHECKING:
    from pipeline.tracking.store import MlflowStore


class Unreachable(RunError):
    """MLflow does not answer, or answers with an error."""


class BestEffort:
    """Base class of what shows results in MLflow while they are computed. The first failure ends it, with a warning."""

    store: "MlflowStore | None" = None
    """None before the store is open, and after a failure."""
    rebuilt_by = "python -m pipeline track"
    """The command that shows later what could not be shown."""

    @contextmanager
    def warn_on_failure(self) -> Iterator[None]:
        """Turn any error of the block into a one-line warning on stderr, and give the store up."""
        try:
            yield
        except Exception as error:  # no error of MLflow, whatever its type, is worth a training
            self.store = None
            print(
                f"warning: not tracked ({one_line(error)}); the results are in the files, `{self.rebuilt_by}` shows "
                f"them later",
                file=sys.stderr,
            )


@contextmanager
def raise_unreachable(uri: str, errors: type[Exception] | tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn these errors of the block into an `Unreachable` that names the store."""
    try:
        yield
    except errors as error:
        raise Unreachable(f"no MLflow at {hide_password(uri)}: {one_line(error)}") from None


def one_line(error: Exception) -> str:
    """The first line of the error's message, without passwords and at most 200 characters long."""
    message = str(error).strip() or type(error).__name__
    return hide_password(message.splitlines()[0])[:200]


def hide_password(text: str) -> str:
    """The text with the user and password of every address replaced by `***`."""
    return re.sub(r"://[^/\s]*@", "://***@", text)
