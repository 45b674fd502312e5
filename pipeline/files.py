"""Reading and writing files so that a reader never meets half of one, and a changed byte is noticed.

Every file is written beside its final name, flushed to the disk and renamed: it is there whole or not at all. A folder
that one stage writes and others read is sealed: a manifest, written last, says what each of its files must be.
"""

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from pipeline.errors import UserError

MANIFEST = "manifest.json"
"""What a sealed folder holds beside its files."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically, creating its folder where needed.

    Raises:
        OSError: there is no room, or no permission; what was there is whole. Names the path and the space needed.
    """
    with _naming(path, f"; {len(content):,} bytes to write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)  # mkstemp gives 0600; these files are made to be read
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


@contextmanager
def _naming(path: Path, more: str = "") -> Iterator[None]:
    """Have what the system refuses say of which path, in the user's eyes, and `more`."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}{more}", str(path)) from None


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` atomically, as UTF-8 with the line ends it has."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON; refuses NaN, which is no JSON."""
    write_bytes(path, _text(content))


def _text(content: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(content, indent=2, allow_nan=False)}\n".encode()


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write `table` without its index; floats with seven significant digits (a float32 holds no more)."""
    write_bytes(path, as_csv(table))


def as_csv(table: pd.DataFrame) -> bytes:
    """What `write_csv` writes."""
    return table.to_csv(index=False, float_format="%.7g", lineterminator="\n").encode()


def read_bytes(path: Path, *, made_by: str) -> bytes:
    """Read `path`; if it is not there, say which command makes it.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `{made_by}` makes it") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


@dataclass(frozen=True)
class VerifiedFolder:
    """A sealed folder, of which every file is checked when it is read: torch and safetensors load a flipped bit
    silently, and so do tables."""

    folder: Path
    made_by: str
    """The command that makes it."""
    subject: str
    """What it is of."""
    digests: Mapping[str, str]
    """Name of a file below the folder -> SHA-256."""
    digest: str
    """Of all of them together: what the folder is, in a word."""

    def bytes(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            UserError: there is none of that name, or it is truncated or altered.
        """
        path = self.folder / name
        if name not in self.digests:
            raise UserError(f"{path}: no such file in {MANIFEST}; `{self.made_by}` makes it")
        return read_verified(path, self.digests[name], made_by=self.made_by)

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object; as `bytes`."""
        return _json(self.folder / name, self.bytes(name), self.made_by)

    def csv(self, name: str, *, text_columns: tuple[str, ...] = ()) -> pd.DataFrame:
        """A table, of which `text_columns` are text, be it `007` or `nan`; as `bytes`."""
        content = io.BytesIO(self.bytes(name))
        try:
            return pd.read_csv(content, converters=dict.fromkeys(text_columns, str))
        except (ValueError, pd.errors.ParserError):
            raise UserError(f"{self.folder / name}: not a CSV table; make it again with `{self.made_by}`") from None


def write_manifest(folder: Path, *, of: str) -> None:
    """Say in `folder` what each of the files below it must be, and what they are of. To be done last."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    digests = {path.relative_to(folder).as_posix(): digest(path.read_bytes()) for path in found}
    write_json(folder / MANIFEST, _manifest(of, digests))


@contextmanager
def replacing_folder(folder: Path, *, of: str) -> Iterator[Path]:
    """A folder to write to. When the block ends it is sealed and takes the place of `folder`, with all that was there;
    where the block fails, what was there stays.

    Raises:
        OSError: there is no room, or no permission.
    """
    with _naming(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as beside:
            new = Path(beside) / folder.name
            yield new
            write_manifest(new, of=of)
            if folder.exists():
                folder.rename(Path(beside) / "old")
            new.rename(folder)


def open_verified(folder: Path, *, made_by: str, of: str | None = None) -> VerifiedFolder:
    """A sealed folder, to be read; `of`: what it must be of.

    Raises:
        UserError: it is not there, was not finished, is of something else, or its manifest is not as it was written.
    """
    path = folder / MANIFEST
    content = read_bytes(path, made_by=made_by)
    said = _json(path, content, made_by)
    files, found_of = said.get("files"), said.get("of")
    if not isinstance(files, dict) or not isinstance(found_of, str) or content != _text(_manifest(found_of, files)):
        raise UserError(f"{path}: altered, or of an earlier version; make it again with `{made_by}`")
    if of not in (None, found_of):
        raise UserError(f"{folder}: is of {found_of}, not of {of}; make it again with `{made_by}`")
    return VerifiedFolder(folder, made_by, found_of, files, str(said["seal"]))


def _manifest(of: str, digests: Mapping[str, Any]) -> dict[str, Any]:
    return {"of": of, "files": dict(digests), "seal": digest(json.dumps([of, digests]).encode())}


def _json(path: Path, content: bytes, made_by: str) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except ValueError:
        raise UserError(f"{path}: damaged (not JSON); make it again with `{made_by}`") from None
    if not isinstance(parsed, dict):
        raise UserError(f"{path}: damaged (no JSON object); make it again with `{made_by}`")
    return parsed


def read_json(path: Path, *, made_by: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: the file is missing, or no JSON object.
    """
    return _json(path, read_bytes(path, made_by=made_by), made_by)


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def read_verified(path: Path, expected: str, *, made_by: str) -> bytes:
    """Read `path` and check it against its recorded digest: torch and safetensors load a flipped bit silently.

    Raises:
        UserError: the file is missing, truncated or altered.
    """
    content = read_bytes(path, made_by=made_by)
    if (found := digest(content)) != expected:
        raise UserError(
            f"{path}: altered or truncated ({len(content)} bytes, SHA-256 {found[:12]}..., "
            f"recorded {expected[:12]}...); make it again with `{made_by}`"
        )
    return content
