"""Read a text or table as people have it, and convert it to the plain UTF-8 text or CSV file that a task reads.

Tables may be compressed, have another separator, a decimal comma, thousands separators, currency and percent signs,
marks for missing values, and lines above the header. What is ambiguous is an error, and never a guess.
"""

import bz2
import csv
import gzip
import io
import lzma
import math
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
from charset_normalizer import from_bytes

from pipeline.errors import UserError
from pipeline.params.config import shorten_value, suggest_names

DECOMPRESS = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}
TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".psv")
BINARY_SUFFIXES = (".xlsx", ".xls", ".ods", ".parquet", ".feather", ".zip", ".pdf", ".docx")
SEPARATORS = {";": "semicolon", "\t": "tab", "|": "bar", ",": "comma"}
MISSING_MARKS = frozenset(
    ["", ".", "..", "...", ":", "-", "--", "\u2013", "\u2014", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"]
)
"""Cells, in lower case, that stand for a missing value."""
LARGEST_INTEGER = 2**63 - 1
"""Largest integer of pandas and numpy. They do not read a larger one as a number."""
SIGNS = re.compile(r"[$€£¥₹%]|\b(?:USD|EUR|GBP|CHF|JPY)\b")
MAGNITUDES = {"k": "e3", "K": "e3", "M": "e6", "B": "e9", "T": "e12"}
"""Letter after a number, such as `3.4M` -> the same in the notation of Python."""
SPACES = " '\u2019\u00a0\u202f"
"""Characters between groups of three digits that are never a decimal mark."""
NUMBER_PATTERNS = {
    decimal: re.compile(
        rf"[+-]?(?=[{decimal}]?\d)(?:[1-9]\d{{0,2}}(?:[{other}{SPACES}]\d{{3}})+|\d*)(?:[{decimal}]\d*)?"
        rf"(?:[eE][+-]?\d+| ?[{''.join(MAGNITUDES)}])?"
    )
    for decimal, other in ((".", ","), (",", "."))
}
"""Decimal mark -> pattern of a number, where the other mark may separate thousands."""


class DataFileError(UserError):
    """Error for a file that cannot be read, or for a column: `key` is the option of a task that is at fault."""

    def __init__(self, key: Literal["path", "column"], problem: str) -> None:
        super().__init__(f"--{'data' if key == 'path' else 'column'}: {problem}")
        self.key, self.problem = key, problem


@dataclass(frozen=True)
class DataFile:
    """A converted data file."""

    name: str
    """Name of the converted file."""
    content: bytes
    """The text, or the comma-separated table, in UTF-8. A file that the tasks read rightly is unchanged."""
    column: str = ""
    """Column of a table that is studied; "" for a text."""
    summary: str = ""
    """One line about how a table was understood; "" for a text."""


def is_table(path: Path, column: str | None) -> bool:
    """Return True if a file has the ending of a table, in upper or lower case, or if one of its columns is studied."""
    return column is not None or _without_compression(path).suffix.lower() in TABLE_SUFFIXES


def converted_name(path: Path, *, as_table: bool) -> str:
    """Return the name of the converted file. A table ends in .csv."""
    path = _without_compression(path)
    return path.with_suffix(".csv").name if as_table else path.name


def read_data_file(path: Path, column: str | None, *, as_table: bool) -> DataFile:
    """Read and convert a text, or a table of which `column` is studied (default: the only column of numbers).

    Raises:
        DataFileError: the file or the column cannot be read; the message names the line and the cell.
    """
    if path.suffix.lower() in BINARY_SUFFIXES:
        raise DataFileError("path", f"{shorten_value(path.name)} is no text or CSV file; save the text or table as one")
    try:
        content = path.read_bytes()
        if decompress := DECOMPRESS.get(path.suffix.lower()):
            content = decompress(content)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataFileError("path", f"{shorten_value(path.name)} cannot be read ({reason})") from None
    text, encoding = _decode(path, content, column, as_table=as_table)
    name = converted_name(path, as_table=as_table)
    if not as_table:
        return DataFile(name, content if encoding == "utf-8" else text.encode())
    table, studied, summary = _read_table(shorten_value(path.name), text, column)
    converted = table.to_csv(index=False, lineterminator="\n").encode()
    summary += "" if encoding == "utf-8" else f", encoding {encoding}"
    unchanged = _same_numbers(content, converted)
    return DataFile(name, content if unchanged else converted, studied, f"{path}: {summary}")


def _without_compression(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() in DECOMPRESS else path


def _decode(path: Path, content: bytes, column: str | None, *, as_table: bool) -> tuple[str, str]:
    """Return a file's text and encoding. Other encodings than UTF-8 and UTF-16 are detected in tables alone.

    A wrong guess would change a text, but no digit of a table. Of the likely encodings, one in which the column's name
    occurs is preferred.
    """
    if b"\0" not in content:
        try:
            return content.decode("utf-8-sig"), "utf-8"
        except UnicodeDecodeError as error:
            position = error.start
    shown, matches = shorten_value(path.name), list(from_bytes(content))
    guess = next((match for match in matches if column is not None and column in str(match)), next(iter(matches), None))
    if guess is None:
        raise DataFileError("path", f"{shown} is in no known encoding; save it in UTF-8")
    if not (guess.encoding.startswith("utf") or as_table):
        raise DataFileError(
            "path", f"{shown} is not UTF-8 (byte {position}; it may be {guess.encoding}); save it in UTF-8"
        )
    return str(guess).removeprefix("\ufeff"), guess.encoding


def _read_table(path: str, text: str, column: str | None) -> tuple[pd.DataFrame, str, str]:
    """Return all columns as texts, numbers in the notation of Python; the studied column; how it was understood."""
    try:
        separator = _detect_separator(text)
        reader = csv.reader(io.StringIO(text, newline=None), delimiter=separator, skipinitialspace=True)
        rows, line, empty_count = [], 1, 0  # a quoted cell may have several lines; the first counts
        for row in reader:
            if row in ([], [""]):
                empty_count += 1
            else:
                rows.append((line, [cell.strip() for cell in row]))
            line = reader.line_num + 1
    except csv.Error as error:  # a quotation mark that is not closed
        raise DataFileError("path", f"{path} is no table ({error}); is a quotation mark missing?") from None
    header, rows = _split_header(path, rows, column)
    table = pd.DataFrame(_fit_rows(path, rows, len(header)), columns=header, dtype=object)
    decimals = [_decimal_marks(table.iloc[:, position]) for position in range(len(header))]
    known = {marks for marks in decimals if len(marks) == 1}
    if len(known) == 1:
        decimals = [next(iter(known)) if marks else "" for marks in decimals]
    numeric = [name for name, marks in zip(header, decimals, strict=True) if marks]
    studied = header.index(_choose_column(path, column, header, numeric))
    line_numbers, cells = [line for line, _ in rows], table.iloc[:, studied]
    _check_numbers(path, cells, line_numbers, decimals[studied], separator)
    for position, marks in enumerate(decimals):
        if marks:
            table.isetitem(position, [_plain_number(cell, marks[0]) for cell in table.iloc[:, position]])
    values = pd.to_numeric(table.iloc[:, studied])
    parts = [
        f"separator {SEPARATORS[separator]}",
        f"decimal {'comma' if decimals[studied] == ',' else 'point'}",
        f"column {shorten_value(header[studied])} of {len(header)}",
        f"lines {line_numbers[0]:,} to {line_numbers[-1]:,}",
        f"values from {values.min():g} to {values.max():g}",
        f"{values.isna().sum():,} missing",
    ]
    if empty_count:
        parts.append(f"{empty_count:,} empty lines skipped")
    return table, header[studied], ", ".join(parts)


def _choose_column(path: str, column: str | None, header: list[str], numeric: list[str]) -> str:
    """Return the asked column, or else the only one of numbers."""
    name = column.strip() if column is not None else numeric[0] if len(numeric) == 1 else None
    if name is None or name not in header:
        problem = "missing" if name is None else f"{shorten_value(name)} is no column"
        raise DataFileError("column", f"{problem} in {path}{suggest_names(name or '', numeric or header)}")
    if header.count(name) > 1:
        raise DataFileError("column", f"{shorten_value(name)} is the name of {header.count(name)} columns in {path}")
    return name


def _check_numbers(path: str, cells: "pd.Series[str]", line_numbers: list[int], marks: str, separator: str) -> None:
    """Raise an error if a cell of the studied column is neither a number nor missing, is too large, or ambiguous."""
    column = shorten_value(str(cells.name))
    values = [(line, cell) for line, cell in zip(line_numbers, cells, strict=True) if not _is_missing(cell)]
    if not values:
        raise DataFileError("column", f"{column} has no number in {path}")
    if not marks:
        patterns = NUMBER_PATTERNS.values()
        line, cell = min(([v for v in values if not p.fullmatch(_without_signs(v[1]))] for p in patterns), key=len)[0]
        hint = (
            "" if any(map(_is_number, dict(values).values())) else "; to study words, save them as a text file (.txt)"
        )
        raise DataFileError("column", f"{path}, line {line:,}, {column}: {shorten_value(cell)} is not a number{hint}")
    unclear = re.compile(r"\d[,.]\d" if separator == ";" else r"\d,\d")
    for line, cell in values:
        if len(marks) > 1 and unclear.search(cell):
            raise DataFileError(
                "column",
                f"{path}, line {line:,}, {column}: {shorten_value(cell)} has decimals or thousands? Save "
                f"the table with commas between the columns, a decimal point, and no separator of thousands",
            )
        number = _plain_number(cell, marks[0])
        if abs(float(number)) >= (LARGEST_INTEGER if number.lstrip("+-").isdigit() else math.inf):
            raise DataFileError(
                "column", f"{path}, line {line:,}, {column}: {shorten_value(cell)} is too large a number"
            )


def _detect_separator(text: str) -> str:
    """Return the separator that divides most lines into equally many cells; of several, the one with most cells.

    (`csv.Sniffer` takes decimal commas for separators where every row has as many of them.)
    """
    lines = io.StringIO(text, newline=None).readlines()[:1000]
    agreement = {}
    for separator in SEPARATORS:
        widths = Counter(len(row) for row in csv.reader(lines, delimiter=separator) if len(row) > 1)
        agreement[separator] = max(((count, width) for width, count in widths.items()), default=(0, 0))
    return max(agreement, key=agreement.__getitem__) if any(map(any, agreement.values())) else ","


def _split_header(
    path: str, rows: list[tuple[int, list[str]]], column: str | None
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the names of the columns, and the rows of data with their line numbers.

    The data begin at the first row of the usual number of cells that holds a number. Of the rows above it, the header
    is the one with the asked column, or else the fullest.
    """
    width = Counter(len(row) for _, row in rows).most_common(1)[0][0] if rows else 0
    wanted = column.strip() if column is not None else None

    def is_comment(row: list[str]) -> bool:
        return row[0].startswith("#") and not (len(row) == width and any(map(_is_number, row)))

    comments = [row for _, row in rows if is_comment(row)]
    rows = [(line, row) for line, row in rows if not is_comment(row)]
    numeric = [index for index, (_, row) in enumerate(rows) if len(row) == width and any(map(_is_number, row))]
    if numeric and [wanted in row for _, row in rows[: numeric[0] + 1]] == [False] * numeric[0] + [True]:
        del numeric[0]  # the header itself has numbers, such as years
    elif numeric[:1] == [0] and all(cell[-1:] in MAGNITUDES for cell in rows[0][1] if _is_number(cell)):
        del numeric[0]  # a header such as `day,3M`
    if not numeric:
        separators = ", ".join(SEPARATORS.values())
        raise DataFileError("path", f"{path} has no row of numbers below a header (separators: {separators})")
    first = numeric[0]
    above = [row for _, row in rows[:first]]
    heads = [row for row in above if len(row) == width]
    if not heads:  # the header is a comment
        heads = [[row[0].lstrip("# "), *row[1:]] for row in comments[-1:] if len(row) == width]
    if not heads:  # it lacks separators at the ends of the rows, or the index
        heads = [row for row in above if len(row) == max(map(len, above))]
    if not heads:
        raise DataFileError("path", f"{path}, line {rows[first][0]}: numbers, but no line above them names the columns")
    filled = [sum(map(bool, row)) for row in heads]
    header = next((row for row in heads if wanted in row), heads[filled.index(max(filled))])
    return header, rows[first:]


def _fit_rows(path: str, rows: list[tuple[int, list[str]]], width: int) -> list[list[str]]:
    """Return rows of `width` cells: without separators at their ends, and without an index that the header lacks."""
    extras = ["".join(row[width:]) for _, row in rows]
    if any(extras) and width > 1 and all(len(row) == width + 1 for _, row in rows):
        return [row[1:] for _, row in rows]
    for (line, row), extra in zip(rows, extras, strict=True):
        if extra:
            raise DataFileError("path", f"{path}, line {line}: {len(row)} cells, but the header names {width} columns")
    return [row[:width] + [""] * (width - len(row)) for _, row in rows]


def _without_signs(cell: str) -> str:
    """Return a number without currency and percent, and with a minus for the parentheses of accounts."""
    text = SIGNS.sub("", cell).strip().replace("\u2212", "-")
    return f"-{text[1:-1]}" if text.startswith("(") and text.endswith(")") else text


def _is_missing(cell: str) -> bool:
    return cell.lower() in MISSING_MARKS


def _is_number(cell: str) -> bool:
    return any(pattern.fullmatch(_without_signs(cell)) for pattern in NUMBER_PATTERNS.values())


def _decimal_marks(cells: "pd.Series[str]") -> str:
    """Return the decimal marks with which all cells are numbers: ".", ",", both as ".,", or "" for another column."""
    values = [_without_signs(cell) for cell in cells if not _is_missing(cell)]
    return "".join(mark for mark, pattern in NUMBER_PATTERNS.items() if values and all(map(pattern.fullmatch, values)))


def _plain_number(cell: str, decimal: str) -> str:
    """Return a number as Python writes it; "" for a missing value."""
    if _is_missing(cell):
        return ""
    thousands = SPACES + ("," if decimal == "." else ".")
    number = _without_signs(cell).translate(str.maketrans("", "", thousands)).replace(decimal, ".")
    return number[:-1] + MAGNITUDES[number[-1]] if number[-1] in MAGNITUDES else number


def _same_numbers(content: bytes, converted: bytes) -> bool:
    """Return True if pandas reads the same columns of numbers from a file as it is as from its conversion."""
    try:
        original = pd.read_csv(io.BytesIO(content)).select_dtypes("number").reset_index(drop=True)
    except ValueError:  # among them the errors of encoding and of parsing
        return False
    return original.equals(pd.read_csv(io.BytesIO(converted)).select_dtypes("number"))
