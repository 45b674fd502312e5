"""A SLURM cluster of two nodes on this machine."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo", "scontrol")
NODES = {"one": " Gres=gpu:1", "two": ""}
"""Name -> configuration besides two cores. The GPU is a null device, and nothing computes on it."""
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=5
GresTypes=gpu
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=10 State=UP
"""


def missing() -> str:
    """Return why no cluster can be started here; empty if one can."""
    if os.geteuid():
        return "only root can start SLURM's programs"
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"there is no {', '.join(absent)}" if absent else ""


@contextmanager
def cluster(folder: Path) -> Iterator[Path]:
    """Start a cluster that writes into `folder`, and yield its configuration file, for `SLURM_CONF`."""
    path = folder / "slurm.conf"
    controller, *ports = free_ports(1 + len(NODES))
    nodes = (
        f"NodeName={name} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={port} CPUs=2{resources}"
        for (name, resources), port in zip(NODES.items(), ports, strict=True)
    )
    names = {"host": socket.gethostname(), "folder": folder, "controller": controller, "nodes": "\n".join(nodes)}
    path.write_text(CONFIGURATION.format(**names))
    (folder / "gres.conf").write_text("NodeName=one Name=gpu File=/dev/null\n")
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    files = {"key-file": key, **{f"{kind}-file": folder / f"munge.{kind}" for kind in ("pid", "log", "seed")}}
    munge = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket"]
    with ExitStack() as daemons:
        daemons.enter_context(daemon(munge + [f"--{name}={value}" for name, value in files.items()], folder))
        daemons.enter_context(daemon(["slurmctld", "-D", "-c", "-f", str(path)], folder))
        for name in NODES:
            daemons.enter_context(daemon(["slurmd", "-D", "-N", name, "-f", str(path)], folder))
        wait_until_idle(path)
        yield path
        wait_until_idle(path)  # otherwise the processes of the last jobs wait for the controller for ever


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [free.getsockname()[1] for free in sockets]


@contextmanager
def daemon(command: list[str], folder: Path) -> Iterator[None]:
    with (
        (folder / f"{command[0]}.output").open("ab") as output,
        subprocess.Popen(command, stdout=output, stderr=output) as process,
    ):
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_until_idle(path: Path) -> None:
    """Wait until all nodes accept jobs."""
    command, environment = ["sinfo", "-h", "-N", "-o", "%t"], os.environ | {"SLURM_CONF": str(path)}
    for _ in range(100):
        states = subprocess.run(command, env=environment, capture_output=True, text=True).stdout.split()
        if states == ["idle"] * len(NODES):
            return
        time.sleep(0.2)
    raise RuntimeError(f"the nodes are {states}: see {path.parent}")
