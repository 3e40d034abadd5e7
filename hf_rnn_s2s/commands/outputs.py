"""Where a command writes its records: a file or standard output, whole records only."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, NamedTuple, Protocol

from ..errors import RunError, UsageError
from ..separators import as_one_field
from .interruption import Interruption
from .records import DIALECTS, DOCUMENT, STANDARD, Record, require_parquet

STANDARD_OUTPUT = 1  # its file descriptor
HALF_PAIRS = "backslashreplace"  # what becomes of half a surrogate pair: the escape that it came from
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Column(NamedTuple):
    """A column of the output.

    Attributes:
        name: of the column.
        is_number: whether its values are numbers, and not texts. It is not known of columns of the input.
        is_list: whether each value is a list of them.
        arrow_type: of a column of the input, where its file says it.
    """

    name: str
    is_number: bool = False
    is_list: bool = False
    arrow_type: Any = None


class Output(Protocol):
    """An open output.

    Attributes:
        already: how many whole records it had when it was opened.
    """

    already: int

    def write(self, records: Sequence[Record]) -> None:
        """Write records; each has a value for each column."""


@contextmanager
def open_output(
    path: str,
    kind: str,
    columns: Sequence[Column],
    interruption: Interruption,
    resume: bool = False,
    overwrite: bool = False,
) -> Iterator[Output]:
    """Open an output: a file, or standard output for `-`.

    Args:
        path: of the file.
        kind: its format, one of `records.FORMATS`.
        columns: of all records; JSON lines may have fewer or others.
        interruption: which waits while records are being written.
        resume: whether to go on behind the last whole record of a file that is there, whose rest is cut off.
        overwrite: whether such a file may be replaced.

    Raises:
        UsageError: if the file is there and neither is allowed, or it cannot be written; if it is to be resumed and
            has other columns, or a format that cannot be; in writing, if the disk is full.
        RunError: if it cannot be written any more.
    """
    check_output(path, kind, resume, overwrite)
    if kind == "parquet":
        with _open_parquet(path, columns, interruption) as output:
            yield output
        return
    encoder = ENCODERS[kind](columns)
    if path == STANDARD:
        stream = _Stream("standard output", STANDARD_OUTPUT, encoder, interruption)
        yield stream
        stream.begin()
        return
    with _open_file(path, kind, encoder, interruption, resume) as output:
        yield output


@contextmanager
def _open_file(path: str, kind: str, encoder: _Encoder, interruption: Interruption, resume: bool) -> Iterator[_Stream]:
    """A file of a text format, behind its last whole record if it is resumed.

    What is there stays until the first records are written, so that nothing is lost where these cannot be made.
    """
    is_new = not os.path.exists(path)
    already, end = _whole_records(path, kind, encoder.header) if resume and not is_new else (0, 0)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
    output = _Stream(path, file, encoder, interruption, already, end)
    try:
        yield output
        output.begin()
    except BaseException:
        if is_new and not output.count:
            os.remove(path)  # a file without records would stand in the way of the next attempt
        raise
    finally:
        os.close(file)


def partial_name(path: str) -> str:
    """The name of a file beside another one, which takes its place when it is complete."""
    return f"{path}.{os.getpid()}.partial"


@contextmanager
def naming_the_file(path: str) -> Iterator[None]:
    """Turn errors of the system in writing a file into messages that name it.

    Raises:
        UsageError: if it cannot be written because of the folder or the disk.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}.") from error


def check_output(path: str, kind: str, resume: bool, overwrite: bool) -> None:
    """Check whether an output may be written, before anything else is done.

    Raises:
        UsageError: as `open_output`.
    """
    if path == STANDARD:
        if kind == "parquet" or resume:
            what = "Parquet cannot be written" if kind == "parquet" else "--resume goes on with a file, and cannot"
            raise UsageError(f"{what} to standard output: name a file with --output.")
        return
    if os.path.isdir(path):
        raise UsageError(f"{path} is a folder; name a file with --output.")
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise UsageError(f"{path} cannot be written: there is no folder {os.path.dirname(path)}.")
    if resume and kind == "parquet":
        raise UsageError("A Parquet file cannot be resumed: write JSON lines, TSV or CSV, or leave --resume out.")
    if os.path.isfile(path) and not (resume or overwrite):
        raise UsageError(f"{path} exists: go on behind its last record with --resume, or replace it with --overwrite.")


