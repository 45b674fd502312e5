"""The log of events survives those who write it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.params import Tracking
from pipeline.tracking import Unreachable, connect
from pipeline.tracking.ablations import sync
from tests.tracking.written import CELL, runs, write_ablation


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.jsonl"


@pytest.fixture
def log(path: Path) -> Tracking:
    return Tracking(uri=f"jsonl:{path}")


def test_cut_anywhere_it_says_what_was_said_before_and_takes_more(path: Path, log: Tracking) -> None:
    opened = connect(log)
    run = opened.create("one", {"identity": "mine"}).id
    whole = len(path.read_bytes())
    opened.log(run, metrics={"share": 1.0})
    content = path.read_bytes()
    for end in range(whole, len(content)):
        path.write_bytes(content[:end])
        opened.end(run, "KILLED")
        (found,) = opened.find("mine")
        assert (found.status, dict(found.metrics)) == ("KILLED", {"share": 1.0} if end == len(content) - 1 else {})


APPEND = """
import sys
from pipeline.params import Tracking
from pipeline.tracking import connect

_, uri, name = sys.argv
opened = connect(Tracking(uri=uri))
for step in range(20):
    opened.curve(name, [{"step": step, "loss": 1.0}])
"""


def test_several_processes_write_it_together(path: Path, log: Tracking) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", APPEND, log.uri, str(name)]) for name in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted((event["run"], event["rows"][0]["step"]) for event in events) == [
        (str(name), step) for name in range(3) for step in range(20)
    ]


def test_it_is_only_appended_to(path: Path, log: Tracking, tmp_path: Path) -> None:
    sync(log, CELL, write_ablation(tmp_path), None)
    before = path.read_bytes()
    sync(log, CELL, write_ablation(tmp_path, weights=b"others"), None)
    assert path.read_bytes().startswith(before)
    assert len(runs(log)) == 3


def test_a_place_that_cannot_be_written_is_said_in_a_line(tmp_path: Path) -> None:
    folder = write_ablation(tmp_path)
    for place in (folder, folder / "config.json" / "runs.jsonl"):
        with pytest.raises(Unreachable, match="cannot be"):
            sync(Tracking(uri=f"jsonl:{place}"), CELL, folder, None)
