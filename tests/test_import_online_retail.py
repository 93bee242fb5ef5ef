"""Importing Online Retail II: what is kept, what is left out and why, and the published formats."""

from __future__ import annotations

import json
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.sax.saxutils import escape

import polars as pl
import pytest
from rich.progress import Progress

from recsys.errors import (
    DataError,
    EmptyTableError,
    FileFormatError,
    MissingColumnError,
    TooManyRejectsError,
)
from recsys.tables import Dataset
from serving.cli.main import main
from training.import_online_retail import import_online_retail
from training.published_lines import ImportSummary

HEADERS = (
    "Invoice",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "Price",
    "Customer ID",
    "Country",
)
Line = tuple[str | int | float | datetime | None, ...]
EARLY = datetime(2010, 12, 1, 9, 0)  # noqa: DTZ001  # published without a zone
LATE = datetime(2010, 12, 9, 17, 30)  # noqa: DTZ001
NEXT = datetime(2011, 3, 4, 12, 15)  # noqa: DTZ001

FIRST_SHEET: list[Line] = [
    (489434, "85123A", "WHITE HEART", 6, EARLY, 2.55, 13085, "France"),
    (489434, 22752, "NESTING  BOXES ", 2, EARLY, 7.5, 13085, "France"),
    (489434, 22752, "NESTING  BOXES ", 1, EARLY, 8.5, 13085, "France"),
    ("C489435", "85123A", "WHITE HEART", -6, EARLY, 2.55, 13085, "France"),
    (489436, "POST", "POSTAGE", 1, EARLY, 18, 13085, "France"),
    (489437, 22752, "NESTING BOXES", 1, LATE, 0, 13086, "Spain"),
    (489437, 22752, None, -4, LATE, 1.5, 13086, "Spain"),
    (489438, 22752, "NESTING BOXES", 1, LATE, 1.25, None, "Spain"),
    (489439, "85123A", "WHITE HEART", 1, LATE, 9.75, 13086, "Spain"),
]
SECOND_SHEET: list[Line] = [
    (489434, "85123A", "WHITE HEART", 6, EARLY, 2.55, 13085, "France"),
    (489439, "85123A", "WHITE HEART", 1, LATE, 9.75, 13086, "Spain"),
    (540001, "85123a", "CREAM HEART", 3, NEXT, 2.95, 13085, "Italy"),
]


def write_csv(path: Path, lines: list[Line], headers: tuple[str, ...] = HEADERS) -> Path:
    rows = [[None if v is None else str(v) for v in line] for line in lines]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(headers, pl.String), orient="row")
    frame.write_csv(path)
    return path


def write_xlsx(path: Path, sheets: dict[str, list[Line]]) -> Path:
    """A workbook as a spreadsheet program writes it: numbers and dates as numeric cells."""
    main_ns = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    numbered = list(enumerate(sheets.items(), start=1))
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r" '
        f'Type="{relations}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook {main_ns} xmlns:r="{relations}"><sheets>'
        + "".join(f'<sheet name="{n}" sheetId="{i}" r:id="r{i}"/>' for i, (n, _) in numbered)
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        + "".join(
            f'<Relationship Id="r{i}" Type="{relations}/worksheet" Target="worksheets/s{i}.xml"/>'
            for i, _ in numbered
        )
        + f'<Relationship Id="styles" Type="{relations}/styles" Target="styles.xml"/>'
        "</Relationships>",
        "xl/styles.xml": f'<styleSheet {main_ns}><cellXfs count="2"><xf numFmtId="0"/>'
        '<xf numFmtId="22" applyNumberFormat="1"/></cellXfs></styleSheet>',
    }
    for i, (_, lines) in numbered:
        rows = "".join(_row(number, line) for number, line in enumerate([HEADERS, *lines], 1))
        parts[f"xl/worksheets/s{i}.xml"] = (
            f"<worksheet {main_ns}><sheetData>{rows}</sheetData></worksheet>"
        )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, '<?xml version="1.0" encoding="UTF-8"?>' + text)
    return path


def _row(number: int, line: Line) -> str:
    cells = (
        _cell(f"{chr(ord('A') + place)}{number}", value)
        for place, value in enumerate(line)
        if value is not None
    )
    return f'<row r="{number}">{"".join(cells)}</row>'


def _cell(reference: str, value: str | float | datetime) -> str:
    if isinstance(value, str):
        return f'<c r="{reference}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'
    if isinstance(value, datetime):
        days = (value - datetime(1899, 12, 30)) / timedelta(days=1)  # noqa: DTZ001
        return f'<c r="{reference}" s="1"><v>{days!r}</v></c>'
    return f'<c r="{reference}"><v>{value}</v></c>'


def imported(source: Path, out: Path, max_rejects_share: float = 0.01) -> ImportSummary:
    with Progress(disable=True) as progress:
        return import_online_retail(source, out, progress, max_rejects_share=max_rejects_share)


