"""Where sentence pairs come from, and how they become token ids.

Four sources, one result: a dictionary from split ("train", "validation", "test"; those there are) to a dataset of
`{"source": str, "target": str}`.

- *Nothing named*: the embedded corpus of `demo_corpus.py`.
- `dataset_name`: a data set of the Hugging Face Hub, or a local folder that `datasets.load_dataset` understands.
- `train_file` and its kin, with a known suffix: JSON lines (`.jsonl`, `.json`), `.csv` (quoted fields), `.tsv` (tabs,
  no quoting), `.parquet`. The first line of a CSV or TSV file names its columns.
- the same options without such a suffix: parallel text. `--train_file data/train --source_lang en --target_lang de`
  reads `data/train.en` and `data/train.de`, one sentence a line. Only a newline ends a line (a carriage return
  before it is dropped), never one of the other characters Unicode calls a line separator.

What happens to rows that cannot be used as they are:

- a null or a value that is not text: an error that names the row, in every split;
- an empty side: left out of the training split with a logged count; kept in the others, where leaving a row out would
  change the score;
- longer than `max_source_length` or `max_target_length` tokens: left out of the training split with a logged count;
  elsewhere the source is cut, with a warning, and the reference is left alone.
"""

import csv
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from datasets import Dataset, Features, IterableDataset, Translation, Value, load_dataset
from datasets.exceptions import DatasetGenerationError
from transformers import PreTrainedTokenizerBase

from .demo_corpus import build_demo_corpus

__all__ = ["DataArguments", "DataError", "load_examples", "tokenize_examples", "training_texts"]

logger = logging.getLogger(__name__)

Examples: TypeAlias = Dataset | IterableDataset

FORMATS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
PAIR = Features({"source": Value("string"), "target": Value("string")})


class DataError(ValueError):
    """Data that cannot be used as given; the message names the place and the way out."""


def _option(help: str, default: Any = None) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass
class DataArguments:
    """Which sentence pairs to train and test on: with nothing given, those of the embedded corpus.

    Raises:
        DataError: if options contradict each other, or a number is out of its range.
    """

    _argument_group_name: ClassVar[str] = "data"

    dataset_name: str | None = _option("Data set on the Hugging Face Hub, or a local folder that `datasets` can load.")
    dataset_config_name: str | None = _option("Configuration of the data set, often a language pair such as de-en.")
    train_file: str | None = _option(
        "Training pairs: a .jsonl, .json, .csv, .tsv or .parquet file, or the prefix of a parallel text "
        "(data/train for data/train.en and data/train.de)."
    )
    validation_file: str | None = _option("Validation pairs, given like train_file; they choose the best checkpoint.")
    test_file: str | None = _option("Test pairs, given like train_file; translated once, at the end.")
    source_lang: str | None = _option("Language to translate from: file suffix, `translation` key or column name.")
    target_lang: str | None = _option("Language to translate into: file suffix, `translation` key or column name.")
    source_column: str | None = _option(
        "Column with the source text; by default `translation`, the one named as source_lang, or `source`."
    )
    target_column: str | None = _option(
        "Column with the target text; by default `translation`, the one named as target_lang, or `target`."
    )
    streaming: bool = _option("Read examples as training goes, for data larger than the disk.", default=False)
    validation_split_percentage: float | None = _option(
        "Where the data has no validation split: percentage of the training pairs to set aside for it. "
        "Training pairs that share a sentence with one set aside are then left out."
    )
    demo_locales: list[str] = field(
        default_factory=lambda: ["en", "zh"],
        metadata={"help": "Source and target locale of the embedded corpus: any two that Unicode CLDR knows."},
    )
    demo_size: int | None = _option("Training pairs in the embedded corpus; by default as many as it makes by itself.")
    max_source_length: int | None = _option(
        "Longest source in tokens, </s> included. Longer training pairs are left out, other sources cut.", default=128
    )
    max_target_length: int | None = _option(
        "Longest target in tokens, </s> included. Longer training pairs are left out, other targets kept.", default=128
    )
    max_train_samples: int | None = _option("Train on the first so many pairs only.")
    max_eval_samples: int | None = _option("Validate on the first so many pairs only.")
    max_predict_samples: int | None = _option("Test on the first so many pairs only.")
    preprocessing_num_workers: int | None = _option("Processes that prepare the data; by default just this one.")
    examples_seed: int = _option(
        "Seed of the embedded corpus and of the choice of pairs set aside for validation.", default=0
    )

    def __post_init__(self) -> None:
        positive = [name for name in vars(self) if name.startswith("max_")] + [
            "demo_size",
            "preprocessing_num_workers",
        ]
        for name in positive:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DataError(f"{name} must be at least 1, not {value}.")
        percentage = self.validation_split_percentage
        if percentage is not None and not 0 < percentage < 100:
            raise DataError(f"validation_split_percentage must lie between 0 and 100, not be {percentage}.")
        if len(self.demo_locales) != 2:
            raise DataError(f"demo_locales takes a source and a target locale, not {self.demo_locales}.")
        files = [name for name in ("train_file", "validation_file", "test_file") if getattr(self, name)]
        if self.dataset_name and files:
            raise DataError(f"Give dataset_name or {files[0]}, not both.")
        if not self.dataset_name and not files:
            self._refuse_options_without_data()
        if self.train_file and not self.validation_file and self.validation_split_percentage is None:
            raise DataError(f"train_file {self.train_file} needs a validation_file. {_NO_VALIDATION_WAY_OUT}")

    def _refuse_options_without_data(self) -> None:
        """An option that says something about data, with no data named, is a slip: do not answer with the demo."""
        options = ("dataset_config_name", "source_lang", "target_lang", "source_column", "target_column")
        for name in (*options, "validation_split_percentage"):
            if getattr(self, name) is not None:
                raise DataError(
                    f"{name} says how to read data, but no data is named: give dataset_name or train_file. "
                    "The languages of the embedded corpus are demo_locales."
                )


