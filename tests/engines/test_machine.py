"""Workers share the cores of the machine, and take the GPUs in turn."""

import pytest

from pipeline.engines import machine


@pytest.mark.parametrize("count", [1, 2, 3, 50])
@pytest.mark.parametrize("gpus", [[], ["0"], ["2", "5"]])
def test_workers_share_the_cores_and_take_gpus_in_turn(
    monkeypatch: pytest.MonkeyPatch, count: int, gpus: list[str]
) -> None:
    monkeypatch.setattr(machine, "visible_gpus", lambda: gpus)
    monkeypatch.setattr(machine, "usable_cores", lambda: 8)
    environments = machine.worker_environments(count)
    assert len(environments) == count
    assert sum(int(environment["OMP_NUM_THREADS"]) for environment in environments) <= max(8, count)
    turns = [environment.get("CUDA_VISIBLE_DEVICES") for environment in environments]
    assert {turns.count(gpu) for gpu in gpus} <= {count // max(1, len(gpus)), -(-count // max(1, len(gpus)))}
    assert set(turns) <= set(gpus or [None])
    assert machine.command_capacity() == (len(gpus) or 8)
