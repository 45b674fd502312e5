"""Engine: processes of this machine, each with its own device and threads."""

import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Lock

from pipeline.engines import machine
from pipeline.engines.command import Command


def run(commands: Sequence[Command], *, workers: int, gpus: float) -> list[int]:
    """As `Engine.run`; GPUs are dealt out in turn, however much of one is asked for."""
    places: SimpleQueue[dict[str, str]] = SimpleQueue()
    for place in machine.places(workers):
        places.put(place)
    started: list[subprocess.Popen[bytes]] = []
    starting, ended = Lock(), False

    def one(command: Command) -> int:
        with starting:
            if ended:
                return -signal.SIGINT
            place = places.get_nowait()  # there is one for each thread
            process = command.start(place)
            started.append(process)
        with process:
            code = process.wait()
        places.put(place)
        return code

    with ThreadPoolExecutor(workers) as pool:
        results = [pool.submit(one, command) for command in commands]
        try:
            return [result.result() for result in results]
        except BaseException:  # Ctrl-C, or a command that cannot be started: what runs is interrupted and waited for
            with starting:
                ended = True
            for process in started:
                process.send_signal(signal.SIGINT)  # nothing happens to what has ended
            raise
