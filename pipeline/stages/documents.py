"""Command `documents`: README.md, docs/ and the studies' README.md from templates, whose numbers are references."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pipeline import files
from pipeline.errors import UserError
from pipeline.reporting import prose
from pipeline.reporting.estimates import ESTIMATES, read_estimates
from pipeline.reporting.results import read_table
from pipeline.stages import REPORTS

TEMPLATES = ("README.md.j2", "docs/*.md.j2", "studies/*/README.md.j2")
"""Patterns of the paths of templates."""
EXPERIMENTS = {"default": REPORTS, "search": REPORTS / "search"}
"""Name of an experiment in templates -> folder of its estimates; any other name is that of a study."""


def run() -> None:
    """Write every document that has a template, and print its path.

    Raises:
        UserError: a template has an error, or refers to a number that the committed tables do not have.
    """
    for path, text in render_documents():
        files.write_text(path, text)
        print(path)


def render_documents() -> Iterator[tuple[Path, str]]:
    """Yield the path and the text of every document that has a template below the current folder.

    In a study's template the functions of `prose.References` read the study's estimates, elsewhere those of the default
    experiment; `experiment("residuals").steps(...)` reads another's. `table(PATH)` is any committed table.
    """
    for template in sorted(path for pattern in TEMPLATES for path in Path().glob(pattern)):
        experiment = template.parent.name if template.parts[0] == "studies" else "default"
        functions = references(experiment).functions() if (folder_of(experiment) / ESTIMATES).exists() else {}
        functions |= {"experiment": references, "table": lambda path: read_table(Path(path))}
        text, missing = prose.render_paragraphs(template.read_text("utf-8"), functions, name=str(template))
        if missing:
            raise UserError(f"{template}: no estimates of {', '.join(missing)}")
        yield template.with_suffix(""), text


@cache
def references(experiment: str) -> prose.References:
    """Return the functions that refer to the numbers of an experiment: `default`, `search`, or the name of a study."""
    return prose.References(read_estimates(folder_of(experiment) / ESTIMATES))


def folder_of(experiment: str) -> Path:
    """Return the folder with the tables of an experiment."""
    return EXPERIMENTS.get(experiment, Path("studies") / experiment / REPORTS)
