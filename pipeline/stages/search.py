"""Stage `search`: which depths and residual patterns still converge without positional encoding.

Torch, MLflow and matplotlib are imported where they are used, so that a storage that does not answer is told at once.
"""

import io
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import optuna
from ruamel.yaml import YAML
from sqlalchemy.engine import URL

from pipeline import dataset, files
from pipeline.engines import ENGINES, LOCAL_ENGINE, Command, EngineName, machine
from pipeline.errors import RunError, UserError
from pipeline.params import PARAMS_FILE, Ablation, Overrides, Params, parse, round_trip_yaml
from pipeline.search import confirmation, space, stanza, table
from pipeline.search.result import Result
from pipeline.search.study import (
    VARIABLE,
    completed_trials,
    exclusive_access,
    find_study,
    open_study,
    report_storage_failure,
    seconds_left,
    storage_url,
    trials_required,
)
from pipeline.stages import CHECKPOINTS, DATA, REPORTS

if TYPE_CHECKING:
    from pipeline.reporting.search.study import Study
    from pipeline.tracking.trials import TrialRuns

FOLDER = REPORTS / "search"
KEPT = CHECKPOINTS / "search"


def run(params: Params, *, workers: int | None, engine: EngineName, gpus: float | None) -> None:
    """Run the study to its end with `workers` workers (None: as many as this machine has room for, if each takes that
    share of a GPU) and write `reports/search/`.

    One worker of a fixed seed gives the same bytes every time; with several the order of the trials differs.

    Raises:
        UserError: no dataset, no storage, or a space that makes no valid model.
        RunError: the storage went away, or the workers were lost before the study had the trials that are wanted.
    """
    data = _data(params)
    url = storage_url(params.search, FOLDER.resolve())
    study = open_study(params, url, seeded=True)
    count = workers or machine.capacity(gpus)
    left = seconds_left(params, study, count)
    print(
        f"study {study.study_name}: {completed_trials(study)} of {trials_required(params)} trials, in "
        f"{url.render_as_string(hide_password=True)}; "
        f"{'the first will say how long they take' if left is None else f'about {left / 60:.0f} min of trials left'}"
    )
    from pipeline.reporting.wording import listed

    alone_here = count == 1 and engine == LOCAL_ENGINE  # workers take seconds to start
    storage = {VARIABLE: url.render_as_string(hide_password=False)}

    def start(commands: Sequence[Sequence[str]]) -> None:
        every = [Command.pipeline_command("search", *arguments, environment=storage) for arguments in commands]
        ENGINES[engine].run(every, workers=count, gpus=gpus)

    with report_storage_failure(url):
        if completed_trials(study) < trials_required(params):
            _work(params, study, url, data) if alone_here else start([["--worker"]] * count)
        if completed_trials(study) >= trials_required(params) and (trials := _told(params, study).unconfirmed):
            print(f"confirmation of trials {listed([str(one) for one in trials])} with fresh seeds", file=sys.stderr)
            if alone_here:
                for trial in trials:
                    confirm(params, study, trial, data)
            else:
                start([["--confirm", str(trial)] for trial in longest_first(study, trials)])
        finish(params, study, url)


def run_worker(params: Params) -> None:
    """Take part in a study, from any machine that sees its storage, until it is complete."""
    url = storage_url(params.search, FOLDER.resolve())
    study = open_study(params, url)
    with report_storage_failure(url):
        ran = _work(params, study, url, _data(params))
    print(f"worker: {ran} trials", file=sys.stderr)


def run_confirmation(params: Params, trial: int) -> None:
    """Train one trial of a study again with fresh seeds, from any machine that sees its storage.

    Raises:
        UserError: the study has no such trial to be confirmed.
    """
    url = storage_url(params.search, FOLDER.resolve())
    study = find_study(params, url)
    with report_storage_failure(url):
        if trial not in (missing := _told(params, study).unconfirmed):
            raise UserError(f"--confirm: trial {trial} is not to be confirmed (those that are: {missing or 'none'})")
        confirm(params, study, trial, _data(params))


def longest_first(study: optuna.Study, trials: Iterable[int]) -> list[int]:
    """These trials, by how long they took: side by side, so they end soonest."""
    took = {trial.number: trial.duration or timedelta() for trial in study.get_trials(deepcopy=False)}
    return sorted(trials, key=took.__getitem__, reverse=True)


def confirm(params: Params, study: optuna.Study, trial: int, data: dataset.Dataset) -> None:
    """Train a trial's ablation again with fresh seeds; the storage keeps what became of them."""
    from pipeline.search import objective

    ablation = table.ablations_by_trial(params, study)[trial]
    confirmation.store(study, trial, objective.confirm(ablation, data, params.search.confirm, checkpoints=KEPT))


def finish(params: Params, study: optuna.Study, url: URL) -> None:
    """Show in MLflow what it lacks, and write the answer.

    Raises:
        RunError: trials are missing.
    """
    ablations = table.ablations_by_trial(params, study)
    with exclusive_access(url):  # the first of many machines to come here does it
        runs = _runs(params, study)  # as the workers left them
        for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)):
            runs.show(trial.number, ablations[trial.number], trial.user_attrs, trial.values)
    told = replace(_told(params, study), importances=table.importances(study))
    _write(told)
    if (done := completed_trials(study)) < trials_required(params):
        raise RunError(
            f"search: {done} of {trials_required(params)} trials are complete, the workers are gone; the same "
            f"command goes on"
        )
    if missing := told.unconfirmed:
        raise RunError(f"search: trials {missing} are not confirmed, the workers are gone; the same command goes on")
    confirmed = {f"confirmed_{trial}": float(members["converged"].sum()) for trial, members in told.confirmed.items()}
    runs.finish({"trials": done, "retried": float(told.trials["retries"].notna().sum())} | confirmed)
    print(f"The answer: {FOLDER / 'index.html'}")


