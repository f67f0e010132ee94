"""CSV inside of other formats: without a header, or with the schema's names as one."""

import csv
import io
from collections.abc import Collection

from service.formats.trouble import PayloadError, Trouble
from service.formats.values import MAX_ROWS, Row, count_rows

MAX_CELLS = 4_096


def read_csv(text: str, known: Collection[str] = ()) -> list[Row]:
    """Return rows of texts; a first line of nothing but known names is a header."""
    if "\x00" in text:
        raise _bad()
    rows: list[list[str]] = []
    try:
        for cells in csv.reader(io.StringIO(text, newline=""), strict=True):
            if not cells:
                continue
            if len(cells) > MAX_CELLS:
                message = f"a line has more than {MAX_CELLS} cells"
                raise PayloadError(Trouble.COLUMN_COUNT, "data", message)
            rows.append(cells)
            if len(rows) > MAX_ROWS + 1:
                break
    except csv.Error:
        raise _bad() from None
    header: list[str] | None = None
    if len(rows) > 1 and len(set(rows[0])) == len(rows[0]) and set(rows[0]) <= set(known):
        header, *rows = rows
    count_rows(len(rows), "data")
    if header is None:
        return list(rows)
    if any(len(row) != len(header) for row in rows):
        message = "a line has not as many cells as the header"
        raise PayloadError(Trouble.COLUMN_COUNT, "data", message)
    return [dict(zip(header, row, strict=True)) for row in rows]


def _bad() -> PayloadError:
    return PayloadError(Trouble.BAD_CSV, "data", "the data is not CSV, as the line says")
