"""Stage `search`: params.yaml, data/<task>/ -> reports/search/."""

import shutil
import sys
from dataclasses import replace

from pipeline import dataset, files
from pipeline.engines import EngineName, machine
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.reporting.search.results import BEST_COUNT, SearchResults
from pipeline.search import table
from pipeline.search.driver import Driver, read_results
from pipeline.search.promote import ablation_entry, yaml_line
from pipeline.search.promote import promote as add_to_params
from pipeline.search.study import (
    completed_trials,
    load_study,
    open_study,
    report_storage_failure,
    storage_url,
    trials_required,
)
from pipeline.stages import CHECKPOINTS, DATA, REPORTS

FOLDER = REPORTS / "search"


def run(params: Params, *, workers: int | None, engine: EngineName, gpus: float | None) -> None:
    """Run the study to its end and write `reports/search/`.

    `workers`: how many; None: as many as this machine has room for, if each takes the share `gpus` of a GPU. One worker
    of a fixed seed gives the same bytes every time; with several the order of the trials differs.

    Raises:
        UserError: there is no dataset or no storage, or the space allows no valid model.
        RunError: the storage went away, or the workers ended before the study was complete.
    """
    driver = _driver(params, seeded=True)
    study, url = driver.study, driver.url
    shown_url = url.render_as_string(hide_password=True)
    print(f"study {study.study_name}: {completed_trials(study)} of {trials_required(params)} trials, in {shown_url}")
    with report_storage_failure(url):
        driver.run(workers=workers or machine.command_capacity(gpus), engine=engine, gpus=gpus)
        results = replace(read_results(params, study), importances=table.importances(study))
        _write(results)
        driver.finish(results)
    print(f"The answer: {FOLDER / 'index.html'}")


def run_worker(params: Params) -> None:
    """Take part in a study, from any machine that reaches its storage, until it is complete."""
    driver = _driver(params)
    with report_storage_failure(driver.url):
        trials = driver.work()
    print(f"worker: {trials} trials", file=sys.stderr)


def run_confirmation(params: Params, trial: int) -> None:
    """Train one trial of a study again with fresh seeds, from any machine that reaches its storage.

    Raises:
        UserError: the trial is not among those to be confirmed.
    """
    driver = _driver(params)
    with report_storage_failure(driver.url):
        driver.confirm(trial)


def promote(params: Params, best: int) -> None:
    """Add the `best` configurations of the study to `ablations` in `params.yaml`, and keep all else as it is.

    Raises:
        UserError: there is no study yet, no trial of it is complete, or another ablation has a name of theirs.
    """
    study = load_study(params, storage_url(params.search, FOLDER.resolve()))
    results = read_results(params, study)
    if results.evidence.empty:
        raise UserError(f"study {study.study_name}: no trial is complete; `python -m pipeline search` goes on")
    names = add_to_params(params, [results.ablation(trial) for _, trial in results.ranked().head(best).iterrows()])
    print(f"added to params.yaml: {', '.join(names) or 'nothing new'}; `python -m pipeline repro` trains them")


def _driver(params: Params, *, seeded: bool = False) -> Driver:
    data = _read_dataset(params)
    url = storage_url(params.search, FOLDER.resolve())
    return Driver(params, open_study(params, url, seeded=seeded), url, data, CHECKPOINTS / "search")


def _write(results: SearchResults) -> None:
    """Write all of `reports/search/` except the storage; `index.html` last."""
    from pipeline.reporting import page  # imports matplotlib
    from pipeline.reporting.claims import Claims
    from pipeline.reporting.search import report

    best = [results.ablation(trial) for _, trial in results.ranked().head(BEST_COUNT).iterrows()]
    entries = [yaml_line(*ablation_entry(ablation, results.params)) for ablation in best]
    claims = report.claims(results)
    content, images = report.page(results, claims, entries), report.images(results)
    for name, rows in results.tables.items():
        files.write_csv(FOLDER / name, rows)
    files.write_json(FOLDER / "claims.json", Claims(claims=report.record(results, claims)).model_dump())
    files.write_text(FOLDER / "ablations.yaml", "".join(f"{entry}\n" for entry in entries))
    shutil.rmtree(FOLDER / "figures", ignore_errors=True)  # may hold figures of an earlier report
    for name, image in images.items():
        files.write_bytes(FOLDER / "figures" / f"{name}.png", image)
    files.write_text(FOLDER / "summary.md", page.render_markdown(content))
    files.write_text(FOLDER / "index.html", page.render_html(content, images))


def _read_dataset(params: Params) -> dataset.Dataset:
    """The dataset of `search.task`.

    Raises:
        UserError: there is no such dataset, or `training` does not define when a run has converged on it.
    """
    name, task = params.search.task, params.task(params.search.task)
    if task.score.threshold(params.training) is None:
        raise UserError(
            f"search.task: {name} is scored by bits per token, so set training.converged_at_bits, at which a run has "
            f"converged"
        )
    return dataset.read(DATA / name, task)