_NO_VALIDATION_WAY_OUT = (
    "Give a validation_file, or validation_split_percentage (5, say) to set a share of the training pairs aside."
)


def load_examples(arguments: DataArguments) -> dict[str, Examples]:
    """Return the splits there are, each a dataset of `{"source": str, "target": str}`.

    Raises:
        DataError: if a file, side, column, language or split is missing, a file is empty or cannot be read as what it
            is, line counts differ, or a value is not text. With `streaming`, values are looked at as they pass.
    """
    if arguments.dataset_name:
        examples = _load_dataset(arguments)
    elif arguments.train_file or arguments.validation_file or arguments.test_file:
        examples = _load_files(arguments)
    else:
        examples = _load_demo(arguments)

    if "train" in examples:
        examples["train"] = _drop_empty_pairs(examples["train"], arguments)
        examples = _with_validation(examples, arguments)
    limits = {
        "train": arguments.max_train_samples,
        "validation": arguments.max_eval_samples,
        "test": arguments.max_predict_samples,
    }
    return {split: _take(examples[split], limits[split]) for split in SPLIT_NAMES if split in examples}


def training_texts(examples: Examples, sides: Sequence[str] = ("source", "target")) -> Iterator[str]:
    """Yield the texts of a split, to train a tokenizer on: of both sides, or of one with `sides=("target",)`."""
    for batch in examples.iter(batch_size=1000):
        for side in sides:
            yield from batch[side]


# Sources of examples


def _load_demo(arguments: DataArguments) -> dict[str, Examples]:
    source_locale, target_locale = arguments.demo_locales
    build = partial(build_demo_corpus, source_locale, target_locale, seed=arguments.examples_seed)
    corpus = build() if arguments.demo_size is None else build(size=arguments.demo_size)
    examples = {split: Dataset.from_list(list(pairs), features=PAIR) for split, pairs in corpus.items()}
    if arguments.streaming:
        return {split: dataset.to_iterable_dataset() for split, dataset in examples.items()}
    return dict(examples)


