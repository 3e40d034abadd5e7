"""Extracts pairs of texts from the columns of a dataset.

Also what the data modules share: the type of a split, the columns of a pair, and `map` and `filter` in batches.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from datasets import Dataset, Features, IterableDataset, Translation, Value

from .arguments import DataArguments, DataError
from .sides import Columns, columns_of, find_sides, require_text

Examples: TypeAlias = Dataset | IterableDataset  # one split

PAIR = Features({"source": Value("string"), "target": Value("string")})  # the columns of a pair


def as_pairs(dataset: Examples, origin: str, arguments: DataArguments) -> Examples:
    """Extract the sides that `arguments` name as "source" and "target"; error messages call the dataset `origin`."""
    columns = _columns(dataset, origin)
    source, target = find_sides(columns, origin, arguments)
    function = partial(_extract_pairs, source=source, target=target, origin=origin)
    return map_examples(dataset, function, arguments, with_indices=True, remove_columns=list(columns), features=PAIR)


def _columns(dataset: Examples, origin: str) -> Columns:
    if dataset.features is None:  # a stream: only its first row tells its columns
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
    """`map` in batches, with worker processes unless the dataset is a stream."""
    if isinstance(examples, Dataset):
        options["num_proc"] = arguments.preprocessing_num_workers
    return examples.map(function, batched=True, **options)


def filter_examples(examples: Examples, keep: Callable[..., list[bool]], arguments: DataArguments) -> Examples:
    """`filter` in batches, with worker processes unless the dataset is a stream."""
    workers = {"num_proc": arguments.preprocessing_num_workers} if isinstance(examples, Dataset) else {}
    return examples.filter(keep, batched=True, **workers)
