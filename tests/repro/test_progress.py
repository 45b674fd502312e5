"""The progress of jobs is displayed, and the most expensive job starts first."""

import sys
import time
from pathlib import Path

import pytest

from pipeline.params import Overrides, Params
from pipeline.repro import driver, progress
from pipeline.repro.progress import JobState, ProgressView


def test_the_most_expensive_job_starts_first(smoke: Params) -> None:
    overrides: dict[str, dict[str, object]] = {
        "shallow": {"model": {"layers": 1}},
        "usual": {},
        "full": {"model": {"attention": "full"}},
        "short": {"training": {"steps": 50, "evaluate_every": 25}},
        "same": {},
    }
    ablations = {name: Overrides.model_validate({"task": "addition", **values}) for name, values in overrides.items()}
    jobs = driver.build_jobs_longest_first(smoke.model_copy(update={"ablations": ablations}).all_ablations())
    assert list(jobs) == ["full", "usual", "same", "shallow", "short"]


def test_a_log_gets_a_line_about_the_running_jobs_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(progress, "LINE_INTERVAL_SECONDS", 0.05)
    JobState("train@one", 300, 1600, "converged 3/8").write("one")
    view = ProgressView(["one", "two"])
    with view.display():
        time.sleep(0.2)
        view.report_end("one", "")
    first, second, *_, last = capsys.readouterr().err.splitlines()
    assert str(progress.JOB_FOLDER) in first
    assert all(part in second for part in ("one", "300/1600", "converged 3/8", "0 of 2"))
    assert "1 of 2" in last
    assert not sys.stderr.isatty()
