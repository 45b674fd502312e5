"""The MLflow store is the one that `MLFLOW_TRACKING_URI` names, else that of params.yaml. No other variable counts."""

from pathlib import Path

import pytest

from pipeline import cli
from pipeline.errors import UserError
from pipeline.params import Tracking
from pipeline.tracking.address import IGNORED_VARIABLES, URI_VARIABLE, find_store_address
from pipeline.tracking.store import open_store, report_ignored_variables

FILE = Tracking(uri="sqlite:///file.db")


def test_the_variable_has_precedence_over_the_file(store: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_store_address(Tracking()) == ("sqlite:///mlflow.db", "default")
    assert find_store_address(FILE) == ("sqlite:///file.db", "params.yaml")
    monkeypatch.setenv(URI_VARIABLE, store.uri)
    assert find_store_address(FILE) == (store.uri, URI_VARIABLE)
    assert open_store(FILE).uri == store.uri


def test_a_variable_that_is_no_address_is_refused_by_its_name_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(URI_VARIABLE, "postgres://me:secret@host/db")
    with pytest.raises(UserError, match=rf"^{URI_VARIABLE}.*postgres.*sqlite") as refusal:
        open_store(FILE)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
def test_postgresql_gets_the_driver_that_is_installed(scheme: str) -> None:
    address, _ = find_store_address(Tracking(uri=f"{scheme}://me:p/w@host/db"))
    assert address == "postgresql+psycopg://me:p%2Fw@host/db"


def test_check_says_where_the_address_comes_from_and_what_is_ignored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run_command(["check"]) == 0
    assert "tracking.uri: sqlite:///mlflow.db (default)" in capsys.readouterr().out
    monkeypatch.setenv(URI_VARIABLE, "https://me:secret@host")
    for name in IGNORED_VARIABLES:
        monkeypatch.setenv(name, "elsewhere")
    assert cli.run_command(["check"]) == 0
    out = capsys.readouterr().out
    assert f"@host ({URI_VARIABLE})" in out
    assert "secret" not in out
    (line,) = [line for line in out.splitlines() if IGNORED_VARIABLES[0] in line]
    assert all(name in line for name in IGNORED_VARIABLES)


def test_ignored_variables_cost_a_line_and_change_nothing(
    store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = open_store(store).experiment_id
    for name in IGNORED_VARIABLES:
        monkeypatch.setenv(name, f"sqlite:///{tmp_path}/elsewhere.db")
    capsys.readouterr()
    report_ignored_variables.cache_clear()
    assert open_store(store).experiment_id == open_store(store).experiment_id == before
    (line,) = capsys.readouterr().err.splitlines()
    assert all(name in line for name in IGNORED_VARIABLES)
    assert not (tmp_path / "elsewhere.db").exists()
