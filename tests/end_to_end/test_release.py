"""Who has an archive of the results, or DVC's remote, needs to train nothing."""

import shutil
import tarfile
from pathlib import Path

import pytest

from pipeline import dataset
from pipeline.tasks.registry import read_params
from tests.projects import REPRO, differing_files, output_files, run

PIPELINE = REPRO[:3]
NOT_IN_GIT = (
    "data",
    "models",
    "settings",
    "evaluation",
    "analysis",
    "mlflow.db",
    "mlartifacts",
    "cache",
    "tmp",
    "dist",
    ".repro",
)

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def origin(reproduced: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of an experiment with its results, with a version."""
    project = shutil.copytree(reproduced, tmp_path_factory.mktemp("origin") / "project")
    (project / "pyproject.toml").write_text('version = "9.9"\n')
    (project / "CHANGELOG.md").write_text("# Changes\n\n## [Unreleased]\n")
    return project


@pytest.fixture
def clone(origin: Path, tmp_path: Path) -> Path:
    """What git has of the experiment."""
    return shutil.copytree(origin, tmp_path / "clone", ignore=shutil.ignore_patterns(*NOT_IN_GIT))


@pytest.fixture(scope="module")
def archive(origin: Path) -> Path:
    assert "CHANGELOG.md" in run(origin, *PIPELINE, "release", code=2)
    (origin / "CHANGELOG.md").write_text("# Changes\n\n## [9.9] - today\n")
    run(origin, *PIPELINE, "release")
    return origin / "dist" / "breaking-symmetry-9.9.tar.gz"


def test_an_archive_unpacked_in_a_clone_leaves_nothing_to_run(archive: Path, origin: Path, clone: Path) -> None:
    assert "stale" in run(clone, *PIPELINE, "release", code=2)
    with tarfile.open(archive) as tar:
        tar.extractall(clone, filter="data")
    run(clone, "dvc", "checkout")
    assert (clone / "VERSION").read_text() == "9.9\n"
    assert run(clone, *REPRO, "--dry-run") == "nothing is stale\n"
    assert run(clone, *PIPELINE, "track") == "one: already there\ntwo: already there\n"
    description = Path("data/addition.croissant.json")
    assert differing_files(output_files(clone), output_files(origin)) == {description}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside rdflib
def test_a_description_of_a_dataset_is_valid_and_leads_to_its_examples(
    archive: Path, origin: Path, tmp_path: Path
) -> None:
    croissant = pytest.importorskip("mlcroissant")
    shutil.copytree(origin / "data", tmp_path / "data")
    with tarfile.open(archive) as tar:
        tar.extract("data/addition.croissant.json", tmp_path, filter="data")
    described = croissant.Dataset(str(tmp_path / "data" / "addition.croissant.json"))
    assert not described.metadata.ctx.issues.errors
    task = read_params(origin / "params.yaml").task("addition")
    for split, table in dataset.read(tmp_path / "data" / "addition", task).tables.items():
        prompts = [record[f"{split}/prompt"].decode() for record in described.records(split)]
        assert prompts == table["prompt"].tolist()


def test_a_remote_of_dvc_spares_the_training(origin: Path, clone: Path, tmp_path: Path) -> None:
    run(origin, "dvc", "remote", "add", "--default", "--force", "store", str(tmp_path / "store"))
    run(origin, "dvc", "push")
    shutil.copy(origin / ".dvc" / "config", clone / ".dvc" / "config")
    run(clone, "dvc", "pull")
    assert run(clone, *REPRO, "--dry-run") == "nothing is stale\n"
    assert run(clone, *PIPELINE, "track") == "one: added\ntwo: added\n"
