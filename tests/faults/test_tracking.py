"""A tracking server that dies, is down or never answers costs seconds and a warning. Real servers and processes."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from subprocess import DEVNULL
from threading import Thread

import pytest
from sqlalchemy.engine import URL

from pipeline.errors import RunError, UserError
from pipeline.params import Tracking
from pipeline.tracking import ui
from pipeline.tracking.ablations import sync_runs_or_warn
from pipeline.tracking.store import open_store
from tests.faults.postgres import postgres_server, postgres_url
from tests.projects import REPRO, create_project, run
from tests.tracking.helpers import ABLATION, curves, evaluations, live, synced, write_ablation, write_evaluation

__all__ = ["postgres_server", "postgres_url"]  # fixtures
pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]
SECONDS = 15
"""Longest delay of a training."""

EIGHT_FORKS = """
import os, sys
import mlflow.store.tracking.sqlalchemy_store, mlflow.store.model_registry.sqlalchemy_store
from pipeline.errors import RunError
from pipeline.params import Tracking
from pipeline.tracking.store import open_store
for _ in range(8):
    if os.fork() == 0:
        store = open_store(Tracking(uri=sys.argv[1]))
        os.write(1, f"{store.experiment_id}\\n".encode())
        os._exit(0)
sys.exit(sum(os.wait()[1] != 0 for _ in range(8)))
"""


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_eight_processes_create_a_store_together(tmp_path: Path, database: str, request: pytest.FixtureRequest) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    if database == "postgresql":
        uri = request.getfixturevalue("postgres_url").render_as_string(hide_password=False)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", EIGHT_FORKS, uri]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 8
    assert len(set(done.stdout.splitlines())) == 1


@pytest.fixture
def port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path, store: Tracking, port: int) -> Iterator[tuple[Tracking, subprocess.Popen[bytes]]]:
    """A real server, in a process group of its own."""
    uri = f"http://127.0.0.1:{port}"
    (tmp_path / "server.db").write_bytes((tmp_path / "mlflow.db").read_bytes())
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}"]
    command += ["--artifacts-destination", str(tmp_path / "served"), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=DEVNULL, stderr=DEVNULL, process_group=0
    ) as process:
        try:
            while not ui.is_healthy(uri):  # until the timeout of the test
                time.sleep(0.1)
            yield Tracking(uri=uri), process
        finally:
            kill(process)


def kill(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def assert_both_show_the_same(remote: Tracking, store: Tracking, folder: Path) -> None:
    """Write the ablation in `folder` to two stores, which must then need nothing more, and have the same curves."""
    evaluation = write_evaluation(folder)
    for settings in (remote, store):
        assert synced(settings, folder, evaluation) == "added"
        assert synced(settings, folder, evaluation) == "already there"
    assert curves(remote) == curves(store)


def test_a_server_shows_the_same_and_its_death_costs_seconds(
    server: tuple[Tracking, "subprocess.Popen[bytes]"],
    store: Tracking,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    remote, process = server
    assert_both_show_the_same(remote, store, folder := write_ablation(tmp_path))
    weights = {"seed-1.safetensors", "seed-2.safetensors"}
    assert {path.name for path in (tmp_path / "served").rglob("*.safetensors")} == weights
    assert capfd.readouterr() == ("", "")

    with_password = remote.model_copy(update={"uri": remote.uri.replace("://", "://someone:secret@")})
    ui.serve_pages(open_store(with_password), "127.0.0.1", None)
    out = capfd.readouterr().out
    assert remote.uri.removeprefix("http://") in out
    assert "secret" not in out

    with live(remote) as live_runs:
        live_runs.log_evaluation(evaluations(4))
        kill(process)
        start = time.monotonic()
        for _ in range(5):
            live_runs.log_evaluation(evaluations(8))
        live_runs.add_final_results(folder)
        assert time.monotonic() - start < SECONDS
    out, error = capfd.readouterr()
    assert out == ""
    assert len(error.splitlines()) == 1
    assert "warning: not tracked" in error
    assert "python -m pipeline track" in error


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_a_server_that_is_down_costs_seconds_and_a_line(
    scheme: str, port: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    down = Tracking(uri=f"{scheme}://someone:secret@127.0.0.1:{port}/runs")
    folder = write_ablation(tmp_path)
    evaluation = write_evaluation(folder)
    start = time.monotonic()
    with live(down) as live_runs:
        live_runs.log_evaluation(evaluations(4))
        live_runs.add_final_results(folder)
    sync_runs_or_warn(down, ABLATION, folder, evaluation)
    assert time.monotonic() - start < SECONDS
    out, error = capfd.readouterr()
    assert out == ""
    assert len(error.splitlines()) == 2
    assert "secret" not in error
    with pytest.raises(RunError, match=f"127.0.0.1:{port}") as raised:
        synced(down, folder, evaluation)
    assert "secret" not in str(raised.value)


def test_a_repro_whose_server_is_down_takes_seconds_longer_and_says_so_once(
    port: int, tmp_path: Path, empty_store: Path
) -> None:
    project, start = create_project(tmp_path / "project", empty_store), time.monotonic()
    output = run(project, *REPRO, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}")
    assert time.monotonic() - start < 150  # MLflow's own settings cost four minutes for each of two trainings
    assert output.count("warning: not tracked") == 1
    assert (project / "reports" / "index.html").exists()


class RefusingServer(BaseHTTPRequestHandler):
    """Answers every request as MLflow answers one without a login."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b"You are not authenticated.")

    def do_POST(self) -> None:
        self.do_GET()


def test_a_refused_login_is_an_error_of_the_user(port: int, tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", port), RefusingServer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        settings = Tracking(uri=f"http://someone:secret@127.0.0.1:{port}")
        with pytest.raises(UserError, match=f"127.0.0.1:{port}: the server refuses the login") as raised:
            synced(settings, folder := write_ablation(tmp_path), write_evaluation(folder))
        server.shutdown()
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_a_server_that_never_answers_costs_seconds(scheme: str, port: int, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", port))
        silent.listen()
        start = time.monotonic()
        with live(Tracking(uri=f"{scheme}://127.0.0.1:{port}/runs")) as live_runs:
            live_runs.log_evaluation(evaluations(4))
        assert time.monotonic() - start < SECONDS
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_postgresql_that_is_away_costs_seconds_and_a_line(
    port: int, is_silent: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", port))
        if is_silent:  # accepts connections and never answers
            silent.listen()
        start = time.monotonic()
        with live(Tracking(uri=f"postgresql://me:secret@127.0.0.1:{port}/runs")) as live_runs:
            live_runs.log_evaluation(evaluations(4))
        assert time.monotonic() - start < SECONDS
    (line,) = capfd.readouterr().err.splitlines()
    assert str(port) in line
    assert "secret" not in line


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg2"])
def test_postgresql_shows_the_same_as_sqlite(
    postgres_url: URL, driver: str, store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    remote = Tracking(uri=postgres_url.set(drivername=driver).render_as_string(hide_password=False))
    assert_both_show_the_same(remote, store, write_ablation(tmp_path))
