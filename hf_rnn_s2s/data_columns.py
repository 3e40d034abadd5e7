"""From the columns of a dataset to pairs of texts: which columns, and what is refused in them.

Also what all handling of data shares: the type of a split, the columns of a pair, and `map` and `filter` in batches.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from datasets import Dataset, Features, IterableDataset, Translation, Value

from .data_arguments import DataArguments, DataError

__all__ = [
    "PAIR",
    "Examples",
    "as_pairs",
    "columns_of",
    "filter_examples",
    "find_sides",
    "map_examples",
    "require_text",
]

Examples: TypeAlias = Dataset | IterableDataset

Columns: TypeAlias = dict[str, list[str] | None]
"""Name of each column, with its keys (languages) where it holds dictionaries."""

HALF_A_PAIR = re.compile("[\ud800-\udfff]")  # what a JSON file can spell, and no encoding can hold
PAIR = Features({"source": Value("string"), "target": Value("string")})


def as_pairs(dataset: Examples, origin: str, arguments: DataArguments) -> Examples:
    """Keep what `arguments` name, as columns "source" and "target"; `origin` is what errors call the dataset."""
    columns = _columns(dataset, origin)
    source, target = find_sides(columns, origin, arguments)
    function = partial(_extract_pairs, source=source, target=target, origin=origin)
    return map_examples(dataset, function, arguments, with_indices=True, remove_columns=list(columns), features=PAIR)


def find_sides(columns: Columns, origin: str, arguments: DataArguments) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Where the texts of source and target are, each as `(column,)` or `(column, language)`."""
    source, target = _find_side("source", columns, origin, arguments), _find_side("target", columns, origin, arguments)
    if source == target:
        raise DataError(f"{origin}: source and target are both {'.'.join(source)!r}; name two.")
    return source, target


def columns_of(row: Mapping[str, Any]) -> Columns:
    """The columns that one row tells of."""
    return {name: list(value) if isinstance(value, Mapping) else None for name, value in row.items()}


def require_text(text: Any, origin: str, row: int, path: tuple[str, ...]) -> str:
    """The text; an error that names its place, if it is none."""
    if isinstance(text, str) and not HALF_A_PAIR.search(text):
        return text
    if isinstance(text, str):
        wrong = f"is not valid Unicode, with half a surrogate pair: {text!r:.50}"
    else:
        wrong = "is missing (null)" if text is None else f"is not text but {text!r:.50}"
    raise DataError(f"{origin}, row {row}: {'.'.join(path)!r} {wrong}. Mend the row or take it out.")


def _columns(dataset: Examples, origin: str) -> Columns:
    if dataset.features is None:  # a stream, which has to be asked
        first = next(iter(dataset), None)
        if first is None:
            raise DataError(f"{origin} is empty.")
        return columns_of(first)
    if isinstance(dataset, Dataset) and len(dataset) == 0:
        raise DataError(f"{origin} is empty.")
    return {name: _keys(feature) for name, feature in dataset.features.items()}


def _keys(feature: Any) -> list[str] | None:
    if isinstance(feature, Translation):
        return list(feature.languages)
    return list(feature) if isinstance(feature, Mapping) else None


def _find_side(side: str, columns: Columns, origin: str, arguments: DataArguments) -> tuple[str, ...]:
    """Where the text of one side is: `("translation", language)` or `(column,)`."""
    column, language = getattr(arguments, f"{side}_column"), getattr(arguments, f"{side}_lang")
    languages = columns.get(column or "translation")
    if languages is not None:
        if language not in languages:
            wrong = f"no {side}_lang {language!r}" if language else f"several languages and no {side}_lang is given"
            raise DataError(f"{origin}, column {column or 'translation'}: {wrong}; there are {', '.join(languages)}.")
        return column or "translation", language
    candidates = [column] if column else [name for name in (language, side) if name]
    for candidate in candidates:
        if candidate in columns:
            return (candidate,)
    raise DataError(
        f"{origin} has no column {' or '.join(map(repr, candidates))} for the {side} text; "
        f"name one with {side}_column. It has {', '.join(columns)}."
    )


def _extract_pairs(
    batch: dict[str, list[Any]], rows: list[int], source: tuple[str, ...], target: tuple[str, ...], origin: str
) -> dict[str, list[str]]:
    pairs = {"source": _extract_side(batch, source), "target": _extract_side(batch, target)}
    for path, texts in ((source, pairs["source"]), (target, pairs["target"])):
        for row, text in zip(rows, texts, strict=True):
            require_text(text, origin, row + 1, path)
    return pairs


def _extract_side(batch: dict[str, list[Any]], path: tuple[str, ...]) -> list[Any]:
    values = batch[path[0]]
    return values if len(path) == 1 else [None if value is None else value.get(path[1]) for value in values]


def map_examples(
    examples: Examples, function: Callable[..., Any], arguments: DataArguments, **options: Any
) -> Examples:
    """`map` in batches, with worker processes where the dataset can use them."""
    if isinstance(examples, Dataset):
        options["num_proc"] = arguments.preprocessing_num_workers
    return examples.map(function, batched=True, **options)


def filter_examples(examples: Examples, keep: Callable[..., list[bool]], arguments: DataArguments) -> Examples:
    """`filter` in batches, likewise."""
    workers = {"num_proc": arguments.preprocessing_num_workers} if isinstance(examples, Dataset) else {}
    return examples.filter(keep, batched=True, **workers)
