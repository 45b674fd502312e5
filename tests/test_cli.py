"""The command line answers at once, and answers a mistake with one line and exit code 2."""

import errno
import shutil
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
from ruamel.yaml import YAML

from pipeline import cli
from pipeline.errors import RunError, UserError
from pipeline.stages import report
from pipeline.tasks.registry import read_params
from tests.conftest import PRESETS

PROJECT = Path(__file__).parent.parent
SMOKE = (PRESETS / "smoke.yaml").read_text()
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the smoke preset as params.yaml."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(PRESETS / "smoke.yaml", tmp_path / "params.yaml")
    return tmp_path


def test_every_stage_is_a_command(capsys: Captured) -> None:
    assert cli.run_command(["--help"]) == 0
    commands = capsys.readouterr().out
    for stage in YAML(typ="safe", pure=True).load(PROJECT / "dvc.yaml")["stages"]:
        assert f"\n  {stage} " in commands


def test_help_answers_at_once_because_it_imports_nothing_heavy() -> None:
    script = "import sys; from pipeline import cli; cli.run_command(['--help']); print(); print(*sys.modules)"
    start = time.monotonic()
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert time.monotonic() - start < 3  # 0.3 s on an idle machine
    imported = process.stdout.splitlines()[-1].split()
    assert not {"torch", "pandas", "mlflow", "pydantic", "optuna", "dvc"} & set(imported)


def test_a_mistake_ends_the_process_with_code_2(folder: Path) -> None:
    command, environment = [sys.executable, "-m", "pipeline", "train", "nonsense"], {"PYTHONPATH": str(PROJECT)}
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith("error: ablation 'nonsense'")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train nonsense", ["nonsense", "params.yaml", "nope-causal"]),
        ("check --resolved none-casual", ["none-casual", "did you mean 'nope-causal'"]),
        ("generate adition", ["adition", "did you mean 'addition'"]),
        ("train learned-causal", ["`python -m pipeline generate addition`"]),
        ("evaluate learned-causal", ["`python -m pipeline generate addition`"]),
        ("analyze learned-causal", ["`python -m pipeline generate addition`"]),
        ("report", ["`python -m pipeline"]),
        ("search", ["`python -m pipeline generate addition`"]),
        ("search --engine magic", ["--engine", "magic", "processes", "ray", "slurm"]),
        ("repro --jobs 0", ["--jobs", "0", "1"]),
        ("preset nonsense", ["nonsense", "own", "published", "smoke"]),
        ("rpro", ["rpro", "repro"]),
        ("predict", ["predict", "ablation"]),
    ],
)
def test_a_mistake_costs_one_line_and_leaves_nothing(
    folder: Path, capsys: Captured, command: str, words: list[str]
) -> None:
    assert cli.run_command(command.split()) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert all(word in output.err for word in words)
    assert [path.name for path in folder.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("a mistake"), 2),
        (RunError("a failure"), 1),
        (OSError(errno.ENOSPC, "No space left on device", "reports/a.csv"), 1),
        (MemoryError("out of memory"), 1),
        (KeyboardInterrupt(), cli.INTERRUPTED_EXIT_CODE),
    ],
)
def test_what_the_user_or_the_machine_can_mend_is_an_exit_code_and_a_bug_is_raised(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    monkeypatch.setattr(report, "run", Mock(side_effect=[error, ZeroDivisionError]))
    assert cli.run_command(["report"]) == code
    with pytest.raises(ZeroDivisionError):
        cli.run_command(["report"])


def test_check_prints_the_size_of_the_experiment_and_one_ablation(folder: Path, capsys: Captured) -> None:
    assert cli.run_command(["check"]) == 0
    assert "params.yaml: 5 ablations, 10 runs, tasks addition, reverse\n" in capsys.readouterr().out
    assert cli.run_command(["check", "reverse-nope-causal"]) == 0
    ablation = read_params(folder / "params.yaml").ablation("reverse-nope-causal")
    assert YAML(typ="safe", pure=True).load(capsys.readouterr().out) == ablation.resolved_settings()


@pytest.mark.parametrize("preset", ["smoke", "published"])
def test_the_resolved_experiment_is_complete_and_the_same_experiment(
    folder: Path, capsys: Captured, preset: str
) -> None:
    path = folder / "params.yaml"
    text = (PRESETS / f"{preset}.yaml").read_text()
    path.write_text(text.replace("  warmup_steps:", "  weight_decay: 1e-5\n  warmup_steps:", 1))
    given = read_params(path)
    cli.run_command(["check", "--resolved"])
    path.write_text(resolved := capsys.readouterr().out)
    again = read_params(path)
    assert again.all_ablations() == given.all_ablations()
    assert again.model_copy(update={"tasks": given.tasks}) == given  # the tasks' defaults are in the ablations
    cli.run_command(["check", "--resolved"])
    assert capsys.readouterr().out == resolved
    content = YAML(typ="safe", pure=True).load(resolved)
    for section in ("model", "training", "search", "tracking"):
        assert set(content[section]) == set(type(getattr(given, section)).model_fields)


def test_a_preset_overwrites_only_what_a_preset_or_git_can_bring_back(folder: Path) -> None:
    def git(*arguments: str) -> None:
        name = ("-c", "user.name=test", "-c", "user.email=test@localhost")
        subprocess.run(["git", *name, *arguments], check=True, capture_output=True)

    path, edited = folder / "params.yaml", f"# mine\n{SMOKE}"
    assert cli.run_command(["preset", "published"]) == 0
    assert path.read_text() == (PRESETS / "published.yaml").read_text()
    path.write_text(edited)
    assert cli.run_command(["preset", "smoke"]) == 2  # no repository
    git("init")
    assert cli.run_command(["preset", "smoke"]) == 2  # a repository without the file
    assert path.read_text() == edited
    git("add", "params.yaml")
    git("commit", "-m", "mine")
    assert cli.run_command(["preset", "smoke"]) == 0
    git("checkout", "params.yaml")
    assert path.read_text() == edited
    path.write_text(f"{edited}# and more\n")
    assert cli.run_command(["preset", "smoke"]) == 2
    assert cli.run_command(["preset", "smoke", "--force"]) == 0
    assert path.read_text() == SMOKE
