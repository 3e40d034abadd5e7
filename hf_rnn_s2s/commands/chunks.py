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
from .records import DOCUMENT, STANDARD, Record, Records, count_lines

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
    bar.update(output.already)
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
        own = row if kept is None else {column: row[column] for column in kept if column in row}
        added = {**fields, **({WARNING: warning} if warning else {})}
        if twice := own.keys() & added.keys():
            raise _two_columns(min(twice))
        return {**own, **added}
    return {**{column: row.get(column) for column in kept or ()}, **fields, WARNING: warning}


def kept_columns(columns: Sequence[str], wanted: list[str] | None, kind: str, name: str) -> list[Column]:
    """The columns of the input that the output has, too.

    Args:
        columns: of the input.
        wanted: which of them; None: all.
        kind: the format of the output.
        name: what messages call the input.

    Raises:
        UsageError: for a column that is not there.
    """
    for column in wanted or ():
        if columns and column not in columns:
            raise UsageError(f"{name} has no column {column!r} (--keep-columns). It has {', '.join(columns)}.")
    if kind in ("lines", DOCUMENT):
        return []
    return [Column(column) for column in (columns if wanted is None else wanted)]


def all_columns(kept: list[Column], fields: list[Column], kind: str) -> list[Column]:
    """All columns of the output.

    Raises:
        UsageError: if two have one name.
    """
    columns = [*kept, *fields]
    if kind in ("tsv", "csv", "parquet"):
        columns.append(Column(WARNING))
    names = [column.name for column in columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _two_columns(twice)
    return columns


def _two_columns(name: str) -> UsageError:
    return UsageError(
        f"The output would have two columns {name!r}: call the new one something else with --output-column, or leave "
        "the other one out with --keep-columns."
    )


def progress(path: str, kind: str) -> Any:
    """A bar on standard error, where that is a terminal, for an input of some format."""
    is_shown = sys.stderr.isatty()
    total = count_lines(path) if is_shown and path != STANDARD and kind in ("lines", "jsonl") else None
    return tqdm(total=total, unit="records", file=sys.stderr, disable=not is_shown, dynamic_ncols=True)
