"""Engine: jobs on a SLURM cluster, as one array.

Variables of `sbatch` (SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_TIMELIMIT, ...) take precedence over what is requested
here. Unlike commands of the other engines, jobs survive if this process is killed with -9.

submitit submits the jobs and runs them on their nodes. It detects lost jobs by `sacct`, which needs an accounting
database: without one, `submitit.helpers.as_completed` waits for ever. So lost jobs are detected by `squeue` here.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engines.command import Command, OnEnd, interrupts_delayed
from pipeline.engines.machine import THREADS
from pipeline.errors import RunError, UserError

if TYPE_CHECKING:
    from submitit import Job, SlurmExecutor

FOLDER = Path(".slurm")
"""For submissions, results and logs."""
RETRIES = 3
"""Number of further attempts after a job was lost with its node, preempted or out of time."""
QUEUE_SECONDS = 30.0
"""Seconds between two calls of `squeue`. A job is lost if it has no result and two calls in a row do not list it."""
POLL_SECONDS = 1.0
"""Seconds between two looks at results and logs."""
CANCEL_SECONDS = 60
"""Longest wait for cancelled jobs. SLURM kills those that have not ended after its `KillWait`."""
GPU_VARIABLES = ("SBATCH_GPUS", "SBATCH_GPUS_PER_NODE", "SBATCH_GPUS_PER_TASK", "SBATCH_GRES")
"""If users set one of these, the engine requests no GPUs."""


def run(
    commands: Sequence[Command], *, workers: int | None, gpus: float | None, on_end: OnEnd | None = None
) -> list[int]:
    """See `Engine.run`. Without a number of workers, the cluster decides how many run at once.

    Raises:
        UserError: submitit or SLURM is not installed, or the cluster rejects the jobs.
        RunError: a job was lost too often, or could not start its command.
    """
    if not commands:
        return []
    codes: dict[int, int] = {}

    def end(index: int, code: int) -> None:
        codes[index] = code
        if on_end:
            on_end(index, code)

    with _new_folder() as folder:
        executor = _executor(folder, workers=workers or len(commands), gpus=gpus)
        for _ in range(1 + RETRIES):
            if waiting := {index: command for index, command in enumerate(commands) if index not in codes}:
                _submit_and_wait(executor, waiting, end)
        if lost := len(commands) - len(codes):
            raise RunError(
                f"--engine slurm: {lost} of {len(commands)} jobs were lost {1 + RETRIES} times; see {folder}"
            )
    return [codes[index] for index in range(len(commands))]


@contextmanager
def _new_folder() -> Iterator[Path]:
    """Make a folder in `FOLDER`. Remove it at the end, unless a RunError refers to it."""
    FOLDER.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=FOLDER)).resolve()
    keep = False
    try:
        yield folder
    except RunError:
        keep = True
        raise
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _executor(folder: Path, *, workers: int, gpus: float | None) -> "SlurmExecutor":
    """Return submitit's executor.

    Raises:
        UserError: submitit or SLURM is not installed, or the controller does not answer.
    """
    try:
        import submitit
    except ImportError:
        raise UserError(
            "--engine slurm: submitit is not installed (pip install 'breaking-symmetry[cluster]')"
        ) from None
    if missing := [program for program in ("sbatch", "srun") if shutil.which(program) is None]:
        raise UserError(f"--engine slurm: there is no {missing[0]} on this machine")
    executor = submitit.SlurmExecutor(folder)
    executor.update_parameters(
        job_name="breaking-symmetry",
        time=None,  # the limit of the partition
        wckey=None,
        nodes=1,
        gpus_per_node=_gpus_per_job(gpus) or None,
        array_parallelism=workers,
        stderr_to_stdout=True,
    )
    return executor


def _gpus_per_job(gpus: float | None) -> int:
    """Return how many GPUs to request for each job: none if the partition has none, or if users request them.

    Raises:
        UserError: a share of a GPU; the controller does not answer.
    """
    partition = os.environ.get("SBATCH_PARTITION")
    command = ["sinfo", "--noheader", "--format=%G", *([f"--partition={partition}"] if partition else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"--engine slurm: no cluster answers ({_last_line(done.stderr)})")
    if "gpu" not in done.stdout or any(name in os.environ for name in GPU_VARIABLES):
        return 0
    if gpus is not None and gpus != int(gpus):
        raise UserError(f"--engine slurm: gives GPUs as a whole, not {gpus:g} of one; leave out --jobs-per-gpu")
    return 1 if gpus is None else int(gpus)


def _submit_and_wait(executor: "SlurmExecutor", commands: Mapping[int, Command], on_end: OnEnd) -> None:
    """Submit the commands and wait until each has ended or is lost. Print the output of those without a log."""
    logs = {index: executor.folder / f"{index}.log" for index, command in commands.items() if command.log is None}
    logged = [replace(command, log=logs.get(index, command.log)) for index, command in commands.items()]
    jobs: dict[int, Job[int]] = {}
    missing: set[str] = set()
    squeue_called = time.monotonic()
    with ExitStack() as stack:
        outputs = [stack.enter_context(log.open("w+", errors="replace")) for log in logs.values()]
        try:
            with interrupts_delayed():  # otherwise jobs would start that this process knows nothing of
                jobs |= zip(commands, _submit(executor, logged), strict=True)
            while jobs:
                time.sleep(POLL_SECONDS)
                files = {path.name for path in executor.folder.iterdir()}
                ended = [index for index, job in jobs.items() if job.paths.result_pickle.name in files]
                for output in outputs:
                    print(output.read(), end="", file=sys.stderr, flush=True)
                for index in ended:
                    on_end(index, _exit_code(jobs.pop(index)))
                if time.monotonic() - squeue_called > QUEUE_SECONDS and (active := _active_jobs()) is not None:
                    squeue_called = time.monotonic()
                    previously_missing, missing = missing, {job.job_id for job in jobs.values()} - active
                    jobs = {index: job for index, job in jobs.items() if job.job_id not in missing & previously_missing}
        except BaseException:
            _cancel({job.job_id for job in jobs.values()})
            raise


def _submit(executor: "SlurmExecutor", commands: Sequence[Command]) -> "Sequence[Job[int]]":
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        return executor.map_array(_run_on_node, commands, repeat(Path.cwd()))
    except (FailedJobError, FailedSubmissionError) as error:
        raise UserError(f"--engine slurm: {_last_line(str(error))}") from None


def _run_on_node(command: Command, folder: Path) -> int:
    """Run the command in a job, on its node, and return its exit code. If the job is cancelled, interrupt it."""
    for number in (signal.SIGTERM, signal.SIGUSR2):  # cancelled or preempted; its time is nearly over
        signal.signal(number, signal.default_int_handler)
    return command.run(folder, dict.fromkeys(THREADS, os.environ["SLURM_CPUS_ON_NODE"]))


def _exit_code(job: "Job[int]") -> int:
    from submitit.core.utils import UncompletedJobError

    try:
        return job.result()
    except UncompletedJobError:
        raise RunError(f"--engine slurm: a job could not start its command; see {job.paths.stdout}") from None


def _active_jobs() -> set[str] | None:
    """Ids of the jobs that wait, run or end, or None if the controller does not answer."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    done = subprocess.run(command, capture_output=True, text=True)
    return None if done.returncode else set(done.stdout.split())


def _cancel(jobs: Collection[str]) -> None:
    """Cancel the jobs, which interrupts those that run, and wait until they have ended."""
    if not jobs:
        return
    subprocess.run(["scancel", *jobs], capture_output=True)
    deadline = time.monotonic() + CANCEL_SECONDS
    while time.monotonic() < deadline and (_active_jobs() or set()) & set(jobs):
        time.sleep(POLL_SECONDS)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]
