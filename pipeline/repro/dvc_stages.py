"""Find the stages that DVC regards as stale, and save results in DVC's cache. The only module that imports DVC."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from dvc.exceptions import DvcException
from dvc.lock import LockError, make_lock
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK
from dvc.scm import SCMError
from dvc.stage import PipelineStage
from dvc.stage.cache import RunCacheNotFoundError
from dvc_data.hashfile.hash_info import HashInfo

from pipeline.errors import RunError, UserError

CODE = ("pipeline/", "../../pipeline/")
"""Beginnings of the paths of code in the dvc.yaml of an experiment and of a study."""


class StaleStages(NamedTuple):
    """Stages that must run because their inputs have changed."""

    stage_names: list[str]
    """Names of the stale stages in dvc.yaml, in the order in which they must run."""
    inputs: dict[str, Any]
    """Inputs of the stale stages before they run, to detect inputs that change meanwhile (see `_read_inputs`)."""


@contextmanager
def open_stages(*, wait_for_lock: bool = False) -> Iterator[dict[str, PipelineStage]]:
    """Yield all stages of the experiment in the current folder by name, with DVC locked for this process.

    Raises:
        UserError: another DVC process runs in this folder, and `wait_for_lock` is False; or there is no git repository.
        RunError: DVC failed.
    """
    logging.getLogger("dvc").setLevel(logging.WARNING)
    try:
        with Repo(_wait_for_lock=wait_for_lock) as repo, repo.lock:
            _delete_damaged_rwlock(repo.tmp_dir)
            yield {stage.addressing: stage for stage in repo.index.stages}
    except LockError:
        raise UserError("repro: DVC is already running in this folder; wait for it to end") from None
    except SCMError as error:
        raise UserError(f"repro: {error}, which DVC needs; `git init` there makes it one") from None
    except DvcException as error:
        raise RunError(f"repro: DVC: {' '.join(str(error).split())}") from None


def _delete_damaged_rwlock(dvc_folder: str) -> None:
    """Delete DVC's list of files in use if a killed process left it half-written; DVC fails until it is deleted."""
    rwlock = Path(dvc_folder, RWLOCK_FILE)
    with make_lock(str(rwlock.with_name(RWLOCK_LOCK)), tmp_dir=dvc_folder), suppress(FileNotFoundError):
        try:
            json.loads(rwlock.read_bytes())
        except ValueError:
            rwlock.unlink()


def is_up_to_date(stage_name: str) -> bool:
    """Return True if neither the stage nor any stage that it needs is stale."""
    with open_stages() as stages:
        return not any(stage.status() for stage in _plan(stages[stage_name]))


def plan_stale(stage_name: str, up_to_date: str) -> list[str]:
    """Return the names of the stages that `repro` would run or restore to update a stage, in this order.

    Stages after a stale one count as stale, but for those after `up_to_date`, a stage whose outputs are up to date.
    """
    with open_stages() as stages:
        graph = stages[stage_name].repo.index.graph
        stale: list[PipelineStage] = []
        for stage in _plan(stages[stage_name]):
            needed = set(graph.successors(stage)) - {stages[up_to_date]}
            if stage.status() or needed & set(stale):
                stale.append(stage)
        return [stage.addressing for stage in stale]


def export_cache(folder: Path) -> None:
    """Copy what DVC's cache has of the present results to a folder, in the layout of a cache."""
    with Repo(config={"remote": {"export": {"url": str(folder.resolve())}}}) as repo:
        repo.push(remote="export")


def _plan(stage: PipelineStage) -> list[PipelineStage]:
    """Return all stages that a stage needs, in the order in which they run, and then the stage."""
    return list(plan_repro(get_active_graph(stage.repo.index.graph), [stage]))


def list_stale(stage_names: Iterable[str]) -> list[str]:
    """Return the names of the stages of which an input or output has changed."""
    with open_stages() as stages:
        return [name for name in stage_names if stages[name].status()]


def restore_missing_outputs(stage_names: Iterable[str]) -> None:
    """Restore outputs that dvc.lock lists and that are not in this folder, as far as DVC's cache has them."""
    with open_stages() as stages:
        for stage in map(stages.__getitem__, stage_names):
            if not all(out.exists for out in stage.outs):
                stage.checkout(allow_missing=True)


