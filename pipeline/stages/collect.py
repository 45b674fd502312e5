"""Stage `collect`: gather the evaluations, histories and measurements of all ablations in a few tidy tables."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from pipeline import files, switches
from pipeline.errors import UserError
from pipeline.measurement.catalogue import measurements
from pipeline.params import Ablation, Params
from pipeline.reporting import results
from pipeline.reporting.ceiling import is_proved_impossible
from pipeline.stages import ANALYSIS, EVALUATION, MODELS, REPORTS, TESTED

REQUIRED_RUN_COLUMNS = (
    *("ablation", "seed", "task", *switches.SWITCH_COLUMNS, "parameters", "steps", "converged", "steps_to_converge"),
    *("steps_to_50", "steps_to_90", "area_above_curve", "diverged", "test_examples"),
)
"""Columns that every table of evaluated runs has, whatever the task.

The table also has the validation and test score (such as `test_exact_match`), and for tasks with an answer a column per
position of the answer (`digit_<k>`) and per stratum (`carries_<k>`) with its number of examples
(`carries_<k>_examples`). In `runs.csv`, `proved` is 1 if the architecture makes convergence impossible.
"""


def run(params: Params, others: Collection[str] = (), *, kept: Collection[str] = ()) -> None:
    """Write `runs.csv`, `learning_curves.csv`, `symmetry.csv` and `measurements.csv.bz2` below `reports/`.

    Results of ablations that `params.yaml` does not have are ignored.

    Args:
        others: names of ablations whose results are not read.
        kept: those among them whose rows stay as they are in the tables; the rest is left out. `runs.csv` then has a
            column `kept`, which is 1 for such rows.

    Raises:
        UserError: an ablation has no evaluation, history or measurements, or those of other seeds or weights.
    """
    read = [ablation for ablation in params.all_ablations() if ablation.name not in others]
    runs, curves, measured = _read_results(read)
    proved = {ablation.name: int(is_proved_impossible(ablation)) for ablation in read}
    runs.insert(list(runs).index("diverged"), "proved", runs["ablation"].map(proved))
    tables = {
        results.RUNS: runs.assign(still_rising=results.mark_still_rising(runs, curves)),
        results.CURVES: curves,
        results.SYMMETRY: measured["symmetry"],
        results.MEASUREMENTS: pd.concat(_tidy_measurements(measured), ignore_index=True),
    }
    if others:
        tables[results.RUNS]["kept"] = 0
        tables = {name: _add_kept_rows(name, table, kept, [*params.ablations]) for name, table in tables.items()}
    results.write_tables(REPORTS, tables)


def _add_kept_rows(file: str, table: pd.DataFrame, kept: Collection[str], order: Sequence[str]) -> pd.DataFrame:
    """Return a table with the rows of the ablations `kept` in the file that it will replace, sorted by ablation."""
    if not kept:
        return table
    old = results.read_table(REPORTS / file)
    old = old[old["ablation"].isin(kept)]
    if file == results.RUNS:
        old = old.assign(kept=1)
    return pd.concat([table, old], ignore_index=True).sort_values(
        "ablation", key=lambda names: names.map(order.index), kind="stable", ignore_index=True
    )


def _tidy_measurements(measured: Mapping[str, pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Yield the rows of `measurements.csv.bz2`, measurement by measurement."""
    yield pd.DataFrame(columns=list(results.MEASURED_COLUMNS))
    for name, table in measured.items():
        if name != "symmetry" and len(table):
            yield results.tidy(name, table, list(measurements()[name].value_descriptions))
    if len(probe := measured["token_probe"]):
        yield results.tidy("own_token", results.summarise_token_probe(probe), ["dominance", "margin"])


def _read_results(ablations: Iterable[Ablation]) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, pd.DataFrame]]:
    """Read the evaluations, the histories and the measurements of ablations.

    Returns:
        Three values: a table with a row per run; a table with a row per evaluation during training; and the tables
        of measurements by name. Ablations whose runs all diverged have no measurements.

    Raises:
        UserError: an ablation has no evaluation, history or measurements, or those of other seeds.
    """
    evaluations, histories = [], []
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in measurements()}
    for ablation in ablations:
        artifact = _open_results("train", MODELS, ablation, ablation.name)
        history = _read_runs(artifact, "history.csv", ablation)
        history.insert(0, "ablation", ablation.name)
        histories.append(history)
        evaluation = _open_results("evaluate", EVALUATION, ablation, artifact.digest)
        scores = [ablation.task.score.column(split) for split in ("validation", "test")]
        table = _read_runs(evaluation, TESTED, ablation, (*REQUIRED_RUN_COLUMNS, *scores))
        # take the name from params.yaml: in the file, a name such as `null` would be read as a missing value
        names = {"ablation": ablation.name, "task": ablation.dataset}
        evaluations.append(table.assign(**names, **switches.switch_columns(ablation)))
        analysis = _open_results("analyze", ANALYSIS, ablation, artifact.digest)
        for name in parts:
            if f"{name}.csv" in analysis.digests:
                parts[name].append(analysis.read_csv(f"{name}.csv").assign(ablation=ablation.name))
    unmeasured = pd.DataFrame(columns=["ablation"])
    measured = {name: pd.concat(rows, ignore_index=True) if rows else unmeasured for name, rows in parts.items()}
    return pd.concat(evaluations, ignore_index=True), pd.concat(histories, ignore_index=True), measured


def _open_results(stage: str, parent: Path, ablation: Ablation, subject: str) -> files.VerifiedFolder:
    """Open the folder that a stage wrote for an ablation; evaluation and analysis name the artifact's digest."""
    command = f"python -m pipeline {stage} {ablation.name}"
    return files.open_verified_folder(parent / ablation.name, creating_command=command, subject=subject)


def _read_runs(
    results: files.VerifiedFolder, file: str, ablation: Ablation, required_columns: Sequence[str] = ()
) -> pd.DataFrame:
    """Read a table with rows for each run of an ablation, which must have the seeds of `params.yaml`."""
    table = results.read_csv(file)
    if missing := [column for column in required_columns if column not in table]:
        command = results.creating_command
        raise UserError(f"{results.folder}: has no column {missing[0]!r}; make it again with `{command}`")
    if set(table["seed"]) != set(ablation.training.seeds):
        raise UserError(
            f"{results.folder}: has the seeds {sorted(set(table['seed']))}, but params.yaml has "
            f"{sorted(ablation.training.seeds)}; `python -m pipeline repro` trains what is missing"
        )
    return table
