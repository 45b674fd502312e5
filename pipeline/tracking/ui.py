"""Web server for MLflow's user interface."""

import os
import socket
import subprocess
import sys
import time
import webbrowser
from urllib.request import urlopen

from pipeline.addresses import hide_password
from pipeline.errors import UserError
from pipeline.params import Tracking
from pipeline.tracking.store import open_store

DEFAULT_PORTS = range(5000, 5100)
"""Ports of which the first free one is used; macOS itself uses 5000."""


def serve_pages(settings: Tracking, port: int | None = None) -> None:
    """Serve MLflow's user interface until Ctrl-C, and open it in a browser if the machine has a screen.

    If the store is an MLflow server, only the server's address is printed. Without a port, a free one is used.

    Raises:
        UserError: the port is taken.
        RunError: MLflow does not answer, or its database cannot be used.
    """
    store = open_store(settings)
    # without a workflow type the pages open on evaluations of chat bots
    table = f"#/experiments/{store.experiment_id}/runs?workflowType=machine_learning"
    if store.uri.startswith("http"):
        print(f"The runs: {hide_password(store.uri).rstrip('/')}/{table}")
        return
    port = choose_port(port)
    server = f"http://127.0.0.1:{port}"
    print(f"The runs: {server}/{table} (ready in a few seconds; Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--default-artifact-root", "mlflow-artifacts:/"]
    # the address is passed in the environment: arguments, and so its password, are shown by `ps`
    addresses = dict.fromkeys(("MLFLOW_BACKEND_STORE_URI", "MLFLOW_REGISTRY_STORE_URI"), store.uri)
    environment = addresses | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen(command, env=os.environ | environment) as process:
        if sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
            while process.poll() is None and not is_healthy(server):
                time.sleep(0.2)
            if process.poll() is None:
                webbrowser.open(f"{server}/{table}")
        process.wait()


def choose_port(port: int | None) -> int:
    """Return the port, or without one the first of `DEFAULT_PORTS` that is free.

    Raises:
        UserError: the port is taken.
    """
    for candidate in [port] if port else DEFAULT_PORTS:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", candidate)) != 0:
                return candidate
    raise UserError(f"--port: {port or DEFAULT_PORTS} is taken; give another")


def is_healthy(server_url: str) -> bool:
    """Return True if an MLflow server answers at the address `server_url`."""
    try:
        with urlopen(f"{server_url}/health", timeout=1) as response:
            return bool(response.status == 200)
    except OSError:
        return False
