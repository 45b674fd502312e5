"""Errors of MLflow. `track` and `ui` need MLflow and end with a one-line error; other commands warn and go on."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.addresses import hide_password
from pipeline.errors import RunError, UserError

if TYPE_CHECKING:
    from pipeline.tracking.store import MlflowStore

NOT_TRACKED = "warning: not tracked"
"""Beginning of the line that says that MLflow did not get the results of a training."""
REFUSED_LOGIN = re.compile(r"error code (401|403)\b")
"""What MLflow's message has if a server refuses the login."""


class BestEffortWriter:
    """Base class of writers to MLflow whose failure must not stop a training: they print a warning and stop writing."""

    store: "MlflowStore | None" = None
    """MLflow store to write to; None before the store is opened and after a failure."""
    retry_command = "python -m pipeline track"
    """Command with which the user can write the missing runs to MLflow later."""

    @contextmanager
    def warn_on_failure(self) -> Iterator[None]:
        """Context manager that prints any error of its block as a one-line warning on stderr, and drops the store."""
        try:
            yield
        except Exception as error:  # no error of MLflow, whatever its type, is worth a training
            self.store = None
            later = f"the results are in the files, `{self.retry_command}` shows them later"
            print(f"{NOT_TRACKED} ({_summarize(error)}); {later}", file=sys.stderr)


@contextmanager
def raise_unreachable(uri: str, error_types: type[Exception] | tuple[type[Exception], ...]) -> Iterator[None]:
    """Context manager that replaces exceptions of `error_types` by a RunError that names the address `uri`.

    A refused login becomes a UserError.
    """
    try:
        yield
    except error_types as error:
        address, summary = hide_password(uri), _summarize(error)
        if REFUSED_LOGIN.search(str(error)):
            raise UserError(f"{address}: {summary}") from None
        raise RunError(f"no MLflow at {address}: {summary}") from None


def _summarize(error: Exception) -> str:
    message = str(error).strip() or type(error).__name__
    if code := REFUSED_LOGIN.search(message):
        variables = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        return f"the server refuses the login (error {code[1]}); set {variables}"
    return hide_password(message.splitlines()[0])[:200]
