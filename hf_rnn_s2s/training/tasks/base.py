"""What a task is: which columns it reads, how results are scored, which pipeline writes them, what the card says."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from ...data.arguments import DataArguments, names_data
from ...data.sides import Layout, pair_layout
from ...model.encoder_rnn_s2s import ENCODERS
from ...model.remote_code_rnn_s2s import ANY_OTHER_PIPELINE, PIPELINES

# Source and target language as the data names them: a code, or any other name of a file or column; None if not known
Languages = tuple[str | None, str | None]
# From hypotheses and references, one text or several for each hypothesis, to metrics
Score = Callable[[list[str], list[Any]], "dict[str, Any] | None"]


class MetricInfo(NamedTuple):
    """What is said of a metric.

    Attributes:
        title: its usual name.
        decimals: in the model card.
        greater_is_better: whether a checkpoint with more of it is the better one.
        on_hub: whether the Hub shows it, from the metadata of the card.
    """

    title: str
    decimals: int
    greater_is_better: bool
    on_hub: bool = True

    @property
    def curve(self) -> str:
        """The title of its curve."""
        return f"{self.title}; {'higher' if self.greater_is_better else 'lower'} is better"


class Words(NamedTuple):
    """How the card, messages and the demo page speak of a task.

    Attributes:
        title: its name, as a heading.
        writer: the name of a pipeline in examples of code.
        result: one result.
        done: what was done to the examples, such as "translated".
        purpose: what the model is meant for.
        limits: what it may get wrong, one sentence or more each.
        measured: what computed the scores.
        verb: the command of `hf-rnn-s2s` that does it; without one of its own, the one for all tasks.
        source: what that command is done to, such as "text".
    """

    title: str
    writer: str
    result: str
    done: str
    purpose: str
    limits: tuple[str, ...]
    measured: str
    verb: str = "run"
    source: str = "text"


# Of every task, beside its own
LOSSES = {
    "loss": MetricInfo("Loss (nats per target token)", 3, greater_is_better=False, on_hub=False),
    "perplexity": MetricInfo("Perplexity per target token", 2, greater_is_better=False, on_hub=False),
}
# In the card, what to do one step at a time, and a source in an example of code; {model} and {source} are literals
STEPS_OF_TEXT = """\
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({model}, trust_remote_code=True)
model = AutoModelForSeq2SeqLM.from_pretrained({model}, trust_remote_code=True)
inputs = tokenizer({source}, return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs)[0], skip_special_tokens=True))"""
REPEATS_BIASES = "It repeats the biases of its training data."


@dataclass
class NoArguments:
    """For tasks that have no arguments of their own."""


def reads_features(encoder_type: str | None) -> bool:
    """Whether an encoder reads features, such as those of speech, and not tokens. None is the default one."""
    return getattr(ENCODERS.get(encoder_type or ""), "main_input_name", "") == "input_features"


def scored_by(metric: Callable[[], Any], **options: Any) -> Score:
    """Scores of a metric of `evaluate`, which is told the options beside hypotheses and references."""

    def score(hypotheses: list[str], references: list[Any]) -> dict[str, Any] | None:
        return metric().compute(predictions=hypotheses, references=references, **options)

    return score


class Corpus(NamedTuple):
    """An embedded corpus.

    Attributes:
        build: makes its examples, for each split, from the arguments of a run.
        description: what the card says of it.
    """

    build: Callable[[DataArguments], dict[str, list[dict[str, Any]]]]
    description: str


class Task(ABC):
    """A task. Each is one file that derives a class from this one, and a line of the registry.

    Attributes:
        name: as in `--task` and in the configuration of the model.
        arguments_class: a dataclass with the arguments that only this task has.
        defaults: what arguments of a run are by default, where that is something else than for other tasks.
        metrics: those of its own that `score` returns, by name, in the order of the card.
        words: how it is spoken of.
        shows_attention: whether its pipeline takes `return_attentions`.
        steps: how the card shows to use a model without a pipeline; `{model}` and `{source}` stand for literals.
        example: the source in the card's examples; None takes one of the test split.
        unread: arguments of the data that it does not read, and what to do instead.
        tokenized_sides: of an example, what the tokenizer learns from.
        cuts_long_sources: whether training sources beyond `max_source_length` are cut; otherwise they are left out.
        splits_documents: whether a document is done sentence by sentence, and not as a whole.
    """

    name: ClassVar[str]
    arguments_class: ClassVar[type] = NoArguments
    defaults: ClassVar[Mapping[str, Any]] = {}
    metrics: ClassVar[Mapping[str, MetricInfo]]
    words: ClassVar[Words]
    shows_attention: ClassVar[bool] = True
    steps: ClassVar[str] = STEPS_OF_TEXT
    example: ClassVar[str | None] = None
    unread: ClassVar[Mapping[str, str]] = {}
    tokenized_sides: ClassVar[tuple[str, ...]] = ("source", "target")
    cuts_long_sources: ClassVar[bool] = False
    splits_documents: ClassVar[bool] = False

    def __init__(self, arguments: Any = None) -> None:
        self.arguments = self.arguments_class() if arguments is None else arguments

    @property
    def pipeline_name(self) -> str:
        """The name in transformers of the pipeline that its checkpoints carry."""
        return PIPELINES.get(self.name, ANY_OTHER_PIPELINE)[0]

    def problems(self, model: Any, data: DataArguments, training: Any) -> Iterator[str]:
        """What is wrong with the arguments of a run for this task, before anything is loaded."""
        for name, other in self.unread.items():
            if getattr(data, name) is not None:
                yield f"{name} is not read in the task {self.name}: {other}."
        if reads_features(model.encoder_type) and "source" in self.tokenized_sides:
            yield f"encoder_type={model.encoder_type} reads speech, not text: set --task speech-recognition."
        if self.corpus(data) is None and not names_data(data):
            yield (
                f"The task {self.name} has no embedded corpus: name data, with --train_file, --test_file or "
                "--dataset_name."
            )

    def layout(self, data: DataArguments) -> Layout:
        """Which columns are read."""
        return pair_layout(data)

    def corpus(self, data: DataArguments) -> Corpus | None:
        """The embedded corpus, for runs that name no data; None if the task has none."""
        return None

    def check_examples(self, examples: Mapping[str, Any]) -> None:  # noqa: B027 - most tasks look at nothing
        """Look at the examples of all splits before anything is trained.

        Raises:
            DataError: if they do not fit the task; the message names the row.
        """

    def get_processor(self, tokenizer: Any, checkpoint: str | None, model_arguments: Any) -> Any:
        """What turns examples into inputs of the model: the tokenizer, or a processor around it.

        Args:
            tokenizer: of the run.
            checkpoint: where a run goes on from; None for a new model.
            model_arguments: of the run.
        """
        return tokenizer

    def encode_splits(
        self, examples: dict[str, Any], processor: Any, data: DataArguments, training: Any
    ) -> dict[str, Any]:
        """The inputs of the splits that a run needs; those of validation and test keep their texts."""
        from ...data.tokens import tokenize_splits

        units, cuts = training.bpe_dropout > 0, self.cuts_long_sources
        return tokenize_splits(examples, processor, data, training.do_train, training.do_predict, units, cuts)

    def collator(self, processor: Any, data: DataArguments, training: Any) -> Callable[[Any], Any]:
        """What makes batches of rows."""
        from ...data.bpe_dropout import training_collator

        return training_collator(processor, data, training)

    def longest_source(self, data: DataArguments) -> str | None:
        """What the card says of the longest sources of training, such as "sources of at most 128 tokens"."""
        return None if data.max_source_length is None else f"sources of at most {data.max_source_length} tokens"

    def languages(self, data: DataArguments) -> Languages:
        """The languages of a run, for the configuration of the model and the card; here one for both sides."""
        language = getattr(self.arguments, "language", None)
        return language, language

    def split_symbols(self, source: str) -> tuple[list[str], str]:
        """Symbols before a source that are a token each, whatever the tokenizer makes of the rest; and the rest."""
        return [], source

    @abstractmethod
    def score(self, config: Any, tokenizer: Any) -> Score:
        """What scores results of a model with this configuration and this tokenizer."""

    def resampled(self, target_lang: str | None, tokenizer: Any) -> dict[str, Any]:
        """Its metrics as sacreBLEU resamples them, by name, for confidence intervals; see `training.resampling`.

        Args:
            target_lang: the language of the results.
            tokenizer: of the model that wrote them; None if it is not known.
        """
        return {}

    @abstractmethod
    def summary(self, languages: tuple[str | None, str | None]) -> str:
        """The first sentence of the card. `languages` are names in English, of source and target."""

    def draw_attention(
        self, path: Path, model: Any, processor: Any, rows: Any, test: Any, data: DataArguments
    ) -> None:
        """Draw where the model looked while it wrote one of its results; nothing if none can be drawn.

        Args:
            path: of the picture.
            model: the trained model, which has an attention.
            processor: as `get_processor` returned it.
            rows: of source, reference and result, of the test split.
            test: the same split, as `encode_splits` returned it.
            data: the arguments of the run.
        """
        from ..reports import draw_attention, informative_example

        source = informative_example(processor, rows, data.max_source_length)
        if source is not None:
            draw_attention(path, model, processor, source, squeeze_whitespace=data.squeeze_whitespace)
