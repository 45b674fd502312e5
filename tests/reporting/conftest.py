"""The tiny experiment is trained, measured and reported once, and shared read-only by all tests and workers."""

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.params import Tracking
from pipeline.reporting.estimates import ESTIMATES, Estimates, read_estimates
from pipeline.reporting.results import Results
from tests.projects import run_stages
from tests.reporting.experiment import trained


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """The folder of the tiny experiment after all its stages."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tiny-experiment"
    with FileLock(f"{folder}.lock"), pytest.MonkeyPatch.context() as patch:
        if folder.exists():
            return folder
        started = tmp_path_factory.mktemp("tiny")
        patch.chdir(started)
        store = Tracking(uri=f"sqlite:///{shutil.copy(empty_store, started)}")
        params = trained().model_copy(update={"tracking": store})
        run_stages(params)
        patch.chdir(base)
        started.rename(folder)
    return folder


@pytest.fixture(scope="session")
def reports(project: Path) -> Path:
    """The reports of the tiny experiment."""
    return project / "reports"


@pytest.fixture(scope="session")
def results(reports: Path) -> Results:
    """The results of the tiny experiment."""
    return Results.read(trained(), reports)


@pytest.fixture(scope="session")
def estimates(reports: Path) -> Estimates:
    """The estimates of the tiny experiment."""
    return read_estimates(reports / ESTIMATES)
