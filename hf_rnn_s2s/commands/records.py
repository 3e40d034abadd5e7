"""Records that a command reads, one after the other: from a file or a stream, without holding more than one.

A record is a dictionary from columns to values. A file of lines has one column, `TEXT`.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NamedTuple

from ..errors import UsageError

STANDARD = "-"  # standard input or output, in place of a file
TEXT = "source"  # the column of a file of lines
FORMATS = ("lines", "tsv", "csv", "jsonl", "parquet")
DOCUMENT = "document"  # a file of lines that is one record
SUFFIXES = {".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
DIALECTS: dict[str, dict[str, Any]] = {
    "csv": {"delimiter": ",", "quoting": csv.QUOTE_MINIMAL},
    "tsv": {"delimiter": "\t", "quoting": csv.QUOTE_NONE},
}
LONGEST_FIELD = 2**30  # characters of one field; the limit of the csv module, 131,072, is less than a long document
PARQUET_ROWS = 1000  # read at a time

Record = dict[str, Any]


class Records(NamedTuple):
    """What is in a file or a stream.

    Attributes:
        name: what messages call it.
        columns: the names of the columns; None where only each record tells, as in JSON lines.
        rows: the records with the numbers by which messages name them: that of the line, in Parquet that of the row.
        total: tells how many there are, which may take a look at all of a file; None if nobody knows.
        types: of the columns, as Arrow knows them, where the file says it.
    """

    name: str
    columns: tuple[str, ...] | None
    rows: Iterator[tuple[int, Record]]
    total: Callable[[], int | None] = lambda: None
    types: Mapping[str, Any] = MappingProxyType({})


def format_of(path: str, given: str | None, otherwise: str = "lines") -> str:
    """The format of a file: the one that is given, else that of its suffix."""
    return given or SUFFIXES.get(Path(path).suffix.lower(), otherwise)


@contextmanager
def open_records(path: str, kind: str) -> Iterator[Records]:
    """Open a file of records, or standard input for `-`. An empty one has no records.

    Args:
        path: of the file.
        kind: its format, one of `FORMATS`.

    Raises:
        UsageError: if there is no such file, or it has another format. While the rows are read: for a line that is not
            UTF-8 or not of the format, with its number.
    """
    if kind == "parquet":
        with _open_parquet(path) as records:
            yield records
        return
    if path == STANDARD:
        if sys.stdin is None:
            raise UsageError("Standard input is closed: name a file.")
        with long_fields():
            yield READERS[kind]("standard input", sys.stdin.buffer)
        return
    require_file(path)
    with open(path, "rb") as file, long_fields():
        records = READERS[kind](path, file)
        has_lines = kind in ("lines", "jsonl")
        yield records._replace(total=lambda: count_lines(path)) if has_lines else records


@contextmanager
def long_fields() -> Iterator[None]:
    """Let the csv module, which has one limit for the whole process, read longer fields for a while."""
    before = csv.field_size_limit(LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def require_file(path: str) -> None:
    """Check that a file is there to be read.

    Raises:
        UsageError: if it is not, or is a folder.
    """
    if os.path.isdir(path):
        raise UsageError(f"{path} is a folder; name a file.")
    if not os.path.exists(path):
        raise UsageError(f"There is no file {path}.")
    if not os.access(path, os.R_OK):
        raise UsageError(f"{path} cannot be read: you have no permission to.")


def count_lines(path: str) -> int | None:
    """The number of lines of a file, the last one with or without a newline; None for what can be read once only."""
    if not os.path.isfile(path):
        return None
    count, last = 0, b"\n"
    with open(path, "rb") as file:
        while block := file.read(2**20):
            count, last = count + block.count(b"\n"), block[-1:]
    return count + (last != b"\n")


def require_column(row: Record, column: str, name: str, number: int) -> Any:
    """The value of a column in one record.

    Raises:
        UsageError: if the record lacks it.
    """
    if column not in row:
        raise UsageError(f"{name}, record {number} has no column {column!r}, only {', '.join(row) or 'none'}.")
    return row[column]


def text_of(row: Record, column: str, name: str, number: int) -> str:
    """The text in a column of one record.

    Raises:
        UsageError: if the record lacks the column, or has something else there.
    """
    value = require_column(row, column, name, number)
    if not isinstance(value, str):
        raise UsageError(f"{name}, record {number}: {column} must be a text, not {value!r:.60}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{name}, record {number}: {column} is not valid Unicode: it has half a surrogate pair at character "
            f"{error.start}."
        ) from error
    return value


def _lines(name: str, file: IO[bytes]) -> Iterator[tuple[int, str]]:
    """Decode lines, with their numbers; only a newline ends one, and it stays."""
    for number, line in enumerate(file, start=1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{name}, line {number}: byte {error.start + 1} of the line, 0x{line[error.start]:02x}, is not valid "
                "UTF-8. Save the file as UTF-8; what was written before this line stays."
            ) from error
        yield number, text.removeprefix("\ufeff") if number == 1 else text


def _read_lines(name: str, file: IO[bytes]) -> Records:
    rows = ((number, {TEXT: line.removesuffix("\n").removesuffix("\r")}) for number, line in _lines(name, file))
    return Records(name, (TEXT,), rows)


def _read_document(name: str, file: IO[bytes]) -> Records:
    text = "".join(line for _, line in _lines(name, file))
    return Records(name, (TEXT,), iter([(1, {TEXT: text})] if text else []))


def _read_json(name: str, file: IO[bytes]) -> Records:
    def rows() -> Iterator[tuple[int, Record]]:
        for number, line in _lines(name, file):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{name}, line {number} is not a JSON object: {error}.") from error
            if not isinstance(row, dict):
                raise UsageError(f"{name}, line {number} is not a JSON object but {row!r:.50}: write one a line.")
            yield number, row

    return Records(name, None, rows())


def _read_table(kind: str, name: str, file: IO[bytes]) -> Records:
    reader = csv.reader((line for _, line in _lines(name, file)), **DIALECTS[kind])

    def fields() -> Iterator[list[str]]:
        try:
            yield from reader
        except csv.Error as error:
            hint = " Is there a quotation mark without its pair?" if kind == "csv" else ""
            raise UsageError(f"{name}, line {reader.line_num}: {str(error).rstrip('?.')}.{hint}") from error

    lines = fields()
    columns = tuple(next(filter(None, lines), ()))
    if len(set(columns)) < len(columns):
        raise UsageError(f"{name}: the first line must name each column once; it reads {', '.join(columns)}.")

    def rows() -> Iterator[tuple[int, Record]]:
        for row in lines:
            if not row and len(columns) == 1:
                row = [""]  # of a table of one column a blank line is a record; of others it is none
            if row and len(row) != len(columns):
                raise UsageError(
                    f"{name}, line {reader.line_num}: {len(row)} fields, but the first line names {len(columns)} "
                    f"columns: {', '.join(columns)}."
                )
            if row:
                yield reader.line_num, dict(zip(columns, row, strict=True))

    return Records(name, columns, rows())


def _table_reader(kind: str) -> Callable[[str, IO[bytes]], Records]:
    return lambda name, file: _read_table(kind, name, file)


READERS: dict[str, Callable[[str, IO[bytes]], Records]] = {
    "lines": _read_lines,
    DOCUMENT: _read_document,
    "jsonl": _read_json,
    "csv": _table_reader("csv"),
    "tsv": _table_reader("tsv"),
}


@contextmanager
def _open_parquet(path: str) -> Iterator[Records]:
    if path == STANDARD:
        raise UsageError("Parquet cannot be read from standard input: name a file.")
    require_file(path)
    pyarrow, parquet = require_parquet()
    try:
        file = parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise UsageError(f"{path} cannot be read as Parquet: {error}") from error
    with file:
        schema = file.schema_arrow
        types = {field.name: field.type for field in schema}
        rows = enumerate(_rows_of_parquet(file, path, pyarrow), start=1)
        yield Records(path, tuple(schema.names), rows, lambda: file.metadata.num_rows, types)


def _rows_of_parquet(file: Any, path: str, pyarrow: Any) -> Iterator[Record]:
    try:
        for batch in file.iter_batches(batch_size=PARQUET_ROWS):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise UsageError(f"{path} cannot be read as Parquet: {error}") from error


def require_parquet() -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`.

    Raises:
        UsageError: if they are not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError("Parquet files need pyarrow: pip install pyarrow.") from error
    return pyarrow, parquet


def pick_column(given: str | None, columns: Sequence[str], usual: Sequence[str], option: str, name: str) -> str:
    """The column to read: the given one, else the first of the usual names that is there, else the only one.

    Raises:
        UsageError: if it is not there, or several could be meant.
    """
    if given is not None:
        if given not in columns:
            raise UsageError(f"{name} has no column {given!r} ({option}). It has {', '.join(columns) or 'none'}.")
        return given
    found = next((column for column in usual if column in columns), None)
    if found is None and len(columns) == 1:
        found = columns[0]
    if found is None:
        raise UsageError(f"{name} has the columns {', '.join(columns) or '(none)'}: name the one to read, {option}.")
    return found