class _Encoder(ABC):
    """Turns records into bytes; one class for each format."""

    header = b""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = columns

    @abstractmethod
    def encode(self, record: Record) -> bytes:
        """The bytes of one record, with the newline that ends it."""


class _Json(_Encoder):
    def encode(self, record: Record) -> bytes:
        try:
            return f"{_json(record, ensure_ascii=False)}\n".encode()
        except UnicodeEncodeError:  # half a surrogate pair, which came from an escape and can go out as one
            return f"{_json(record)}\n".encode()


class _Lines(_Encoder):
    """The values of a record, with tabs between them where there are several."""

    def encode(self, record: Record) -> bytes:
        cells = (as_one_field(_written(record[column.name], column.is_number)) for column in self.columns)
        return ("\t".join(cells) + "\n").encode(errors=HALF_PAIRS)


class _Document(_Encoder):
    """The one text of a record as it is, line breaks included."""

    def encode(self, record: Record) -> bytes:
        [column] = self.columns
        return str(record[column.name]).encode()


class _Tsv(_Lines):
    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__(columns)
        self.header = ("\t".join(as_one_field(column.name) for column in columns) + "\n").encode(errors=HALF_PAIRS)


class _Csv(_Encoder):
    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__(columns)
        self.header = self.encode({column.name: column.name for column in columns})

    def encode(self, record: Record) -> bytes:
        line = io.StringIO()
        # The writer quotes what is part of its own line end, a carriage return too.
        csv.writer(line, lineterminator="\r\n", **DIALECTS["csv"]).writerow(
            _written(record[column.name], column.is_number) for column in self.columns
        )
        return (line.getvalue().removesuffix("\r\n") + "\n").encode(errors=HALF_PAIRS)


ENCODERS: dict[str, type[_Encoder]] = {"lines": _Lines, DOCUMENT: _Document, "tsv": _Tsv, "csv": _Csv, "jsonl": _Json}


def _written(value: Any, is_number: bool) -> str:
    """A value of a table of texts: nothing for None, six digits of a score, and JSON for what is no text."""
    if value is None:
        return ""
    if is_number and isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (dict, list, tuple, bool, int, float)):
        return _json(value, ensure_ascii=False)
    return value if isinstance(value, str) else _as_text(value)


def _json(value: Any, **settings: Any) -> str:
    return json.dumps(value, default=_as_text, **settings)


def _as_text(value: Any) -> str:
    """What stands for a value that JSON has no form for: dates, times and exact decimals of Parquet files.

    Raises:
        UsageError: for bytes, such as those of recordings.
    """
    if isinstance(value, bytes):
        raise UsageError(
            "A column has bytes, which a text format cannot hold: name the others with --keep-columns, or write "
            "Parquet."
        )
    return str(value)