def have_same_settings_and_data(stage_names: Iterable[str]) -> set[str]:
    """Return the names of the stages whose inputs, apart from code, are those that dvc.lock lists."""
    with open_stages() as stages:
        return {
            name
            for name in stage_names
            if not any(dep.changed() for dep in stages[name].deps if not dep.def_path.startswith(CODE))
        }


def save_outputs(stage_names: Sequence[str]) -> list[str]:
    """Save the outputs that stages already have, as if they had just run; return inputs that changed meanwhile."""
    with open_stages(wait_for_lock=True) as stages:
        inputs = _read_inputs([stages[name] for name in stage_names])
    return save_results(StaleStages(list(stage_names), inputs))


def prepare_stale_stages(jobs: Mapping[str, Sequence[str]]) -> dict[str, StaleStages]:
    """Restore stale stages from DVC's run cache, remove the outputs of those that must run, and return these by job.

    Args:
        jobs: name of a job -> names of its stages, which all depend on the first one.
    """
    with open_stages() as stages:
        stale = {job: _restore_or_list_stale([stages[name] for name in names]) for job, names in jobs.items()}
        return {
            job: StaleStages([stage.addressing for stage in job_stages], _read_inputs(job_stages))
            for job, job_stages in stale.items()
            if job_stages
        }


def _restore_or_list_stale(stages: Sequence[PipelineStage]) -> list[PipelineStage]:
    stale: list[PipelineStage] = []
    for stage in stages:
        if stages[0] in stale or stage.status():
            stage.remove_outs(ignore_remove=False, force=False)
            if stages[0] in stale or not _restore_outputs(stage):
                stale.append(stage)
    return stale


def _restore_outputs(stage: PipelineStage) -> bool:
    """Restore the stage's outputs from the run cache, and return True if the outputs were cached.

    If several outputs of the same inputs are cached, those that dvc.lock lists are restored.
    """
    for _ in range(2):
        with suppress(RunCacheNotFoundError):
            stage.repo.stage_cache.restore(stage)
            return True
        _accept_any_outputs(stage)
    return False


def _accept_any_outputs(stage: PipelineStage) -> None:
    """Let DVC accept other outputs than those in dvc.lock, whose bytes a GPU or another processor may have computed."""
    for out in stage.outs:
        out.hash_info = HashInfo()


def save_results(stale_stages: StaleStages) -> list[str]:
    """Save the results of the stages in DVC's cache, unless inputs changed meanwhile; return the changed inputs.

    Waits while another DVC process runs in this folder.
    """
    with open_stages(wait_for_lock=True) as all_stages:
        if removed := [name for name in stale_stages.stage_names if name not in all_stages]:
            return removed
        stages = [all_stages[name] for name in stale_stages.stage_names]
        now, before = _read_inputs(stages), stale_stages.inputs
        if changed := sorted(name for name in now | before if now.get(name) != before.get(name)):
            return changed
        for stage in stages:
            stage.save()
            stage.commit()
    return []


def write_lock_file(stage_name: str) -> None:
    """Write the digests of the cached results of all stages that the stage needs into dvc.lock.

    `dvc repro` would write the whole file after each stage, which takes quadratic time.
    """
    with open_stages(wait_for_lock=True) as stages:
        changed = [stage for stage in _plan(stages[stage_name])[:-1] if stage.changed()]
        for stage in changed:
            _accept_any_outputs(stage)
            stage.run()
        stages[stage_name].dvcfile.dump_stages(changed, update_pipeline=False)


def _read_inputs(stages: Sequence[PipelineStage]) -> dict[str, Any]:
    """Return the inputs of the stages, without files that one of the stages writes.

    The name of each command, parameter or file -> the command, the parameter's value or the file's digest.
    """
    outputs = {out.def_path for stage in stages for out in stage.outs}
    inputs: dict[str, Any] = {f"the command of {stage.addressing}": stage.cmd for stage in stages}
    for dependency in (dependency for stage in stages for dependency in stage.deps):
        if dependency.def_path in outputs:
            continue
        dependency.save()
        value = dependency.hash_info.value
        if isinstance(value, dict):  # parameters
            inputs |= {f"{dependency}: {key}": parameter for key, parameter in value.items()}
        else:
            inputs[str(dependency)] = value
    return inputs
