"""A file is written completely or not at all, and an altered bit is noticed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import files
from pipeline.errors import UserError

CONTENTS = {"soup.csv": b"salt,pepper\n1,2\n", "cellar/wine.bin": bytes(range(40)), "recipe.json": b'{"stir": 3}\n'}


def with_manifest(folder: Path, contents: dict[str, bytes] = CONTENTS, subject: str = "dinner") -> Path:
    for name, content in contents.items():
        files.write_bytes(folder / name, content)
    files.write_manifest(folder, subject=subject)
    return folder


def read_all(folder: Path) -> list[bytes]:
    """The content of all files of a folder with a manifest."""
    verified = files.open_verified_folder(folder, creating_command="cook dinner", subject="dinner")
    return [verified.read_bytes(name) for name in verified.digests]


def damaged(data: st.DataObject, content: bytes) -> list[bytes]:
    """The content with one bit altered, and cut short."""
    altered, bit = bytearray(content), data.draw(st.integers(0, 8 * len(content) - 1))
    altered[bit // 8] ^= 1 << bit % 8
    return [bytes(altered), content[: data.draw(st.integers(0, len(content) - 1))], b""]


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.csv"
    files.write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.* 3 bytes.*results\.csv"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@given(content=st.binary(min_size=1, max_size=200), data=st.data())
def test_any_altered_bit_and_any_cut_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject
) -> None:
    path, digest = tmp_path_factory.mktemp("files") / "weights", files.compute_digest(content)
    for wrong in damaged(data, content):
        path.write_bytes(wrong)
        with pytest.raises(UserError, match="weights"):
            files.read_verified_file(path, digest, creating_command="make it")
    files.write_bytes(path, content)
    assert files.read_verified_file(path, digest, creating_command="make it") == content


@given(data=st.data())
def test_no_bit_of_a_folder_with_a_manifest_can_change(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = with_manifest(tmp_path_factory.mktemp("table"))
    assert sorted(read_all(folder)) == sorted(CONTENTS.values())
    path = folder / data.draw(st.sampled_from([*CONTENTS, files.MANIFEST_FILE]))
    content = path.read_bytes()
    for wrong in damaged(data, content):
        path.write_bytes(wrong)
        with pytest.raises(UserError, match="cook dinner"):
            read_all(folder)
    path.write_bytes(content)
    read_all(folder)


@pytest.mark.parametrize("manifest", ["{", "[1]", "\x00", '{"files": 3}', '{"subject": "dinner", "files": []}'])
def test_a_manifest_of_another_form_is_refused(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(UserError, match=r"manifest\.json.*`cook dinner`"):
        read_all(tmp_path)


def test_a_folder_of_another_subject_and_an_unfinished_one_are_refused(tmp_path: Path) -> None:
    lunch, dinner = with_manifest(tmp_path / "lunch", {"soup.csv": b"1\n"}, "lunch"), with_manifest(tmp_path / "dinner")
    with pytest.raises(UserError, match=r"lunch.*dinner.*`cook dinner`"):
        read_all(lunch)
    (dinner / "soup.csv").write_bytes((lunch / "soup.csv").read_bytes())
    with pytest.raises(UserError, match=r"soup\.csv"):
        read_all(dinner)
    (dinner / files.MANIFEST_FILE).unlink()
    with pytest.raises(UserError, match=r"manifest\.json.*`cook dinner`"):
        read_all(dinner)
    with pytest.raises(UserError, match=r"bread\.csv.*manifest\.json"):
        files.open_verified_folder(lunch, creating_command="cook dinner").read_csv("bread.csv")


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = with_manifest(tmp_path / "table")

    def fail() -> None:
        with files.replace_folder(folder, subject="dinner") as new:
            files.write_bytes(new / "soup.csv", b"cold\n")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert sorted(read_all(folder)) == sorted(CONTENTS.values())
    with files.replace_folder(folder, subject="dinner") as new:
        files.write_bytes(new / "bread.csv", b"slices\n3\n")
    assert read_all(folder) == [b"slices\n3\n"]
    assert list(tmp_path.iterdir()) == [folder]


def test_folders_have_the_same_digest_if_and_only_if_they_hold_the_same(tmp_path: Path) -> None:
    contents = {"first": CONTENTS, "second": CONTENTS, "other": {"soup.csv": b"2\n"}}
    folders = [with_manifest(tmp_path / name, content) for name, content in contents.items()]
    digests = [files.open_verified_folder(folder, creating_command="").digest for folder in folders]
    assert digests[0] == digests[1] != digests[2]
