"""A file is there whole or not at all, and an altered byte is noticed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import files
from pipeline.refusal import Refused


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.csv"
    files.write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
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
        with pytest.raises(Refused, match="altered or truncated"):
            files.verified(path, files.digest(content), made_by="make it")
    files.write_bytes(path, content)
    assert files.verified(path, files.digest(content), made_by="make it") == content


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"absent.json: no such file; `cook dinner` makes it"):
        files.read_json(tmp_path / "absent.json", made_by="cook dinner")


@pytest.mark.parametrize("content", ["{", "[1]", "\x00"])
def test_damaged_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(Refused, match="damaged"):
        files.read_json(tmp_path / "config.json", made_by="cook dinner")
