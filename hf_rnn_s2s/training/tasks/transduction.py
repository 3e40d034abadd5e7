"""Transduction: a word becomes another spelling, its sounds or another form, symbol by symbol."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ...data.arguments import DataArguments
from ...data.sides import Layout, pair_layout
from .base import REPEATS_BIASES, MetricInfo, Score, Task, Words, scored_by

FEATURES = re.compile("(<[^<>]+>)*")  # at the beginning of a source, as `with_features` writes them


@dataclass
class TransductionArguments:
    """The arguments that only transduction has."""

    _argument_group_name: ClassVar[str] = "transduction"

    feature_column: str | None = field(
        default=None,
        metadata={
            "help": "Column with features of each row, such as V;PST for the form of a verb. Each becomes a symbol "
            "before the source, which is then written <V><PST>walk, also for the pipeline."
        },
    )
    language: str | None = field(default=None, metadata={"help": "Language of the words, for the card: ko."})


class Transduction(Task):
    """`--task transduction`: error rates of words and symbols, and `pipeline("text2text-generation")`."""

    name = "transduction"
    arguments_class = TransductionArguments
    defaults = {"tokenizer_kind": "char", "metric_for_best_model": "wer"}
    metrics = {
        "wer": MetricInfo("Word error rate (%)", 2, greater_is_better=False),
        "ser": MetricInfo("Symbol error rate (%)", 2, greater_is_better=False, on_hub=False),
    }
    words = Words(
        title="Transduction",
        writer="transducer",
        result="result",
        done="transduced",
        purpose="single words of the kind it was trained on",
        limits=(
            "It knows the symbols of its training data; any other one is unknown to it, and it guesses.",
            "Names and foreign words often follow other rules than it has learned.",
            REPEATS_BIASES,
        ),
        measured=(
            "The word error rate is the share of results that equal no reference; "
            "[jiwer](https://github.com/jitsi/jiwer) counted the wrong symbols. Of both, less is better."
        ),
        verb="transduce",
        source="word",
    )

    def layout(self, data: DataArguments) -> Layout:
        return pair_layout(data)._replace(features=self.arguments.feature_column)

    def split_symbols(self, source: str) -> tuple[list[str], str]:
        if self.arguments.feature_column is None:
            return [], source
        found = FEATURES.match(source)
        end = 0 if found is None else found.end()
        return re.findall("<[^<>]+>", source[:end]), source[end:]

    def score(self, config: Any, tokenizer: Any) -> Score:
        from ..error_rates import TransductionMetric
        from ..symbol_tokenizers import symbol_splitter

        split = symbol_splitter(getattr(tokenizer, "target_tokenizer", tokenizer))
        return scored_by(TransductionMetric, split=split)

    def resampled(self, target_lang: str | None, tokenizer: Any) -> dict[str, Any]:
        from ..error_rates import comparable, edits_in_results
        from ..resampling import RatioMetric, share
        from ..symbol_tokenizers import symbol_splitter

        split = str.split if tokenizer is None else symbol_splitter(getattr(tokenizer, "target_tokenizer", tokenizer))

        def is_wrong(result: str, references: Sequence[str]) -> bool:
            return comparable(result) not in map(comparable, references)

        return {
            "wer": share("wer", is_wrong, 100.0),
            "ser": RatioMetric("ser", edits_in_results(comparable, split), 100.0),
        }

    def summary(self, languages: tuple[str | None, str | None]) -> str:
        of_language = f" of {languages[0]}" if languages[0] else ""
        return f"Turns words{of_language} into what belongs to them, symbol by symbol."
