"""A `params.yaml` that somebody broke: it is valid, or refused in one line that a tired person understands."""

import contextlib
import io
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipeline.errors import UserError
from pipeline.params import PARAMS_FILE
from pipeline.tasks.registry import read_params
from tests.conftest import PRESETS

pytestmark = pytest.mark.faults

PROJECT = Path(__file__).parent.parent.parent
VALID = [PROJECT / PARAMS_FILE, *sorted(PRESETS.glob("*.yaml")), *sorted(PROJECT.glob(f"studies/*/{PARAMS_FILE}"))]
STRANGE: list[Any] = [
    *(None, True, False, 0, -1, 1, 10**30, -(10**400), 1e308, -0.0, 0.5, float("nan"), float("inf"), float("-inf")),
    *(
        "",
        " ",
        "no",
        "off",
        "ü☃",
        "\u202e",
        "\x07",
        "a\nb",
        "x" * 10_000,
        "1",
        "1e5",
        "null",
        "None",
        "{}",
        "../../etc",
        "🙂",
    ),
    *([], {}, [[]], [1, 1], [None], {"a": 1}, {"": {}}, {"no": None}, {"attention": [0], "mlp": []}, {"attention": -1}),
    *([0, 1, 2, 3, 4, 5, 6, 7], [10**30], ["0"], [0.5], [True]),
]
"""What may stand where something else should."""
LINES = [
    *(
        "no: 1",
        "off: {}",
        "tasks: {}",
        "? : 1",
        "? [a, b]\n: 1",
        "!!binary aGVsbG8=: 1",
        "<<: {a: 1}",
        "1: 2",
        "null: null",
    ),
    *("- 1", "%", "\t", "'", '"', "@", "`", "{", "]", "&a [*a]", "*nobody", "!!python/object/apply:os.system ['true']"),
    *(
        "!!timestamp 2020-13-45",
        "!!int x",
        "!!float x",
        "--- \n--- ",
        "...",
        "0o9: 0x",
        "[" * 2000,
        "{a: " * 500,
        "a: &a {b: *a}",
    ),
]
"""What may be pushed in between."""


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every path into nested tables and lists."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in pairs:
        yield (*path, key)
        yield from places(value, (*path, key))


def restructured(text: str, chance: random.Random) -> bytes:
    """With something else at a place: gone, replaced, renamed, moved."""
    content = YAML(typ="safe").load(text)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        *path, last = chance.choice(list(places(content)))
        at = content
        for key in path:
            at = at[key]
        match chance.choice(["gone", "replaced", "replaced", "renamed", "wrapped"]):
            case "gone":
                del at[last]
            case "replaced":
                at[last] = chance.choice(STRANGE)
            case "renamed" if isinstance(at, dict):
                name = chance.choice(
                    [f"{last}s", str(last)[1:], str(last).upper(), "", "ü", last * 2, 7, None, "x" * 500]
                )
                at[name] = at.pop(last)
            case _:
                at[last] = chance.choice([[at[last]], {"x": at[last]}])
        if not list(places(content)):
            break
    made = io.BytesIO()
    YAML(typ="safe").dump(content, made)
    return made.getvalue()


def rewritten(text: str, chance: random.Random) -> bytes:
    """With lines that were cut, doubled, indented otherwise or pushed in between; with bytes that are no text."""
    lines = text.splitlines()
    for _ in range(chance.choice([1, 1, 3])):
        at = chance.randrange(len(lines))
        match chance.choice(["cut", "doubled", "indented", "between", "end", "byte"]):
            case "cut":
                lines[at] = lines[at][: chance.randrange(len(lines[at]) + 1)]
            case "doubled":
                lines.insert(at, lines[at])
            case "indented":
                lines[at] = " " * chance.randrange(5) + lines[at].lstrip()
            case "between":
                lines.insert(at, " " * chance.choice([0, 0, 2]) + chance.choice(LINES))
            case "end":
                lines = lines[: at + 1]
            case "byte":
                return "\n".join(lines).encode() + chance.choice([b"\xff", b"\x00", b"\xed\xa0\x80", b"\xc3"])
    return "\n".join(lines).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("project")


def refused() -> str | None:
    """In what words; None where it is valid."""
    try:
        read_params()
    except UserError as refusal:
        return str(refusal)
    return None


def within(seconds: float) -> tuple[str | None, float]:
    """In what words it is refused, and the seconds of processor time that this took: asked again, twice at most, where
    they were too many, for a processor that others share counts what it waits for."""
    for _ in range(3):
        begun = time.process_time()
        message = refused()
        taken = time.process_time() - begun
        if taken < seconds:
            break
    return message, taken


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_what_nobody_broke_is_valid(path: Path) -> None:
    read_params(path)


@pytest.mark.parametrize("change", [restructured, rewritten])
@given(seed=st.integers(0, 2**32))
@settings(max_examples=250, derandomize=True)
def test_it_is_valid_or_refused_in_one_line(
    folder: Path, change: Callable[[str, random.Random], bytes], seed: int
) -> None:
    chance = random.Random(seed)
    broken = change(chance.choice(VALID).read_text(), chance)
    (folder / PARAMS_FILE).write_bytes(broken)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.chdir(folder):
        message, taken = within(1.0)
    assert taken < 1.0
    if message is not None:
        assert message.startswith("params.yaml: ")
        assert len(message) <= 300
        assert message.isprintable()
    assert said.getvalue() == ""
    assert [path.name for path in folder.iterdir()] == [PARAMS_FILE.name]
    assert (folder / PARAMS_FILE).read_bytes() == broken