def _load_dataset(arguments: DataArguments) -> dict[str, Examples]:
    name = arguments.dataset_name
    try:
        splits = load_dataset(name, arguments.dataset_config_name, streaming=arguments.streaming)
    except (ValueError, OSError, DatasetGenerationError) as error:
        raise DataError(
            f"dataset_name {name!r} (dataset_config_name {arguments.dataset_config_name!r}) cannot be loaded: {error}"
        ) from error
    examples = {}
    for split, names in SPLIT_NAMES.items():
        found = next((candidate for candidate in names if candidate in splits), None)
        if found is not None:
            examples[split] = _as_pairs(splits[found], f"{name}, split {found}", arguments)
    if not examples:
        raise DataError(f"{name} has none of the splits {', '.join(SPLIT_NAMES)}; it has {', '.join(splits)}.")
    return examples


def _load_files(arguments: DataArguments) -> dict[str, Examples]:
    """Look at every file of every split before the first is read: an error must not wait for hours of preparing."""
    loaders: dict[str, Callable[[], Examples]] = {}
    for split in SPLIT_NAMES:
        given = getattr(arguments, f"{split}_file")
        if given and Path(given).suffix in FORMATS:
            loaders[split] = _check_table(Path(given), arguments)
        elif given:
            loaders[split] = _check_parallel_text(f"{split}_file", given, arguments)
    return {split: load() for split, load in loaders.items()}


def _check_parallel_text(option: str, prefix: str, arguments: DataArguments) -> Callable[[], Examples]:
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


def _check_table(path: Path, arguments: DataArguments) -> Callable[[], Examples]:
    options: dict[str, Any] = {}
    if path.suffix == ".parquet":
        _check_exists(path)
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty.")
    else:
        _check_text(path)
    if FORMATS[path.suffix] == "csv":
        options = _csv_options(path)
    return partial(_load_table, path, options, arguments)


def _csv_options(path: Path) -> dict[str, Any]:
    """Check that each row has a field for each column; return how to keep every field ("NA", "007") the text it is."""
    dialect: dict[str, Any] = {"delimiter": ",", "quoting": csv.QUOTE_MINIMAL}
    if path.suffix == ".tsv":
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
            raise DataError(f"{path}, line {table.line_num}: {error}.") from error
    if len(set(columns)) != len(columns):
        raise DataError(f"{path}: the first line must name each column once; it reads {', '.join(columns)}.")
    if empty:
        raise DataError(f"{path} is empty: it has a line of column names and no rows.")
    features = Features({column: Value("string") for column in columns})
    return {**dialect, "keep_default_na": False, "features": features}


def _load_table(path: Path, options: dict[str, Any], arguments: DataArguments) -> Examples:
    try:
        dataset = load_dataset(
            FORMATS[path.suffix], data_files=str(path), split="train", streaming=arguments.streaming, **options
        )
        return _as_pairs(dataset, str(path), arguments)
    except DataError:
        raise
    except (DatasetGenerationError, ValueError, OSError) as error:
        reason = _first_bad_json_line(path) if FORMATS[path.suffix] == "json" else None
        raise DataError(f"{path} cannot be read as {path.suffix[1:]}: {reason or error.__cause__ or error}") from error


def _first_bad_json_line(path: Path) -> str | None:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                json.loads(line)
            except json.JSONDecodeError as error:
                return f"line {number} is not a JSON object: {error}."
    return None


# From columns to pairs


def _as_pairs(dataset: Examples, origin: str, arguments: DataArguments) -> Examples:
    """Keep what `arguments` name, as columns "source" and "target"; `origin` is what errors call the dataset."""
    columns = _columns(dataset, origin)
    source, target = _find_side("source", columns, origin, arguments), _find_side("target", columns, origin, arguments)
    if source == target:
        raise DataError(f"{origin}: source and target are both {'.'.join(source)!r}; name two.")
    function = partial(_extract_pairs, source=source, target=target, origin=origin)
    return _map(dataset, function, arguments, with_indices=True, remove_columns=list(columns), features=PAIR)


