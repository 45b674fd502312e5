"""However a table is written, its conversion has the numbers of the plain table; what is ambiguous is refused."""

import gzip
import io
from pathlib import Path

import pandas as pd
import pytest

from pipeline.data_file import DataFile, is_table, read_data_file
from pipeline.errors import UserError

PLAIN = "day,close,volume\nMon,1600.5,7\nTue,,8\nWed,-2.25,9\nThu,1234567,-3\n"
"""The table that each text below writes in another form."""


def convert(
    folder: Path, content: str | bytes, column: str | None = "close", name: str = "prices.csv", encoding: str = "utf-8"
) -> DataFile:
    (folder / name).write_bytes(content.encode(encoding) if isinstance(content, str) else content)
    return read_data_file(folder / name, column, as_table=is_table(folder / name, column))


FORMS = {
    "comma at the end of each row": PLAIN.replace("\n", ",\n").replace("volume,", "volume"),
    "two commas at the end": PLAIN.replace("\n", ",,\n").replace("volume,,", "volume"),
    "comma at the end of the header, too": PLAIN.replace("\n", ",\n"),
    "semicolons": PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "bars": PLAIN.replace(",", "|"),
    "blanks after commas": PLAIN.replace(",", ", "),
    "line ends of Windows": PLAIN.replace("\n", "\r\n"),
    "line ends of old Macs": PLAIN.replace("\n", "\r"),
    "decimal comma": PLAIN.replace(",", ";").replace(".", ","),
    "decimal comma, semicolon at the end": PLAIN.replace(",", ";").replace(".", ",").replace("\n", ";\n"),
    "decimal comma, quoted": 'day,close,volume\nMon,"1600,5",7\nTue,,8\nWed,"-2,25",9\nThu,1234567,-3\n',
    "decimal comma, thousands": "day;close;volume\nMon;1.600,5;7\nTue;;8\nWed;-2,25;9\nThu;1.234.567;-3\n",
    "thousands": 'day,close,volume\nMon,"1,600.5",7\nTue,,8\nWed,-2.25,9\nThu,"1,234,567",-3\n',
    "thousands in blanks": "day;close;volume\nMon;1 600,5;7\nTue;;8\nWed;-2,25;9\nThu;1\u202f234\u00a0567;-3\n",
    "dollars": 'day,close,volume\nMon,"$1,600.5",7\nTue,,8\nWed,-$2.25,9\nThu,"$1,234,567",-3\n',
    "euros": "day;close;volume\nMon;1.600,5 €;7\nTue;;8\nWed;-2,25 €;9\nThu;1.234.567 €;-3\n",
    "percent": "day,close,volume\nMon,1600.5%,7%\nTue,,8%\nWed,-2.25 %,9%\nThu,1234567%,-3%\n",
    "letters for thousands": PLAIN.replace("1600.5", "1.6005k").replace("1234567", "$1.234567M"),
    "letters and decimal commas": PLAIN.replace(",", ";").replace("1600.5", "1,6005 K").replace("-2.25", "-0,00225K"),
    "currency as a code": PLAIN.replace("1600.5", "1600.5 USD").replace("-2.25", "USD -2.25"),
    "parentheses of accounts": PLAIN.replace("-2.25", "(2.25)").replace("-3", "(3)"),
    "several lines in a cell": PLAIN.replace("Mon", '"Mon\nday"'),
    "separator line of a spreadsheet": f"sep=;\n{PLAIN.replace(',', ';')}",
    "minus sign": PLAIN.replace("-", "\u2212"),
    **{f"gap as {mark}": PLAIN.replace("Tue,,", f"Tue,{mark},") for mark in (".", "..", ":", "-", "n/a", "NULL", "–")},
    "comments": f"# from a station\n# units: a, b\n#\n{PLAIN}# end\n",
    "header in a comment": f"# made for a test\n# {PLAIN}",
    "title lines": f"Prices of wheat\n\nSource: somebody\n\n{PLAIN}",
    "title lines of a spreadsheet": f"Prices of wheat,,\n,,\n{PLAIN}",
    "three header rows": PLAIN.replace("\n", "\nticker,ZZ,ZZ\ndate,,\n", 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_in_another_form_has_the_same_numbers(tmp_path: Path, form: str) -> None:
    converted = convert(tmp_path, FORMS[form])
    table = pd.read_csv(io.BytesIO(converted.content))
    pd.testing.assert_frame_equal(table[["close", "volume"]], pd.read_csv(io.StringIO(PLAIN))[["close", "volume"]])
    assert "1 missing" in converted.summary
    again = convert(tmp_path, converted.content)
    assert again.content == converted.content, "a converted table is plain"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp932"])
def test_a_table_in_another_encoding_keeps_its_columns(tmp_path: Path, encoding: str) -> None:
    text = "day,終値\n" + "".join(f"{day},{day / 4}\n" for day in range(50))
    table = pd.read_csv(io.BytesIO(convert(tmp_path, text, "終値", encoding=encoding).content))
    assert list(table["終値"]) == [day / 4 for day in range(50)]


@pytest.mark.parametrize("name", ["prices.csv.gz", "Prices.CSV", "prices.Csv", "prices.tsv", "PRICES.TSV.GZ"])
def test_a_table_is_known_by_its_ending_in_any_case(tmp_path: Path, name: str) -> None:
    text = PLAIN.replace(",", "\t") if "tsv" in name.lower() else PLAIN
    content = gzip.compress(text.encode()) if name.lower().endswith(".gz") else text.encode()
    converted = convert(tmp_path, content, name=name)
    assert (converted.name.lower(), Path(converted.name).suffix) == ("prices.csv", ".csv")
    pd.testing.assert_frame_equal(pd.read_csv(io.BytesIO(converted.content)), pd.read_csv(io.StringIO(PLAIN)))


@pytest.mark.parametrize(
    "text", [PLAIN, f"\ufeff{PLAIN}", "close,volume\nMon,1.5,7\nTue,2.5,8\n", "close\n1\n2\n\n3\n"]
)
def test_a_table_that_is_read_rightly_stays_as_it_is(tmp_path: Path, text: str) -> None:
    assert convert(tmp_path, text).content == text.encode()


def test_a_row_that_begins_with_a_number_sign_is_data(tmp_path: Path) -> None:
    text = "id,close\n#1,1.5\n#2,2.5\n#3,3.5\n"
    assert convert(tmp_path, text).content == text.encode()


@pytest.mark.parametrize("column", ["3M", None])
def test_a_column_may_be_named_like_a_number_with_a_letter(tmp_path: Path, column: str | None) -> None:
    converted = convert(tmp_path, "day,3M\nMon,1.5\nTue,2.5\n", column)
    assert pd.read_csv(io.BytesIO(converted.content))["3M"].tolist() == [1.5, 2.5]


def test_columns_may_be_named_by_years(tmp_path: Path) -> None:
    text = "2019,2020\n1,2\n3,4\n2020,5\n"
    assert convert(tmp_path, text, "2020").content == text.encode()


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("day,close\n1,1.5\n2,12..5\n", "close", ["line 3", "'close'", "'12..5'"]),
        ("day,close\n1,1.5\n2,inf\n", "close", ["line 3", "'close'", "'inf'"]),
        ("day;close\n1;1,5\n2;2.5\n3;3,5\n", "close", ["line 3", "'close'", "'2.5'"]),
        ("day,close\n1,1.5\n2,2,5,\n", "close", ["line 3", "4 cells", "2 columns"]),
        ("close\n1,5\n2,5\n", "close", ["line 2", "2 cells", "1 columns"]),
        ('day,close\n1,1.5\n2,"2.5\n3,3.5\n4,4.5\n', "close", ["line 3"]),
        ("day close\n1 1.5\n2 2.5\n", "close", ["no row of numbers", "semicolon"]),
        ("day price\n1\n2\n", "close", ["'close'", "day price"]),
        ("day,close\n", "close", ["no row of numbers"]),
        ("", None, ["no row of numbers"]),
        ("1,1.5\n2,2.5\n", None, ["line 1", "names the columns"]),
        ("day,close,close\n1,1.5,2\n", "close", ["'close'", "2 columns"]),
        ("day;price\n1;1,5\n2;2,5\n", "close", ["'close'", "day, price"]),
        ("day;price\n1;1,5\n2;2,5\n", None, ["missing", "day, price"]),
        (f"day,close\n1,15\n2,{10**24}\n", "close", ["line 3", str(10**24)]),
        ("day,close\n1,15\n2,1e999\n", "close", ["line 3", "'1e999'"]),
        ("day,close\n1,\n2,\n", "close", ["'close' has no number"]),
        ('day,close\n1,"1,600"\n2,"1,700"\n', "close", ["'1,600'", "thousands"]),
        ("day;close\n1;1.600\n2;900\n", "close", ["'1.600'", "thousands"]),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(
    tmp_path: Path, text: str, column: str | None, words: list[str]
) -> None:
    with pytest.raises(UserError) as refusal:
        convert(tmp_path, text, column)
    message = str(refusal.value)
    assert all(word in message for word in [*words, "prices.csv"])
    assert "\n" not in message


def test_a_text_in_utf_16_is_converted_and_another_encoding_is_named(tmp_path: Path) -> None:
    text = "The café was closed, and “nobody” came. " * 50
    for encoding in ("utf-8", "utf-16", "utf-16-le", "utf-16-be"):
        converted = convert(tmp_path, text, None, "book.txt", encoding)
        assert converted == DataFile("book.txt", text.encode())
    with pytest.raises(UserError, match=r"not UTF-8.*cp125"):
        convert(tmp_path, text, None, "book.txt", "cp1252")


@pytest.mark.parametrize("name", ["prices.xlsx", "prices.csv.gz", "prices.csv.bz2", "prices.csv.xz"])
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"--data: .*{name}"):
        convert(tmp_path, b"PK\x03\x04", name=name)
