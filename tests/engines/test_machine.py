"""What is shared out is not shared out twice."""

import pytest

from pipeline.engines import machine


@pytest.mark.parametrize("count", [1, 2, 3, 50])
@pytest.mark.parametrize("gpus", [[], ["0"], ["2", "5"]])
def test_no_place_takes_anothers_threads_nor_more_than_its_turn_of_the_gpus(
    monkeypatch: pytest.MonkeyPatch, count: int, gpus: list[str]
) -> None:
    monkeypatch.setattr(machine, "devices", lambda: gpus)
    monkeypatch.setattr(machine, "cores", lambda: 8)
    places = machine.worker_environments(count)
    assert len(places) == count
    assert sum(int(place["OMP_NUM_THREADS"]) for place in places) <= max(8, count)
    turns = [place.get("CUDA_VISIBLE_DEVICES") for place in places]
    assert {turns.count(gpu) for gpu in gpus} <= {count // max(1, len(gpus)), -(-count // max(1, len(gpus)))}
    assert set(turns) <= set(gpus or [None])
    assert machine.capacity() == (len(gpus) or 8)