def promote(params: Params, best: int) -> None:
    """Add the `best` configurations of the study to `ablations` in `params.yaml`, keeping everything else as it is.

    Raises:
        UserError: there is no study yet, no trial of it is complete, or a name is taken by another ablation.
    """
    url = storage_url(params.search, FOLDER.resolve())
    study = find_study(params, url)
    told = _told(params, study)
    chosen = dict(_best(told, best))
    if not chosen:
        raise UserError(f"study {study.study_name}: no trial is complete; `python -m pipeline search` goes on")
    asked = params.model_copy(update={"ablations": {name: Overrides(**own) for name, own in chosen.items()}})
    there = {name for name in chosen if name in params.ablations}
    if taken := sorted(name for name in there if params.ablation(name) != asked.ablation(name)):
        raise UserError(f"{PARAMS_FILE}: ablations.{taken[0]}: is another ablation than the study's; rename it")
    new = {name: overrides for name, overrides in chosen.items() if name not in there}
    yaml = round_trip_yaml()
    content = yaml.load(PARAMS_FILE.read_text())
    content["ablations"].update(new)
    buffer = io.StringIO()
    yaml.dump(content, buffer)
    parse(Params, YAML(typ="safe", pure=True).load(buffer.getvalue()), str(PARAMS_FILE)).check()
    files.write_text(PARAMS_FILE, buffer.getvalue())
    print(f"added to params.yaml: {', '.join(new) or 'nothing new'}; `python -m pipeline repro` trains them")


def _told(params: Params, study: optuna.Study) -> "Study":
    """The study as its report is written from it."""
    from pipeline.reporting.search.study import Study

    trials, ablations = table.trials(params, study), table.ablations_by_trial(params, study)
    confirmed = confirmation.stored(study, list(ablations), params.search.confirm)
    return Study(
        study.study_name, params, trials, ablations, trials_required(params), space.size(params), confirmed=confirmed
    )


def _best(told: "Study", count: int) -> list[tuple[str, dict[str, Any]]]:
    """The best configurations as ablations: their names and overrides."""
    return [stanza.stanza(told.ablations[trial], told.params) for trial in told.ranked().head(count)["trial"]]


def _write(told: "Study") -> None:
    """Everything in `reports/search/` but the storage; `index.html` last."""
    from pipeline.reporting import page
    from pipeline.reporting.claims import Claims
    from pipeline.reporting.search import report
    from pipeline.reporting.search.study import READY

    ready = [stanza.line(*one) for one in _best(told, READY)]
    claims = report.claims(told)
    content, images = report.page(told, claims, ready), report.images(told)
    for name, of_study in told.tables.items():
        files.write_csv(FOLDER / name, of_study)
    files.write_json(FOLDER / "claims.json", Claims(claims=report.record(told, claims)).model_dump())
    files.write_text(FOLDER / "ablations.yaml", "".join(f"{line}\n" for line in ready))
    shutil.rmtree(FOLDER / "figures", ignore_errors=True)  # with those that are no more
    for name, image in images.items():
        files.write_bytes(FOLDER / "figures" / f"{name}.png", image)
    files.write_text(FOLDER / "summary.md", page.markdown(content))
    files.write_text(FOLDER / "index.html", page.html(content, images))


def _data(params: Params) -> dataset.Dataset:
    """What is learned.

    Raises:
        UserError: there is no such dataset, or nothing says when a member has converged on it.
    """
    asked, task = params.search.task, params.task(params.search.task)
    if task.score.threshold(params.training) is None:
        raise UserError(
            f"search.task: {asked} is scored by bits per token; say at how many a member has converged "
            f"(training.converged_at_bits)"
        )
    return dataset.read(DATA / asked, task)


def _runs(params: Params, study: optuna.Study) -> "TrialRuns":
    """The study's runs in MLflow; to be called by one process at a time."""
    from pipeline.tracking.trials import TrialRuns

    about = params.search.model_dump(mode="json", exclude={"storage"})
    return TrialRuns(params.tracking, study.study_name, str(study.user_attrs["begun"]), about)


def _work(params: Params, study: optuna.Study, url: URL, data: dataset.Dataset) -> int:
    """Run trials, each shown in MLflow and told in a line on stderr; how many."""
    from pipeline.reporting.wording import plural
    from pipeline.search.objective import train
    from pipeline.search.worker import work

    with exclusive_access(url):  # so that there is one parent
        runs = _runs(params, study)

    def tell(trial: optuna.trial.FrozenTrial, ablation: Ablation) -> None:
        runs.show(trial.number, ablation, trial.user_attrs, trial.values)
        result = Result(**trial.user_attrs["result"])
        print(
            f"trial {trial.number} ({trials_required(params)} wanted): {plural(ablation.model.layers, 'layer')}, "
            f"{plural(result.residuals_kept, 'residual connection')}, converged {result.converged}/{result.members}, "
            f"score {result.score:.3f}{', known already' * ('repeats' in trial.user_attrs)}",
            file=sys.stderr,
        )

    return work(params, study, url, data, on_trial=tell, train=partial(train, checkpoints=KEPT))
