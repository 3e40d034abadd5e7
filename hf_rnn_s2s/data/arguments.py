"""The arguments that describe the data to train and test on."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..errors import UsageError

# The advice in errors about a missing validation split
NO_VALIDATION_WAY_OUT = (
    "Give a validation_file, or validation_split_percentage (5, say) to set a share of the training pairs aside."
)

FILES = ("train_file", "validation_file", "test_file")  # the options that name them, in the order of the splits


class DataError(UsageError):
    """Data that cannot be used as given; the message names the place and says what to do."""


def _option(help: str, default: Any = None) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass
class DataArguments:
    """Which examples to train and test on; by default those of the embedded corpus.

    Raises:
        DataError: if options contradict each other, or a number is out of its range.
    """

    _argument_group_name: ClassVar[str] = "data"

    task: str = _option(
        "What the model is for; each task has arguments of its own, which --task NAME --help shows.",
        default="translation",
    )
    dataset_name: str | None = _option("Data set on the Hugging Face Hub, or a local folder that `datasets` can load.")
    dataset_config_name: str | None = _option("Configuration of the data set, often a language pair such as de-en.")
    train_file: str | None = _option(
        "Training pairs: a .jsonl, .json, .csv, .tsv or .parquet file, or the prefix of a parallel text "
        "(data/train for data/train.en and data/train.de)."
    )
    validation_file: str | None = _option("Validation pairs, given like train_file; they choose the best checkpoint.")
    test_file: str | None = _option("Test pairs, given like train_file; translated once, at the end.")
    alignment_file: str | None = _option(
        "Word alignments of the test pairs, one pair a line, to compare the attention with: 0-1 is a sure link of "
        "source word 0 and target word 1, 0?1 or 0p1 a possible one. Words are what stands between spaces."
    )
    alignment_first_index: int = _option("Number of the first word in alignment_file, 0 or 1.", default=0)
    source_lang: str | None = _option("Language to translate from: file suffix, `translation` key or column name.")
    target_lang: str | None = _option("Language to translate into: file suffix, `translation` key or column name.")
    source_column: str | None = _option(
        "Column with the source text; by default `translation`, the one named as source_lang, or `source`."
    )
    target_column: str | None = _option(
        "Column with the target text; by default `translation`, the one named as target_lang, or `target`."
    )
    reference_columns: list[str] | None = field(
        default=None,
        metadata={
            "help": "Columns with further references for validation and test, of which the best one counts: a text, a "
            "list of texts, or null in each row."
        },
    )
    column_names: list[str] | None = field(
        default=None,
        metadata={"help": "Names of the columns of .csv and .tsv files whose first line does not name them."},
    )
    streaming: bool = _option("Read examples as training goes, for data larger than the disk.", default=False)
    squeeze_whitespace: bool = _option(
        "Make one space of line breaks, tabs and several spaces in a row, in what the model reads and learns from.",
        default=True,
    )
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
        if problems := list(self._problems()):
            raise DataError(*problems)

    def _problems(self) -> Iterator[str]:
        positive = [name for name in vars(self) if name.startswith("max_")] + [
            "demo_size",
            "preprocessing_num_workers",
        ]
        for name in positive:
            value = getattr(self, name)
            if value is not None and value < 1:
                yield f"{name} must be at least 1, not {value}."
        percentage = self.validation_split_percentage
        if percentage is not None and not 0 < percentage < 100:
            yield f"validation_split_percentage must lie between 0 and 100, not be {percentage}."
        if len(self.demo_locales) != 2:
            yield f"demo_locales takes a source and a target locale, not {self.demo_locales}."
        files = [name for name in FILES if getattr(self, name)]
        if self.alignment_first_index not in (0, 1):
            yield f"alignment_first_index must be 0 or 1, not {self.alignment_first_index}."
        if self.dataset_name and self.column_names is not None:
            yield "column_names is for .csv and .tsv files; a data set has names of its own: leave it out."
        if self.dataset_name and files:
            yield f"Give dataset_name or {files[0]}, not both."
        if not names_data(self):
            yield from self._options_without_data()
        names = self.column_names
        if names is not None and len(set(names)) < len(names):
            yield f"column_names must name each column once, not {', '.join(names)}."
        if self.train_file and not self.validation_file and percentage is None:
            yield f"train_file {self.train_file} needs a validation_file. {NO_VALIDATION_WAY_OUT}"

    def _options_without_data(self) -> Iterator[str]:
        """Report options that say how to read data that is not given: using the demo corpus would hide the mistake."""
        columns = ("source_column", "target_column", "reference_columns", "column_names")
        for name in ("dataset_config_name", "source_lang", "target_lang", *columns, "validation_split_percentage"):
            if getattr(self, name) is not None:
                yield (
                    f"{name} says how to read data, but no data is named: give dataset_name or train_file. "
                    "The languages of the embedded corpus are demo_locales."
                )


def names_data(arguments: DataArguments) -> bool:
    """Whether data is named; otherwise it is the embedded corpus. The arguments may be any object with these names."""
    return bool(arguments.dataset_name) or any(getattr(arguments, name) for name in FILES)
