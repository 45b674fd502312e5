"""Stage `search`: params.yaml, data/<task>/ -> reports/search/."""

import shutil
import sys
from functools import partial

import optuna
from sqlalchemy.engine import URL

from pipeline import dataset, files
from pipeline.addresses import hide_password
from pipeline.engines import ENGINES, LOCAL_ENGINE, Command, EngineName, Limits, machine
from pipeline.errors import RunError, UserError
from pipeline.params import Params
from pipeline.reporting.estimates import ESTIMATES
from pipeline.search import plan, study
from pipeline.search.results import FINISHED, SearchResults
from pipeline.stages import CHECKPOINTS, DATA, REPORTS

SEARCH_FOLDER = REPORTS / "search"


def run_search(params: Params, *, worker_count: int | None, engine: EngineName, gpus_per_worker: float) -> None:
    """Run the search to its end and write `reports/search/`, the same bytes with any number of workers.

    The workers (default: as many as fit this machine) are processes on the `engine`, each with this part of a GPU if
    there is one; a single local worker runs in this process. A RunError is raised if they end too early.
    """
    url, opened = _open_study(params)
    print(f"study {opened.study_name}, in {hide_password(url.render_as_string())}")
    with study.report_storage_failure(url):
        count = worker_count or machine.command_capacity(gpus_per_worker)
        if count == 1 and engine == LOCAL_ENGINE:  # a further process would take seconds to start
            _run_trials(params, url, opened)
        else:
            storage = {study.STORAGE_VARIABLE: url.render_as_string(hide_password=False)}
            commands = [Command.pipeline_command("search", "--worker", environment=storage)] * count
            ENGINES[engine].run(commands, Limits(count, gpus_per_worker), lambda index, exit_code: None)
        with study.exclusive_access(url):
            is_complete = plan.queue_trials(params, opened)
            results = SearchResults.read(params, opened)
            _write_report(results)
            _write_to_mlflow(results, opened, is_complete)
    if not is_complete:
        finished = results.trials["state"].isin(FINISHED).sum()
        planned = f"{finished} of {len(results.trials)} planned trials are finished"
        raise RunError(f"search: no worker is left, but only {planned}; the same command goes on")
    print(f"The answer: {SEARCH_FOLDER / 'index.html'}")


def run_worker(params: Params) -> None:
    """Run trials of a search until it is complete, on any machine that can connect to its database."""
    url, opened = _open_study(params)
    with study.report_storage_failure(url):
        print(f"worker: {_run_trials(params, url, opened)} trials", file=sys.stderr)


def _open_study(params: Params) -> tuple[URL, optuna.Study]:
    """Open the study, after a check of what only Optuna and the files know."""
    name, task = params.search.task, params.task(params.search.task)
    if task.score.convergence_threshold(params.training) is None:
        raise UserError(f"search.task: {name} is scored by bits per token, so set training.converged_at_bits")
    dataset.read(DATA / name, task)
    plan.build(params, "sampler", seed=0)
    plan.build(params, "pruner")
    url = study.storage_url(params.search, SEARCH_FOLDER.resolve())
    return url, study.open_study(params, url)


def _run_trials(params: Params, url: URL, opened: optuna.Study) -> int:
    from pipeline.search.worker import Worker, train_rung  # Lightning: an unreachable storage is reported at once

    data = dataset.read(DATA / params.search.task, params.task(params.search.task))
    train = partial(train_rung, data=data, pruner=plan.build(params, "pruner"), checkpoints=CHECKPOINTS / "search")
    return Worker(params, opened, url, train).run_trials()


def _write_to_mlflow(results: SearchResults, opened: optuna.Study, is_complete: bool) -> None:
    from pipeline.tracking.trials import TrialRuns

    settings = results.params.search.model_dump(mode="json", exclude={"storage"})
    runs = TrialRuns(results.params.tracking, opened.study_name, str(opened.user_attrs["begun"]), settings)
    for row in results.trials[results.trials["state"].isin(FINISHED)].to_dict("records"):
        runs.write_trial(row, results.ablations[row["trial"]], results.curves[row["trial"]])
    if is_complete:
        runs.finish_parent_run({"trials": float(len(results.trials))})


def _write_report(results: SearchResults) -> None:
    """Write all files of `reports/search/` except the database; `index.html` last."""
    from pipeline.reporting import page, style  # imports matplotlib
    from pipeline.search import page as search_page

    text, pictures = search_page.build_page(results)
    images = {f"figures/{picture.name}.webp": style.draw_image(picture.draw) for picture in pictures}
    tables = {"trials.csv": results.trials, "runs.csv": results.runs, ESTIMATES: results.estimates.table}
    for name, rows in tables.items():
        files.write_csv(SEARCH_FOLDER / name, rows)
    shutil.rmtree(SEARCH_FOLDER / "figures", ignore_errors=True)  # may hold figures of an earlier report
    for name, image in images.items():
        files.write_bytes(SEARCH_FOLDER / name, image)
    files.write_text(SEARCH_FOLDER / "summary.md", text)
    files.write_text(SEARCH_FOLDER / "index.html", page.render_html(search_page.TITLE, text, images))
