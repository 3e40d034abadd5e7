"""Rows of local files, read in shards.

A file is cut into shards, each a sequence of about a thousand rows. A stream of `datasets` can shuffle shards, divide
them between processes, and resume in the middle of a file without reading what comes before.

Each kind of file has three functions: `head_…` reads its beginning and returns its columns, `check_…` reads all of it
and finds where its shards begin, and `read_…` reads some shards and yields each row with the number by which errors
name it.
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

SHARD_ROWS = 1000  # rows in a shard of text; the last one may have fewer
MOST_SHARDS = 1024  # in one file; the shards of longer files have more rows

LONE_CARRIAGE_RETURN = re.compile(r"\r(?!\n|\Z)")  # it also ends a line of a table

Names = list[str] | None  # of columns, where the file does not name them
Row = tuple[int, dict[str, Any]]  # number of the row, counted from 1, and its columns


class Shard(NamedTuple):
    """A sequence of rows of a file.

    Attributes:
        start: offset of its first byte in the file; in Parquet the number of its row group.
        first: number of its first row; in text that of its first line.
        rows: number of its rows; None for a file that can only be read whole.
    """

    start: int
    first: int
    rows: int | None


@dataclass
class Table:
    """What is known about a file after all of it was checked.

    Attributes:
        shards: its shards, in order.
        digest: hash of its content, by which a cache notices that it has changed.
        columns: the first row in which no column is missing, or the names of the columns, each with its keys where it
            holds dictionaries.
        options: further arguments of its reader.
    """

    shards: list[Shard]
    digest: str
    columns: dict[str, Any]
    options: dict[str, Any]


class _ShardCollector:
    """Collects shards while a file is being read."""

    def __init__(self) -> None:
        self._starts: list[tuple[int, int, int]] = []  # start, number of the row, rows before it
        self.rows = 0

    def add(self, start: int | None, number: int) -> None:
        """Count the row `number`, which begins at byte `start`; None means that no shard can begin with it."""
        if start is not None and (not self._starts or self.rows - self._starts[-1][2] >= SHARD_ROWS):
            self._starts.append((start, number, self.rows))
        self.rows += 1

    def shards(self) -> list[Shard]:
        """All shards, in order; neighbouring ones are merged if there are more than `MOST_SHARDS`."""
        merged = max(1, -(-len(self._starts) // MOST_SHARDS))
        starts = self._starts[::merged]
        ends = [*(before for _, _, before in starts[1:]), self.rows]
        return [Shard(start, number, end - before) for (start, number, before), end in zip(starts, ends, strict=True)]


def check_exists(path: Path) -> None:
    """Check that a file exists and is not empty.

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
    """A digest of the content of a file, and of nothing else."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


# Text, one row per line


def check_text(path: Path) -> Table:
    """Read a UTF-8 file from end to end; each line is a row.

    Raises:
        DataError: if the file is missing, empty or not UTF-8.
    """
    check_exists(path)
    digest, shards, offset = hashlib.sha256(), _ShardCollector(), 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            _check_utf8(line, path, number, offset)
            shards.add(offset, number)
            offset += len(line)
            digest.update(line)
    return Table(shards.shards(), digest.hexdigest(), {}, {})


def read_text(path: str, shards: Sequence[Shard]) -> Iterator[tuple[int, str]]:
    """Yield the lines with their numbers. Only a newline ends a line; a carriage return before it is dropped."""
    with open(path, "rb") as file:
        for shard in shards:
            file.seek(shard.start)
            for number, line in enumerate(itertools.islice(file, shard.rows), start=shard.first):
                yield number, _without_bom(line.decode("utf-8"), number == 1).removesuffix("\n").removesuffix("\r")


@contextmanager
def _open_beginning(path: Path) -> Iterator[IO[bytes]]:
    """Open a file whose first lines are to be read.

    Raises:
        DataError: if it is missing or empty, or a line that was read is not UTF-8; the message names the place.
    """
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


def _without_bom(line: str, is_first: bool) -> str:
    return line.removeprefix("\ufeff") if is_first else line  # a byte order mark, which some editors write


# JSON


def head_json(path: Path, names: Names = None) -> dict[str, Any]:
    """Read the first object in which nothing is null, as a null does not show what its column holds.

    The file has a JSON object on each line, or is a single list of objects. If each of the first thousand lines has a
    null, or each object of the list, the first object is returned.

    Raises:
        DataError: if the file is missing, empty, not UTF-8 or not JSON; if `names` of columns are given.
    """
    _refuse_names(path, names)
    with _open_beginning(path) as file:
        shards = [Shard(0, 1, None if _begins_with_list(file) else SHARD_ROWS)]
        first = None
        for _, row in read_json(str(path), shards):
            if None not in row.values():
                return row
            first = first or row
    if first is None:
        raise DataError(f"{path} is empty.")
    return first


def check_json(path: Path, names: Names = None) -> Table:
    """Read a JSON file from end to end, as text. Errors in its objects are raised when these are read.

    Raises:
        DataError: see `head_json`.
    """
    table = check_text(path)
    with path.open("rb") as file:
        if _begins_with_list(file):
            table.shards = [Shard(0, 1, None)]
    table.columns = head_json(path, names)
    return table


def _refuse_names(path: Path, names: Names) -> None:
    if names is not None:
        raise DataError(f"{path} names its columns by itself: leave column_names out.")


def _begins_with_list(file: IO[bytes]) -> bool:
    first = next((line for line in map(bytes.lstrip, _lines_without_bom(file)) if line), b"")
    return first.startswith(b"[")


def _lines_without_bom(file: IO[bytes]) -> Iterator[bytes]:
    return (line.removeprefix(b"\xef\xbb\xbf") for line in file)


def read_json(path: str, shards: Sequence[Shard], wanted: Sequence[str] = ()) -> Iterator[Row]:
    """Yield all columns of the objects, numbered by their lines or by their positions in a list."""
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
    """The lines of an open file as text, for a CSV reader, which also ends a line at a lone carriage return.

    Attributes:
        offset: offset in bytes of the next line; None if that line begins after a lone carriage return, where no shard
            can begin.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.offset: int | None = file.tell()

    def __iter__(self) -> Iterator[str]:
        position = self._file.tell()
        for line in self._file:
            text = _without_bom(line.decode("utf-8"), position == 0)
            *inner, last = _split_at_carriage_returns(text)
            position += len(line)
            self.offset = None
            yield from inner
            self.offset = position
            yield last


