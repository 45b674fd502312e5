"""How far a job is never goes back, and stays between nothing and all."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.grid.state import State
from pipeline.grid.view import share_done


@given(st.integers(1, 5), st.integers(1, 1000))
def test_the_share_done_grows_with_every_step_and_stage(stages: int, steps: int) -> None:
    first = [State("train@x", 0)] + [State("train@x", 0, step, steps, 0, 8) for step in range(0, steps + 1, 7)]
    whole = first + [State("next", place) for place in range(1, stages)]
    shares = [round(share_done(state, stages), 9) for state in whole]
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] <= 1.0
