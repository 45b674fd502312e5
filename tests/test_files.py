"""A file is there whole or not at all, and an altered byte is noticed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import files
from pipeline.errors import UserError


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.csv"
    files.write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device; 3 bytes to write: '.*results.csv'"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@given(content=st.binary(min_size=1, max_size=200), data=st.data())
def test_any_altered_bit_and_any_cut_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("files") / "weights"
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    altered = bytearray(content)
    altered[bit // 8] ^= 1 << bit % 8
    for wrong in (bytes(altered), content[: data.draw(st.integers(0, len(content) - 1))]):
        files.write_bytes(path, wrong)
        with pytest.raises(UserError, match="altered or truncated"):
            files.read_verified(path, files.digest(content), made_by="make it")
    files.write_bytes(path, content)
    assert files.read_verified(path, files.digest(content), made_by="make it") == content


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent.json: no such file; `cook dinner` makes it"):
        files.read_json(tmp_path / "absent.json", made_by="cook dinner")


@pytest.mark.parametrize("content", ["{", "[1]", "\x00"])
def test_damaged_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match="damaged"):
        files.read_json(tmp_path / "config.json", made_by="cook dinner")


def everything(folder: Path) -> list[bytes]:
    """All of a sealed folder, as its readers get it."""
    there = files.open_verified(folder, made_by="cook dinner", of="dinner")
    return [there.bytes(name) for name in there.digests]


CONTENTS = {"soup.csv": b"salt,pepper\n1,2\n", "cellar/wine.bin": bytes(range(40)), "recipe.json": b'{"stir": 3}\n'}


def laid(folder: Path, contents: dict[str, bytes] = CONTENTS, of: str = "dinner") -> Path:
    for name, content in contents.items():
        files.write_bytes(folder / name, content)
    files.write_manifest(folder, of=of)
    return folder


@given(data=st.data())
def test_no_bit_of_a_sealed_folder_can_change(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = laid(tmp_path_factory.mktemp("table"))
    assert sorted(everything(folder)) == sorted(CONTENTS.values())
    path = folder / data.draw(st.sampled_from([*CONTENTS, files.MANIFEST]))
    content = path.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    for wrong in (bytes(flipped), content[: data.draw(st.integers(0, len(content) - 1))], b""):
        path.write_bytes(wrong)
        with pytest.raises(UserError, match="cook dinner"):
            everything(folder)
    path.write_bytes(content)
    everything(folder)


def test_what_is_of_something_else_or_not_finished_is_refused(tmp_path: Path) -> None:
    lunch, dinner = laid(tmp_path / "lunch", {"soup.csv": b"1\n"}, "lunch"), laid(tmp_path / "dinner")
    with pytest.raises(UserError, match="lunch: is of lunch, not of dinner; make it again with `cook dinner`"):
        everything(lunch)
    (dinner / "soup.csv").write_bytes((lunch / "soup.csv").read_bytes())
    with pytest.raises(UserError, match=r"soup.csv: altered or truncated"):
        everything(dinner)
    (dinner / files.MANIFEST).unlink()
    with pytest.raises(UserError, match=r"manifest.json: no such file; `cook dinner` makes it"):
        everything(dinner)
    with pytest.raises(UserError, match=r"bread.csv: no such file in manifest.json"):
        files.open_verified(lunch, made_by="cook dinner").csv("bread.csv")


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = laid(tmp_path / "table")

    def fail() -> None:
        with files.replacing_folder(folder, of="dinner") as new:
            files.write_bytes(new / "soup.csv", b"cold\n")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert sorted(everything(folder)) == sorted(CONTENTS.values())
    with files.replacing_folder(folder, of="dinner") as new:
        files.write_bytes(new / "bread.csv", b"slices\n3\n")
    assert everything(folder) == [b"slices\n3\n"]  # and nothing of what was there
    assert list(tmp_path.iterdir()) == [folder]


def test_two_folders_have_one_seal_if_they_hold_the_same(tmp_path: Path) -> None:
    one, two, other = laid(tmp_path / "1"), laid(tmp_path / "2"), laid(tmp_path / "3", {"soup.csv": b"2\n"})
    seals = [files.open_verified(folder, made_by="").digest for folder in (one, two, other)]
    assert seals[0] == seals[1] != seals[2]