class _Stream:
    """Records of a text format that go to an open file.

    Args:
        name: what messages call the file.
        file: its descriptor.
        encoder: of the records.
        interruption: which waits while records are being written.
        already: how many whole records it has.
        end: where the last of them ends.
    """

    def __init__(
        self,
        name: str,
        file: int,
        encoder: _Encoder,
        interruption: Interruption,
        already: int = 0,
        end: int = 0,
    ) -> None:
        self.already = self.count = already
        self._name, self._file, self._encoder, self._interruption = name, file, encoder, interruption
        self._end: int | None = end  # None as soon as writing has begun
        self._is_file = stat.S_ISREG(os.fstat(file).st_mode)

    def begin(self) -> None:
        """Cut off what stands behind the last whole record, and write the header where there is none yet."""
        if self._end is None:
            return
        end, self._end = self._end, None
        if self._is_file and self._file != STANDARD_OUTPUT:
            os.ftruncate(self._file, end)
            os.lseek(self._file, end, os.SEEK_SET)
        if not end:
            self._write(self._encoder.header)

    def write(self, records: Sequence[Record]) -> None:
        self.begin()
        self._write(b"".join(map(self._encoder.encode, records)))
        self.count += len(records)

    def _write(self, content: bytes) -> None:
        """Write all of the content, or none of it where the disk is full."""
        rest = memoryview(content)
        # Of a file a whole record can be cut back to. A pipe may wait for ever for its reader, and must not be held.
        holding = self._interruption.held() if self._is_file else nullcontext()
        try:
            with holding:
                while rest:
                    rest = rest[os.write(self._file, rest) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            if self._is_file:
                os.ftruncate(self._file, os.lseek(self._file, 0, os.SEEK_CUR) - (len(content) - len(rest)))
            if error.errno not in FULL_DISK:
                raise RunError(f"{self._name} cannot be written: {error.strerror}.") from error
            more = "make room." if self._file == STANDARD_OUTPUT else "make room, and go on with --resume."
            raise UsageError(f"{self._name}: the disk is full. {self.count} records are written; {more}") from error


def _whole_records(path: str, kind: str, header: bytes) -> tuple[int, int]:
    """How many whole records a file has behind its header, and where the last of them ends.

    Raises:
        UsageError: if it begins with another header.
    """
    with open(path, "rb") as file:
        begin = file.read(len(header))
        if begin != header:
            if header.startswith(begin):  # it ended before its header did
                return 0, 0
            raise UsageError(
                f"{path} has other columns than this command writes: resume with the options that it began with."
            )
        count, end, position = 0, len(header), len(header)
        is_quoted = False  # whether this is between quotation marks, where a newline ends no record
        for line in file:
            position += len(line)
            if kind == "csv":
                is_quoted ^= line.count(b'"') % 2 == 1
            if line.endswith(b"\n") and not is_quoted:
                count, end = count + 1, position
    return count, end


@contextmanager
def _open_parquet(path: str, columns: Sequence[Column], interruption: Interruption) -> Iterator[Output]:
    """A Parquet file, which is there when it is complete."""
    pyarrow, parquet = require_parquet()
    partial = partial_name(path)
    output = _Parquet(partial, columns, interruption, pyarrow, parquet)
    try:
        yield output
        output.close()
        with naming_the_file(path):
            os.replace(partial, path)
    finally:
        with suppress(FileNotFoundError):
            os.remove(partial)


class _Parquet:
    """Records that go to a Parquet file, each call a row group."""

    already = 0

    def __init__(self, path: str, columns: Sequence[Column], interruption: Interruption, arrow: Any, parquet: Any):
        self._path, self._columns, self._interruption = path, columns, interruption
        self._arrow, self._parquet = arrow, parquet
        self._writer: Any = None

    def write(self, records: Sequence[Record]) -> None:
        if self._writer is None:
            with self._explaining():
                self._schema = self._schema_of(records)
            with naming_the_file(self._path):
                self._writer = self._parquet.ParquetWriter(self._path, self._schema)
        with self._explaining():
            table = self._arrow.Table.from_pylist(list(records), schema=self._schema)
        with self._interruption.held(), naming_the_file(self._path):
            self._writer.write_table(table)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Turn what Arrow says of values into an error of the input."""
        try:
            yield
        except (self._arrow.ArrowException, OverflowError, UnicodeEncodeError) as error:
            raise UsageError(f"A column has values that Parquet cannot hold side by side: {error}") from error

    def close(self) -> None:
        """Write what a file without records needs, too, and end it."""
        if self._writer is None:
            self.write([])
        with naming_the_file(self._path):
            self._writer.close()

    def _schema_of(self, records: Sequence[Record]) -> Any:
        """The types of all columns: of the input's own what its file says or the first records show, or else texts."""
        arrow = self._arrow
        unknown = [column.name for column in self._columns if column.arrow_type is None]
        known = [{name: record[name] for name in unknown} for record in records]
        inferred = arrow.Table.from_pylist(known).schema if known else arrow.schema([])
        fields = []
        for column in self._columns:
            kind = arrow.float64() if column.is_number else arrow.string()
            kind = arrow.list_(kind) if column.is_list else kind
            place = inferred.get_field_index(column.name)
            if column.arrow_type is not None:
                kind = column.arrow_type
            elif place >= 0 and not arrow.types.is_null(inferred.field(place).type) and not column.is_list:
                kind = inferred.field(place).type
            fields.append(arrow.field(column.name, kind))
        return arrow.schema(fields)
