"""Stages as DVC sees them: which are stale, and their results in DVC's cache. The only module that imports DVC."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.stage import PipelineStage
from dvc.stage.cache import RunCacheNotFoundError
from dvc_data.hashfile.hash_info import HashInfo

from pipeline.errors import RunError, UserError

Inputs = dict[str, Any]
"""Dependency of a stage -> its digest, or the values of its parameters."""


class StaleStages(NamedTuple):
    """Stages that must run, and their inputs when that was found."""

    names: list[str]
    inputs: Inputs


@contextmanager
def open_repo(*, wait: bool = False) -> Iterator[Repo]:
    """Open the experiment in this folder, for this process alone.

    Raises:
        UserError: another DVC runs here, and `wait` is False.
        RunError: DVC failed.
    """
    logging.getLogger("dvc").setLevel(logging.WARNING)
    try:
        with Repo(_wait_for_lock=wait) as repo, repo.lock:
            yield repo
    except LockError:
        raise UserError("repro: DVC is already running in this folder; wait for it to end") from None
    except DvcException as error:
        raise RunError(f"repro: DVC: {' '.join(str(error).split())}") from None


def is_current(target: str) -> bool:
    """Return whether neither `target` nor any stage that it needs is stale."""
    with open_repo() as repo:
        plan = plan_repro(get_active_graph(repo.index.graph), [_stages(repo)[target]])
        return not any(stage.status() for stage in plan)


def stale_stages(*chains: Sequence[str]) -> list[StaleStages]:
    """Return the stages of each chain that must run; all stages of a chain depend on its first one.

    Results that are in the run cache are restored. The outputs of stages that must run are removed, as DVC does.
    """
    with open_repo() as repo:
        stages = _stages(repo)
        stale = [_stale(repo, [stages[name] for name in chain]) for chain in chains]
        return [StaleStages([stage.addressing for stage in chain], _inputs(chain)) for chain in stale]


def _stale(repo: Repo, chain: Sequence[PipelineStage]) -> list[PipelineStage]:
    stale: list[PipelineStage] = []
    for stage in chain:
        if chain[0] in stale or stage.status():
            stage.remove_outs(ignore_remove=False, force=False)
            if chain[0] in stale or not _restore(repo, stage):
                stale.append(stage)
    return stale


def _restore(repo: Repo, stage: PipelineStage) -> bool:
    """Restore the stage's outputs from the run cache, and return whether it had any.

    The outputs that dvc.lock lists are preferred to others of the same inputs.
    """
    for _ in range(2):
        with suppress(RunCacheNotFoundError):
            repo.stage_cache.restore(stage)
            return True
        _drop_output_digests(stage)
    return False


def _drop_output_digests(stage: PipelineStage) -> None:
    """Let DVC accept any results of the stage's inputs, not only those with the digests in dvc.lock.

    Those may come from another kind of processor, or a GPU, on which the same inputs give other bytes.
    """
    for out in stage.outs:
        out.hash_info = HashInfo()


def save_results(stale: StaleStages) -> list[str]:
    """Save the stages' results in DVC's cache, unless inputs have changed since, and return the changed inputs.

    Waits for another DVC in this folder.
    """
    with open_repo(wait=True) as repo:
        stages_by_name = _stages(repo)
        if removed := [name for name in stale.names if name not in stages_by_name]:
            return removed
        stages = [stages_by_name[name] for name in stale.names]
        now, before = _inputs(stages), stale.inputs
        if changed := sorted(name for name in now | before if now.get(name) != before.get(name)):
            return changed
        for stage in stages:
            stage.save()
            stage.commit()
    return []


def write_lock_file(target: str) -> None:
    """Write the cached results of all stages that `target` needs into dvc.lock.

    `dvc repro` does so too, but writes the whole file after each stage, which takes quadratic time.
    """
    with open_repo(wait=True) as repo:
        goal = _stages(repo)[target]
        needed = [stage for stage in plan_repro(get_active_graph(repo.index.graph), [goal]) if stage != goal]
        changed = [stage for stage in needed if stage.changed()]
        for stage in changed:
            _drop_output_digests(stage)
            stage.run()
        goal.dvcfile.dump_stages(changed, update_pipeline=False)


def _inputs(stages: Sequence[PipelineStage]) -> Inputs:
    """Return the commands and dependencies of the stages, without files that the stages write themselves."""
    outputs = {out.def_path for stage in stages for out in stage.outs}
    inputs: Inputs = {f"the command of {stage.addressing}": stage.cmd for stage in stages}
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


def _stages(repo: Repo) -> dict[str, PipelineStage]:
    """Return all stages by name. Call this once for each open repository, because reading dvc.lock takes a second."""
    return {stage.addressing: stage for stage in repo.index.stages}
