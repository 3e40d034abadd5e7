"""Takes records through a command in chunks, and puts together what it writes of each."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tqdm import tqdm

from ..errors import UsageError
from .outputs import Column, Output
from .records import DOCUMENT, Record, Records

WARNING = "warning"  # the column that says what is wrong with a record
BUFFER = 2048  # records that are read before the first of them is written; those of like length share a batch

Numbered = tuple[int, Record]  # a record with the number by which messages name it
# From some records, and the position of the first of them in the input, to as many of the output
Write = Callable[[list[Numbered], int], list[Record]]


def run_in_chunks(records: Records, write: Write, output: Output, buffer_size: int, bar: Any, seed: int = 0) -> None:
    """Read records and write what becomes of them, in order, holding one chunk at a time.

    Batches depend on what is read together, and sampling on what was drawn before. So a resumed run reads the chunks
    that the first one read, from the one on in which that ended, and leaves out what is there already: the output is
    the same to the byte.

    Args:
        records: of the input.
        write: what is done with a chunk.
        output: where the results go. It tells how many are there.
        buffer_size: records of a chunk.
        bar: of `tqdm`.
        seed: of the random numbers, which begin anew with each chunk.

    Raises:
        UsageError: if the output has more records than the input.
    """
    position = output.already // buffer_size * buffer_size
    skipped = output.already - position
    if sum(1 for _ in itertools.islice(records.rows, position)) < position:
        raise _more_than_input(records.name, output.already)
    while rows := list(itertools.islice(records.rows, buffer_size)):
        if len(rows) < skipped:
            break
        torch.manual_seed(seed + position)
        output.write(write(rows, position)[skipped:])
        bar.update(len(rows) - skipped)
        position, skipped = position + len(rows), 0
    if skipped:
        raise _more_than_input(records.name, output.already)


def _more_than_input(name: str, already: int) -> UsageError:
    return UsageError(f"The output has {already} records, more than {name}: it belongs to another input.")


def output_record(
    row: Record, kept: Sequence[str] | None, fields: Record, warning: str | None, kind: str, name: str
) -> Record:
    """A record of the output.

    Args:
        row: the record of the input.
        kept: which of its columns are kept; None: all that it has.
        fields: what the command adds.
        warning: what is wrong with it; None if all is well. Lines have no place for it, so that it goes to standard
            error.
        kind: the format of the output.
        name: what messages call the record.

    Raises:
        UsageError: if two columns would have one name, of which only the record itself can tell in JSON lines.
    """
    if kind in ("lines", DOCUMENT):
        if warning:
            tqdm.write(f"{name}: {warning}", file=sys.stderr)
        return fields
    if kind == "jsonl":
        wanted = row if kept is None else kept
        own = {column: row[column] for column in wanted if column in row and column != WARNING}
        if twice := own.keys() & fields.keys():
            raise _two_columns(min(twice))
        return {**own, **fields, **({WARNING: warning} if warning else {})}
    return {**{column: row.get(column) for column in kept or ()}, **fields, WARNING: warning}


def kept_columns(records: Records, columns: Sequence[str], wanted: list[str] | None, kind: str) -> list[Column]:
    """The columns of the input that the output has, too. One of warnings gives way to that of the output.

    Args:
        records: of the input.
        columns: of these.
        wanted: which of them; None: all.
        kind: the format of the output.

    Raises:
        UsageError: for a column that is not there; of JSON lines each record may have others.
    """
    for column in wanted or ():
        if records.columns and column not in columns:
            raise UsageError(f"{records.name} has no column {column!r} (--keep-columns). It has {', '.join(columns)}.")
    if kind in ("lines", DOCUMENT):
        return []
    names = [name for name in dict.fromkeys(columns if wanted is None else wanted) if name != WARNING]
    return [Column(name, arrow_type=records.types.get(name)) for name in names]


def all_columns(kept: list[Column], fields: list[Column], kind: str) -> list[Column]:
    """All columns of the output.

    Raises:
        UsageError: if two have one name.
    """
    names = [column.name for column in [*kept, *fields, Column(WARNING)]]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _two_columns(twice)
    return [*kept, *fields, Column(WARNING)] if kind in ("tsv", "csv", "parquet") else [*kept, *fields]


def _two_columns(name: str) -> UsageError:
    return UsageError(
        f"The output would have two columns {name!r}: call the new one something else with --output-column, or leave "
        "the other one out with --keep-columns."
    )


def progress(total: Callable[[], int | None], already: int) -> Any:
    """A bar on standard error, where that is a terminal.

    Args:
        total: tells how many records there are, and is asked only where the bar is shown.
        already: how many of them were done before.
    """
    is_shown = bool(sys.stderr and sys.stderr.isatty())
    return tqdm(
        total=total() if is_shown else None,
        initial=already,
        unit="records",
        file=sys.stderr,
        disable=not is_shown,
        dynamic_ncols=True,
    )
