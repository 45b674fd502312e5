"""Draw docstrings, names and help texts of the project, for a reader who does not know the code.

    python tests/plain_english.py > questions.md        # --seed SEED; default: the hash of the current commit

The reader says, for each numbered item alone, what it does. At least 38 of 40 docstrings, 38 of 40 names and all help
texts should be understood.
"""

import argparse
import ast
import contextlib
import io
import random
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline import cli

PROJECT = Path(__file__).parent.parent
DRAWN = 40


def docstrings(tree: ast.Module) -> Iterator[str]:
    """First paragraph of every docstring of a file, those below fields and constants included."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):  # a string that stands alone
                yield " ".join(text.strip().split("\n\n")[0].split())


def names(tree: ast.Module, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every function, class, field, constant and parameter that a file defines, with the line that defines it."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                yield name, lines[node.lineno - 1].strip()
        for statement in node.body if isinstance(node, ast.Module | ast.ClassDef) else []:
            match statement:
                case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                    yield name, lines[statement.lineno - 1].strip()


def uses(name: str, tree: ast.Module, lines: Sequence[str]) -> Iterator[str]:
    """The lines of a file that use a name, without those that define it."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=used, ctx=ast.Load()) | ast.Attribute(attr=used, ctx=ast.Load()) if used == name:
                yield lines[node.lineno - 1].strip()
            case ast.keyword(arg=used) if used == name:
                yield lines[node.lineno - 1].strip()


def help_texts() -> Iterator[tuple[str, str]]:
    """Every command that `--help` lists, and its own help text."""
    for command in [None, *(command.callback for command in cli.app.registered_commands if not command.hidden)]:
        arguments = [command.__name__] if command else []
        with contextlib.redirect_stdout(io.StringIO()) as output:
            cli.run_command([*arguments, "--help"])
        yield " ".join(["python -m pipeline", *arguments]), output.getvalue().strip()


def main() -> None:
    """Print the drawn items as Markdown."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True).stdout.strip()
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", default=commit)
    seed = parser.parse_args().seed
    draw = random.Random(seed)
    sources = [path.read_text() for path in sorted((PROJECT / "pipeline").rglob("*.py"))]
    trees = [(ast.parse(source), source.splitlines()) for source in sources]
    all_docstrings = sorted({text for tree, _ in trees for text in docstrings(tree)})
    definitions = {name: line for tree, source in trees for name, line in names(tree, source)}
    special = {"self", "cls", "_"}
    ordinary_names = sorted(name for name in definitions if name not in special and not name.startswith("__"))

    print(f"# What does each of these do? (seed {seed})\n\n## Docstrings (drawn from {len(all_docstrings):,})\n")
    for number, text in enumerate(draw.sample(all_docstrings, DRAWN), 1):
        print(f"{number}. {text}")
    print(f"\n## Names, each with a line of use (drawn from {len(ordinary_names):,})\n")
    for number, name in enumerate(draw.sample(ordinary_names, DRAWN), 1):
        lines = sorted({line for tree, source in trees for line in uses(name, tree, source)})
        print(f"{number}. `{name}`: `{draw.choice(lines or [definitions[name]])}`")
    print("\n## Help texts\n")
    for number, (command, text) in enumerate(help_texts(), 1):
        print(f"{number}. `{command} --help`\n\n```\n{text}\n```\n")


if __name__ == "__main__":
    main()
