"""Stage `report`: every cell's evaluation, history and measurements in; tables, figures, summary.md and index.html
out."""

from functools import partial

import pandas as pd

from pipeline import files
from pipeline.measurement import order_blind
from pipeline.measurement.registry import measurements
from pipeline.params import Cell, Params
from pipeline.refusal import Refused
from pipeline.reporting import cells as grid
from pipeline.reporting import figures, page, questions, sections, tables
from pipeline.reporting.evidence import Evidence
from pipeline.reporting.mechanism.finding import Measured
from pipeline.reporting.mechanism.findings import findings
from pipeline.reporting.mechanism.panels import summary
from pipeline.stages import ANALYSIS, EVALUATION, MODELS, REPORTS

TITLE = "How do transformers without positional encoding know the order of their input?"
LAYER_LISTS = ("residual_free_attention", "residual_free_mlp")


def run(params: Params) -> None:
    """Write `reports/`, `index.html` last. Evaluations of cells that the grid no longer has are left alone.

    Raises:
        Refused: a cell of the grid has no evaluation or history, or one of other seeds.
    """
    cells = params.cells()
    runs = pd.concat([_evaluation(cell) for cell in cells], ignore_index=True)
    history = pd.concat([_history(cell) for cell in cells], ignore_index=True)
    blind = {cell.name for cell in cells if order_blind.is_order_blind(cell.model)}
    ceiling = order_blind.ceiling(params.task)

    ablations = tables.ablations(runs, ceiling, blind)
    digits, carries = tables.by_digit(runs), tables.by_carries(runs)
    in_groups = pd.concat([members for _, members in grid.in_groups(ablations)])
    names = list(in_groups["ablation"])
    answers = questions.answers(Evidence(runs, ablations, ceiling))
    measured = _measured(cells)
    mechanism = findings(Measured(measured, runs, ablations), measurements())
    words = sections.digits_in_words(params.task, int(digits["digit"].max()))
    images = {
        "exact_match.png": figures.png(partial(figures.exact_match, runs, ablations, ceiling)),
        "learning_curves.png": figures.png(partial(figures.learning_curves, history, in_groups)),
        "by_digit.png": figures.png(partial(figures.by_digit, digits, names, words)),
        "by_carries.png": figures.png(partial(figures.by_carries, carries, names)),
    }
    for finding in mechanism:
        images |= finding.images
    report = page.Page(
        title=TITLE,
        alarms=sections.alarms(tables.above_ceiling(runs, ceiling, blind), ceiling),
        lead=[short for short in (*(a.short for a in answers), *(f.short for f in mechanism)) if short],
        figure=sections.MAIN,
        sections=[
            sections.results(ablations, params.task, [cell.training.converged_at for cell in cells]),
            *sections.questions(answers),
            *sections.mechanism(mechanism),
            sections.learning_curves(),
            *sections.breakdowns(digits, carries, params.task, names),
            sections.beside_published(ablations),
            sections.provenance(),
        ],
    )

    files.write_csv(REPORTS / "runs.csv", runs)
    files.write_csv(REPORTS / "ablations.csv", ablations)
    files.write_csv(REPORTS / "learning_curves.csv", history)
    for name, of_cell in metrics(ablations).items():
        files.write_json(REPORTS / "metrics" / f"{name}.json", of_cell)
    for name, table in measured.items():
        about = measurements()[name]
        files.write_csv(REPORTS / "measurements" / f"{name}.csv", summary(table, list(about.values)))
    files.write_csv(REPORTS / "symmetry.csv", measured["symmetry"].drop(columns="step"))
    for name, content in images.items():
        files.write_bytes(REPORTS / "figures" / name, content)
    files.write_text(REPORTS / "summary.md", page.markdown(report))
    files.write_text(REPORTS / "index.html", page.html(report, images))
    print(f"The report: {REPORTS / 'index.html'}")


def metrics(ablations: pd.DataFrame) -> dict[str, dict[str, float]]:
    """What `dvc metrics show` prints, by ablation; what a cell does not have is left out."""
    table = ablations.set_index("ablation")[["converged", "runs", "test_exact_match_median"]]
    return {
        name: {str(column): round(float(value), 7) for column, value in cell.items() if pd.notna(value)}
        for name, cell in zip(table.index.astype(str), table.to_dict("records"), strict=True)
    }


def _evaluation(cell: Cell) -> pd.DataFrame:
    path = EVALUATION / f"{cell.name}.csv"
    command = f"python -m pipeline evaluate {cell.name}"
    table = files.read_csv(path, made_by=command, text_columns=LAYER_LISTS)
    if missing := [column for column in tables.REQUIRED if column not in table]:
        raise Refused(f"{path}: has no column {missing[0]!r}; make it again with `{command}`")
    _check_seeds(table, cell, str(path))
    # a name such as `null` would have been read as a missing value
    return table.assign(ablation=cell.name, **{column: table[column].fillna("") for column in LAYER_LISTS})


def _measured(cells: list[Cell]) -> dict[str, pd.DataFrame]:
    """Measurement -> its table over all cells; a cell whose members all diverged has none."""
    for cell in cells:
        if not (ANALYSIS / cell.name).is_dir():
            raise Refused(f"{ANALYSIS / cell.name}: no such folder; `python -m pipeline analyze {cell.name}` makes it")
    tables = {}
    for name in measurements():
        paths = [ANALYSIS / cell.name / f"{name}.csv" for cell in cells]
        found = [
            files.read_csv(path, made_by=f"python -m pipeline analyze {path.parent.name}")
            for path in paths
            if path.exists()
        ]
        tables[name] = pd.concat(found, ignore_index=True) if found else pd.DataFrame()
    return tables


def _history(cell: Cell) -> pd.DataFrame:
    path = MODELS / cell.name / "history.csv"
    table = files.read_csv(path, made_by=f"python -m pipeline train {cell.name}")
    if missing := [column for column in ("seed", "step", "validation_exact_match") if column not in table]:
        raise Refused(
            f"{path}: has no column {missing[0]!r}; make it again with `python -m pipeline train {cell.name}`"
        )
    _check_seeds(table, cell, str(path))
    table.insert(0, "ablation", cell.name)
    return table


def _check_seeds(table: pd.DataFrame, cell: Cell, where: str) -> None:
    if set(table["seed"]) != set(cell.training.seeds):
        raise Refused(
            f"{where}: has the seeds {sorted(set(table['seed']))}, but params.yaml says {sorted(cell.training.seeds)}; "
            f"`dvc repro` trains what is missing"
        )
