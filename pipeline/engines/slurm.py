"""Engine that runs commands as jobs of a SLURM cluster, submitted as one job array.

Variables of `sbatch` (SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_TIMELIMIT, ...) take precedence over the requests of the
engine. Unlike commands of the other engines, jobs survive if the engine's process is killed with -9.

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
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engines.command import CANCEL_TIMEOUT_SECONDS, MAX_RETRIES, Command, Limits, delay_interrupts
from pipeline.engines.machine import THREAD_VARIABLES
from pipeline.errors import RunError, UserError

if TYPE_CHECKING:
    from submitit import Job, SlurmExecutor

SLURM_FOLDER = Path(".slurm")
"""Folder in which the engine keeps submitted commands, exit codes and logs of SLURM jobs."""
SQUEUE_INTERVAL_SECONDS = 30.0
"""Seconds between two calls of `squeue`: a job without a result that two calls in a row do not list is lost."""
POLL_INTERVAL_SECONDS = 1.0
"""Seconds that the engine waits before it reads the results and logs of SLURM jobs again."""
GPU_REQUEST_VARIABLES = ("SBATCH_GPUS", "SBATCH_GPUS_PER_NODE", "SBATCH_GPUS_PER_TASK", "SBATCH_GRES")
"""Environment variables with which users request GPUs for SLURM jobs; if one is set, the engine requests none."""


def run(commands: Sequence[Command], limits: Limits, on_command_end: Callable[[int, int], None]) -> None:
    """Run the commands on a SLURM cluster, as `Engine.run` describes; without `max_workers`, SLURM chooses a number.

    Raises:
        UserError: submitit or SLURM is not installed, or the cluster rejects the jobs.
        RunError: a job was lost too often, or could not start its command.
    """
    SLURM_FOLDER.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=SLURM_FOLDER)).resolve()
    keep_folder = False
    try:
        executor = _build_executor(folder, limits)
        lost = dict(enumerate(commands))
        for _ in range(1 + MAX_RETRIES):
            if lost:
                lost = _submit_and_wait(executor, lost, on_command_end)
        if lost:
            count = f"{len(lost)} of {len(commands)}"
            raise RunError(f"--engine slurm: {count} jobs were lost {1 + MAX_RETRIES} times; see {folder}")
    except RunError:  # its message refers to the folder
        keep_folder = True
        raise
    finally:
        if not keep_folder:
            shutil.rmtree(folder, ignore_errors=True)


def _build_executor(folder: Path, limits: Limits) -> "SlurmExecutor":
    """Return the submitit executor, which submits jobs to SLURM."""
    try:
        import submitit
    except ImportError:
        raise UserError(
            "--engine slurm: submitit is missing (in the project's folder: pip install -e '.[cluster]')"
        ) from None
    if missing := [program for program in ("sbatch", "srun") if shutil.which(program) is None]:
        raise UserError(f"--engine slurm: there is no {missing[0]} on this machine")
    partition = os.environ.get("SBATCH_PARTITION")
    command = ["sinfo", "--noheader", "--format=%G", *([f"--partition={partition}"] if partition else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"--engine slurm: no cluster answers ({_last_line(done.stderr)})")
    gpus = limits.gpus_per_command
    if "gpu" not in done.stdout or any(name in os.environ for name in GPU_REQUEST_VARIABLES):
        gpus = 0
    if gpus != int(gpus):
        raise UserError(f"--engine slurm: gives GPUs as a whole, not {gpus:g} of one; leave out --jobs-per-gpu")
    executor = submitit.SlurmExecutor(folder)
    executor.update_parameters(
        job_name="breaking-symmetry",
        time=None,  # the limit of the partition
        wckey=None,
        nodes=1,
        gpus_per_node=int(gpus) or None,
        array_parallelism=limits.max_workers or sys.maxsize,
        stderr_to_stdout=True,
    )
    return executor


def _submit_and_wait(
    executor: "SlurmExecutor", commands: Mapping[int, Command], on_command_end: Callable[[int, int], None]
) -> dict[int, Command]:
    """Submit the commands, given by index, wait until each has ended or is lost, and return the lost ones.

    The output of commands without a log file is printed.
    """
    logs = {index: executor.folder / f"{index}.log" for index, command in commands.items() if command.log_file is None}
    logged = [replace(command, log_file=logs.get(index, command.log_file)) for index, command in commands.items()]
    unfinished, jobs, missing = dict(commands), dict[int, "Job[int]"](), set[str]()
    squeue_called = time.monotonic()
    with ExitStack() as stack:
        outputs = [stack.enter_context(log.open("w+", errors="replace")) for log in logs.values()]
        try:
            with delay_interrupts():  # otherwise jobs would start that this process knows nothing of
                jobs |= zip(commands, _submit_job_array(executor, logged), strict=True)
            while jobs:
                time.sleep(POLL_INTERVAL_SECONDS)
                files = {path.name for path in executor.folder.iterdir()}
                ended = [index for index, job in jobs.items() if job.paths.result_pickle.name in files]
                for output in outputs:
                    print(output.read(), end="", file=sys.stderr, flush=True)
                for index in ended:
                    del unfinished[index]
                    on_command_end(index, _read_exit_code(jobs.pop(index)))
                if time.monotonic() - squeue_called > SQUEUE_INTERVAL_SECONDS:
                    if (active := _list_active_job_ids()) is None:
                        continue
                    squeue_called = time.monotonic()
                    previously_missing, missing = missing, {job.job_id for job in jobs.values()} - active
                    jobs = {index: job for index, job in jobs.items() if job.job_id not in missing & previously_missing}
        except BaseException:
            _cancel_jobs({job.job_id for job in jobs.values()})
            raise
    return unfinished


def _submit_job_array(executor: "SlurmExecutor", commands: Sequence[Command]) -> "Sequence[Job[int]]":
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        return executor.map_array(_run_on_node, commands, repeat(Path.cwd()))
    except (FailedJobError, FailedSubmissionError) as error:
        raise UserError(f"--engine slurm: {_last_line(str(error))}") from None


def _run_on_node(command: Command, folder: Path) -> int:
    """Run the command in a SLURM job and return the exit code; interrupt the command if the job is cancelled."""
    for number in (signal.SIGTERM, signal.SIGUSR2):  # cancelled or preempted; its time is nearly over
        signal.signal(number, signal.default_int_handler)
    return command.run(folder, dict.fromkeys(THREAD_VARIABLES, os.environ["SLURM_CPUS_ON_NODE"]))


def _read_exit_code(job: "Job[int]") -> int:
    from submitit.core.utils import UncompletedJobError

    try:
        return job.result()
    except UncompletedJobError:
        raise RunError(f"--engine slurm: a job could not start its command; see {job.paths.stdout}") from None


def _list_active_job_ids() -> set[str] | None:
    """Return the ids of the user's jobs in the queue or running, or None if SLURM's controller does not answer."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    done = subprocess.run(command, capture_output=True, text=True)
    return None if done.returncode else set(done.stdout.split())


def _cancel_jobs(job_ids: Collection[str]) -> None:
    """Cancel the SLURM jobs, which interrupts the running ones, and wait until all have ended."""
    subprocess.run(["scancel", *job_ids], capture_output=True)
    deadline = time.monotonic() + CANCEL_TIMEOUT_SECONDS
    while time.monotonic() < deadline and (_list_active_job_ids() or set()) & set(job_ids):
        time.sleep(POLL_INTERVAL_SECONDS)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]