def _split_at_carriage_returns(line: str) -> list[str]:
    ends = [found.end() for found in LONE_CARRIAGE_RETURN.finditer(line)]
    return [line[start:stop] for start, stop in itertools.pairwise([0, *ends, len(line)])] if ends else [line]


def head_csv(path: Path, names: Names = None) -> dict[str, Any]:
    """Read the names of the columns from the first line of a table, or take the names that are given.

    Fields are separated by commas and quoted if need be; in a file with the suffix `.tsv` they are separated by tabs
    and never quoted. Every field is text ("NA", "007").

    Raises:
        DataError: if the file is missing, empty or not UTF-8, or names a column twice; if the given names are not
            those of all columns, or stand in the file, too.
    """
    with _open_beginning(path) as file:
        try:
            columns = next(csv.reader(_Lines(file), **_dialect(path)))
        except csv.Error as error:
            raise DataError(f"{path}, line 1: {error}. Is there a quotation mark without its pair?") from error
    if names is not None:
        if set(columns) == set(names):
            raise DataError(f"{path}: the first line names the columns: leave column_names out.")
        _check_row(columns, names, path, 1, "column_names gives")
        return dict.fromkeys(names)
    if len(set(columns)) != len(columns):
        raise DataError(
            f"{path}: the first line must name each column once; it reads {', '.join(columns)}. If it is a row like "
            "the others, give column_names."
        )
    return dict.fromkeys(columns)


