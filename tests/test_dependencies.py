"""Imports go down only, and `dvc.yaml` declares for every stage exactly the code that it runs.

Imports are read from the source, without running it.
"""

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
"""The names for users. No stage uses it, and it imports nothing before a name is used."""
TRACKING = "pipeline.tracking"
"""Excluded: tracking shows results and changes nothing that DVC tracks. (`cli.py` is excluded, too: it only calls.)"""
SERVED = "pipeline.api"
"""The module that MLflow imports when it loads a model. Other modules give its name as a text without importing it."""
TASKS = "pipeline.tasks.registry"
STAGES_WITH_TASKS = ("settings", "generate", "evaluate", "report")
"""Stages that call methods of tasks. They import none: the command line passes params.yaml, read with all tasks."""

SETTINGS_READERS = ("pipeline.params.experiment", "pipeline.params.search")
"""Modules that turn params.yaml into settings. Trainings depend on the result, the files of the stage `settings`."""
STAGES_OF_ABLATIONS = ("train", "evaluate", "analyze")
"""Stages that need nothing of params.yaml but the settings of one ablation."""

LAYERS = (
    ("cli", "__main__"),
    ("startup", "json_output"),
    ("stages", "repro", "study", "api"),
    ("reporting", "page", "search", "tracking", "engines"),
    ("training", "measurement", "hooks"),
    ("transformer",),
    ("dataset",),
    ("tasks",),
    ("switches", "data_file"),
    ("params", "files", "environment", "addresses"),
    ("errors",),
)
"""Each part may import its own layer and those below."""
UPPER_TOOLS = ("mlflow", "optuna", "dvc", "pipeline.tracking", "pipeline.reporting", "pipeline.search")
"""Modules that training and measuring must not need, so that a GPU machine gets by with torch and Lightning."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def file_of(module: str) -> Path | None:
    """The file of a module of this project; None for every other module."""
    path = PROJECT / module.replace(".", "/")
    files = [file for file in (path / "__init__.py", Path(f"{path}.py")) if file.is_file()]
    return files[0] if files and module.split(".")[0] == "pipeline" else None


def nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a tree that are executed, without those for the type checker alone."""
    yield node
    only_types = isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
    for child in node.orelse if only_types else ast.iter_child_nodes(node):  # type: ignore[attr-defined]
        yield from nodes(child)


def imports(path: Path) -> set[str]:
    """The modules of this project that a file imports, at any place in it, with the packages that contain them."""
    named = set()
    for node in nodes(tree(path)):
        match node:
            case ast.Import():
                named |= {alias.name for alias in node.names}
            case ast.ImportFrom(module=str(module), level=0):
                named |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
            case ast.ImportFrom():
                raise AssertionError(f"{path}: imports are written in full, not relative")
            case ast.Constant(value=str(text)) if text.startswith("pipeline.") and text != SERVED:  # imported by name
                named.add(text.split(":")[0])
            case ast.Attribute(attr="iter_modules"):  # imports all modules of its folder
                named |= {module_of(file) for file in path.parent.glob("*.py")}
    packages = {".".join(name.split(".")[:depth]) for name in named for depth in range(1, name.count(".") + 2)}
    return {module for module in packages if file_of(module)}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


def data_files(path: Path) -> set[Path]:
    """Files beside a module that are no Python, and that it names: by their own name or that of their folder."""
    words = {node.value for node in nodes(tree(path)) if isinstance(node, ast.Constant)}
    named = [entry for entry in path.parent.iterdir() if entry.name in words and not (entry / "__init__.py").exists()]
    files = {file for entry in named for file in (entry.rglob("*") if entry.is_dir() else [entry])}
    return {file for file in files if file.is_file() and file.suffix not in (".py", ".pyc")}


@cache
def code_of(stage: str) -> frozenset[Path]:
    """Every file of the code that a stage may run or read, without files that contain a docstring alone."""
    reached: dict[str, Path] = {}
    waiting = ["pipeline.stages", f"pipeline.stages.{stage}", *([TASKS] if stage in STAGES_WITH_TASKS else [])]
    while waiting:
        module = waiting.pop()
        if module in reached or f"{module}.".startswith(f"{TRACKING}."):
            continue
        if stage in STAGES_OF_ABLATIONS and module in SETTINGS_READERS:
            continue
        path = file_of(module)
        assert path is not None, f"{module}: no such module"
        reached[module] = path
        waiting += imports(path)
    files = {file for file in reached.values() if file != PUBLIC and not only_docstring(file)}
    return frozenset(files.union(*map(data_files, reached.values())))


def only_docstring(path: Path) -> bool:
    return path.suffix == ".py" and all(isinstance(node, ast.Expr) for node in tree(path).body)


def declared(stage: str) -> list[Path]:
    """The files and folders of the code among the dependencies of a stage in dvc.yaml."""
    declaration = STAGES[stage].get("do", STAGES[stage])
    return [PROJECT / path for path in declaration["deps"] if path.startswith("pipeline/")]


def listed(paths: set[Path]) -> str:
    return ", ".join(sorted(str(path.relative_to(PROJECT)) for path in paths))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_exactly_the_code_that_it_runs(stage: str) -> None:
    """A change in this code alone makes the stage stale. A folder is declared only if the stage runs all its files."""
    missing = {file for file in code_of(stage) if not any(file.is_relative_to(path) for path in declared(stage))}
    assert not missing, f"dvc.yaml: {stage}: `deps` lacks {listed(missing)}"
    for path in declared(stage):
        assert path.exists(), f"dvc.yaml: {stage}: there is no {listed({path})}"
        files = {file for file in path.rglob("*.py") if not only_docstring(file)} if path.is_dir() else {path}
        unused = files - code_of(stage)
        assert not unused, f"dvc.yaml: {stage}: {listed({path})}: this stage does not run {listed(unused)}"


def test_no_dependency_is_declared_twice() -> None:
    for stage in STAGES:
        paths = declared(stage)
        assert [(a, b) for a in paths for b in paths if a != b and a.is_relative_to(b)] == []
        assert len(set(paths)) == len(paths)


def test_every_stage_runs_the_command_of_its_name() -> None:
    for stage, declaration in STAGES.items():
        assert declaration.get("do", declaration)["cmd"].startswith(f"python -m pipeline {stage}")


PARTS = sorted(
    {path.stem for path in (PROJECT / "pipeline").iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    - {"__init__"}
)


@pytest.mark.parametrize("part", PARTS)
def test_imports_go_down_only(part: str) -> None:
    depth = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    assert part in depth, f"pipeline/{part}: add it to LAYERS"
    package = PROJECT / "pipeline" / part
    for path in sorted(package.rglob("*.py")) if package.is_dir() else [package.with_suffix(".py")]:
        others = {module.split(".")[1] for module in imports(path) if "." in module}
        upwards = sorted(other for other in others if depth.get(other, depth[part]) < depth[part])
        assert not upwards, f"{listed({path})} imports {', '.join(upwards)}, which is above it"


def test_lower_layers_import_no_tool_of_the_upper_ones() -> None:
    """Libraries that they import do not, either; so the modules are imported for real."""
    script = (
        "import importlib, pkgutil, sys\n"
        "for layer in ('training', 'measurement', 'transformer', 'tasks', 'params'):\n"
        "    package = importlib.import_module(f'pipeline.{layer}')\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        f"print([module for module in {UPPER_TOOLS} if module in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT)
    assert process.stdout.strip() == "[]", process.stderr
