"""What is imported decides what is stale: `dvc.yaml` declares for every stage just the code that it runs, and imports
go down only. Read from the source, without running it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

PROJECT = Path(__file__).parent.parent
STAGES = YAML(typ="safe", pure=True).load(PROJECT / "dvc.yaml")["stages"]
PUBLIC = PROJECT / "pipeline" / "__init__.py"
"""What people import: it passes on to what they ask for, and no stage asks for anything."""
UNSEEN = "pipeline.tracking"
"""A view of the results: it changes nothing that DVC tracks, so that no stage is stale for it. (The command line is not
in a closure either, which begins below it: `cli.py` only passes on.)"""
NAMED = "pipeline.served"
"""What MLflow imports when it loads a model, told by its name: who tells it does not import it."""

TASKS = "pipeline.tasks.registry"
DRAWING = ("generate", "evaluate", "report")
"""Stages that call the generator of a task, or what it says of its answers. They import no task: the command line hands
them `params.yaml`, read with all tasks."""

LAYERS = (
    ("cli", "__main__"),
    ("stages", "repro", "study", "api", "served"),
    ("reporting", "search", "tracking", "engines"),
    ("training", "measurement"),
    ("transformer",),
    ("dataset",),
    ("tasks",),
    ("switches",),
    ("params", "files", "environment"),
    ("errors",),
)
"""What may import what: anything below it, and its neighbours."""
ABSENT = ("mlflow", "optuna", "dvc", "pipeline.tracking", "pipeline.reporting", "pipeline.search")
"""What a GPU box with only torch and Lightning can train and measure without."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def file_of(module: str) -> Path | None:
    """The file of a module of ours, if it is one."""
    path = PROJECT / module.replace(".", "/")
    found = (one for one in (path / "__init__.py", Path(f"{path}.py")) if one.is_file())
    return next(found, None) if module.split(".")[0] == "pipeline" else None


def nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All of a tree that is executed: what is there for the type checker alone is not."""
    yield node
    only_types = isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
    for child in node.orelse if only_types else ast.iter_child_nodes(node):  # type: ignore[attr-defined]
        yield from nodes(child)


def imports(path: Path) -> set[str]:
    """The modules of ours that a file imports, wherever in it, each with the packages around it."""
    named = set()
    for node in nodes(tree(path)):
        match node:
            case ast.Import():
                named |= {alias.name for alias in node.names}
            case ast.ImportFrom(module=str(module), level=0):
                named |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
            case ast.ImportFrom():
                raise AssertionError(f"{path}: imports are written in full, not relative")
            case ast.Constant(value=str(text)) if (
                text.startswith("pipeline.") and text != NAMED
            ):  # imported by its name
                named.add(text.split(":")[0])
            case ast.Attribute(attr="iter_modules"):  # of its own folder
                named |= {module_of(one) for one in path.parent.glob("*.py")}
    around = {".".join(name.split(".")[:depth]) for name in named for depth in range(1, name.count(".") + 2)}
    return {module for module in around if file_of(module)}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


def read_by(path: Path) -> set[Path]:
    """The files beside a module, no modules themselves, that it names: by their own name or that of their folder."""
    words = {node.value for node in nodes(tree(path)) if isinstance(node, ast.Constant)}
    named = (one for one in path.parent.iterdir() if one.name in words and not (one / "__init__.py").exists())
    inside = (file for one in named for file in (one.rglob("*") if one.is_dir() else [one]))
    return {file for file in inside if file.is_file() and file.suffix not in (".py", ".pyc")}


@cache
def closure(stage: str) -> frozenset[Path]:
    """Every file that the stage may run or read of the code. A file that holds words alone does nothing."""
    reached, waiting = set[str](), [f"pipeline.stages.{stage}", *([TASKS] if stage in DRAWING else [])]
    while waiting:
        module = waiting.pop()
        if module in reached or f"{module}.".startswith(f"{UNSEEN}."):
            continue
        reached.add(module)
        waiting += imports(python(module))
    files = {python(module) for module in reached | {"pipeline.stages"}} - {PUBLIC}
    return frozenset(file for file in files if not silent(file)).union(*map(read_by, files))


def python(module: str) -> Path:
    path = file_of(module)
    assert path is not None, f"{module}: no such module"
    return path


def silent(path: Path) -> bool:
    """Whether there is nothing but a docstring."""
    return path.suffix == ".py" and all(isinstance(node, ast.Expr) for node in tree(path).body)


def declared(stage: str) -> list[Path]:
    """The dependencies of a stage that are code."""
    said = STAGES[stage].get("do", STAGES[stage])
    return [PROJECT / one for one in said["deps"] if one.startswith("pipeline/")]


def shown(paths: set[Path]) -> str:
    return ", ".join(sorted(str(path.relative_to(PROJECT)) for path in paths))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_all_the_code_it_runs(stage: str) -> None:
    """So that a change in any of it makes the stage stale."""
    asked = declared(stage)
    left_out = {file for file in closure(stage) if not any(file.is_relative_to(one) for one in asked)}
    assert not left_out, f"dvc.yaml: {stage}: `deps` lacks {shown(left_out)}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_no_code_that_it_does_not_run(stage: str) -> None:
    """So that a change elsewhere does not; a folder stands for all of its files, or its files are listed one by one."""
    for one in declared(stage):
        assert one.exists(), f"dvc.yaml: {stage}: there is no {shown({one})}"
        held = {file for file in one.rglob("*.py") if not silent(file)} if one.is_dir() else {one}
        idle = held - closure(stage)
        assert not idle, f"dvc.yaml: {stage}: {shown({one})}: this stage does not run {shown(idle)}"


def test_no_dependency_is_declared_twice() -> None:
    for stage in STAGES:
        asked = declared(stage)
        assert [(a, b) for a in asked for b in asked if a != b and a.is_relative_to(b)] == []
        assert len(set(asked)) == len(asked)


def test_every_stage_is_a_command_of_its_own_name() -> None:
    for stage, said in STAGES.items():
        assert said.get("do", said)["cmd"].startswith(f"python -m pipeline {stage}")


PARTS = sorted(
    {path.stem for path in (PROJECT / "pipeline").iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
)


@pytest.mark.parametrize("part", [part for part in PARTS if part != "__init__"])
def test_imports_go_down_only(part: str) -> None:
    depth = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    assert part in depth, f"pipeline/{part}: say in LAYERS where it belongs"
    package = PROJECT / "pipeline" / part
    for path in sorted(package.rglob("*.py")) if package.is_dir() else [package.with_suffix(".py")]:
        others = {module.split(".")[1] for module in imports(path) if "." in module}
        upwards = sorted(other for other in others if depth.get(other, depth[part]) < depth[part])
        assert not upwards, f"{shown({path})} imports {', '.join(upwards)}, which stands above it"


def test_lower_layers_import_no_tool_of_the_upper_ones() -> None:
    """Nor do the libraries that they import: so this is tried rather than read."""
    script = (
        "import importlib, pkgutil, sys\n"
        "for layer in ('training', 'measurement', 'transformer', 'tasks', 'params'):\n"
        "    package = importlib.import_module(f'pipeline.{layer}')\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        f"print([module for module in {ABSENT} if module in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout.strip() == "[]", done.stderr
