"""Reading and writing files so that a reader never meets half of one, and a changed byte is noticed.

Every file is written beside its final name, flushed to the disk and renamed: it is there whole or not at all.
"""

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.refusal import Refused


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically, creating its folder where needed."""
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


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` atomically, as UTF-8 with the line ends it has."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON; refuses NaN, which is no JSON."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write `table` without its index; floats with seven significant digits (a float32 holds no more)."""
    buffer = io.StringIO()
    table.to_csv(buffer, index=False, float_format="%.7g", lineterminator="\n")
    write_text(path, buffer.getvalue())


def read_bytes(path: Path, *, made_by: str) -> bytes:
    """Read `path`; if it is not there, say which command makes it.

    Raises:
        Refused: there is no such file, or it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise Refused(f"{path}: no such file; `{made_by}` makes it") from None
    except OSError as error:
        raise Refused(f"{path}: cannot be read ({error.strerror})") from None


def read_json(path: Path, *, made_by: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        Refused: the file is missing, or no JSON object.
    """
    try:
        content = json.loads(read_bytes(path, made_by=made_by))
    except ValueError:
        raise Refused(f"{path}: damaged (not JSON); make it again with `{made_by}`") from None
    if not isinstance(content, dict):
        raise Refused(f"{path}: damaged (no JSON object); make it again with `{made_by}`")
    return content


def read_csv(path: Path, *, made_by: str, text_columns: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a table; `text_columns` keep their leading zeros.

    Raises:
        Refused: the file is missing, or no table.
    """
    content = read_bytes(path, made_by=made_by)
    try:
        return pd.read_csv(io.BytesIO(content), dtype=dict.fromkeys(text_columns, str), keep_default_na=True)
    except (ValueError, pd.errors.ParserError):
        raise Refused(f"{path}: damaged (not a CSV table); make it again with `{made_by}`") from None


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def verified(path: Path, expected: str, *, made_by: str) -> bytes:
    """Read `path` and check it against its recorded digest: torch and safetensors load a flipped bit silently.

    Raises:
        Refused: the file is missing, truncated or altered.
    """
    content = read_bytes(path, made_by=made_by)
    if (found := digest(content)) != expected:
        raise Refused(
            f"{path}: altered or truncated ({len(content)} bytes, SHA-256 {found[:12]}..., "
            f"recorded {expected[:12]}...); make it again with `{made_by}`"
        )
    return content
