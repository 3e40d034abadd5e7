"""Local files of sentence pairs, parallel text and tables: all are looked at before the first is loaded."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, IterableDataset, Value, load_dataset
from datasets.exceptions import DatasetGenerationError

from .data_arguments import DataArguments, DataError
from .data_columns import PAIR, Examples, as_pairs, columns_of, find_sides, require_text

__all__ = ["FORMATS", "check_parallel_text", "check_table"]

FORMATS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}


def check_parallel_text(option: str, prefix: str, arguments: DataArguments) -> Callable[[], Examples]:
    """Read both files of a parallel text once from end to end; return what loads them as pairs.

    Raises:
        DataError: if `prefix` is itself a file, a language is missing or both are the same, a file is missing,
            empty or not UTF-8, or line counts differ.
    """
    if Path(prefix).is_file():
        raise DataError(
            f"{option} {prefix} has no suffix that says how to read it ({', '.join(FORMATS)}); "
            "of a parallel text give what its two files have in common, without the dot and the language."
        )
    source_lang, target_lang = arguments.source_lang, arguments.target_lang
    if not source_lang or not target_lang:
        raise DataError(
            f"{option} {prefix} is not a file. If it is the prefix of a parallel text, "
            "name its two languages with source_lang and target_lang."
        )
    if source_lang == target_lang:
        raise DataError(
            f"source_lang and target_lang are both {source_lang!r}: {prefix} would be its own translation."
        )
    source_file, target_file = Path(f"{prefix}.{source_lang}"), Path(f"{prefix}.{target_lang}")
    source, target = _check_text(source_file), _check_text(target_file)
    if source.lines != target.lines:
        raise DataError(
            f"{source_file} has {source.lines} lines and {target_file} has {target.lines}: "
            "line n of one must translate line n of the other."
        )
    # The digest is there for the cache of `datasets`, which otherwise would not see that a file has changed.
    content = {
        "source_file": str(source_file),
        "target_file": str(target_file),
        "digest": source.digest + target.digest,
    }
    build = IterableDataset.from_generator if arguments.streaming else Dataset.from_generator
    return partial(build, _read_parallel_text, features=PAIR, gen_kwargs=content)


def _read_parallel_text(source_file: str, target_file: str, digest: str) -> Iterator[dict[str, str]]:
    with open(source_file, "rb") as source, open(target_file, "rb") as target:
        for number, (source_line, target_line) in enumerate(zip(source, target, strict=True)):
            first = number == 0
            yield {"source": _line_text(source_line, first), "target": _line_text(target_line, first)}


def _line_text(line: bytes, first: bool) -> str:
    text = line.decode("utf-8").removesuffix("\n").removesuffix("\r")
    return text.removeprefix("\ufeff") if first else text  # some editors mark UTF-8 files with it


@dataclass
class _TextFile:
    lines: int
    digest: str


def _check_text(path: Path) -> _TextFile:
    """Count the lines of a UTF-8 file, reading it once from end to end."""
    _check_exists(path)
    digest = hashlib.sha256()
    lines = offset = 0
    with path.open("rb") as file:
        for lines, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}, line {lines}, byte offset {offset + error.start}: 0x{line[error.start]:02x} is not "
                    "valid UTF-8. Save the file as UTF-8."
                ) from error
            offset += len(line)
            digest.update(line)
    if lines == 0:
        raise DataError(f"{path} is empty.")
    return _TextFile(lines, digest.hexdigest())


def _check_exists(path: Path) -> None:
    if not path.is_file():
        siblings = (
            sorted(sibling.name for sibling in path.parent.glob(f"{path.stem}*")) if path.parent.is_dir() else []
        )
        there = f"; beside it: {', '.join(siblings)}" if siblings else ""
        raise DataError(f"{path} does not exist{there}.")


def check_table(path: Path, arguments: DataArguments) -> Callable[[], Examples]:
    """Look at a table, a CSV or TSV file row by row; return what loads it as pairs.

    Raises:
        DataError: if the file is missing, empty or, being text, not UTF-8; if a CSV or TSV file names a column
            twice, has no rows or rows of other lengths. What is wrong inside JSON and Parquet is raised in loading.
    """
    kind = FORMATS[path.suffix.lower()]
    if kind == "json":
        return partial(_load_json, path, _check_text(path).digest, arguments)
    if kind == "csv":
        _check_text(path)
        return partial(_load_table, path, _csv_options(path), arguments)
    _check_exists(path)
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty.")
    return partial(_load_table, path, {}, arguments)


def _load_json(path: Path, digest: str, arguments: DataArguments) -> Examples:
    # Not by load_dataset("json"), which makes times of texts that look like times and says nothing of the row it
    # cannot read.
    _, first = next(_json_rows(str(path)), (0, None))
    if first is None:
        raise DataError(f"{path} is empty.")
    # A null tells nothing of what is in a column.
    complete = next((row for _, row in _json_rows(str(path)) if None not in row.values()), first)
    source, target = find_sides(columns_of(complete), str(path), arguments)
    content = {"path": str(path), "source": source, "target": target, "digest": digest}
    build = IterableDataset.from_generator if arguments.streaming else Dataset.from_generator
    try:
        return build(_read_json, features=PAIR, gen_kwargs=content)
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, DataError):
            raise error.__cause__ from None
        raise


def _read_json(path: str, source: tuple[str, ...], target: tuple[str, ...], digest: str) -> Iterator[dict[str, str]]:
    for number, row in _json_rows(path):
        yield {
            side: require_text(_value(row, place), path, number, place)
            for side, place in (("source", source), ("target", target))
        }


def _json_rows(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file with one on each line, or of a file that is a single list of them, and their numbers."""
    with open(path, encoding="utf-8-sig") as file:
        beginning = file.read(1)
        while beginning.isspace():
            beginning = file.read(1)
        file.seek(0)
        numbered: Iterator[tuple[int, Any]]
        if beginning == "[":
            numbered = enumerate(_parse_json(file.read(), path, "the file"), start=1)
        else:
            numbered = (
                (n, _parse_json(line, path, f"line {n}")) for n, line in enumerate(file, start=1) if line.strip()
            )
        for number, row in numbered:
            if not isinstance(row, dict):
                raise DataError(f"{path}, row {number} is not a JSON object but {row!r:.50}.")
            yield number, row


