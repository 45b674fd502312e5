"""Stage `search`: params.yaml, data/<task>/ -> reports/search/."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline import dataset, files
from pipeline.addresses import hide_password
from pipeline.engines import EngineName, machine
from pipeline.errors import UserError
from pipeline.params import Ablation, Params
from pipeline.search import promote, study, table
from pipeline.search.driver import SearchDriver, read_results
from pipeline.search.results import BEST_TRIAL_COUNT, SearchResults
from pipeline.stages import CHECKPOINTS, DATA, REPORTS

SEARCH_FOLDER = REPORTS / "search"


def run_search(params: Params, *, worker_count: int | None, engine: EngineName, gpus_per_worker: float) -> None:
    """Run the search to its end and write `reports/search/`.

    A single worker gives the same bytes every time; with several workers the order of the trials differs.

    Args:
        worker_count: number of processes that run trials; None: as many as fit this machine.
        engine: where the processes run.
        gpus_per_worker: part of a GPU that each process takes, if there is a GPU.

    Raises:
        UserError: the dataset does not exist, the database cannot be opened, or the space allows no valid model.
        RunError: the database failed, or the workers ended before the search was complete.
    """
    driver = _open_driver(params, seeded=True)
    trials = f"{study.count_completed_trials(driver.study)} of {study.count_required_trials(params)} trials"
    print(f"study {driver.study.study_name}: {trials}, in {hide_password(driver.url.render_as_string())}")
    with study.report_storage_failure(driver.url):
        worker_count = worker_count or machine.command_capacity(gpus_per_worker)
        driver.run_until_complete(worker_count, engine, gpus_per_worker)
        results = read_results(params, driver.study)
        results = replace(results, importances=table.compute_importances(driver.study))
        _write_report(results)
        driver.finish_search(results)
    print(f"The answer: {SEARCH_FOLDER / 'index.html'}")


def run_worker(params: Params) -> None:
    """Run trials of a search until it is complete, on any machine that can connect to its database."""
    driver = _open_driver(params)
    with study.report_storage_failure(driver.url):
        print(f"worker: {driver.run_trials_in_process()} trials", file=sys.stderr)


def run_confirmation(params: Params, trial: int) -> None:
    """Train the ablation of one of the best trials again with fresh seeds, on any machine that can connect to the
    search's database."""
    driver = _open_driver(params)
    with study.report_storage_failure(driver.url):
        driver.confirm_trial(trial)


def promote_best_trials(params: Params, trial_count: int) -> None:
    """Add the ablations of the `trial_count` best trials to `ablations` in `params.yaml`.

    Raises:
        UserError: no trial is complete, or a different ablation has the same name.
    """
    url = study.storage_url(params.search, SEARCH_FOLDER.resolve())
    is_missing = url.get_backend_name() == "sqlite" and not Path(url.database or "").exists()  # opening would create it
    results = None if is_missing else read_results(params, study.open_study(params, url))
    if results is None or results.distinct_trials.empty:
        address = hide_password(url.render_as_string())
        raise UserError(f"{address}: no trial of this search is complete; `python -m pipeline search` runs them")
    names = promote.add_to_params(params, _best_ablations(results, trial_count))
    print(f"added to params.yaml: {', '.join(names) or 'nothing new'}; `python -m pipeline repro` trains them")


def _open_driver(params: Params, *, seeded: bool = False) -> SearchDriver:
    name, task = params.search.task, params.task(params.search.task)
    if task.score.convergence_threshold(params.training) is None:
        raise UserError(f"search.task: {name} is scored by bits per token, so set training.converged_at_bits")
    data = dataset.read(DATA / name, task)
    url = study.storage_url(params.search, SEARCH_FOLDER.resolve())
    return SearchDriver(params, study.open_study(params, url, seeded=seeded), url, data, CHECKPOINTS / "search")


def _best_ablations(results: SearchResults, count: int) -> list[Ablation]:
    return [results.find_ablation(trial) for _, trial in results.rank_trials().head(count).iterrows()]


def read_best_ablations() -> dict[str, Any]:
    """Return the best ablations of the last search, by name, as they would stand in `params.yaml`."""
    return dict(YAML(typ="safe", pure=True).load(SEARCH_FOLDER / "ablations.yaml") or {})


def _write_report(results: SearchResults) -> None:
    """Write all files of `reports/search/` except the database; `index.html` last."""
    from pipeline.reporting import page, style  # imports matplotlib
    from pipeline.search import page as search_page

    best = _best_ablations(results, BEST_TRIAL_COUNT)
    entries = [promote.format_yaml_line(*promote.ablation_entry(ablation, results.params)) for ablation in best]
    text, pictures = search_page.build_page(results, entries)
    images = {f"figures/{picture.name}.webp": style.draw_image(picture.draw) for picture in pictures}
    for name, rows in results.tables.items():
        files.write_csv(SEARCH_FOLDER / name, rows)
    files.write_text(SEARCH_FOLDER / "ablations.yaml", "".join(f"{entry}\n" for entry in entries))
    shutil.rmtree(SEARCH_FOLDER / "figures", ignore_errors=True)  # may hold figures of an earlier report
    for name, image in images.items():
        files.write_bytes(SEARCH_FOLDER / name, image)
    files.write_text(SEARCH_FOLDER / "summary.md", text)
    files.write_text(SEARCH_FOLDER / "index.html", page.render_html(search_page.TITLE, text, images))
