"""The command line: quick to answer, one clear line for a mistake, exit code 2."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.params import Ablation, Model, Training, parse, read, task
from tests.conftest import PRESETS

PROJECT = Path(__file__).parent.parent


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(PRESETS / "smoke.yaml", tmp_path / "params.yaml")
    return tmp_path


def test_help_lists_every_stage_and_answers_at_once(tmp_path: Path) -> None:
    start = time.monotonic()
    said = run(tmp_path, "--help").stdout
    assert time.monotonic() - start < 3  # 0.3 s on an idle machine
    for stage in ("generate", "train", "evaluate", "analyze", "report", "search", "track", "preset", "check"):
        assert stage in said


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys, pipeline.cli; print([m for m in ('torch', 'pandas', 'mlflow', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout.strip() == "[]"


def test_a_search_meets_its_storage_before_it_imports_what_is_slow() -> None:
    script = (
        "import sys, pipeline.stages.search\n"
        "print([m for m in ('torch', 'mlflow', 'matplotlib', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "nonsense"), "ablation 'nonsense': not in params.yaml"),
        (("train", "learned-causal"), "`python -m pipeline generate addition` makes it"),
        (("evaluate", "learned-causal"), "`python -m pipeline generate addition` makes it"),
        (("analyze", "learned-causal"), "`python -m pipeline generate addition` makes it"),
        (("report",), "makes it"),
        (("search",), "`python -m pipeline generate addition` makes it"),
        (("search", "--workers", "0"), "--workers: must be auto or a number from 1 on, not '0'"),
        (("search", "--engine", "magic"), "--engine: 'magic' is none (allowed: processes, ray, slurm)"),
        (("search", "--jobs-per-gpu", "0"), "--jobs-per-gpu: must be a number from 1 on, not 0"),
        (("search", "--promote", "-1"), "--promote: must not be negative, not -1"),
        (("preset", "nonsense"), "preset 'nonsense': there is none (allowed: own, published, smoke)"),
        (("generate", "adition"), "task 'adition': not under `tasks` in params.yaml; did you mean 'addition'?"),
        (("check", "--resolved", "none-casual"), "did you mean 'nope-causal'?"),
        (("check", "nope-causal"), "an ablation is shown with --resolved"),
    ],
)
def test_a_mistake_costs_one_line_and_leaves_nothing(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    done = run(folder, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert [path.name for path in folder.iterdir()] == ["params.yaml"]


def test_a_check_says_what_the_experiment_is(folder: Path) -> None:
    assert run(folder, "check").stdout == "params.yaml: 5 ablations, 10 members, tasks addition, reverse\n"


@pytest.mark.parametrize("text", [(PRESETS / "smoke.yaml").read_text(), (PRESETS / "published.yaml").read_text()])
def test_the_resolved_experiment_is_the_same_experiment(tmp_path: Path, text: str) -> None:
    """It says what it leaves to nobody, and resolving it again changes nothing."""
    (tmp_path / "params.yaml").write_text(text.replace("  warmup_steps:", "  weight_decay: 1e-5\n  warmup_steps:", 1))
    given = read(tmp_path / "params.yaml")
    (tmp_path / "again").mkdir()
    resolved = run(tmp_path, "check", "--resolved").stdout
    (tmp_path / "again" / "params.yaml").write_text(resolved)
    again = read(tmp_path / "again" / "params.yaml")
    assert again.all_ablations() == given.all_ablations()
    assert again.model_copy(update={"tasks": given.tasks}) == given  # whose defaults are in the ablations
    assert run(tmp_path / "again", "check", "--resolved").stdout == resolved
    said = YAML(typ="safe", pure=True).load(resolved)
    for section in ("model", "training", "search", "tracking"):
        assert set(said[section]) == set(type(getattr(given, section)).model_fields)


def test_a_resolved_ablation_is_the_ablation(folder: Path) -> None:
    said = YAML(typ="safe", pure=True).load(run(folder, "check", "--resolved", "reverse-nope-causal").stdout)
    ablation = read(folder / "params.yaml").ablation("reverse-nope-causal")
    assert list(said) == ["name", "task", "model", "training"]
    assert (
        Ablation(
            name=said["name"],
            dataset=ablation.dataset,
            task=task(said["task"], "task"),
            model=parse(Model, said["model"], "model"),
            training=parse(Training, said["training"], "training"),
        )
        == ablation
    )


def test_a_preset_does_not_overwrite_changes_unless_told_to(folder: Path) -> None:
    done = run(folder, "preset", "published")
    assert done.returncode == 0
    assert "`git checkout params.yaml`" in done.stdout.splitlines()[-1]
    assert (folder / "params.yaml").read_text() == (PRESETS / "published.yaml").read_text()
    mine = "# mine\n" + (PRESETS / "smoke.yaml").read_text()
    (folder / "params.yaml").write_text(mine)
    refused = run(folder, "preset", "smoke")
    assert refused.returncode == 2
    assert "changes of your own" in refused.stderr
    assert (folder / "params.yaml").read_text() == mine
    assert run(folder, "preset", "smoke", "--force").returncode == 0


def test_a_preset_overwrites_what_git_can_bring_back_and_no_more(folder: Path) -> None:
    def git(*arguments: str) -> None:
        name = ("-c", "user.name=test", "-c", "user.email=test@localhost")
        subprocess.run(["git", *name, *arguments], cwd=folder, check=True, capture_output=True)

    path, mine = folder / "params.yaml", "# mine\n" + (PRESETS / "smoke.yaml").read_text()
    path.write_text(mine)
    git("init")
    assert run(folder, "preset", "smoke").returncode == 2  # a repository, but not in it
    git("add", "params.yaml")
    git("commit", "-m", "mine")
    assert run(folder, "preset", "smoke").returncode == 0
    git("checkout", "params.yaml")
    assert path.read_text() == mine
    path.write_text(mine + "# and more\n")
    assert run(folder, "preset", "smoke").returncode == 2
