"""Stage `search`: which depths and residual patterns still converge without positional encoding.

Torch, MLflow and matplotlib are imported where they are used, so that a storage that does not answer is told at once.
"""

import io
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pandas as pd
from ruamel.yaml import YAML
from sqlalchemy.engine import URL

from pipeline import execution, files
from pipeline.params import PARAMS_FILE, Cell, Params
from pipeline.refusal import Failed, Refused
from pipeline.search import space, table
from pipeline.search.result import Result
from pipeline.search.study import alone, complete, open_study, storage_url, wanted
from pipeline.stages import DATA, REPORTS
from pipeline.tasks import dataset

if TYPE_CHECKING:
    from pipeline.trial_runs import TrialRuns

FOLDER = REPORTS / "search"
LAYER_LISTS = ("residual_free_attention", "residual_free_mlp")


def run(params: Params, *, workers: int | None, ray: bool, gpus: float) -> None:
    """Run the study to its end with `workers` workers (None: one per GPU or core) and write `reports/search/`.

    One worker of a fixed seed gives the same bytes every time; with several the order of the trials differs.

    Raises:
        Refused: no dataset, no storage, or a space that makes no valid model.
        Failed: the workers were lost before the study had the trials that are wanted.
    """
    data = dataset.read(DATA / params.task.name, params.task)
    url = storage_url(params.search, FOLDER.resolve())
    study = open_study(params, url, seeded=True)
    print(f"study {study.study_name}: {wanted(params.search)} trials, in {url.render_as_string(hide_password=True)}")
    if complete(study) >= wanted(params.search):
        pass  # there is only the answer to write: workers take seconds to start
    elif ray:
        count = workers or len(execution.environments(None))
        execution.run_on_ray(partial(work_elsewhere, params, url, Path.cwd()), count, gpus=gpus)
    elif len(environments := execution.environments(workers)) == 1:
        _work(params, study, url, data)
    else:
        command = [sys.executable, "-m", "pipeline", "search", "--worker"]
        execution.run_processes([command] * len(environments), environments)
    finish(params, study, url)


def run_worker(params: Params) -> None:
    """Take part in a study, from any machine that sees its storage, until it is complete."""
    execution.end_with_parent()
    url = storage_url(params.search, FOLDER.resolve())
    study = open_study(params, url)
    data = dataset.read(DATA / params.task.name, params.task)
    ran = _work(params, study, url, data)
    print(f"worker: {ran} trials", file=sys.stderr)


def finish(params: Params, study: optuna.Study, url: URL) -> None:
    """Show in MLflow what it lacks, and write the answer.

    Raises:
        Failed: trials are missing.
    """
    with alone(url):  # the first of many machines to come here does it
        runs = _runs(params, study)  # as the workers left them
        for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)):
            _show(runs, trial, table.cell_of(params, trial))
    found = table.trials(params, study)
    _write(params, study, found)
    if (done := complete(study)) < wanted(params.search):
        raise Failed(
            f"search: {done} of {wanted(params.search)} trials are complete, the workers are gone; the same command "
            f"goes on"
        )
    runs.finish({"trials": done, "retried": float(found["retries"].notna().sum())})
    print(f"The answer: {FOLDER / 'index.html'}")


def promote(params: Params, best: int) -> None:
    """Add the `best` configurations of the study to `ablations` in `params.yaml`, keeping everything else as it is.

    Raises:
        Refused: there is no study yet, or no trial of it is complete.
    """
    from pipeline.reporting.search import answer

    path = FOLDER / "trials.csv"
    found = files.read_csv(path, made_by="python -m pipeline search", text_columns=LAYER_LISTS)
    chosen = answer.ranked(found, params.search.minimize).head(best)
    if chosen.empty:
        raise Refused(f"{path}: no trial is complete; `python -m pipeline search` goes on")
    cells = dict(answer.stanza(trial, params.model, params.training) for _, trial in chosen.iterrows())
    yaml = YAML()
    yaml.width = 200
    yaml.indent(mapping=2, sequence=4, offset=2)
    content = yaml.load(PARAMS_FILE.read_text())
    new = {name: overrides for name, overrides in cells.items() if name not in content["ablations"]}
    for name, overrides in new.items():
        content["ablations"][name] = overrides
    buffer = io.StringIO()
    yaml.dump(content, buffer)
    Params.model_validate(YAML(typ="safe", pure=True).load(buffer.getvalue())).cells()
    files.write_text(PARAMS_FILE, buffer.getvalue())
    print(f"added to params.yaml: {', '.join(new) or 'nothing new'}; `dvc repro` trains them")


def _write(params: Params, study: optuna.Study, found: pd.DataFrame) -> None:
    """Everything in `reports/search/` but the storage; `index.html` last."""
    from pipeline.reporting import page
    from pipeline.reporting.search import report

    size = space.size(params.search.space)
    importances = table.importances(study)
    content, images = report.page(params, found, study=study.study_name, space_size=size, importances=importances)
    files.write_csv(FOLDER / "trials.csv", found)
    cells = report.stanzas(found, params.model, params.training, params.search.minimize)
    files.write_text(FOLDER / "ablations.yaml", cells)
    for name, image in images.items():
        files.write_bytes(FOLDER / "figures" / name, image)
    files.write_text(FOLDER / "summary.md", page.markdown(content))
    files.write_text(FOLDER / "index.html", page.html(content, images))


def _runs(params: Params, study: optuna.Study) -> "TrialRuns":
    """The study's runs in MLflow; to be called by one process at a time."""
    from pipeline.trial_runs import TrialRuns

    about = params.search.model_dump(mode="json", exclude={"storage"})
    return TrialRuns(params.tracking, study.study_name, str(study.user_attrs["begun"]), about)


def _show(runs: "TrialRuns", trial: optuna.trial.FrozenTrial, cell: Cell | None) -> None:
    if cell is not None:
        runs.show(trial.number, cell, trial.user_attrs, trial.values)


def work_elsewhere(params: Params, url: URL, project: Path, index: int) -> None:
    """A Ray task: another process, perhaps on another machine, which sees the folder `project` too."""
    study = open_study(params, url)
    data = dataset.read(project / DATA / params.task.name, params.task)
    _work(params, study, url, data)


def _work(params: Params, study: optuna.Study, url: URL, data: dataset.Dataset) -> int:
    """Run trials, each shown in MLflow and told in a line on stderr; how many."""
    from pipeline.reporting.wording import plural
    from pipeline.search.worker import work

    with alone(url):  # so that there is one parent
        runs = _runs(params, study)

    def tell(trial: optuna.trial.FrozenTrial, cell: Cell) -> None:
        _show(runs, trial, cell)
        result = Result(**trial.user_attrs["result"])
        print(
            f"trial {trial.number} ({wanted(params.search)} wanted): {plural(cell.model.layers, 'layer')}, "
            f"{plural(result.residuals_kept, 'residual connection')}, converged {result.converged}/{result.members}, "
            f"exact match {result.validation_exact_match:.3f}{', known already' * ('repeats' in trial.user_attrs)}",
            file=sys.stderr,
        )

    return work(params, study, url, data, on_trial=tell)
