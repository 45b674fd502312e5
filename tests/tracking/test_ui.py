"""MLflow's pages are served where the user says, or at the next free port."""

import socket
from collections.abc import Iterator

import pytest

from pipeline import cli
from pipeline.errors import UserError
from pipeline.params import Tracking
from pipeline.tracking import ui
from pipeline.tracking.store import open_store


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which another program listens."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield int(other.getsockname()[1])


def test_a_taken_default_port_is_replaced_by_a_free_one_which_is_said(
    taken: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ui, "DEFAULT_PORT", taken)
    port = ui.find_free_port("127.0.0.1")
    assert port > taken
    error = capsys.readouterr().err
    assert str(taken) in error
    assert str(port) in error
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))


def test_a_port_and_a_host_that_cannot_be_used_are_refused(taken: int, store: Tracking) -> None:
    experiment = open_store(store)
    with pytest.raises(UserError, match=rf"--port.*{taken}"):
        ui.serve_pages(experiment, "127.0.0.1", taken)
    for host in ("192.0.2.1", "no.such.host.invalid"):
        with pytest.raises(UserError, match=f"--host.*{host}"):
            ui.serve_pages(experiment, host, None)


@pytest.mark.parametrize("port", ["0", "70000", "x"])
def test_a_port_out_of_range_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command(["ui", "--port", port]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert port in line
