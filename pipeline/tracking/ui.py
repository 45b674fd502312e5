"""Web server for MLflow's user interface."""

import errno
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from contextlib import suppress
from urllib.request import urlopen

import psutil

from pipeline.addresses import hide_password
from pipeline.errors import UserError
from pipeline.tracking.overview import VIEW
from pipeline.tracking.store import MlflowStore

DEFAULT_PORT = 5000


def serve_pages(store: MlflowStore, host: str, port: int | None) -> None:
    """Serve MLflow's user interface until Ctrl-C, and open it in a browser if the machine has a screen.

    If the store is an MLflow server, only the server's address is printed. Without `port`, the first free one from
    `DEFAULT_PORT` on is taken.

    Raises:
        UserError: the port is taken, or `host` is no address of this machine.
    """
    # without a workflow type the pages open on evaluations of chat bots
    table = f"#/experiments/{store.experiment_id}/runs?viewStateShareKey={VIEW}&workflowType=machine_learning"
    if store.uri.startswith("http"):
        print(f"The runs: {hide_password(store.uri).rstrip('/')}/{table}")
        return
    port = port or find_free_port(host)
    if not _is_free(host, port):
        raise UserError(f"--port: {port} is taken; give another")
    is_open = host not in ("127.0.0.1", "localhost")
    server = f"http://{platform.node() if is_open else host}:{port}"
    print(f"The runs: {server}/{table} (ready in a few seconds; Ctrl-C ends it)", flush=True)
    if is_open:
        print("warning: everybody who reaches this machine can read and change the runs", file=sys.stderr)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--default-artifact-root", "mlflow-artifacts:/"]
    if is_open:  # MLflow answers only those who call this machine by one of these names
        addresses = [address for interface in psutil.net_if_addrs().values() for address in interface]
        numbers = [address.address for address in addresses if address.family == socket.AF_INET]
        names = dict.fromkeys(["localhost", platform.node(), socket.getfqdn(), *numbers])
        command += ["--allowed-hosts", ",".join(f"{name}:*" for name in names)]
    # the address is passed in the environment: arguments, and so its password, are shown by `ps`
    stores = dict.fromkeys(("MLFLOW_BACKEND_STORE_URI", "MLFLOW_REGISTRY_STORE_URI"), store.uri)
    environment = stores | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # in a process group of its own, because MLflow answers a Ctrl-C with tracebacks
    with subprocess.Popen(command, env=os.environ | environment, process_group=0) as process:
        try:
            if sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
                while process.poll() is None and not is_healthy(f"http://{host}:{port}"):
                    time.sleep(0.2)
                if process.poll() is None:
                    webbrowser.open(f"{server}/{table}")
            process.wait()
        except KeyboardInterrupt:  # of Ctrl-C: the usual end
            pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)


def find_free_port(host: str) -> int:
    """Return the first free port from `DEFAULT_PORT` on, and say so if it is another."""
    port = next(port for port in range(DEFAULT_PORT, 65536) if _is_free(host, port))
    if port != DEFAULT_PORT:
        print(f"port {DEFAULT_PORT} is taken; the next free one is {port}", file=sys.stderr)
    return port


def _is_free(host: str, port: int) -> bool:
    """Return True if this machine can listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # also soon after another server has ended
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise UserError(f"--host {host}, --port {port}: cannot listen there ({error.strerror})") from None
    return True


def is_healthy(server_url: str) -> bool:
    """Return True if an MLflow server answers at the address `server_url`."""
    try:
        with urlopen(f"{server_url}/health", timeout=1) as response:
            return bool(response.status == 200)
    except OSError:
        return False
