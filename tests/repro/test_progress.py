"""The progress of a job never decreases, and the most expensive job starts first."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.params import Overrides, Params
from pipeline.repro import driver
from pipeline.repro.progress import JobState


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
