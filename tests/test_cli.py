"""The command line answers at once, and answers a mistake with one line and exit code 2."""

import errno
import json
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from unittest.mock import Mock

import pytest
from ruamel.yaml import YAML

from pipeline import cli
from pipeline.errors import RunError, UserError
from pipeline.json_output import json_result
from pipeline.stages import report
from pipeline.tasks.registry import read_params
from tests.conftest import PRESETS
from tests.projects import environment

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
        ("study mine --preset nonsense", ["nonsense", "own", "published", "smoke"]),
        ("study mine --preset smoke --data file.txt", ["--preset", "smoke", "--data", "file.txt"]),
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


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"name": "text", "path": "book.txt", "window": 4}, ["book.txt"]),
        ({"name": "series", "path": "params.yaml", "column": "x", "window": 4}, ["'params.yaml'"]),
        ({"name": "addition", "digits": 1}, ["digits"]),
    ],
)
def test_check_refuses_a_dataset_that_cannot_be_generated(
    folder: Path, capsys: Captured, task: dict[str, object], words: list[str]
) -> None:
    content = YAML(typ="safe", pure=True).load(SMOKE)
    content["tasks"]["own"] = task | {"train_size": 5000, "validation_size": 10, "test_size": 10}
    YAML().dump(content, folder / "params.yaml")
    for command in (["check"], ["generate", "own"]):
        assert cli.run_command(command) == 2
        output = capsys.readouterr()
        assert all(word in output.err for word in words), output.err
        assert output.out == ""
    assert not (folder / "data").exists()


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


def test_the_version_is_that_of_the_project(capsys: Captured) -> None:
    assert cli.run_command(["--version"]) == 0
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    assert capsys.readouterr().out == f"{project['version']}\n"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("check", {"runs": 10, "tasks": ["addition", "reverse"]}),
        ("check nope-full", {"name": "nope-full"}),
        ("predict nope-full 123+456= 321+456= --permute", {"ablation": "nope-full", "seed": 1101}),
        ("study mine", {"folder": "studies/mine", "command": "make study NAME=mine"}),
    ],
)
def test_with_json_the_result_is_all_that_is_on_standard_output(
    folder: Path, capsys: Captured, command: str, expected: dict[str, object]
) -> None:
    shutil.copy(PROJECT / "dvc.yaml", folder)
    assert cli.run_command([*command.split(), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {key: result[key] for key in expected} == expected
    assert cli.run_command(["check", "nonsense", "--json"]) == 2
    assert capsys.readouterr().out == ""


def test_with_json_predictions_are_those_without(folder: Path, capsys: Captured) -> None:
    cli.run_command(["predict", "nope-causal", "123+456=", "--permute", "--json"])
    ((answer,),) = [json.loads(capsys.readouterr().out)["answers"]]
    cli.run_command(["predict", "nope-causal", "123+456=", "--permute"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"nope-causal  123+456= -> {answer['answer']}  (probability {answer['probability']:.2g})"
    assert (
        f"{sum(row['orders'] for row in answer['all_orders']):,}; different answers: {len(answer['all_orders'])}"
        in lines[1]
    )


def test_with_json_processes_print_elsewhere_and_passwords_are_hidden(capfd: Captured) -> None:
    with json_result(True) as result:
        print("a line")
        subprocess.run(["echo", "a line of a process"], check=True)
        result["address"] = "postgresql://me:geheim@host/x"
    output = capfd.readouterr()
    assert json.loads(output.out) == {"address": "postgresql://***@host/x"}
    assert output.err == "a line\na line of a process\n"


def test_a_shell_completes_commands_and_names(folder: Path) -> None:
    def completions(words: str) -> list[str]:
        variables = {"_BREAKING_SYMMETRY_COMPLETE": "complete_bash", "COMP_WORDS": words}
        script = "import sys; sys.argv = ['breaking-symmetry']; from pipeline.cli import main; main()"
        environ = environment(PROJECT) | variables | {"COMP_CWORD": str(words.count(" "))}
        return subprocess.run(
            [sys.executable, "-c", script], env=environ, capture_output=True, text=True
        ).stdout.split()

    assert "predict" in completions("breaking-symmetry pre")
    assert completions("breaking-symmetry train nope-f") == ["nope-full"]
    assert completions("breaking-symmetry generate re") == ["reverse"]
    (folder / "params.yaml").write_text("[")
    assert completions("breaking-symmetry train nope-f") == []
