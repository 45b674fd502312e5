"""A real SLURM of two nodes on this machine, for as long as a block lasts."""

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
"""Name -> what it has, beside two cores. Nothing computes on the GPU, which is none."""
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


def lacks() -> str:
    """What there is not; empty if a cluster can be started here."""
    if os.geteuid():
        return "only root can start SLURM's programs"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"there is no {', '.join(missing)}" if missing else ""


@contextmanager
def cluster(folder: Path) -> Iterator[Path]:
    """Started with everything it writes in `folder`; its configuration, which `SLURM_CONF` has to name."""
    path = folder / "slurm.conf"
    controller, *ports = free_ports(1 + len(NODES))
    nodes = (
        f"NodeName={name} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={port} CPUs=2{has}"
        for (name, has), port in zip(NODES.items(), ports, strict=True)
    )
    path.write_text(
        CONFIGURATION.format(host=socket.gethostname(), folder=folder, controller=controller, nodes="\n".join(nodes))
    )
    (folder / "gres.conf").write_text("NodeName=one Name=gpu File=/dev/null\n")
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    files = {"key-file": key, **{f"{kind}-file": folder / f"munge.{kind}" for kind in ("pid", "log", "seed")}}
    munge = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket"]
    with ExitStack() as running:
        for program in (
            munge + [f"--{name}={value}" for name, value in files.items()],
            ["slurmctld", "-D", "-c", "-f", str(path)],
            *(["slurmd", "-D", "-N", name, "-f", str(path)] for name in NODES),
        ):
            running.enter_context(daemon(program, folder))
        wait_until_idle(path)
        yield path


def free_ports(count: int) -> list[int]:
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


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
    """Until all nodes take jobs."""
    command, environment = ["sinfo", "-h", "-N", "-o", "%t"], os.environ | {"SLURM_CONF": str(path)}
    for _ in range(100):
        said = subprocess.run(command, env=environment, capture_output=True, text=True).stdout.split()
        if said == ["idle"] * len(NODES):
            return
        time.sleep(0.2)
    raise RuntimeError(f"the nodes are {said}: see {path.parent}")
