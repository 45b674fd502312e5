"""Engine: jobs on a SLURM cluster, as one array.

What they need beside a GPU each is said as `sbatch` hears it from anyone: SBATCH_PARTITION, SBATCH_ACCOUNT,
SBATCH_TIMELIMIT and so on, which come before what is said here. Unlike the other engines', jobs go on when the one that
waits for them is killed with -9.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engines.command import Command, OnEnd, ignore_end
from pipeline.engines.machine import THREADS
from pipeline.errors import RunError, UserError

if TYPE_CHECKING:
    from submitit import Job, SlurmExecutor

FOLDER = Path(".slurm")
"""For submissions, results and logs."""
RETRIES = 3
"""How often a job is submitted again that was lost: its node, or it made room for another."""
ASK = 30.0
"""Seconds between two questions to the controller. A job that two answers in a row do not know, and that has left no
result, is lost."""
LOOK = 1.0
"""Seconds between two looks at results and logs."""
PATIENCE = 60
"""Seconds that interrupted jobs have to end."""
OF_GPUS = ("SBATCH_GPUS", "SBATCH_GPUS_PER_NODE", "SBATCH_GPUS_PER_TASK", "SBATCH_GRES")
"""Where users say it, nothing is asked for here."""


def run(
    commands: Sequence[Command], *, workers: int | None, gpus: float | None, on_end: OnEnd = ignore_end
) -> list[int]:
    """As `Engine.run`; without a number of workers, how many run at once is the cluster's to say.

    Raises:
        UserError: there is no submitit, no SLURM, or it does not take such jobs.
        RunError: a job was lost time after time, or could not start its command.
    """
    if not commands:
        return []
    _refuse_without_slurm()
    codes: dict[int, int] = {}

    def ended(index: int, code: int) -> None:
        codes[index] = code
        on_end(index, code)

    taken = _whole(gpus)
    with _folder() as folder:
        executor = _executor(folder, workers=workers or len(commands), gpus=taken)
        for _ in range(1 + RETRIES):
            if waiting := {index: command for index, command in enumerate(commands) if index not in codes}:
                _round(executor, waiting, ended)
        if lost := len(commands) - len(codes):
            raise RunError(
                f"--engine slurm: {lost} of {len(commands)} jobs were lost {1 + RETRIES} times; see {folder}"
            )
    return [codes[index] for index in range(len(commands))]


@contextmanager
def _folder() -> Iterator[Path]:
    """A new one in `FOLDER`, which is kept where something failed."""
    FOLDER.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=FOLDER)).resolve()
    failed = False
    try:
        yield folder
    except RunError:
        failed = True
        raise
    finally:
        if not failed:
            shutil.rmtree(folder, ignore_errors=True)


def _refuse_without_slurm() -> None:
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise UserError(
            "--engine slurm: submitit is not installed (pip install 'breaking-symmetry[cluster]')"
        ) from None
    if missing := [program for program in ("sbatch", "srun") if shutil.which(program) is None]:
        raise UserError(f"--engine slurm: there is no {missing[0]} on this machine")


def _whole(gpus: float | None) -> int:
    """How many GPUs each job takes of the partition, which may have none.

    Raises:
        UserError: a share of one; the controller does not answer.
    """
    partition = os.environ.get("SBATCH_PARTITION")
    asked = ["sinfo", "--noheader", "--format=%G", *([f"--partition={partition}"] if partition else [])]
    done = subprocess.run(asked, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"--engine slurm: no cluster answers ({_last_line(done.stderr)})")
    if "gpu" not in done.stdout:
        return 0
    if gpus is not None and gpus != int(gpus):
        raise UserError(f"--engine slurm: gives GPUs as a whole, not {gpus:g} of one; leave out --jobs-per-gpu")
    return 1 if gpus is None else int(gpus)


def _executor(folder: Path, *, workers: int, gpus: int) -> "SlurmExecutor":
    import submitit

    executor = submitit.SlurmExecutor(folder)
    executor.update_parameters(
        job_name="breaking-symmetry",
        time=None,  # the partition's own limit
        wckey=None,
        nodes=1,
        gpus_per_node=gpus if gpus and not any(name in os.environ for name in OF_GPUS) else None,
        array_parallelism=workers,
        stderr_to_stdout=True,
    )
    return executor


def _round(executor: "SlurmExecutor", commands: Mapping[int, Command], on_end: OnEnd) -> None:
    """Submit the commands, by their index, and wait until each has ended, or is lost and so not told of."""
    logs = {index: executor.folder / f"{index}.log" for index, command in commands.items() if command.log is None}
    logged = [replace(command, log=logs.get(index, command.log)) for index, command in commands.items()]
    waiting: dict[int, Job[int]] = {}
    said = dict.fromkeys(logs, 0)
    unknown: set[str] = set()
    asked = time.monotonic()
    try:
        with _undisturbed():  # or jobs would begin that nobody knows of
            waiting |= zip(commands, _submit(executor, logged), strict=True)
        while waiting:
            time.sleep(LOOK)
            there = {path.name for path in executor.folder.iterdir()}
            ended = [index for index, job in waiting.items() if job.paths.result_pickle.name in there]
            for index in said.keys() & waiting.keys():
                said[index] += _say(logs[index], said[index])
            for index in ended:
                on_end(index, _code(waiting.pop(index)))
            if time.monotonic() - asked > ASK and (active := _active()) is not None:
                asked = time.monotonic()
                gone = {job.job_id for job in waiting.values()} - active
                waiting = {index: job for index, job in waiting.items() if job.job_id not in gone & unknown}
                unknown = gone
    except BaseException:
        _interrupt({job.job_id for job in waiting.values()})
        raise


def _submit(executor: "SlurmExecutor", commands: Sequence[Command]) -> "Sequence[Job[int]]":
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        return executor.map_array(_run, commands, repeat(Path.cwd()))
    except (FailedJobError, FailedSubmissionError) as error:
        raise UserError(f"--engine slurm: {_last_line(str(error))}") from None


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C comes at the end of the block. By a mask, which `sbatch` inherits: a terminal sends it Ctrl-C too."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run(command: Command, folder: Path) -> int:
    """The job, on its node. One that is interrupted leaves no result."""
    place = dict.fromkeys(THREADS, os.environ["SLURM_CPUS_ON_NODE"])
    for number in (signal.SIGTERM, signal.SIGUSR2):  # somebody needs the node, or its time is soon over
        signal.signal(number, signal.default_int_handler)
    with command.start(place, folder) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise


def _code(job: "Job[int]") -> int:
    from submitit.core.utils import UncompletedJobError

    try:
        return job.result()
    except UncompletedJobError:
        raise RunError(f"--engine slurm: a job could not start its command; see {job.paths.stdout}") from None


def _say(log: Path, start: int) -> int:
    """Pass on what a job without a log of its own has said since; how many bytes."""
    try:
        with log.open("rb") as file:
            file.seek(start)
            new = file.read()
    except FileNotFoundError:
        return 0
    print(new.decode(errors="replace"), end="", file=sys.stderr, flush=True)
    return len(new)


def _active() -> set[str] | None:
    """The jobs that wait, run or end; None: the controller does not say."""
    asked = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    done = subprocess.run(asked, capture_output=True, text=True)
    return None if done.returncode else set(done.stdout.split())


def _interrupt(jobs: Collection[str]) -> None:
    """Ctrl-C for those that run, while those that wait are taken back; whoever does not end in time is killed."""
    if not jobs:
        return
    for how in (["--state=PENDING"], ["--signal=INT"], []):
        subprocess.run(["scancel", *how, *jobs], capture_output=True)
        deadline = time.monotonic() + PATIENCE * (how != ["--state=PENDING"])
        while time.monotonic() < deadline and (_active() or set()) & set(jobs):
            time.sleep(LOOK)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]
