"""The whole pipeline as a user runs it: a real clone, a real `dvc repro`, the smoke preset."""

import json
import os
import random
import shutil
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from ruamel.yaml import YAML

from pipeline import dataset
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.stages import report
from pipeline.tasks.registry import read_params
from pipeline.training.artifact import read_trained_on
from tests.conftest import output_files
from tests.end_to_end.clones import ADDED, ELSEWHERE, GRID, cloned, run, stages_run

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that was reproduced once, stage by stage."""
    folder = cloned(tmp_path_factory.mktemp("clone") / "project")
    output = run(folder, "dvc", "repro", "report")
    assert stages_run(output)[0].startswith("generate@")
    assert stages_run(output)[-1] == "report"
    shutil.copy(folder / "dvc.lock", folder.parent / "report.lock")
    assert stages_run(run(folder, "dvc", "repro")) == ["search"]
    return folder


def test_a_grid_leaves_the_bytes_that_stage_by_stage_leaves(clone: Path, tmp_path: Path) -> None:
    """In another folder, locale, time zone and order of hashes, with two jobs."""
    beside = cloned(tmp_path / "project")
    run(beside, *GRID, **ELSEWHERE)
    one, other = (
        output_files(clone) | {Path("dvc.lock"): (clone.parent / "report.lock").read_bytes()},
        output_files(beside),
    )
    assert {path for path in one | other if one.get(path) != other.get(path)} == set()
    assert stages_run(run(beside, "dvc", "repro", "report")) == []


def test_everything_the_design_promises_is_there(clone: Path) -> None:
    grid = list(YAML(typ="safe").load(clone / "params.yaml")["ablations"])
    runs = pd.read_csv(clone / "reports" / "runs.csv")
    assert list(runs["ablation"].unique()) == grid
    assert len(runs) == 2 * len(grid)
    ablations = pd.read_csv(clone / "reports" / "ablations.csv").set_index("ablation")
    assert list(ablations.index) == grid
    assert ablations["order_blind_ceiling"].notna().to_dict() == {name: name == "nope-full" for name in grid}
    for name in ("summary.md", "index.html", "symmetry.csv", "learning_curves.csv"):
        assert (clone / "reports" / name).stat().st_size > 100
    assert {path.suffix for path in (clone / "reports" / "figures").iterdir()} == {".png"}
    assert not [path for path in clone.rglob("*") if path.suffix in (".pkl", ".pt", ".ckpt")]


def test_dvcs_own_views_are_useful(clone: Path) -> None:
    assert "converged.nope-full" in run(clone, "dvc", "metrics", "show")
    assert "html" in run(clone, "dvc", "plots", "show")


def test_a_second_run_does_nothing_and_is_quick(clone: Path) -> None:
    before = os.times()
    assert stages_run(run(clone, "dvc", "repro")) == []
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 10


def test_tracking_shows_every_run_once(clone: Path) -> None:
    """The view shows what the files hold, and `track` adds nothing to it."""
    run(clone, "python", "-m", "pipeline", "track")
    client = MlflowClient(f"sqlite:///{clone}/mlflow.db")
    experiment = client.get_experiment_by_name("breaking-symmetry")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.ablation != ''", max_results=1000)
    assert len(runs) == 6
    assert sum("mlflow.parentRunId" in run.data.tags for run in runs) == 4


@pytest.mark.parametrize(
    ("before", "after", "stale"),
    [
        ("attention: full}}", "attention: full, layers: 1}}", {"train@nope-full"}),  # what depends on it follows
        (
            "  nope-full:",
            f"{ADDED}  nope-full:",
            {f"{stage}@nope-causal" for stage in ("train", "evaluate", "analyze")},
        ),
    ],
    ids=["edited", "added"],
)
def test_one_ablation_makes_only_itself_and_the_report_stale(
    clone: Path, before: str, after: str, stale: set[str]
) -> None:
    text = (clone / "params.yaml").read_text()
    assert text.count(before) == 1
    (clone / "params.yaml").write_text(text.replace(before, after))
    found = {stage for stage in json.loads(run(clone, "dvc", "status", "--json")) if ":" not in stage}  # no study's
    (clone / "params.yaml").write_text(text)
    assert found == stale | {"report"}


def test_altered_weights_are_refused_and_the_old_evaluation_stays(clone: Path) -> None:
    weights = clone / "models" / "nope-full" / "seed-111.safetensors"
    evaluation = clone / "reports" / "evaluation" / "nope-full" / "evaluation.csv"
    before, original = evaluation.read_bytes(), weights.read_bytes()
    altered = bytearray(original)
    altered[-1] ^= 1
    weights.chmod(0o644)
    for wrong in (bytes(altered), original[:-100]):
        weights.write_bytes(wrong)
        said = run(clone, "python", "-m", "pipeline", "evaluate", "nope-full", expect=2)
        assert "seed-111.safetensors: altered or truncated" in said
        assert "Traceback" not in said
    weights.write_bytes(original)
    assert evaluation.read_bytes() == before


def test_a_flipped_bit_in_any_file_is_found_by_whoever_reads_it(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One at a time, anywhere in it; in what words, and with which command to make it again."""
    monkeypatch.chdir(clone)
    params, chance = read_params(), random.Random(os.getpid())
    files = sorted(path for top in WRITTEN for path in Path(top).glob("*/**/*") if path.is_file())
    assert {path.suffix for path in files} == {".csv", ".json", ".safetensors"}
    assert len(files) > 20
    for path in files:
        original = path.read_bytes()
        altered = bytearray(original)
        altered[chance.randrange(len(altered))] ^= 1 << chance.randrange(8)
        replaced(path, bytes(altered))
        with pytest.raises(UserError) as refusal:
            WRITTEN[next(top for top in WRITTEN if path.is_relative_to(top))](params, path)
        replaced(path, original)
        said = str(refusal.value)
        assert str(path.parent) in said
        assert "python -m pipeline " in said, said
        assert "\n" not in said
    assert stages_run(run(clone, "dvc", "repro", "report")) == []


def read_dataset(params: Params, path: Path) -> None:
    dataset.read(Path(*path.parts[:2]), params.task(path.parts[1]))


def read_ablation(params: Params, path: Path) -> None:
    ablation = params.ablation(path.parts[1])
    data = dataset.read(Path("data") / ablation.dataset, ablation.task)
    artifact = read_trained_on(Path(*path.parts[:2]), ablation, data)
    assert len([*artifact.weights.values(), *artifact.snapshots.values()]) > 0


def make_report(params: Params, path: Path) -> None:
    report.run(params)


WRITTEN = {
    "data": read_dataset,
    "models": read_ablation,
    "reports/evaluation": make_report,
    "reports/analysis": make_report,
}
"""Where one stage writes what another reads, and what reads all of it."""


def replaced(path: Path, content: bytes) -> None:
    """A new file in the place of the old, which DVC's cache may hold, too."""
    path.unlink()
    path.write_bytes(content)


def test_a_misspelt_key_stops_everything_with_one_line(clone: Path) -> None:
    text = (clone / "params.yaml").read_text()
    (clone / "params.yaml").write_text(text.replace("layers: 2", "layrs: 2", 1))
    said = run(clone, "python", "-m", "pipeline", "train", "nope-full", expect=2)
    (clone / "params.yaml").write_text(text)
    assert len(said.strip().splitlines()) == 1
    assert said.startswith("error: params.yaml: model.layrs: unknown key; did you mean 'layers'?")
