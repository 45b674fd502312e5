"""Command `documents`: README.md, docs/, the studies' README.md and the cards of models, from templates.

Numbers in templates are references.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.errors import UserError
from pipeline.reporting import prose
from pipeline.reporting.estimates import ESTIMATES, read_estimates
from pipeline.reporting.results import read_table
from pipeline.stages import REPORTS

TEMPLATES = ("README.md.j2", "docs/*.md.j2", "studies/*/README.md.j2")
"""Patterns of the paths of templates."""
CARD_TEMPLATE = Path("pipeline/shipped/README.md.j2")
"""Template of the card of each model that comes with the project; it may use the values of the model's config.json."""
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
        yield template.with_suffix(""), _render(template, experiment, {})
    for config in sorted(CARD_TEMPLATE.parent.glob("*/config.json")):
        yield config.with_name(CARD_TEMPLATE.stem), _render(CARD_TEMPLATE, "default", _card_values(config))


def _render(template: Path, experiment: str, values: dict[str, Any]) -> str:
    functions = references(experiment).functions() if (folder_of(experiment) / ESTIMATES).exists() else {}
    values |= functions | {"experiment": references, "table": lambda path: read_table(Path(path))}
    text, missing = prose.render_paragraphs(template.read_text("utf-8"), values, name=str(template))
    if missing:
        raise UserError(f"{template}: no estimates of {', '.join(missing)}")
    return text


def _card_values(config: Path) -> dict[str, Any]:
    """Return the settings of the model in the folder of `config`, and the row of `runs.csv` about its run."""
    (weights,) = config.parent.glob("seed-*.safetensors")
    name, runs = config.parent.name, read_table(REPORTS / "runs.csv")
    run = runs[(runs["ablation"] == name) & (runs["seed"] == int(weights.stem.removeprefix("seed-")))]
    return json.loads(config.read_text("utf-8")) | {"name": name, "run": run.iloc[0]}


@cache
def references(experiment: str) -> prose.References:
    """Return the functions that refer to the numbers of an experiment: `default`, `search`, or the name of a study."""
    return prose.References(read_estimates(folder_of(experiment) / ESTIMATES))


def folder_of(experiment: str) -> Path:
    """Return the folder with the tables of an experiment."""
    return EXPERIMENTS.get(experiment, Path("studies") / experiment / REPORTS)
