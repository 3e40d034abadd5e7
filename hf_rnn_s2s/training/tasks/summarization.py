"""Summarization: a document becomes a short text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ...data.arguments import DataArguments, DataError
from ...data.sides import Layout, Side
from .base import REPEATS_BIASES, MetricInfo, Score, Task, Words, scored_by

# What data sets call the two columns, as in the example script of transformers
TEXT_NAMES = ("text", "document", "article", "source")
SUMMARY_NAMES = ("summary", "highlights", "target")
SPLITS = ("train", "validation", "test")
LOOKED_AT = 1000  # rows of a split


@dataclass
class SummarizationArguments:
    """The arguments that only summarization has."""

    _argument_group_name: ClassVar[str] = "summarization"

    text_column: str | None = field(
        default=None, metadata={"help": f"Column with the documents; by default {', '.join(TEXT_NAMES)}."}
    )
    summary_column: str | None = field(
        default=None, metadata={"help": f"Column with their summaries; by default {', '.join(SUMMARY_NAMES)}."}
    )
    language: str | None = field(default=None, metadata={"help": "Language of the documents, for the card: en."})


class Summarization(Task):
    """`--task summarization`: ROUGE, and `pipeline("summarization")`. Long documents are cut, also in training."""

    name = "summarization"
    arguments_class = SummarizationArguments
    defaults = {"max_source_length": 400, "metric_for_best_model": "rouge2"}
    metrics = {
        "rouge1": MetricInfo("ROUGE-1", 2, greater_is_better=True),
        "rouge2": MetricInfo("ROUGE-2", 2, greater_is_better=True),
        "rougeL": MetricInfo("ROUGE-L", 2, greater_is_better=True),
    }
    words = Words(
        title="Summarization",
        writer="summarizer",
        result="summary",
        done="summarized",
        purpose="summarizing texts of the kind it was trained on",
        limits=(
            "A summary may say what the text does not: names, numbers and who did what to whom have to be checked "
            "before anything depends on it.",
            "On text of another kind, or in another language, it writes fluent summaries of something else.",
            REPEATS_BIASES,
            "It reads the beginning of a long text only.",
        ),
        measured=(
            "[rouge-score](https://github.com/google-research/google-research/tree/master/rouge) computed ROUGE: "
            "means of F1, with stemming; of several references the best one counts."
        ),
        verb="summarize",
        source="document",
    )
    unread = {
        "source_column": "name the column of documents with text_column",
        "target_column": "name the column of summaries with summary_column",
    }
    cuts_long_sources = True

    def layout(self, data: DataArguments) -> Layout:
        own = self.arguments
        return Layout(
            Side("document", "text_column", own.text_column, TEXT_NAMES),
            Side("summary", "summary_column", own.summary_column, SUMMARY_NAMES),
            tuple(data.reference_columns or ()),
        )

    def check_examples(self, examples: Mapping[str, Any]) -> None:
        """Summaries that are longer than their documents are no summaries."""
        for split in SPLITS:
            rows = examples.get(split)
            if rows is None or not hasattr(rows, "select"):  # a stream is not read twice
                continue
            some = rows.select(range(min(LOOKED_AT, len(rows))))
            document, summary = (sum(len(text.split()) for text in some[side]) for side in ("source", "target"))
            if summary > document:
                raise DataError(
                    f"The {split} split: {summary} words of summaries for {document} of documents. Are text_column "
                    "and summary_column swapped?"
                )

    def score(self, config: Any, tokenizer: Any) -> Score:
        from ..rouge import RougeMetric

        return scored_by(RougeMetric)

    def resampled(self, target_lang: str | None, tokenizer: Any) -> dict[str, Any]:
        from rouge_score.rouge_scorer import RougeScorer

        from ..resampling import RatioMetric
        from ..rouge import KINDS, UnicodeTokenizer, f_measures

        scorer = RougeScorer(list(KINDS), tokenizer=UnicodeTokenizer())

        def metric(kind: str) -> RatioMetric:
            return RatioMetric(
                kind, lambda result, references: (f_measures(scorer, result, references)[kind], 1.0), 100.0
            )

        return {kind: metric(kind) for kind in KINDS}

    def summary(self, languages: tuple[str | None, str | None]) -> str:
        return f"Summarizes text{f' in {languages[0]}' if languages[0] else ''}."