def _dialect(path: Path) -> dict[str, Any]:
    if path.suffix.lower() == ".tsv":
        return {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    return {"delimiter": ",", "quoting": csv.QUOTE_MINIMAL}


def check_csv(path: Path, names: Names = None) -> Table:
    """Read a table from end to end.

    Raises:
        DataError: see `head_csv`; also if it has no rows or rows of other lengths.
    """
    table, columns, dialect = check_text(path), list(head_csv(path, names)), _dialect(path)
    naming = "the first line names" if names is None else "column_names gives"
    shards = _ShardCollector()
    with path.open("rb") as file:
        lines = _Lines(file)
        reader = csv.reader(lines, **dialect)
        start: int | None = 0
        try:
            if names is None:
                next(reader)  # the column names; the first shard begins before them
            for row in reader:
                if row:
                    _check_row(row, columns, path, reader.line_num, naming)
                    shards.add(start, reader.line_num)
                start = lines.offset
        except csv.Error as error:
            raise DataError(
                f"{path}, line {reader.line_num}: {error}. Is there a quotation mark without its pair?"
            ) from error
    if not shards.rows:
        raise DataError(f"{path} is empty: it has a line of column names and no rows.")
    table.shards, table.columns = shards.shards(), dict.fromkeys(columns)
    table.options = {"columns": tuple(columns), "has_header": names is None, **dialect}
    return table


def _check_row(row: list[str], columns: list[str], path: Path, line: int, naming: str) -> None:
    if len(row) != len(columns):
        raise DataError(
            f"{path}, line {line}: {len(row)} fields, but {naming} {len(columns)} columns: {', '.join(columns)}."
        )


def read_csv(
    path: str,
    shards: Sequence[Shard],
    wanted: Sequence[str],
    columns: Sequence[str],
    has_header: bool = True,
    **dialect: Any,
) -> Iterator[Row]:
    """Yield all columns of the rows, each numbered by the line it ends in."""
    with open(path, "rb") as file:
        for shard in shards:
            file.seek(shard.start)
            reader = csv.reader(_Lines(file), **dialect)
            if shard.start == 0 and has_header:
                next(reader)
            for row in itertools.islice(filter(None, reader), shard.rows):
                yield shard.first + reader.line_num - 1, dict(zip(columns, row, strict=True))


# Parquet


def head_parquet(path: Path, names: Names = None) -> dict[str, Any]:
    """Read the columns of a file, each with its keys where it holds dictionaries.

    Raises:
        DataError: if the file is missing, empty or not Parquet; if `names` of columns are given.
    """
    import pyarrow
    from pyarrow import parquet

    _refuse_names(path, names)
    check_exists(path)
    try:
        schema = parquet.read_schema(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} cannot be read as parquet: {error}") from error
    return {
        field.name: dict.fromkeys(one.name for one in field.type) if pyarrow.types.is_struct(field.type) else None
        for field in schema
    }


def check_parquet(path: Path, names: Names = None) -> Table:
    """Find the row groups of a file; each is a shard.

    Raises:
        DataError: see `head_parquet`; also if it has no rows.
    """
    from pyarrow import parquet

    columns, metadata = head_parquet(path, names), parquet.read_metadata(path)
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    if not sum(sizes):
        raise DataError(f"{path} is empty: it has columns and no rows.")
    firsts = itertools.accumulate(sizes[:-1], initial=1)
    shards = [Shard(number, first, size) for number, (first, size) in enumerate(zip(firsts, sizes, strict=True))]
    return Table(shards, digest_of(path), columns, {})


def read_parquet(path: str, shards: Sequence[Shard], wanted: Sequence[str]) -> Iterator[Row]:
    """Yield the wanted columns of the rows, numbered by their positions in the file."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        for shard in shards:
            batches = file.iter_batches(batch_size=SHARD_ROWS, row_groups=[shard.start], columns=[*wanted])
            rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
            yield from enumerate(rows, start=shard.first)


# The kind of a table by the suffix of its file
FORMATS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}

# For each kind of table the functions that read its beginning, check all of it, and read its shards
Head = Callable[[Path, Names], dict[str, Any]]
HEADS: dict[str, Head] = {"json": head_json, "csv": head_csv, "parquet": head_parquet}
CHECKS: dict[str, Callable[[Path, Names], Table]] = {"json": check_json, "csv": check_csv, "parquet": check_parquet}
READERS: dict[str, Callable[..., Iterator[Row]]] = {"json": read_json, "csv": read_csv, "parquet": read_parquet}
