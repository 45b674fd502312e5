"""A back end is chosen by its address, and imported by no one else."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo.experiments.queue.tempdir import _STANDALONE_TMP_DIR
from dvc.repo.experiments.utils import EXEC_TMP_DIR

import pipeline
from pipeline.errors import UserError
from pipeline.params import Tracking
from pipeline.tracking import BACKENDS, check, connect, workspace_path

CODE = Path(pipeline.__file__).parent


def imported(path: Path) -> set[str]:
    """The packages that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


def test_only_the_back_end_imports_mlflow() -> None:
    importing = {path.relative_to(CODE) for path in CODE.rglob("*.py") if "mlflow" in imported(path)}
    assert importing == {Path("tracking/mlflow.py")}


def test_to_check_an_address_imports_no_back_end() -> None:
    script = (
        "import sys\nfrom pipeline.params import Tracking\nfrom pipeline.tracking import check\ncheck(Tracking())\n"
        "print([m for m in ('mlflow', 'torch', 'pandas', 'filelock') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=CODE.parent, check=False)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("where", [_STANDALONE_TMP_DIR, EXEC_TMP_DIR])
def test_what_dvc_runs_in_a_copy_is_shown_in_the_workspace(tmp_path: Path, where: str) -> None:
    copy = tmp_path / ".dvc" / "tmp" / where / "tmpabc123"
    assert workspace_path(copy / "mlflow.db") == tmp_path / "mlflow.db"


@pytest.mark.parametrize("scheme", BACKENDS)
def test_an_address_with_a_driver_is_served_as_one_without(scheme: str) -> None:
    assert check(Tracking(uri=f"{scheme}+driver:place")) == check(Tracking(uri=f"{scheme}:place"))


@pytest.mark.parametrize("refuse", [check, connect])
def test_an_address_that_nothing_serves_is_refused_in_a_line(refuse: object) -> None:
    assert callable(refuse)
    with pytest.raises(UserError) as refused:
        refuse(Tracking(uri="postgres://me:secret@host/db"))
    said = str(refused.value)
    assert "params.yaml: tracking.uri" in said
    assert "did you mean 'postgresql'?" in said
    assert "jsonl" in said
    assert "secret" not in said
    assert len(said.splitlines()) == 1