def _columns(dataset: Examples, origin: str) -> dict[str, list[str] | None]:
    """Name of each column, with its keys (languages) where it holds dictionaries; a stream may have to be asked."""
    if dataset.features is None:
        first = next(iter(dataset), None)
        if first is None:
            raise DataError(f"{origin} is empty.")
        return {name: list(value) if isinstance(value, Mapping) else None for name, value in first.items()}
    if isinstance(dataset, Dataset) and len(dataset) == 0:
        raise DataError(f"{origin} is empty.")
    return {name: _keys(feature) for name, feature in dataset.features.items()}


def _keys(feature: Any) -> list[str] | None:
    if isinstance(feature, Translation):
        return list(feature.languages)
    return list(feature) if isinstance(feature, Mapping) else None


def _find_side(
    side: str, columns: dict[str, list[str] | None], origin: str, arguments: DataArguments
) -> tuple[str, ...]:
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
            if not isinstance(text, str):
                wrong = "is missing (null)" if text is None else f"is not text but {text!r:.50}"
                raise DataError(f"{origin}, row {row + 1}: {'.'.join(path)!r} {wrong}. Mend the row or take it out.")
    return pairs


def _extract_side(batch: dict[str, list[Any]], path: tuple[str, ...]) -> list[Any]:
    values = batch[path[0]]
    return values if len(path) == 1 else [None if value is None else value.get(path[1]) for value in values]


# Splits


def _drop_empty_pairs(train: Examples, arguments: DataArguments) -> Examples:
    kept = _filter(train, _has_both_sides, arguments)
    if isinstance(train, Dataset) and isinstance(kept, Dataset) and len(kept) < len(train):
        logger.warning(
            "%d of %d training pairs have an empty side and are left out.", len(train) - len(kept), len(train)
        )
        if len(kept) == 0:
            raise DataError("Every training pair has an empty side; nothing is left to train on.")
    return kept


def _has_both_sides(batch: dict[str, list[str]]) -> list[bool]:
    return [bool(s.strip() and t.strip()) for s, t in zip(batch["source"], batch["target"], strict=True)]


def _with_validation(examples: dict[str, Examples], arguments: DataArguments) -> dict[str, Examples]:
    """Set a share of the training pairs aside, if there is no validation split and a share is asked for."""
    percentage, train = arguments.validation_split_percentage, examples["train"]
    if "validation" in examples:
        if percentage is not None:
            raise DataError("There is a validation split: leave validation_split_percentage out.")
        return examples
    if percentage is None:
        raise DataError(f"The data has no validation split. {_NO_VALIDATION_WAY_OUT}")
    if not isinstance(train, Dataset):
        raise DataError("validation_split_percentage needs the number of pairs, which a stream does not tell.")
    if len(train) < 2:
        raise DataError("validation_split_percentage needs at least 2 training pairs.")
    size = min(max(1, round(len(train) * percentage / 100)), len(train) - 1)
    parts = train.train_test_split(test_size=size, seed=arguments.examples_seed)
    seen = [set(parts["test"][side]) for side in PAIR]
    rest = _filter(parts["train"], partial(_shares_no_sentence, seen=seen), arguments)
    logger.warning(
        "%d training pairs are set aside for validation; %d that share a sentence with them are left out.",
        size,
        len(train) - size - len(rest),
    )
    if len(rest) == 0:
        raise DataError("No training pair is left: each shares a sentence with one set aside. Give a validation_file.")
    return {**examples, "train": rest, "validation": parts["test"]}


def _shares_no_sentence(batch: dict[str, list[str]], seen: list[set[str]]) -> list[bool]:
    pairs = zip(batch["source"], batch["target"], strict=True)
    return [source not in seen[0] and target not in seen[1] for source, target in pairs]


def _take(examples: Examples, limit: int | None) -> Examples:
    if limit is None:
        return examples
    return examples.select(range(min(limit, len(examples)))) if isinstance(examples, Dataset) else examples.take(limit)


# Tokens


