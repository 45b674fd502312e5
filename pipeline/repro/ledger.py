"""What DVC knows: which stages are stale, and the results that it keeps. The only place that imports DVC."""

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
"""What a stage depends on -> its digest, or the parameters that are read."""


@contextmanager
def opened(*, wait: bool = False) -> Iterator[Repo]:
    """The experiment in this folder, as it lies there now, for this process alone.

    Raises:
        UserError: another DVC is at work, and `wait` does not say to wait for it.
        RunError: DVC cannot do what it was asked for.
    """
    logging.getLogger("dvc").setLevel(logging.WARNING)
    try:
        with Repo(_wait_for_lock=wait) as repo, repo.lock:
            yield repo
    except LockError:
        raise UserError("grid: DVC is at work in this folder already; wait for it to end") from None
    except DvcException as error:
        raise RunError(f"grid: DVC: {' '.join(str(error).split())}") from None


def is_current(target: str) -> bool:
    """Whether nothing that `target` needs is stale, nor itself."""
    with opened() as repo:
        plan = plan_repro(get_active_graph(repo.index.graph), [_stages(repo)[target]])
        return not any(stage.status() for stage in plan)


class Begun(NamedTuple):
    """Stages that must run, and what they depended on when that was found."""

    stages: list[str]
    inputs: Inputs


def stale(*chains: Sequence[str]) -> list[Begun]:
    """Those stages of each chain that must run, each depending on its first one. What is in the run cache is put in
    place instead; the outputs of the others are removed, as DVC does before it runs them."""
    with opened() as repo:
        there = _stages(repo)
        found = [_stale(repo, [there[name] for name in chain]) for chain in chains]
        return [Begun([stage.addressing for stage in stages], _inputs(stages)) for stages in found]


def _stale(repo: Repo, chain: Sequence[PipelineStage]) -> list[PipelineStage]:
    found: list[PipelineStage] = []
    for stage in chain:
        if chain[0] in found or stage.status():
            stage.remove_outs(ignore_remove=False, force=False)
            if chain[0] in found or not _restored(repo, stage):
                found.append(stage)
    return found


def _restored(repo: Repo, stage: PipelineStage) -> bool:
    """As the lock file says, or else as it was made of the same inputs here."""
    for _ in range(2):
        with suppress(RunCacheNotFoundError):
            repo.stage_cache.restore(stage)
            return True
        _forget_outs(stage)
    return False


def _forget_outs(stage: PipelineStage) -> None:
    """Of a stage whose inputs the lock file knows, DVC looks for no other results than those that it says. They may
    come from another kind of processor, or from a GPU, on which the same inputs give other bytes."""
    for out in stage.outs:
        out.hash_info = HashInfo()


def keep(begun: Begun) -> list[str]:
    """Put the results of these stages into DVC's caches, when whoever else asks DVC for something has its answer. What
    has changed since they began: if that is anything, nothing is kept."""
    with opened(wait=True) as repo:
        there = _stages(repo)
        if gone := [name for name in begun.stages if name not in there]:
            return gone
        stages = [there[name] for name in begun.stages]
        now, before = _inputs(stages), begun.inputs
        if changed := sorted(name for name in now | before if now.get(name) != before.get(name)):
            return changed
        for stage in stages:
            stage.save()
            stage.commit()
    return []


def record(target: str) -> None:
    """Write into DVC's lock file what the run cache holds of all that `target` needs: as `dvc repro` would, but at
    once. It writes the whole file anew after each stage, which takes time with the square of their number."""
    with opened(wait=True) as repo:
        goal = _stages(repo)[target]
        needed = [stage for stage in plan_repro(get_active_graph(repo.index.graph), [goal]) if stage != goal]
        changed = [stage for stage in needed if stage.changed()]
        for stage in changed:
            _forget_outs(stage)
            stage.run()
        goal.dvcfile.dump_stages(changed, update_pipeline=False)


def _inputs(stages: Sequence[PipelineStage]) -> Inputs:
    """What they depend on now, but for what they make themselves."""
    made = {out.def_path for stage in stages for out in stage.outs}
    found: Inputs = {f"the command of {stage.addressing}": stage.cmd for stage in stages}
    for dep in (dep for stage in stages for dep in stage.deps if dep.def_path not in made):
        dep.save()
        value = dep.hash_info.value
        found |= {f"{dep}: {key}": of for key, of in value.items()} if isinstance(value, dict) else {str(dep): value}
    return found


def _stages(repo: Repo) -> dict[str, PipelineStage]:
    """All there are, by name; read once, because reading the lock file takes a second."""
    return {stage.addressing: stage for stage in repo.index.stages}