def _parse_json(text: str, path: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {place} is not a whole JSON object: {error}.") from error


def _value(row: dict[str, Any], place: tuple[str, ...]) -> Any:
    value: Any = row
    for name in place:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _csv_options(path: Path) -> dict[str, Any]:
    """Check that each row has a field for each column; return how to keep every field ("NA", "007") the text it is."""
    dialect: dict[str, Any] = {"delimiter": ",", "quoting": csv.QUOTE_MINIMAL}
    if path.suffix.lower() == ".tsv":
        dialect = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.reader(file, **dialect)
        try:
            columns, empty = next(table), True
            for row in filter(None, table):
                empty = False
                if len(row) != len(columns):
                    raise DataError(
                        f"{path}, line {table.line_num}: {len(row)} fields, but the first line names {len(columns)} "
                        f"columns: {', '.join(columns)}."
                    )
        except csv.Error as error:
            raise DataError(
                f"{path}, line {table.line_num}: {error}. Is there a quotation mark without its pair?"
            ) from error
    if len(set(columns)) != len(columns):
        raise DataError(f"{path}: the first line must name each column once; it reads {', '.join(columns)}.")
    if empty:
        raise DataError(f"{path} is empty: it has a line of column names and no rows.")
    features = Features({column: Value("string") for column in columns})
    return {**dialect, "keep_default_na": False, "features": features}


def _load_table(path: Path, options: dict[str, Any], arguments: DataArguments) -> Examples:
    kind = FORMATS[path.suffix.lower()]
    try:
        dataset = load_dataset(kind, data_files=str(path), split="train", streaming=arguments.streaming, **options)
        return as_pairs(dataset, str(path), arguments)
    except DataError:
        raise
    except (DatasetGenerationError, ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read as {path.suffix[1:]}: {error.__cause__ or error}") from error
