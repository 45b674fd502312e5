"""Atomic writing of files, and folders whose files are verified when they are read.

A file is written beside its final name, flushed to the disk and renamed, so that a reader sees all of it or nothing. A
folder that one stage writes and others read gets a manifest, written last, with the digest of every file.
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
from typing import Any

import pandas as pd

from pipeline.errors import UserError

MANIFEST_FILE = "manifest.json"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically, and create its folder if needed.

    Raises:
        OSError: the disk is full, or permission is missing; the message has the path and the number of bytes. An old
            file of that name stays unchanged.
    """
    with _report_path_in_errors(path, f"; {len(content):,} bytes to write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)  # mkstemp gives 0600
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


@contextmanager
def _report_path_in_errors(path: Path, details: str = "") -> Iterator[None]:
    """Replace the name of a temporary file in error messages of the system by `path`, and add details."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}{details}", str(path)) from None


def write_text(path: Path, content: str) -> None:
    """Write a text file atomically, in UTF-8 and with unchanged line ends."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically; a number that JSON does not have, such as NaN, raises ValueError."""
    write_bytes(path, _format_json(content))


def _format_json(content: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(content, indent=2, allow_nan=False)}\n".encode()


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table to a CSV file atomically, without the index."""
    write_bytes(path, format_csv(table))


def format_csv(table: pd.DataFrame) -> bytes:
    """Format a table as CSV, without the index; floats have seven significant digits, like float32."""
    return table.to_csv(index=False, float_format="%.7g", lineterminator="\n").encode()


def read_bytes(path: Path, *, creating_command: str) -> bytes:
    """Read a file; if that is impossible, the UserError names the command that creates the file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; `{creating_command}` makes it") from None


def compute_digest(content: bytes) -> str:
    """Compute the SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def compute_digest_of_values(values: object) -> str:
    """Compute the SHA-256 of plain values (numbers, texts, lists, dictionaries), written as JSON with sorted keys."""
    return compute_digest(json.dumps(values, sort_keys=True).encode())


def read_verified_file(path: Path, expected_digest: str, *, creating_command: str) -> bytes:
    """Read a file and check its SHA-256, because torch and safetensors load damaged files without an error.

    Raises:
        UserError: the file is missing, truncated or altered.
    """
    content = read_bytes(path, creating_command=creating_command)
    if (actual := compute_digest(content)) != expected_digest:
        raise UserError(
            f"{path}: altered or truncated ({len(content)} bytes, SHA-256 {actual[:12]}..., "
            f"recorded {expected_digest[:12]}...); make it again with `{creating_command}`"
        )
    return content


@dataclass(frozen=True)
class VerifiedFolder:
    """Folder with a manifest; a file is verified when it is read, and raises UserError if it is missing or altered."""

    folder: Path
    creating_command: str
    """Command that creates the folder, for error messages."""
    subject: str
    """Name of the ablation or task to which the files belong, or digest of the artifact to which they belong."""
    digests: Mapping[str, str]
    """Path of each file, relative to the folder -> SHA-256 of the file."""
    digest: str
    """SHA-256 of the manifest: of the subject and the digests of all files."""

    def read_bytes(self, file_name: str) -> bytes:
        """Read the content of a file in the folder."""
        path = self.folder / file_name
        if file_name not in self.digests:
            raise UserError(f"{path}: no such file in {MANIFEST_FILE}; `{self.creating_command}` makes it")
        return read_verified_file(path, self.digests[file_name], creating_command=self.creating_command)

    def read_json(self, file_name: str) -> dict[str, Any]:
        """Read the JSON object in a file of the folder."""
        return dict(json.loads(self.read_bytes(file_name)))

    def read_csv(self, file_name: str, *, text_columns: tuple[str, ...] = ()) -> pd.DataFrame:
        """Read the table in a CSV file of the folder; values in `text_columns` stay text, even `007` and `nan`."""
        return pd.read_csv(io.BytesIO(self.read_bytes(file_name)), converters=dict.fromkeys(text_columns, str))


def write_manifest(folder: Path, *, subject: str) -> None:
    """Write the manifest of a folder that contains all its other files."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST_FILE)
    digests = {path.relative_to(folder).as_posix(): compute_digest(path.read_bytes()) for path in paths}
    write_bytes(folder / MANIFEST_FILE, _format_manifest(subject, digests))


def _format_manifest(subject: str, digests: Mapping[str, str]) -> bytes:
    whole = compute_digest(json.dumps([subject, digests]).encode())
    return _format_json({"subject": subject, "files": digests, "digest": whole})


@contextmanager
def replace_folder(folder: Path, *, subject: str) -> Iterator[Path]:
    """Yield a temporary folder to write to, which gets a manifest and replaces `folder` when the block ends.

    If the block fails, `folder` stays unchanged.
    """
    with _report_path_in_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            new = Path(temporary) / folder.name
            yield new
            write_manifest(new, subject=subject)
            if folder.exists():
                folder.rename(Path(temporary) / "old")
            new.rename(folder)


def open_verified_folder(folder: Path, *, creating_command: str, subject: str | None = None) -> VerifiedFolder:
    """Open a folder with a manifest and check the manifest.

    Args:
        creating_command: the command that creates the folder, for error messages.
        subject: the ablation, task or digest to which the files must belong (default: any).

    Raises:
        UserError: the manifest is missing, altered, or of another subject.
    """
    path = folder / MANIFEST_FILE
    content = read_bytes(path, creating_command=creating_command)
    try:
        manifest = json.loads(content)
        is_intact = content == _format_manifest(manifest["subject"], manifest["files"])
    except (ValueError, TypeError, KeyError):
        is_intact = False
    if not is_intact:
        raise UserError(f"{path}: altered, or of an earlier version; make it again with `{creating_command}`")
    if subject not in (None, actual := manifest["subject"]):
        raise UserError(f"{folder}: belongs to {actual}, not to {subject}; make it again with `{creating_command}`")
    return VerifiedFolder(folder, creating_command, actual, manifest["files"], manifest["digest"])
