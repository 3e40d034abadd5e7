"""Local files of examples, parallel text and tables: all are checked before the first is loaded."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, IterableDataset
from datasets.exceptions import DatasetGenerationError

from .arguments import DataArguments, DataError
from .columns import Examples, features_of
from .heads import parallel_text_problems
from .rows import (
    CHECKS,
    FORMATS,
    READERS,
    Shard,
    check_text,
    read_text,
)
from .sides import Found, Layout, columns_of


def check_parallel_text(option: str, prefix: str, arguments: DataArguments, layout: Layout) -> Callable[[], Examples]:
    """Read both files of a parallel text once from end to end; return a function that loads them as pairs.

    Raises:
        DataError: if `prefix` is itself a file, a language is missing or both are the same, a file is missing,
            empty or not UTF-8, or line counts differ.
    """
    if problems := list(parallel_text_problems(option, prefix, arguments, layout)):
        raise DataError(*problems)
    source_lang, target_lang = arguments.source_lang, arguments.target_lang
    source_file, target_file = Path(f"{prefix}.{source_lang}"), Path(f"{prefix}.{target_lang}")
    source, target = check_text(source_file), check_text(target_file)
    source_lines, target_lines = (sum(shard.rows or 0 for shard in side.shards) for side in (source, target))
    if source_lines != target_lines:
        raise DataError(
            f"{source_file} has {source_lines} lines and {target_file} has {target_lines}: "
            "line n of one must translate line n of the other."
        )
    shards = list(zip(source.shards, target.shards, strict=True))
    content = {"source_file": str(source_file), "target_file": str(target_file), "shards": shards}
    features = features_of(Found(("source",), ("target",)))
    return partial(_load, _read_parallel_text, content, source.digest + target.digest, arguments, features)


def check_table(path: Path, arguments: DataArguments, layout: Layout) -> Callable[[], Examples]:
    """Check a table, a CSV or TSV file row by row; return a function that loads its examples.

    Raises:
        DataError: if the file is missing, empty or, if it is text, not UTF-8; if a CSV or TSV file names a column
            twice, has no rows or rows of other lengths; if there is no column for a side. Errors inside the rows of
            JSON and Parquet are raised in loading.
    """
    kind = FORMATS[path.suffix.lower()]
    table = CHECKS[kind](path, arguments.column_names)
    found = layout.find(columns_of(table.columns), str(path), str(path.parent))
    content = {
        "kind": kind,
        "path": str(path),
        "shards": table.shards,
        "options": table.options,
        "found": found,
    }
    return partial(_load, _read_table, content, table.digest, arguments, features_of(found))


def _load(
    read: Callable[..., Iterator[dict[str, Any]]],
    content: dict[str, Any],
    digest: str,
    arguments: DataArguments,
    features: Features,
) -> Examples:
    # The digest makes the cache of `datasets` notice that a file has changed.
    content = {**content, "digest": digest}
    try:
        if arguments.streaming:
            return IterableDataset.from_generator(read, features=features, gen_kwargs=content)
        return Dataset.from_generator(read, features=features, gen_kwargs=content)
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, DataError):
            raise error.__cause__ from None
        raise


def _read_parallel_text(
    source_file: str, target_file: str, shards: Sequence[tuple[Shard, Shard]], digest: str
) -> Iterator[dict[str, str]]:
    source_shards, target_shards = zip(*shards, strict=True)
    sides = read_text(source_file, source_shards), read_text(target_file, target_shards)
    for (_, source), (_, target) in zip(*sides, strict=True):
        yield {"source": source, "target": target}


def _read_table(
    kind: str,
    path: str,
    shards: Sequence[Shard],
    options: dict[str, Any],
    found: Found,
    digest: str,
) -> Iterator[dict[str, Any]]:
    for number, row in READERS[kind](path, shards, found.columns, **options):
        yield found.example(row, path, number)
