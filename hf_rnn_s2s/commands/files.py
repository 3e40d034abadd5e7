"""What commands that read one file and write another are told: names, formats, and what to do with an old output."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import UsageError
from .chunks import BUFFER, Write, all_columns, kept_columns, progress, run_in_chunks
from .interruption import Interruption
from .outputs import Column, check_output, open_output
from .records import DOCUMENT, FORMATS, STANDARD, Records, format_of, require_file

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
        check_output(self.output, second, self.resume, self.overwrite)
        if self.input != STANDARD:
            require_file(self.input)
            if os.path.exists(self.output) and os.path.samefile(self.input, self.output):
                raise UsageError(f"{self.input} is both input and output; name another output.")


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
    first_kind, kind = options.kinds()
    first = next(records.rows, None)
    columns = records.columns if records.columns is not None else tuple(first[1]) if first else ()
    kept = kept_columns(columns, options.keep_columns, kind, records.name)
    # An object of JSON may have others than the first one.
    keeps_all = kind == "jsonl" and options.keep_columns is None
    write = None if first is None else prepare(columns, None if keeps_all else [column.name for column in kept])
    table = all_columns(kept, fields, kind)
    with open_output(options.output, kind, table, interruption, options.resume, options.overwrite) as output:
        if first is None or write is None:
            return
        with progress(options.input, first_kind) as bar:
            every = records._replace(rows=itertools.chain([first], records.rows))
            run_in_chunks(every, write, output, options.buffer_size, bar, seed)


def usual_buffer(input: str) -> int:
    """How many records are read at a time by default: one where somebody types them, and waits."""
    return 1 if input == STANDARD and sys.stdin.isatty() else BUFFER
