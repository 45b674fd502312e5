"""A password reaches the server as it was typed, and no message."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hypothesis
import pytest
from hypothesis import strategies
from mlflow.exceptions import MlflowException
from ruamel.yaml import YAML
from sqlalchemy.engine import make_url

from pipeline import cli
from pipeline.addresses import encode_password, hide_password
from pipeline.errors import RunError, UserError
from pipeline.params import Search, Tracking
from pipeline.search.study import STORAGE_VARIABLE, open_study, storage_url
from pipeline.tasks.registry import read_params
from pipeline.tracking.store import open_store
from tests.conftest import PRESETS

PASSWORDS = (
    "ge/heim",
    "p@ss%w:heim",
    "ge:heim",
    "%heim",
    "ge?heim#heim",
    "[heim]",
    "a/b@heim/c:1@heim",
    "1 heim",
    "heim @ heim",
)


@hypothesis.given(strategies.text("ab1/@:%?#[] é", min_size=1).filter(lambda text: "%" not in text[:-1]))
def test_libraries_find_password_and_host_whatever_the_password(password: str) -> None:
    for scheme in ("postgresql+psycopg", "http"):
        encoded = encode_password(f"{scheme}://me:{password}@host:5432/runs")
        url = make_url(encoded)
        assert (url.username, url.password, url.host, url.port, url.database) == ("me", password, "host", 5432, "runs")
        assert (urlsplit(encoded).hostname, urlsplit(encoded).port) == ("host", 5432)
        assert encode_password(encoded) == encoded


@pytest.mark.parametrize(
    "address",
    ["sqlite:////home/me:1@work/m.db", "http://host:5000", "postgresql://me@host/runs", "postgresql://me:a%2Fb@host/x"],
)
def test_other_addresses_stay_as_they_are(address: str) -> None:
    assert encode_password(address) == address


def test_text_without_a_password_stays_as_it_is() -> None:
    for text in (
        "sqlite:////home/me@work/m.db cannot be used",
        "train@nope-causal failed at http://host:5000",
        "(allowed: sqlite:///... or postgresql://...)",
    ):
        assert hide_password(text) == text
    assert "heim" not in hide_password("postgresql://host/runs?user=me&password=geheim&sslpassword=heim")


def write_params(folder: Path, **sections: dict[str, Any]) -> None:
    """Write the smoke preset with changed settings to `folder`."""
    content = YAML(typ="safe").load(PRESETS / "smoke.yaml")
    for name, settings in sections.items():
        content[name] = content.get(name, {}) | settings
    YAML().dump(content, folder / "params.yaml")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(STORAGE_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("password", PASSWORDS)
def test_no_message_about_mlflow_shows_a_password(
    folder: Path, password: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(uri: str, *arguments: object, **options: object) -> None:
        raise MlflowException(f"no answer from {uri} at {urlsplit(uri).hostname}:{urlsplit(uri).port}")

    monkeypatch.setattr("pipeline.tracking.store.MlflowClient", fail)
    for scheme in ("postgresql", "http"):
        write_params(folder, tracking={"uri": f"{scheme}://me:{password}@127.0.0.1:1/x"})
        assert cli.run_command(["track"]) == 1
        assert cli.run_command(["check", "--resolved"]) == 0
    write_params(folder, tracking={"uri": f"postgres://me:{password}@127.0.0.1:1/x"})
    assert cli.run_command(["check"]) == 2
    output = capsys.readouterr()
    assert "heim" not in output.out + output.err
    assert output.err.count("127.0.0.1:1") >= 3  # each message says where


@pytest.mark.parametrize("password", PASSWORDS)
def test_no_message_about_the_storage_of_a_search_shows_a_password(
    folder: Path, password: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for scheme in ("mysql", "postgresql"):
        address = f"{scheme}://me:{password}@127.0.0.1:1/x"
        write_params(folder, search={"storage": address})
        cli.run_command(["search"])
        cli.run_command(["check", "--resolved"])
        write_params(folder)
        monkeypatch.setenv(STORAGE_VARIABLE, address)
        params = read_params()
        with pytest.raises(UserError) as error:
            open_study(params, storage_url(params.search, folder))
        assert "heim" not in str(error.value)
        monkeypatch.delenv(STORAGE_VARIABLE)
    output = capsys.readouterr()
    assert "heim" not in output.out + output.err


@pytest.mark.parametrize("address", ["postgresql://me:geheim", "postgresql://me:ge/heim", "postgresql://h:1heim/x"])
def test_an_address_that_cannot_be_read_is_not_shown(folder: Path, address: str, smoke: Any) -> None:
    search = Search.model_validate(smoke.search.model_dump() | {"storage": address})
    with pytest.raises(UserError, match=r"search\.storage: .*postgresql") as error:
        open_study(smoke, storage_url(search, folder))
    assert "heim" not in str(error.value)


@pytest.mark.parametrize("driver", ["", "+psycopg", "+psycopg2"])
def test_any_driver_of_postgresql_becomes_the_installed_one(folder: Path, driver: str, smoke: Any) -> None:
    address = f"postgresql{driver}://me@127.0.0.1:1/x"
    search = Search.model_validate(smoke.search.model_dump() | {"storage": address})
    with pytest.raises(UserError, match="connection"):
        open_study(smoke, storage_url(search, folder))
    with pytest.raises(RunError, match="connection"):
        open_store(Tracking(uri=address))