@pytest.fixture(params=["xlsx", "csv"])
def published(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "csv":
        return write_csv(tmp_path / "lines.csv", FIRST_SHEET + SECOND_SHEET)
    sheets = {"Year 2009-2010": FIRST_SHEET, "Year 2010-2011": SECOND_SHEET}
    return write_xlsx(tmp_path / "lines.xlsx", sheets)


def test_every_line_is_kept_or_counted_under_the_reason_it_was_left_out_for(
    published: Path, tmp_path: Path
) -> None:
    summary = imported(published, tmp_path / "out")
    assert summary.left_out == {
        "repeated on the second sheet": 2,
        "cancellation (Invoice starts with C)": 1,
        "no product (StockCode does not start with five digits)": 1,
        "quantity not above 0": 1,
        "price not above 0": 1,
        "guest (no Customer ID)": 1,
    }
    assert summary.lines == 12
    assert summary.kept == 12 - sum(summary.left_out.values()) == 5
    assert summary.rejected == {}
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["kept"] == 5


def test_events_are_purchases_with_ids_from_invoice_and_line(
    published: Path, tmp_path: Path
) -> None:
    imported(published, tmp_path / "out")
    events = Dataset(tmp_path / "out").scan_events().collect()
    assert events["event_id"].to_list() == [
        "489434-1",
        "489434-2",
        "489434-3",
        "489439-1",
        "540001-1",
    ]
    assert events["item_id"].to_list() == ["85123A", "22752", "22752", "85123A", "85123A"]
    assert events["user_id"].to_list() == ["13085", "13085", "13085", "13086", "13085"]
    assert events["quantity"].to_list() == [6, 2, 1, 1, 3]
    assert events["price"].to_list() == [2.55, 7.5, 8.5, 9.75, 2.95]
    assert events["session_id"].to_list() == ["489434"] * 3 + ["489439", "540001"]
    assert set(events["event_type"]) == {"purchase"}
    assert events["event_time"][0] == EARLY.replace(tzinfo=UTC)
    assert events["event_time"][-1] == NEXT.replace(tzinfo=UTC)


def test_items_have_the_most_frequent_title_and_the_first_days_price(
    published: Path, tmp_path: Path
) -> None:
    imported(published, tmp_path / "out")
    items = Dataset(tmp_path / "out").items()
    assert items.select("item_id", "title", "price", "currency").rows() == [
        ("22752", "NESTING BOXES", 8.0, "GBP"),
        ("85123A", "WHITE HEART", 2.55, "GBP"),
    ]
    assert items["created_at"].to_list() == [EARLY.replace(tzinfo=UTC)] * 2


def test_users_carry_the_country_of_their_first_purchase(published: Path, tmp_path: Path) -> None:
    imported(published, tmp_path / "out")
    users = Dataset(tmp_path / "out").scan_users()
    assert users is not None
    assert users.collect().rows() == [("13085", "France"), ("13086", "Spain")]


def test_titles_that_are_equally_frequent_go_by_the_alphabet(tmp_path: Path) -> None:
    lines: list[Line] = [
        (1, 22752, "ZEBRA", 1, EARLY, 1, 7, "UK"),
        (1, 22752, "ANT", 1, EARLY, 1, 7, "UK"),
        (1, 22753, None, 1, EARLY, 1, 7, "UK"),
    ]
    imported(write_csv(tmp_path / "a.csv", lines), tmp_path / "out")
    assert Dataset(tmp_path / "out").items()["title"].to_list() == ["ANT", "22753"]


def test_malformed_lines_are_rejected_with_their_reason(tmp_path: Path) -> None:
    good: Line = (1, 22752, "BOX", 1, EARLY, 1, 7, "UK")
    bad: list[Line] = [
        (None, 22752, "BOX", 1, EARLY, 1, 7, "UK"),
        (1, None, "BOX", 1, EARLY, 1, 7, "UK"),
        (1, 22752, "BOX", "one", EARLY, 1, 7, "UK"),
        (1, 22752, "BOX", 1.5, EARLY, 1, 7, "UK"),
        (1, 22752, "BOX", 1, "yesterday", 1, 7, "UK"),
        (1, 22752, "BOX", 1, EARLY, "nan", 7, "UK"),
        (1, 22752, "BOX", 1, EARLY, 1, "Smith", "UK"),
    ]
    source = write_csv(tmp_path / "a.csv", [good, *bad])
    with pytest.raises(TooManyRejectsError, match=r"7 of 8 lines.*first line 2 \(Invoice"):
        imported(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    summary = imported(source, tmp_path / "out", max_rejects_share=1)
    assert summary.kept == 1
    rejected = pl.read_parquet(tmp_path / "out" / "rejected" / "lines.parquet")
    assert rejected["line"].to_list() == [2, 3, 4, 5, 6, 7, 8]
    assert rejected["quantity"].to_list()[2] == "one"
    assert summary.rejected == {
        "Invoice: missing": 1,
        "StockCode: missing": 1,
        "Quantity: not a whole number": 2,
        "InvoiceDate: not a time": 1,
        "Price: not a number": 1,
        "Customer ID: not a whole number": 1,
    }


def test_a_line_with_more_values_than_columns_is_rejected(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", [(1, 22752, "BOX", 1, EARLY, 1, 7, "UK")])
    with source.open("a") as file:
        file.write("1,22752,BOX, LARGE, BLUE,1,2010-12-01 09:00:00,1,7,UK\n")
    summary = imported(source, tmp_path / "out", max_rejects_share=0.5)
    assert summary.rejected == {"more values than columns": 1}


def test_older_headers_american_dates_and_latin_1_are_read(tmp_path: Path) -> None:
    source = tmp_path / "old.csv"
    source.write_bytes(
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\r\n"
        '536365,85123A,"CAFÉ SIGN, 5£",6,12/1/2010 8:26,2.55,17850.0,France\r\n'.encode("latin-1")
    )
    imported(source, tmp_path / "out")
    dataset = Dataset(tmp_path / "out")
    assert dataset.items()["title"].to_list() == ["CAFÉ SIGN, 5£"]
    event = dataset.scan_events().collect().row(0, named=True)
    assert event["event_time"] == datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
    assert event["user_id"] == "17850"


def test_a_file_in_another_order_loses_no_line_as_repeated(tmp_path: Path) -> None:
    times = [LATE, EARLY, NEXT, EARLY]
    lines: list[Line] = [(1, 22752, "BOX", 1, time, 1, 7, "UK") for time in times]
    assert imported(write_csv(tmp_path / "a.csv", lines), tmp_path / "out").kept == 4


def test_files_that_are_not_what_their_name_says_are_named_so(tmp_path: Path) -> None:
    page = tmp_path / "lines.xlsx"
    page.write_text("<html>not found</html>")
    with pytest.raises(FileFormatError, match=r"not a \.xlsx.*HTML"):
        imported(page, tmp_path / "out")
    workbook = tmp_path / "lines.csv"
    write_xlsx(workbook, {"a": FIRST_SHEET})
    with pytest.raises(FileFormatError, match=r"not a \.csv.*Excel"):
        imported(workbook, tmp_path / "out")
    broken = tmp_path / "cut.xlsx"
    broken.write_bytes(workbook.read_bytes()[:700])
    with pytest.raises(FileFormatError, match="damaged"):
        imported(broken, tmp_path / "out")
    archive = tmp_path / "lines.zip"
    archive.write_bytes(b"PK\x03\x04")
    with pytest.raises(FileFormatError, match=r"expected one of \.xlsx"):
        imported(archive, tmp_path / "out")
    with pytest.raises(FileFormatError, match="no such file"):
        imported(tmp_path / "absent.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_columns_and_missing_lines_are_named(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("Invoice,StockCode,Description,InvoiceDate,Price,Country\n")
    with pytest.raises(MissingColumnError, match="Quantity, Customer ID or CustomerID; found"):
        imported(source, tmp_path / "out")
    with pytest.raises(EmptyTableError, match="no invoice lines"):
        imported(write_csv(tmp_path / "b.csv", []), tmp_path / "out")
    guests: list[Line] = [(1, 22752, "BOX", 1, EARLY, 1, None, "UK")]
    with pytest.raises(EmptyTableError, match="no line is a purchase"):
        imported(write_csv(tmp_path / "c.csv", guests), tmp_path / "out")
    (tmp_path / "d.csv").touch()
    with pytest.raises(EmptyTableError, match="empty"):
        imported(tmp_path / "d.csv", tmp_path / "out")


def test_a_folder_with_something_else_in_it_is_never_replaced(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", FIRST_SHEET)
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with Progress(disable=True) as progress, pytest.raises(DataError, match="not a dataset"):
        import_online_retail(source, out, progress, overwrite=True)
    assert (out / "thesis.txt").read_text() == "years of work"


def test_the_command_prints_one_json_object_and_replaces_only_when_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_csv(tmp_path / "a.csv", FIRST_SHEET)
    command = ["import", "online-retail", str(source), "--out", str(tmp_path / "out"), "--json"]
    codes = [_exit_code(arguments) for arguments in (command, command, [*command, "--overwrite"])]
    assert codes == [0, 3, 0]
    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first) == json.loads(second)
    assert json.loads(first)["kept"] == 4


def _exit_code(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    return int(ending.value.code or 0)


def test_the_published_first_year_gives_the_figures_of_the_protocol(
    retail_path: Path, tmp_path: Path
) -> None:
    summary = imported(retail_path, tmp_path / "one")
    assert (summary.lines, summary.kept, summary.rejected) == (525_461, 406_295, {})
    assert (summary.items, summary.users) == (4_006, 4_285)
    events = Dataset(tmp_path / "one").scan_events().collect()
    assert events["event_id"].n_unique() == events.height
    past = pl.col("event_time") < datetime(2010, 11, 9, tzinfo=UTC)
    history = events.filter(past).select("user_id", "item_id").unique()
    truth = events.filter(~past).select("user_id", "item_id").unique()
    truth = truth.join(history.select("user_id").unique(), on="user_id", how="semi")
    assert truth["user_id"].n_unique() == 1_325
    new = truth.join(history, on=["user_id", "item_id"], how="anti")
    assert new["user_id"].n_unique() == 1_224
    imported(retail_path, tmp_path / "two")
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
