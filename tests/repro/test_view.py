"""How far a job is never goes back, and stays between nothing and all; how long a grid takes is known from the last."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.repro import pace
from pipeline.repro.state import Job, State
from pipeline.repro.view import View, share_done


@given(st.integers(1, 5), st.integers(1, 1000))
def test_the_share_done_grows_with_every_step_and_stage(stages: int, steps: int) -> None:
    first = [State("train@x", 0)] + [State("train@x", 0, step, steps) for step in range(0, steps + 1, 7)]
    whole = first + [State("next", place) for place in range(1, stages)]
    shares = [round(share_done(state, stages), 9) for state in whole]
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] <= 1.0


def test_a_grid_says_at_its_start_how_long_it_takes_if_one_ran_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pace, "FILE", tmp_path / "pace.json")
    jobs = {"one": Job(["train@one"], 600.0), "two": Job(["train@two"], 1200.0)}

    def said() -> str:
        with View(jobs, pace.measured("processes", 2)):
            return capsys.readouterr().err

    pace.store("processes", 2, 1.0, 10.0)  # too short to tell
    assert said() == "to run: one, two; the first will say how long that takes\n"
    pace.store("processes", 2, 3000.0, 300.0)
    pace.store("processes", 1, 1500.0, 300.0)
    assert said() == "to run: one, two; about 3 min left\n"
    pace.FILE.write_text('{"damaged": ')
    assert pace.measured("processes", 2) is None
