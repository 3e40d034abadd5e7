"""
Rows of local files, read from wherever a stretch of them begins.

A file is cut into shards, stretches of a thousand rows or so. A stream of `datasets` can take shards in another order,
share them out between processes, and go on in the middle of a file without reading what lies before.

Each kind of file has a function that looks at its beginning and tells its columns, one that looks at all of it and
tells where its shards begin, and one that reads some of them and yields the number of each row, as errors name it,
with its columns.
"""

import csv
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from .arguments import DataError

__all__ = [
    "CHECKS",
    "FORMATS",
    "HEADS",
    "MOST_SHARDS",
    "READERS",
    "SHARD_ROWS",
    "Shard",
    "Table",
    "check_exists",
    "check_text",
    "digest_of",
    "read_text",
]

SHARD_ROWS = 1000
MOST_SHARDS = 1024  # of one file; the shards of a longer one have more rows

LONE_CARRIAGE_RETURN = re.compile(r"\r(?!\n|\Z)")  # which ends a line of a table, too

Row = tuple[int, dict[str, Any]]
"""The number of a row, from 1, and its columns."""


class Shard(NamedTuple):
    """
    Attributes:
        start: where it begins, in bytes from the start of the file; in Parquet the number of its row group.
        first: number of its first row; in text that of its first line.
        rows: how many it has; of a file that can only be read whole, None.
    """

    start: int
    first: int
    rows: int | None


@dataclass
class Table:
    """
    What is known of a file after a look at all of it.

    Attributes:
        shards: where its rows are, in order.
        digest: of its content, by which a cache tells that it has changed.
        columns: the first row in which no column is missing, or the names of the columns, each with its keys where it
            holds dictionaries.
        options: what reading it takes beside its path.
    """

    shards: list[Shard]
    digest: str
    columns: dict[str, Any]
    options: dict[str, Any]