def tokenize_examples(
    examples: Examples, tokenizer: PreTrainedTokenizerBase, arguments: DataArguments, training: bool
) -> Examples:
    """Encode pairs as columns `input_ids` and `labels`; the result is cached by `datasets`, or a stream again.

    No attention mask is kept, as nothing is padded yet: the collator makes it. The module's docstring says what
    happens to pairs that are too long, which depends on `training`.

    Raises:
        DataError: if every training pair is too long.
    """
    encode = partial(_encode, tokenizer=tokenizer)
    encoded = _map(examples, encode, arguments, remove_columns=["source", "target"])
    limits = {"input_ids": arguments.max_source_length, "labels": arguments.max_target_length}
    if training:
        return _drop_long_pairs(encoded, limits, arguments)
    return _cut_long_sources(encoded, limits["input_ids"], tokenizer.eos_token_id, arguments)


def _encode(batch: dict[str, list[str]], tokenizer: PreTrainedTokenizerBase) -> dict[str, list[list[int]]]:
    encodings = tokenizer(batch["source"], text_target=batch["target"], return_attention_mask=False, verbose=False)
    return {"input_ids": encodings["input_ids"], "labels": encodings["labels"]}


def _drop_long_pairs(encoded: Examples, limits: dict[str, int | None], arguments: DataArguments) -> Examples:
    kept = _filter(encoded, partial(_fits, limits=limits), arguments)
    if not isinstance(encoded, Dataset):
        logger.info("Training pairs longer than %s tokens are left out as the stream passes.", limits)
        return kept
    dropped = len(encoded) - len(kept)
    if dropped:
        logger.warning(
            "%d of %d training pairs are longer than max_source_length=%s or max_target_length=%s tokens: left out.",
            dropped,
            len(encoded),
            limits["input_ids"],
            limits["labels"],
        )
    if len(kept) == 0:
        raise DataError(
            f"All {len(encoded)} training pairs are longer than max_source_length={limits['input_ids']} or "
            f"max_target_length={limits['labels']} tokens. Raise the limits."
        )
    return kept


def _fits(batch: dict[str, list[list[int]]], limits: dict[str, int | None]) -> list[bool]:
    fits = [True] * len(batch["input_ids"])
    for column, limit in limits.items():
        if limit is not None:
            fits = [fit and len(ids) <= limit for fit, ids in zip(fits, batch[column], strict=True)]
    return fits


def _cut_long_sources(encoded: Examples, limit: int | None, eos_token_id: int, arguments: DataArguments) -> Examples:
    if limit is None:
        return encoded
    if isinstance(encoded, Dataset):
        too_long = sum(len(ids) > limit for ids in encoded["input_ids"])
        if too_long:
            logger.warning(
                "%d of %d sources are longer than max_source_length=%d tokens: what exceeds it is not translated.",
                too_long,
                len(encoded),
                limit,
            )
    return _map(encoded, partial(_cut, limit=limit, eos_token_id=eos_token_id), arguments)


def _cut(batch: dict[str, list[list[int]]], limit: int, eos_token_id: int) -> dict[str, list[list[int]]]:
    """Cut here, not in the tokenizer: its truncation setting would stay on it, and change the cache's fingerprint."""

    def cut(ids: list[int]) -> list[int]:
        if len(ids) <= limit:
            return ids
        return [*ids[: limit - 1], eos_token_id] if ids[-1] == eos_token_id else ids[:limit]

    return {"input_ids": [cut(ids) for ids in batch["input_ids"]]}


def _map(examples: Examples, function: Callable[..., Any], arguments: DataArguments, **options: Any) -> Examples:
    """`map` in batches, with worker processes where the dataset can use them."""
    if isinstance(examples, Dataset):
        options["num_proc"] = arguments.preprocessing_num_workers
    return examples.map(function, batched=True, **options)


def _filter(examples: Examples, keep: Callable[..., list[bool]], arguments: DataArguments) -> Examples:
    """`filter` in batches, likewise."""
    workers = {"num_proc": arguments.preprocessing_num_workers} if isinstance(examples, Dataset) else {}
    return examples.filter(keep, batched=True, **workers)
