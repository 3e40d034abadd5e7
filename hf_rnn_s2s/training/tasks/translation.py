"""Translation: a sentence of one language becomes one of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...data.arguments import DataArguments, DataError
from ..markdown import code
from .base import Corpus, Languages, MetricInfo, Score, Task, Words, scored_by


class Translation(Task):
    """`--task translation`, the default: BLEU, chrF2++, TER and exact match, and `pipeline("translation")`."""

    name = "translation"
    metrics = {
        "bleu": MetricInfo("BLEU", 1, greater_is_better=True),
        "chrf": MetricInfo("chrF2++", 1, greater_is_better=True),
        "ter": MetricInfo("TER", 1, greater_is_better=False),
        "exact_match": MetricInfo("Exact match", 4, greater_is_better=True),
    }
    words = Words(
        title="Translation",
        writer="translator",
        result="translation",
        done="translated",
        purpose="translating single sentences of the kind it was trained on",
        limits=(
            "The model knows what its training data shows. On text of another kind, or in other languages, it writes "
            "fluent sentences that mean something else.",
            "It repeats the biases of its training data, for instance in the gender of professions.",
            "Names, numbers and rare words may come out wrong, and long sentences may lose or repeat parts: check a "
            "translation before anything depends on it.",
            "It takes a text for one sentence. Split longer texts into sentences.",
        ),
        measured=(
            "[sacreBLEU](https://github.com/mjpost/sacrebleu) computed BLEU, chrF2++ and TER on plain text; of TER, "
            "less is better."
        ),
        action="Translate",
    )

    def corpus(self, data: DataArguments) -> Corpus:
        from ...data.demo_corpus import demo_pairs

        locales = " and ".join(map(code, data.demo_locales))
        return Corpus(
            demo_pairs,
            "The demo corpus of hf-rnn-s2s: phrases with dates, times, durations, quantities and prices, written by "
            f"rule from [Unicode CLDR](https://cldr.unicode.org) data for the locales {locales}.",
        )

    def check_examples(self, examples: Mapping[str, Any]) -> None:
        """BLEU needs the same number of references for every row."""
        for split in ("validation", "test"):
            rows = examples.get(split)
            if rows is None or "references" not in rows.column_names:
                continue
            counts = [len(references) for references in rows["references"]]
            other = next((row for row, count in enumerate(counts) if count != counts[0]), None)
            if other is not None:
                raise DataError(
                    f"The {split} split, row {other + 1}: {counts[other]} different references, but row 1 has "
                    f"{counts[0]}. BLEU needs as many for every row: mend the rows, or name other reference_columns."
                )

    def languages(self, data: DataArguments) -> Languages:
        from ..languages import language_pair

        return language_pair(data)

    def score(self, config: Any, tokenizer: Any) -> Score:
        from ..metrics import TranslationMetric

        return scored_by(TranslationMetric, target_lang=config.target_lang)

    def summary(self, languages: tuple[str | None, str | None]) -> str:
        source, target = languages
        if source and target:
            return f"Translates {source} to {target}."
        return f"Translates text{f' from {source}' if source else ''}{f' into {target}' if target else ''}."
