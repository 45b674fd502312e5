"""A search on a real Ray cluster of two nodes, in this process."""

import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from pipeline import execution
from pipeline.params import Params
from pipeline.search import table
from pipeline.search.study import open_study
from pipeline.stages.search import work_elsewhere


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Two nodes of two cores."""
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent.parent))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
        made.add_node(num_cpus=2)
        ray.init(address=made.address, logging_level="ERROR")
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.mark.timeout(300)
def test_workers_on_two_nodes_complete_a_study(cheap: Params, cluster: object, tmp_path: Path) -> None:
    from pipeline.tasks import dataset

    dataset.write(tmp_path / "data" / "addition", cheap.task)
    params = cheap.model_copy(
        update={"tracking": cheap.tracking.model_copy(update={"uri": f"sqlite:///{tmp_path}/mlflow.db"})}
    )
    url = make_url(f"sqlite:///{tmp_path / 'study.db'}")
    open_study(params, url)
    execution.run_on_ray(partial(work_elsewhere, params, url, tmp_path), 3, gpus=0.0)
    found = table.trials(params, open_study(params, url))
    assert list(found["state"]) == ["complete"] * params.search.trials


@pytest.mark.timeout(300)
def test_a_task_whose_worker_dies_is_started_again(cluster: object, tmp_path: Path) -> None:
    assert execution.run_on_ray(partial(_dies_once, tmp_path), 2, gpus=0.0) == [0, 1]


def _dies_once(folder: Path, index: int) -> int:
    import os

    mark = folder / f"died-{index}"
    if not mark.exists():
        mark.touch()
        os._exit(1)
    return index