class _Shards:
    """Collects shards while a file is being read."""

    def __init__(self) -> None:
        self._starts: list[tuple[int, int, int]] = []  # where, number of the row, rows before it
        self.rows = 0

    def add(self, start: int | None, number: int) -> None:
        """Counts a row, which begins at this byte and has this number. None: no shard can begin with it."""
        if start is not None and (not self._starts or self.rows - self._starts[-1][2] >= SHARD_ROWS):
            self._starts.append((start, number, self.rows))
        self.rows += 1

    def shards(self) -> list[Shard]:
        """All of them, in order."""
        together = max(1, -(-len(self._starts) // MOST_SHARDS))
        starts = self._starts[::together]
        ends = [*(before for _, _, before in starts[1:]), self.rows]
        return [Shard(start, number, end - before) for (start, number, before), end in zip(starts, ends, strict=True)]


def check_exists(path: Path) -> None:
    """
    Raises:
        DataError: if there is no such file, or if it is empty.
    """
    if not path.is_file():
        siblings = (
            sorted(sibling.name for sibling in path.parent.glob(f"{path.stem}*")) if path.parent.is_dir() else []
        )
        there = f"; beside it: {', '.join(siblings)}" if siblings else ""
        raise DataError(f"{path} does not exist{there}.")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty.")


def digest_of(path: Path) -> str:
    """A number for the content of a file, and for nothing else about it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


# Text, one row a line


def check_text(path: Path) -> Table:
    """
    Reads a UTF-8 file from end to end; each line is a row.

    Raises:
        DataError: if the file is missing, empty or not UTF-8.
    """
    check_exists(path)
    digest, shards, offset = hashlib.sha256(), _Shards(), 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            _check_utf8(line, path, number, offset)
            shards.add(offset, number)
            offset += len(line)
            digest.update(line)
    return Table(shards.shards(), digest.hexdigest(), {}, {})


def read_text(path: str, shards: Sequence[Shard]) -> Iterator[tuple[int, str]]:
    """The lines with their numbers. Only a newline ends a line; a carriage return before it is dropped."""
    with open(path, "rb") as file:
        for shard in shards:
            file.seek(shard.start)
            for number, line in enumerate(itertools.islice(file, shard.rows), start=shard.first):
                yield number, _without_mark(line.decode("utf-8"), number == 1).removesuffix("\n").removesuffix("\r")


@contextmanager
def _beginning(path: Path) -> Iterator[IO[bytes]]:
    """An open file, of which somebody reads the first lines; what of them is not UTF-8 is told with its place."""
    check_exists(path)
    with path.open("rb") as file:
        try:
            yield file
        except UnicodeDecodeError:
            check_text(path)
            raise


def _check_utf8(line: bytes, path: Path, number: int, offset: int) -> None:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {number}, byte offset {offset + error.start}: 0x{line[error.start]:02x} is not valid "
            "UTF-8. Save the file as UTF-8."
        ) from error


def _without_mark(line: str, is_first: bool) -> str:
    return line.removeprefix("\ufeff") if is_first else line  # some editors mark UTF-8 files with it


# JSON


def head_json(path: Path) -> dict[str, Any]:
    """
    Of a file with a JSON object on each line, or of one that is a single list of them, the first object in which
    nothing is null, since a null tells nothing of what is in a column; of a thousand lines with nulls the first.

    Raises:
        DataError: if the file is missing, empty, not UTF-8 or not JSON.
    """
    with _beginning(path) as file:
        shards = [Shard(0, 1, None if _begins_with_list(file) else SHARD_ROWS)]
        first = None
        for _, row in read_json(str(path), shards):
            if None not in row.values():
                return row
            first = first or row
    if first is None:
        raise DataError(f"{path} is empty.")
    return first


def check_json(path: Path) -> Table:
    """
    Reads a file of JSON from end to end, as text. What is wrong with its objects is raised when they are read.

    Raises:
        DataError: as `head_json`.
    """
    table = check_text(path)
    with path.open("rb") as file:
        if _begins_with_list(file):
            table.shards = [Shard(0, 1, None)]
    table.columns = head_json(path)
    return table


def _begins_with_list(file: IO[bytes]) -> bool:
    first = next((line for line in map(bytes.lstrip, _without_byte_mark(file)) if line), b"")
    return first.startswith(b"[")


def _without_byte_mark(file: IO[bytes]) -> Iterator[bytes]:
    return (line.removeprefix(b"\xef\xbb\xbf") for line in file)


def read_json(path: str, shards: Sequence[Shard], wanted: Sequence[str] = ()) -> Iterator[Row]:
    """The objects, whole; their numbers are those of their lines, or in a list those of their places."""
    if shards and shards[0].rows is None:
        text = Path(path).read_text(encoding="utf-8-sig")
        numbered: Iterator[tuple[int, Any]] = enumerate(_parse_json(text, path, "the file"), start=1)
    else:
        lines = ((number, line) for number, line in read_text(path, shards) if line.strip())
        numbered = ((number, _parse_json(line, path, f"line {number}")) for number, line in lines)
    for number, row in numbered:
        if not isinstance(row, dict):
            raise DataError(f"{path}, row {number} is not a JSON object but {row!r:.50}.")
        yield number, row


def _parse_json(text: str, path: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {place} is not a whole JSON object: {error}.") from error


# CSV and TSV


class _Lines:
    """
    The lines of an open file as text, for a reader of tables.

    Attributes:
        offset: where the line after those that were taken begins; None where a line of text ends within a line of the
            file, at a lone carriage return.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.offset: int | None = file.tell()

    def __iter__(self) -> Iterator[str]:
        position = self._file.tell()
        for line in self._file:
            text = _without_mark(line.decode("utf-8"), position == 0)
            *inner, last = _split_at_carriage_returns(text)
            position += len(line)
            self.offset = None
            yield from inner
            self.offset = position
            yield last


def _split_at_carriage_returns(line: str) -> list[str]:
    ends = [found.end() for found in LONE_CARRIAGE_RETURN.finditer(line)]
    return [line[start:stop] for start, stop in itertools.pairwise([0, *ends, len(line)])] if ends else [line]


def head_csv(path: Path) -> dict[str, Any]:
    """
    The names in the first line of a table: fields between commas, quoted where they must be, or, in a file with the
    suffix `.tsv`, between tabs, never quoted. Every field is text ("NA", "007").

    Raises:
        DataError: if the file is missing, empty or not UTF-8, or names a column twice.
    """
    with _beginning(path) as file:
        try:
            columns = next(csv.reader(_Lines(file), **_dialect(path)))
        except csv.Error as error:
            raise DataError(f"{path}, line 1: {error}. Is there a quotation mark without its pair?") from error
    if len(set(columns)) != len(columns):
        raise DataError(f"{path}: the first line must name each column once; it reads {', '.join(columns)}.")
    return dict.fromkeys(columns)


def _dialect(path: Path) -> dict[str, Any]:
    if path.suffix.lower() == ".tsv":
        return {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    return {"delimiter": ",", "quoting": csv.QUOTE_MINIMAL}


def check_csv(path: Path) -> Table:
    """
    Reads a table from end to end.

    Raises:
        DataError: as `head_csv`, and if it has no rows or rows of other lengths.
    """
    table, columns, dialect = check_text(path), list(head_csv(path)), _dialect(path)
    shards = _Shards()
    with path.open("rb") as file:
        lines = _Lines(file)
        reader = csv.reader(lines, **dialect)
        start: int | None = 0
        try:
            next(reader)  # the names of the columns, which are read with the first row
            for row in reader:
                if row:
                    _check_row(row, columns, path, reader.line_num)
                    shards.add(start, reader.line_num)
                start = lines.offset
        except csv.Error as error:
            raise DataError(
                f"{path}, line {reader.line_num}: {error}. Is there a quotation mark without its pair?"
            ) from error
    if not shards.rows:
        raise DataError(f"{path} is empty: it has a line of column names and no rows.")
    table.shards, table.columns = shards.shards(), dict.fromkeys(columns)
    table.options = {"columns": tuple(columns), **dialect}
    return table


def _check_row(row: list[str], columns: list[str], path: Path, line: int) -> None:
    if len(row) != len(columns):
        raise DataError(
            f"{path}, line {line}: {len(row)} fields, but the first line names {len(columns)} columns: "
            f"{', '.join(columns)}."
        )


def read_csv(
    path: str, shards: Sequence[Shard], wanted: Sequence[str], columns: Sequence[str], **dialect: Any
) -> Iterator[Row]:
    """The rows, whole; their numbers are those of the lines they end in."""
    with open(path, "rb") as file:
        for shard in shards:
            file.seek(shard.start)
            reader = csv.reader(_Lines(file), **dialect)
            if shard.start == 0:
                next(reader)
            for row in itertools.islice(filter(None, reader), shard.rows):
                yield shard.first + reader.line_num - 1, dict(zip(columns, row, strict=True))


# Parquet


def head_parquet(path: Path) -> dict[str, Any]:
    """
    The columns of a file, each with its keys where it holds dictionaries.

    Raises:
        DataError: if the file is missing, empty or not Parquet.
    """
    import pyarrow
    from pyarrow import parquet

    check_exists(path)
    try:
        schema = parquet.read_schema(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} cannot be read as parquet: {error}") from error
    return {
        field.name: dict.fromkeys(one.name for one in field.type) if pyarrow.types.is_struct(field.type) else None
        for field in schema
    }


def check_parquet(path: Path) -> Table:
    """
    Looks at where the row groups of a file begin.

    Raises:
        DataError: as `head_parquet`, and if it has no rows.
    """
    from pyarrow import parquet

    columns, metadata = head_parquet(path), parquet.read_metadata(path)
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    if not sum(sizes):
        raise DataError(f"{path} is empty: it has columns and no rows.")
    firsts = itertools.accumulate(sizes[:-1], initial=1)
    shards = [Shard(number, first, size) for number, (first, size) in enumerate(zip(firsts, sizes, strict=True))]
    return Table(shards, digest_of(path), columns, {})


def read_parquet(path: str, shards: Sequence[Shard], wanted: Sequence[str]) -> Iterator[Row]:
    """The wanted columns of the rows, with the numbers that these have in the file."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        for shard in shards:
            batches = file.iter_batches(batch_size=SHARD_ROWS, row_groups=[shard.start], columns=[*wanted])
            rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
            yield from enumerate(rows, start=shard.first)


FORMATS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
"""The kind of a table by the suffix of its file."""

HEADS: dict[str, Callable[[Path], dict[str, Any]]] = {"json": head_json, "csv": head_csv, "parquet": head_parquet}
CHECKS: dict[str, Callable[[Path], Table]] = {"json": check_json, "csv": check_csv, "parquet": check_parquet}
READERS: dict[str, Callable[..., Iterator[Row]]] = {"json": read_json, "csv": read_csv, "parquet": read_parquet}
"""How the beginning of each kind of table is looked at, the whole, and how it is read."""
