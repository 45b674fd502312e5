"""The back end of machines without MLflow: `jsonl:runs.jsonl`, a file to which every event is appended as one line of
JSON. A run is the fold of its events, and nothing is ever rewritten."""

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline import files
from pipeline.errors import UserError
from pipeline.params import Tracking
from pipeline.tracking import Run, Unreachable, finite, first_line, workspace_path

LOCK_SECONDS = 60


class JsonlStore:
    """A `Store`: the runs of one experiment in a file of events."""

    def __init__(self, path: Path, experiment: str) -> None:
        self.path, self.experiment = path, experiment

    def find(self, identity: str) -> list[Run]:
        return [run for run in self._runs() if run.tags.get("identity") == identity]

    def running(self) -> list[Run]:
        return [run for run in self._runs() if run.status == "RUNNING"]

    def _runs(self) -> list[Run]:
        runs: dict[str, Run] = {}
        for event in self._events():
            match event:
                case {"event": "create", "run": name, "tags": tags, "experiment": self.experiment}:
                    runs[name] = Run(name, "RUNNING", tags, {})
                case {"run": name} if name not in runs:  # deleted, or of another experiment
                    continue
                case {"event": "log", "run": name, "metrics": metrics, "tags": tags}:
                    one = runs[name]
                    runs[name] = replace(one, tags={**one.tags, **tags}, metrics={**one.metrics, **metrics})
                case {"event": "curve", "run": name, "rows": rows}:
                    last = {key: value for row in rows for key, value in finite(row).items()}
                    runs[name] = replace(runs[name], metrics={**runs[name].metrics, **last})
                case {"event": "end", "run": name, "status": status}:
                    runs[name] = replace(runs[name], status=status)
                case {"event": "delete", "run": name}:
                    del runs[name]
        return list(runs.values())

    def create(self, name: str, tags: Mapping[str, str], parent: str = "") -> Run:
        run = Run(uuid.uuid4().hex, "RUNNING", dict(tags), {})
        self._append("create", run.id, experiment=self.experiment, name=name, parent=parent, tags=run.tags)
        return run

    def log(
        self, run: str, *, params: Mapping[str, Any] = {}, metrics: Mapping[str, Any] = {}, tags: Mapping[str, str] = {}
    ) -> None:
        self._append("log", run, params=dict(params), metrics=finite(metrics), tags=dict(tags))

    def curve(self, run: str, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            self._append("curve", run, rows=[{"step": int(row["step"]), **finite(row)} for row in rows])

    def points(self, run: str, metric: str) -> dict[int, float]:
        curves = (event["rows"] for event in self._events() if (event["event"], event["run"]) == ("curve", run))
        return {row["step"]: row[metric] for rows in curves for row in rows if metric in row}

    def artifact(self, run: str, file: Path) -> None:
        self._append("artifact", run, path=str(file), sha256=files.digest(file.read_bytes()))

    def model(self, run: str, name: str, folder: Path, metrics: Mapping[str, Any]) -> None:
        self._append("model", run, name=name, path=str(folder), metrics=finite(metrics))

    def watch(self, run: str) -> None:
        """It cannot."""

    def dataset(self, run: str, name: str, rows: int, digests: Mapping[str, str]) -> None:
        self._append("dataset", run, name=name, rows=rows, digests=dict(digests))

    def end(self, run: str, status: str) -> None:
        self._append("end", run, status=status)

    def delete(self, run: str) -> None:
        self._append("delete", run)

    def _append(self, event: str, run: str, **content: Any) -> None:
        line = json.dumps({"at": round(time.time(), 3), "run": run, "event": event, **content}, default=str)
        try:
            with FileLock(f"{self.path}.lock", timeout=LOCK_SECONDS), self.path.open("a+b") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
                torn = file.read() not in (b"", b"\n")  # a killed writer left half a line: close it, no one reads it
                file.write(b"\n" * torn + line.encode() + b"\n")
        except OSError as error:
            raise Unreachable(f"{self.path} cannot be written: {first_line(error)}") from None

    def _events(self) -> Iterator[dict[str, Any]]:
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            raise Unreachable(f"{self.path} cannot be read: {first_line(error)}") from None
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:  # half a line
                continue


def open_store(settings: Tracking) -> JsonlStore:
    """The experiment in the file that the address names. It is made by the first event."""
    return JsonlStore(_file(settings), settings.experiment)


def serve(settings: Tracking, port: int) -> None:
    """There are no pages.

    Raises:
        UserError: always.
    """
    raise UserError(
        f"ui: {_file(settings)} is a plain log without pages; read it, or set tracking.uri to a store of MLflow"
    )


def _file(settings: Tracking) -> Path:
    return workspace_path(Path(settings.uri.removeprefix("jsonl:")))
