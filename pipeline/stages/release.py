"""Command `release`: one archive of all results, so that others need to train nothing."""

import io
import json
import sqlite3
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path

import pipeline
from pipeline import dataset
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.repro.driver import list_stale
from pipeline.repro.dvc_stages import export_cache
from pipeline.stages import DATA, REPORTS, track
from pipeline.stages.croissant import describe_dataset

CHANGELOG, CACHE = Path("CHANGELOG.md"), Path(".dvc/cache")
STORE, ARTIFACTS = Path("mlflow.db"), Path("mlartifacts")
"""MLflow's default store. Another one, such as a server, is not put into the archive."""


def run(params: Params) -> Path:
    """Write `dist/breaking-symmetry-<version>.tar.gz` and return its path.

    Unpacked in a clone, it gives the pages, MLflow's store, the descriptions of the datasets (Croissant), and what is
    needed in DVC's cache: `dvc checkout` then puts datasets, weights and measurements in place.

    Raises:
        UserError: the results are not up to date, or CHANGELOG.md has no section about the version.
    """
    version = pipeline.__version__
    if f"\n## [{version}]" not in CHANGELOG.read_text("utf-8"):
        raise UserError(
            f"{CHANGELOG}: has no section [{version}]; rename [Unreleased], and set the version in pyproject.toml"
        )
    if stale := list_stale(params):
        raise UserError(
            f"release: {len(stale)} stages are stale, such as {stale[0]}; run `python -m pipeline repro` first"
        )
    track.run(params)
    archive = Path("dist") / f"breaking-symmetry-{version}.tar.gz"
    archive.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as temporary:
        new = Path(temporary) / archive.name
        with tarfile.open(new, "w:gz", compresslevel=1) as tar:  # weights do not get smaller
            _add_text(tar, Path("VERSION"), f"{version}\n")
            tar.add(REPORTS)
            export_cache(Path(temporary) / "cache")
            tar.add(Path(temporary) / "cache", CACHE)
            for name, task in params.tasks.items():
                description = describe_dataset(name, dataset.read(DATA / name, task), version)
                _add_text(tar, DATA / f"{name}.croissant.json", json.dumps(description, indent=2))
            if STORE.exists():
                tar.add(_copy_database(STORE, Path(temporary)), STORE)
                tar.add(ARTIFACTS)
        new.replace(archive)
    return archive


def _add_text(tar: tarfile.TarFile, path: Path, text: str) -> None:
    entry = tarfile.TarInfo(str(path))
    entry.size = len(text.encode())
    tar.addfile(entry, io.BytesIO(text.encode()))


def _copy_database(database: Path, folder: Path) -> Path:
    """Copy an SQLite database to `folder`, consistently even if another process writes to it, and return the copy."""
    copy = folder / database.name
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy
