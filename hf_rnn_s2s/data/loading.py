"""Where examples come from.

Each of four sources gives a dictionary from the splits it has (of "train", "validation", "test") to a dataset of
`{"source": str, "target": str}`, with `references`, a list of texts, if the task's layout asks for more than one.

- *Nothing named*: the embedded corpus of the task, if it has one.
- `dataset_name`: a data set of the Hugging Face Hub, or a local folder that `datasets.load_dataset` understands.
- `train_file`, `validation_file`, `test_file` with a known suffix: JSON lines (`.jsonl`, `.json`), `.csv` (quoted
  fields), `.tsv` (tabs, no quoting), `.parquet`. The first line of a CSV or TSV file names its columns, unless
  `column_names` does.
- the same options without such a suffix: parallel text. `--train_file data/train --source_lang en --target_lang de`
  reads `data/train.en` and `data/train.de`, one sentence a line. Only a newline ends a line (a carriage return
  before it is dropped), never one of the other characters Unicode calls a line separator.

What happens to rows that cannot be used as they are:

- a null or a value that is not text: an error that names the row, in every split;
- an empty side: left out of the training split, with a logged count unless it is a stream; kept in the others, where
  leaving a row out would change the score.

`tokens.py` says what happens to rows that are too long.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, IterableDataset, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError

from ..errors import as_usage_error
from .arguments import NO_VALIDATION_WAY_OUT, DataArguments, DataError, names_data
from .columns import SIDES, Examples, as_examples, features_of, filter_examples
from .demo_corpus import demo_pairs
from .files import check_parallel_text, check_table
from .rows import FORMATS, MOST_SHARDS, SHARD_ROWS, digest_of
from .sides import Layout, pair_layout

logger = logging.getLogger(__name__)

# Makes the embedded corpus: for each split its examples
Corpus = Callable[[DataArguments], dict[str, list[dict[str, Any]]]]
# The splits, each with the names that data sets give it
SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


def load_examples(
    arguments: DataArguments, layout: Layout | None = None, build_corpus: Corpus | None = None
) -> dict[str, Examples]:
    """Load the splits that the data has, each a dataset of `{"source": str, "target": str}`.

    `layout` says which columns are read, and what of them; None: a pair, as `arguments` name it. `build_corpus` makes
    the embedded corpus, which is read where no data is named; None: that of translation.

    With `streaming` the training split is a stream; the others are loaded whole, since they are read repeatedly.

    Raises:
        DataError: if a file, side, column, language or split is missing, a file is empty or not of its format, line
            counts differ, a value is not text, or all texts of one side of a split are empty. The values of a stream
            are checked as they are read.
    """
    layout = pair_layout(arguments) if layout is None else layout
    if arguments.dataset_name:
        examples = _load_dataset(arguments, layout)
    elif names_data(arguments):
        examples = _load_files(arguments, layout)
    else:
        examples = _load_corpus(arguments, layout, build_corpus or demo_pairs)

    if "train" in examples:
        examples["train"] = _drop_empty_pairs(examples["train"], arguments)
        examples = _with_validation(examples, arguments, () if layout.reads_audio else SIDES)
    limits = {
        "train": arguments.max_train_samples,
        "validation": arguments.max_eval_samples,
        "test": arguments.max_predict_samples,
    }
    examples = {split: _first_examples(examples[split], limits[split]) for split in SPLIT_NAMES if split in examples}
    return {split: data if split == "train" else _load_whole(split, data) for split, data in examples.items()}


def require_splits(examples: dict[str, Examples], do_train: bool, do_predict: bool) -> None:
    """Check, before a tokenizer is trained, that a run has the splits it needs.

    Raises:
        DataError: if the splits leave a run nothing to do.
    """
    if do_train and "train" not in examples:
        raise DataError(f"There is nothing to train on, only {', '.join(examples)}; name a train_file.")
    if not do_train and "validation" not in examples and not ("test" in examples and do_predict):
        raise DataError("There is nothing to do without training; name a validation_file or a test_file.")


def training_texts(
    examples: Examples, sides: Sequence[str] = SIDES, read: Callable[[str, str], str] | None = None
) -> Iterator[str]:
    """Yield the texts of a split to train a tokenizer on: of both sides, or of one with `sides=("target",)`.

    `read` says what is yielded of the side and the text; None: the text.
    """
    for batch in examples.iter(batch_size=1000):
        for side in sides:
            yield from batch[side] if read is None else (read(side, text) for text in batch[side])


# Sources of examples


def _load_corpus(arguments: DataArguments, layout: Layout, build: Corpus) -> dict[str, Examples]:
    features = features_of(layout._replace(references=()))  # of which there are none without data of one's own
    with as_usage_error():
        corpus = build(arguments)
    examples = {split: Dataset.from_list(pairs, features=features) for split, pairs in corpus.items()}
    if arguments.streaming:
        return {split: as_stream(dataset) for split, dataset in examples.items()}
    return dict(examples)


def _load_dataset(arguments: DataArguments, layout: Layout) -> dict[str, Examples]:
    name = arguments.dataset_name
    try:
        splits = _open_dataset(arguments)
    except (ValueError, OSError, DatasetGenerationError) as error:
        raise DataError(
            f"dataset_name {name!r} (dataset_config_name {arguments.dataset_config_name!r}) cannot be loaded: {error}"
        ) from error
    examples = {}
    for split, names in SPLIT_NAMES.items():
        found = next((candidate for candidate in names if candidate in splits), None)
        if found is not None:
            examples[split] = as_examples(splits[found], f"{name}, split {found}", arguments, layout.of_split(split))
    if not examples:
        raise DataError(f"{name} has none of the splits {', '.join(SPLIT_NAMES)}; it has {', '.join(splits)}.")
    return examples


def _open_dataset(arguments: DataArguments) -> Any:
    name, configuration = str(arguments.dataset_name), arguments.dataset_config_name
    if Path(name, "dataset_dict.json").is_file():  # a folder that `DatasetDict.save_to_disk` wrote
        splits = load_from_disk(name)
        return {split: as_stream(data) if arguments.streaming else data for split, data in splits.items()}
    if not Path(name).is_dir() or arguments.streaming:
        return load_dataset(name, configuration, streaming=arguments.streaming)
    # The cache of `datasets` identifies files by path and time, which need not change when a file is overwritten.
    cache = Path(datasets.config.HF_DATASETS_CACHE, f"folder-{_folder_digest(Path(name))[:16]}")
    return load_dataset(name, configuration, cache_dir=str(cache))


def _folder_digest(folder: Path) -> str:
    """A digest of the names and the content of the files in a folder, and of nothing else."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    contents = [(path.relative_to(folder).as_posix(), digest_of(path)) for path in files]
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()


def as_stream(dataset: Dataset) -> IterableDataset:
    """The rows as a stream, in shards that can be shuffled and divided between processes."""
    return dataset.to_iterable_dataset(num_shards=min(MOST_SHARDS, -(-max(1, len(dataset)) // SHARD_ROWS)))


def _load_files(arguments: DataArguments, layout: Layout) -> dict[str, Examples]:
    """Load the files, all of which are checked first: no error may come up after hours of preprocessing."""
    loaders: dict[str, Callable[[], Examples]] = {}
    for split in SPLIT_NAMES:
        given = getattr(arguments, f"{split}_file")
        if given and Path(given).suffix.lower() in FORMATS:
            loaders[split] = check_table(Path(given), arguments, layout.of_split(split))
        elif given:
            loaders[split] = check_parallel_text(f"{split}_file", given, arguments, layout)
    return {split: load() for split, load in loaders.items()}


# Splits


def _drop_empty_pairs(train: Examples, arguments: DataArguments) -> Examples:
    kept = filter_examples(train, _has_both_sides, arguments)
    if isinstance(train, Dataset) and isinstance(kept, Dataset) and len(kept) < len(train):
        logger.warning(
            "%d of %d training pairs have an empty side and are left out.", len(train) - len(kept), len(train)
        )
        if len(kept) == 0:
            raise DataError("Every training pair has an empty side; nothing is left to train on.")
    return kept


def _has_both_sides(batch: dict[str, list[str]]) -> list[bool]:
    return [bool(s.strip() and t.strip()) for s, t in zip(batch["source"], batch["target"], strict=True)]


def _with_validation(
    examples: dict[str, Examples], arguments: DataArguments, sides: Sequence[str]
) -> dict[str, Examples]:
    """Add a validation split made of training pairs, if the data has none and a percentage is given.

    Training pairs that share a text with it, on one of these sides, are left out: of recordings none, since several
    may say the same.
    """
    percentage, train = arguments.validation_split_percentage, examples["train"]
    if "validation" in examples:
        if percentage is not None:
            raise DataError("There is a validation split: leave validation_split_percentage out.")
        return examples
    if percentage is None:
        raise DataError(f"The data has no validation split. {NO_VALIDATION_WAY_OUT}")
    if not isinstance(train, Dataset):
        raise DataError("validation_split_percentage needs the number of pairs, which a stream does not tell.")
    if len(train) < 2:
        raise DataError("validation_split_percentage needs at least 2 training pairs.")
    size = min(max(1, round(len(train) * percentage / 100)), len(train) - 1)
    parts = train.train_test_split(test_size=size, seed=arguments.examples_seed)
    seen = {side: set(parts["test"][side]) for side in sides}
    rest = filter_examples(parts["train"], partial(_shares_no_sentence, seen=seen), arguments)
    logger.warning(
        "%d training pairs are set aside for validation; %d that share a sentence with them are left out.",
        size,
        len(train) - size - len(rest),
    )
    if len(rest) == 0:
        raise DataError("No training pair is left: each shares a sentence with one set aside. Give a validation_file.")
    return {**examples, "train": rest, "validation": parts["test"]}


def _shares_no_sentence(batch: dict[str, list[str]], seen: dict[str, set[str]]) -> list[bool]:
    return [all(batch[side][row] not in texts for side, texts in seen.items()) for row in range(len(batch["source"]))]


def _first_examples(examples: Examples, limit: int | None) -> Examples:
    if limit is None:
        return examples
    return examples.select(range(min(limit, len(examples)))) if isinstance(examples, Dataset) else examples.take(limit)


def _load_whole(split: str, examples: Examples) -> Dataset:
    """An evaluation split, read from end to end, so that its errors come up before the training."""
    read = examples if isinstance(examples, Dataset) else Dataset.from_list(list(examples), features=examples.features)
    for side in SIDES:
        if not any(text.strip() for text in read[side]):
            raise DataError(f"The {split} split has no {side} text: all of its {len(read)} are empty.")
    return read
