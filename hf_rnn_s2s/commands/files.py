"""What commands that read one file and write another are told: names, formats, and what to do with an old output."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import UsageError
from .chunks import BUFFER, Numbered, Write, all_columns, kept_columns, progress, run_in_chunks
from .interruption import Interruption
from .outputs import Column, check_output, open_output
from .records import DOCUMENT, FORMATS, STANDARD, Record, Records, format_of, require_file

# From the columns of the input, and those of them that the output has, to what is done with a chunk; None: all
Prepare = Callable[[Sequence[str], "list[str] | None"], Write]


@dataclass
class FileOptions:
    """Options of every command that reads records and writes as many.

    Attributes:
        model: a folder, or a name on the Hub.
        input, output: files, or `-`.
        input_format, output_format: of `records.FORMATS`; None: what the suffix says, else lines.
        keep_columns: of the input, in the output; None: all.
        buffer_size: how many records are read at a time. Batches end where they do, also when a run is resumed.
        batch_size: how many go through the model together; None: as many as is usual.
        resume, overwrite: what to do with an output that exists.
        device, dtype, trust_remote_code: as in `load_model`.
        document: whether a file of lines is one record.
    """

    model: str
    input: str = STANDARD
    output: str = STANDARD
    input_format: str | None = None
    output_format: str | None = None
    keep_columns: list[str] | None = None
    buffer_size: int = BUFFER
    batch_size: int | None = None
    resume: bool = False
    overwrite: bool = False
    device: str | None = None
    dtype: str = "auto"
    trust_remote_code: bool = False
    document: bool = False

    def kinds(self) -> tuple[str, str]:
        """The formats of input and output. Without a sign of another one, standard output has that of the input."""
        first = format_of(self.input, self.input_format)
        second = format_of(self.output, self.output_format, first if self.output == STANDARD else "lines")
        if second == "parquet" and self.output == STANDARD and self.output_format is None:
            second = "jsonl"
        if self.document:
            first, second = (DOCUMENT if kind == "lines" else kind for kind in (first, second))
        return first, second

    def check(self) -> None:
        """Check what can be told before anything is loaded.

        Raises:
            UsageError: for values that make no sense, alone or together, and an output that must not be written.
        """
        if self.buffer_size < 1:
            raise UsageError(f"--buffer-size {self.buffer_size} must be at least 1.")
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"--batch-size {self.batch_size} must be at least 1.")
        first, second = self.kinds()
        for option, kind in (("--input-format", first), ("--output-format", second)):
            if kind not in (*FORMATS, DOCUMENT):
                raise UsageError(f"{option} {kind}: there are {', '.join(FORMATS)}.")
        if second == DOCUMENT and first != DOCUMENT:
            raise UsageError(
                "Several documents cannot go to a file of lines: name a table with --output, or --output-format jsonl."
            )
        if second == DOCUMENT and self.resume:
            raise UsageError("A file of lines with --document is a single record: there is nothing to resume.")
        check_output(self.output, second, self.resume, self.overwrite)
        for path in self.inputs():
            require_file(path)
        _require_apart(self.inputs(), self.outputs())

    def inputs(self) -> list[str]:
        """The files that are read."""
        return [] if self.input == STANDARD else [self.input]

    def outputs(self) -> list[str]:
        """The files that are written."""
        return [] if self.output == STANDARD else [self.output]


def _require_apart(inputs: list[str], outputs: list[str]) -> None:
    """Check that no file is written that is read, or twice.

    Raises:
        UsageError: naming it.
    """
    for number, output in enumerate(outputs):
        for other in (*inputs, *outputs[:number]):
            is_same = os.path.exists(other) and os.path.exists(output) and os.path.samefile(other, output)
            if is_same or os.path.abspath(other) == os.path.abspath(output):
                raise UsageError(f"{output} would be written over {other}, which is the same file: name another one.")


def process(
    options: FileOptions,
    records: Records,
    fields: list[Column],
    prepare: Prepare,
    interruption: Interruption,
    seed: int = 0,
) -> None:
    """Take all records of an input through a command and write the results.

    Args:
        options: of the command.
        records: of the input, of which none was read.
        fields: what the command adds to each.
        prepare: called once, when the columns of the input are known; not where there are no records.
        interruption: which waits while records are being written.
        seed: of random numbers.

    Raises:
        UsageError: for columns that are not there or there twice; in all that is done with the records.
    """
    kind = options.kinds()[1]
    first = next(records.rows, None)
    columns = records.columns if records.columns is not None else tuple(first[1]) if first else ()
    kept = kept_columns(records, columns, options.keep_columns, kind)
    # An object of JSON may have others than the first one.
    keeps_all = kind == "jsonl" and options.keep_columns is None
    write = None if first is None else prepare(columns, None if keeps_all else [column.name for column in kept])
    table = all_columns(kept, fields, kind)
    with open_output(options.output, kind, table, interruption, options.resume, options.overwrite) as output:
        every = records._replace(rows=records.rows if first is None else itertools.chain([first], records.rows))
        with progress(records.total, output.already) as bar:
            run_in_chunks(every, write or _nothing, output, options.buffer_size, bar, seed)


def _nothing(rows: list[Numbered], position: int) -> list[Record]:
    """What is written of no records."""
    return []


def usual_buffer(input: str) -> int:
    """How many records are read at a time by default: one where somebody types them, and waits."""
    return 1 if input == STANDARD and sys.stdin is not None and sys.stdin.isatty() else BUFFER
