"""Makes examples of the columns of a dataset.

Also what the data modules share: the type of a split, the columns of an example, and `map` and `filter` in batches.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from datasets import Audio, Dataset, Features, IterableDataset, Sequence, Translation, Value

from .arguments import DataArguments, DataError
from .sides import Columns, Found, Layout, columns_of

Examples: TypeAlias = Dataset | IterableDataset  # one split

SIDES = ("source", "target")


def features_of(layout: Layout | Found) -> Features:
    """The columns of an example: a text for each side, `references` where there are several, `audio` of recordings."""
    features: dict[str, Any] = {side: Value("string") for side in SIDES}
    if layout.references:
        features["references"] = Sequence(Value("string"))
    if layout.reads_audio:
        features["audio"] = {"path": Value("string"), "bytes": Value("binary")}
    return Features(features)


def as_examples(dataset: Examples, origin: str, arguments: DataArguments, layout: Layout) -> Examples:
    """Make examples of the columns that the layout names; error messages call the dataset `origin`."""
    columns = _columns(dataset, origin)
    for name, feature in (dataset.features or {}).items():
        if layout.reads_audio and isinstance(feature, Audio):
            dataset = dataset.cast_column(name, Audio(decode=False))  # it is read later, by soundfile
    function = partial(_extract, found=layout.find(columns, origin), origin=origin)
    options = {"with_indices": True, "remove_columns": list(columns), "features": features_of(layout)}
    return map_examples(dataset, function, arguments, **options)


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


def _extract(batch: dict[str, list[Any]], rows: list[int], found: Found, origin: str) -> dict[str, list[Any]]:
    examples = [
        found.example({name: batch[name][place] for name in found.columns}, origin, row + 1)
        for place, row in enumerate(rows)
    ]
    return {name: [example[name] for example in examples] for name in examples[0]}


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
