"""A broken `params.yaml` is valid by chance, or refused in one short line, and nothing else happens."""

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
NUMBERS = [0, -1, 1, 10**30, -(10**400), 1e308, -0.0, 0.5, float("nan"), float("inf"), float("-inf")]
TEXTS = [
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
    "{}",
    "../../etc",
    "🙂",
]
TABLES = [{}, {"a": 1}, {"": {}}, {"no": None}, {"attention": [0], "mlp": []}, {"attention": -1}]
LISTS = [[], [[]], [1, 1], [None], [0, 1, 2, 3, 4, 5, 6, 7], [10**30], ["0"], [0.5], [True]]
STRANGE: list[Any] = [None, True, False, *NUMBERS, *TEXTS, *TABLES, *LISTS]
"""Values that may stand where another belongs."""
LINES = [
    *("no: 1", "off: {}", "tasks: {}", "? : 1", "? [a, b]\n: 1", "!!binary aGVsbG8=: 1", "<<: {a: 1}", "1: 2"),
    *("- 1", "%", "\t", "'", '"', "@", "`", "{", "]", "&a [*a]", "*nobody", "!!python/object/apply:os.system ['true']"),
    *("!!timestamp 2020-13-45", "!!int x", "!!float x", "--- \n--- ", "...", "0o9: 0x", "a: &a {b: *a}", "null: null"),
    *("[" * 2000, "{a: " * 500),
]
"""Lines that may be inserted."""


def paths(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every path into nested tables and lists."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in pairs:
        yield (*path, key)
        yield from paths(value, (*path, key))


def change_values(text: str, chance: random.Random) -> bytes:
    """Remove, replace, rename or wrap values at random places."""
    content = YAML(typ="safe").load(text)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        *path, last = chance.choice(list(paths(content)))
        section = content
        for key in path:
            section = section[key]
        match chance.choice(["remove", "replace", "replace", "rename", "wrap"]):
            case "remove":
                del section[last]
            case "replace":
                section[last] = chance.choice(STRANGE)
            case "rename" if isinstance(section, dict):
                names = [f"{last}s", str(last)[1:], str(last).upper(), "", "ü", last * 2, 7, None, "x" * 500]
                section[chance.choice(names)] = section.pop(last)
            case _:
                section[last] = chance.choice([[section[last]], {"x": section[last]}])
        if not list(paths(content)):
            break
    buffer = io.BytesIO()
    YAML(typ="safe").dump(content, buffer)
    return buffer.getvalue()


def change_lines(text: str, chance: random.Random) -> bytes:
    """Cut, double, indent or insert lines, or add bytes that are not UTF-8."""
    lines = text.splitlines()
    for _ in range(chance.choice([1, 1, 3])):
        index = chance.randrange(len(lines))
        match chance.choice(["cut", "double", "indent", "insert", "end", "bytes"]):
            case "cut":
                lines[index] = lines[index][: chance.randrange(len(lines[index]) + 1)]
            case "double":
                lines.insert(index, lines[index])
            case "indent":
                lines[index] = " " * chance.randrange(5) + lines[index].lstrip()
            case "insert":
                lines.insert(index, " " * chance.choice([0, 0, 2]) + chance.choice(LINES))
            case "end":
                lines = lines[: index + 1]
            case "bytes":
                return "\n".join(lines).encode() + chance.choice([b"\xff", b"\x00", b"\xed\xa0\x80", b"\xc3"])
    return "\n".join(lines).encode()


def read_timed() -> tuple[str | None, float]:
    """The message of the refusal, or None if the file is valid; and the seconds of processor time.

    More than a second is measured again, twice at most: a shared processor counts waiting as work.
    """
    message = None
    for _ in range(3):
        start = time.process_time()
        try:
            read_params()
        except UserError as error:
            message = str(error)
        seconds = time.process_time() - start
        if seconds < 1.0:
            break
    return message, seconds


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_an_unbroken_file_is_valid(path: Path) -> None:
    read_params(path)


@pytest.mark.parametrize("change", [change_values, change_lines])
@given(seed=st.integers(0, 2**32))
@settings(max_examples=250, derandomize=True)
def test_a_broken_file_is_valid_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, change: Callable[[str, random.Random], bytes], seed: int
) -> None:
    folder, chance = tmp_path_factory.getbasetemp() / "broken", random.Random(seed)
    folder.mkdir(exist_ok=True)
    broken = change(chance.choice(VALID).read_text(), chance)
    (folder / PARAMS_FILE).write_bytes(broken)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), contextlib.chdir(folder):
        message, seconds = read_timed()
    assert seconds < 5.0  # hundreds of nested brackets take two
    if message is not None:
        assert message.startswith("params.yaml: ")
        assert len(message) <= 300
        assert message.isprintable()
    assert printed.getvalue() == ""
    assert [path.name for path in folder.iterdir()] == [PARAMS_FILE.name]
    assert (folder / PARAMS_FILE).read_bytes() == broken
