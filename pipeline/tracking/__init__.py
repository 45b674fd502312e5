"""The view of the results: runs, curves and numbers for people to look at, in MLflow or elsewhere.

The files are the truth, the view can be rebuilt from them at any time: what does not answer costs seconds and a
warning, never a result. `ablations` shows the ablations of the grid and `trials` those of a search; both know a back end by
what is here: a `Store`, of the module that `BACKENDS` names. Only that module is imported, and only when it is used.
"""

import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

from pipeline.errors import RunError, UserError
from pipeline.params import Tracking
from pipeline.params.config import shorten, suggest

BACKENDS = {
    **dict.fromkeys(("sqlite", "postgresql", "mysql", "http", "https"), "mlflow"),
    "jsonl": "jsonl",
}
"""Scheme of `tracking.uri` -> the module here that serves it, by its `open_store(settings) -> Store` and
`serve(settings, port)`."""


class Unreachable(RunError):
    """The back end does not answer, or stopped to."""


@dataclass(frozen=True)
class Run:
    """What a store says of a run."""

    id: str
    status: str
    """`RUNNING`, or how it ended."""
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    """The last value of each."""


class Store(Protocol):
    """One experiment of a back end. Runs are given by id. Every method raises `Unreachable`.

    What is not finite is no metric and no point of a curve: it is left out. The tags `user`, `source` (a command),
    `commit` and `note` (Markdown) are shown in the place that a back end has for them.
    """

    def find(self, identity: str) -> list[Run]:
        """The runs with that tag `identity`, without those deleted."""

    def running(self) -> list[Run]:
        """The runs of which nobody has said how they ended, without those deleted."""

    def create(self, name: str, tags: Mapping[str, str], parent: str = "") -> Run:
        """A new run, below `parent` if there is one."""

    def log(
        self, run: str, *, params: Mapping[str, Any] = {}, metrics: Mapping[str, Any] = {}, tags: Mapping[str, str] = {}
    ) -> None:
        """Add what is known of a run, together. A metric or tag that is there gets the new value."""

    def curve(self, run: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add a point to the curve of each metric of each row, at its `step`. A row is added as a whole or not."""

    def points(self, run: str, metric: str) -> dict[int, float]:
        """Step -> value: a curve."""

    def artifact(self, run: str, file: Path) -> None:
        """Keep a file, or where it is. One of the same name is replaced."""

    def model(self, run: str, name: str, folder: Path, metrics: Mapping[str, Any]) -> None:
        """Keep the trained ablation that the run made, to be loaded by its name, with what is known of how good it is. What
        is kept already is not kept twice."""

    def watch(self, run: str) -> None:
        """Show what the machine does until the run ends, if the back end can and is asked to."""

    def dataset(self, run: str, name: str, rows: int, digests: Mapping[str, str]) -> None:
        """The run learned from that many rows of `data/<name>`, whose files have these digests."""

    def end(self, run: str, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Say how a run ended."""

    def delete(self, run: str) -> None:
        """Show a run no more."""


def check(settings: Tracking) -> str:
    """The name of the back end that serves `tracking.uri`. Imports nothing, and asks no one.

    Raises:
        UserError: there is none.
    """
    scheme = re.split(r"[+:]", settings.uri, maxsplit=1)[0]  # what follows a `+` is a driver of the same
    if scheme not in BACKENDS:
        raise UserError(f"params.yaml: tracking.uri: no back end for {shorten(scheme)}{suggest(scheme, BACKENDS)}")
    return BACKENDS[scheme]


def connect(settings: Tracking) -> Store:
    """Open the experiment, and make it where there is none yet.

    Raises:
        UserError: no back end serves such an address.
        Unreachable: there is none at this one.
    """
    opened: Store = import_module(f"{__name__}.{check(settings)}").open_store(settings)
    return opened


def serve(settings: Tracking, port: int) -> None:
    """Show the experiment to people, on this machine, until they have seen enough.

    Raises:
        UserError: this back end has nothing to show, or the port is taken.
    """
    import_module(f"{__name__}.{check(settings)}").serve(settings, port)


def name_call() -> None:
    """`mlflow run` makes a run for the call itself, with a name out of a hat: it gets one that says what was called."""
    if "MLFLOW_RUN_ID" in os.environ:
        with BestEffort().attempt():
            import_module(f"{__name__}.mlflow").name_call(os.environ["MLFLOW_RUN_ID"])


def workspace_path(path: Path) -> Path:
    """The absolute path. One in the copy of the workspace where `dvc exp run --temp` works, which DVC removes with all
    that is in it, is the same one in the workspace itself."""
    return Path(re.sub(r"/\.dvc/tmp/exps/(standalone/)?[^/]+/", "/", str(path.resolve())))


class BestEffort:
    """Something shown in a store while the work goes on. The first failure costs a line, and is the last."""

    store: Store | None = None
    """None: not open, or it gave up."""
    later = "`python -m pipeline track` shows them later"

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Around what may fail."""
        try:
            yield
        except Exception as error:  # whatever it is, it is not worth a training
            self.store = None
            warn(error, self.later)


def warn(error: Exception, later: str) -> None:
    """Say in one line that the results are not shown, and not in danger; `later`: when they will be."""
    print(f"warning: not tracked ({first_line(error)}); the results are in the files, {later}", file=sys.stderr)


def first_line(error: Exception) -> str:
    """What an error says, in a line."""
    said = str(error).strip() or type(error).__name__
    return hide_password(said.splitlines()[0])[:200]


def hide_password(text: str) -> str:
    """The text, with who logs in to an address hidden."""
    return re.sub(r"://[^/\s]*@", "://***@", text)


def finite(values: Mapping[str, Any]) -> dict[str, float]:
    """Those of the values that can be drawn; `step` says where, and is none of them."""
    drawn = {key: value for key, value in values.items() if key != "step" and value is not None}
    return {key: float(value) for key, value in drawn.items() if math.isfinite(value)}
