"""Progress never decreases, the time left is right or not named, and the most expensive job starts first."""

import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.params import Overrides, Params
from pipeline.repro import driver, progress
from pipeline.repro.progress import MIN_TIMED_STEPS, Job, JobState, ProgressView, estimate_seconds_left


@given(st.integers(1, 5), st.integers(1, 1000))
def test_the_share_done_grows_with_every_step_and_stage(stages: int, steps: int) -> None:
    training = [JobState("train@x", 0)] + [JobState("train@x", 0, step, steps) for step in range(0, steps + 1, 7)]
    states = training + [JobState("next", index) for index in range(1, stages)]
    shares = [round(state.finished_share(stages), 9) for state in states]
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] <= 1.0


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


def state_after(seconds: float, *, duration: float, steps: int, start_step: int) -> JobState:
    """State of a job that only trains, with constant speed: `steps` steps in `duration` seconds."""
    trained = min(steps - start_step, int(seconds / duration * steps))
    share = (trained / steps, trained * duration / steps) if trained >= MIN_TIMED_STEPS else (0.0, 0.0)
    return JobState("train@x", 0, start_step + trained, steps, "", 0.0, start_step / steps, *share)


@given(
    st.lists(st.floats(10.0, 1e5), min_size=1, max_size=6),
    st.integers(1, 4),
    st.floats(0.0, 0.99),
    st.integers(MIN_TIMED_STEPS, 2000),
    st.floats(0.0, 0.9),
)
def test_the_time_left_is_unnamed_until_a_speed_is_known_and_then_right(
    durations: list[float], workers: int, moment: float, steps: int, resumed: float
) -> None:
    """The jobs run at a constant speed; the first was resumed. A schedule gives the true time left."""
    durations = sorted(durations, reverse=True)
    start_steps = [int(steps * resumed)] + [0] * (len(durations) - 1)
    lengths = [duration * (1 - start / steps) for duration, start in zip(durations, start_steps, strict=True)]
    free, starts = [0.0] * workers, []
    for length in lengths:
        worker = free.index(min(free))
        starts.append(free[worker])
        free[worker] += length
    now = moment * max(free)
    jobs = {str(index): Job(["train@x"], 7.0 * duration) for index, duration in enumerate(durations)}
    states, ended = {}, {}
    for index, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        if start <= now:
            states[str(index)] = state_after(
                min(now - start, length), duration=durations[index], steps=steps, start_step=start_steps[index]
            )
        if start + length <= now:
            ended[str(index)] = length
    left = estimate_seconds_left(jobs, states, ended)
    known = ended or any(state.step - state.start_share * steps >= MIN_TIMED_STEPS for state in states.values())
    if not known:
        assert left is None
    else:
        assert left is not None
        true, one_step = max(free) - now, max(durations) / steps
        assert true / 2 - one_step <= left <= 2 * true + one_step  # jobs cannot be divided among workers


def test_a_log_gets_a_line_about_the_running_jobs_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(progress, "LINE_INTERVAL_SECONDS", 0.05)
    JobState("train@one", 0, 300, 1600, "converged 3/8").write("one")
    view = ProgressView({"one": Job(["train@one", "evaluate@one"], 1.0), "two": Job(["train@two"], 1.0)})
    with view.display():
        time.sleep(0.2)
        view.report_end("one", "")
    first, second, *_, last = capsys.readouterr().err.splitlines()
    assert str(progress.JOB_FOLDER) in first
    assert all(part in second for part in ("one", "300/1600", "converged 3/8", "0 of 2"))
    assert "left" not in second
    assert "1 of 2" in last
    assert "left" in last
    assert not sys.stderr.isatty()
