"""An experiment that `dvc repro` has run."""

from pathlib import Path

import pytest

from tests.projects import create_project, executed_stages, run


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A project whose report `dvc repro` has made, stage by stage; tests leave it as they find it."""
    project = create_project(tmp_path_factory.mktemp("reproduced") / "project", empty_store)
    stages = executed_stages(run(project, "dvc", "repro", "report"))
    assert stages[:2] == ["settings", "generate@addition"]
    assert stages[-1] == "report"
    return project
