"""ROUGE, for any language, through Google's `rouge-score`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

from .text_metric import References, TextMetric, as_alternatives, require_references

KINDS = ("rouge1", "rouge2", "rougeL")
# Scripts without spaces between words, of which each character counts as a word
UNSPACED = re.compile(
    "[\u3005\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"
)


class UnicodeTokenizer(Tokenizer):
    """Words of lower-case letters and digits, stemmed where they are of ASCII.

    `rouge-score` has a tokenizer that drops everything else, so that a Chinese text against itself scores 0. Of ASCII
    text this one makes the same tokens.
    """

    def __init__(self) -> None:
        self._of_ascii = DefaultTokenizer(use_stemmer=True)

    def tokenize(self, text: str) -> list[str]:
        """The words of a text; in scripts without spaces, its characters."""
        lower = unicodedata.normalize("NFC", text).lower()
        kept = "".join(letter if unicodedata.category(letter)[0] in "LMN" else " " for letter in lower)
        words = UNSPACED.sub(r" \g<0> ", kept).split()
        return [one for word in words for one in (self._of_ascii.tokenize(word) if word.isascii() else [word])]


def f_measures(scorer: RougeScorer, prediction: str, references: Sequence[str]) -> dict[str, float]:
    """F1 of each kind, 0 to 1, against the reference that is best in this kind."""
    scores = scorer.score_multi(list(references), prediction)
    return {kind: scores[kind].fmeasure for kind in KINDS}


class RougeMetric(TextMetric):
    """ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004), means of F1, 0 to 100; of several references the best one counts.

    Which one is best is asked of each kind anew, as `rouge-score` does it.
    """

    description_of_metric = "ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004) as rouge-score computes them, with stemming."
    inputs_of_metric = """
Args:
    predictions: list of summaries.
    references: list of reference summaries, or for each prediction a list of some.

Returns:
    rouge1, rouge2, rougeL: means of the F1 measures, 0 to 100.
    length_ratio: words of the predictions for each word of the first references.

Raises:
    ValueError: no predictions, a prediction without a reference, or nothing but empty references.
"""
    urls_of_metric = ["https://github.com/google-research/google-research/tree/master/rouge"]

    def _compute(self, predictions: Sequence[str], references: References) -> dict[str, Any]:
        alternatives = as_alternatives(references)
        require_references(alternatives)
        tokenizer = UnicodeTokenizer()
        scorer = RougeScorer(list(KINDS), tokenizer=tokenizer)
        totals = dict.fromkeys(KINDS, 0.0)
        for prediction, texts in zip(predictions, alternatives, strict=True):
            measures = f_measures(scorer, prediction, texts)
            for kind in KINDS:
                totals[kind] += measures[kind]
        written, expected = (
            sum(len(tokenizer.tokenize(text)) for text in texts)
            for texts in (predictions, [texts[0] for texts in alternatives])
        )
        means: dict[str, Any] = {kind: 100 * total / len(predictions) for kind, total in totals.items()}
        return {**means, "length_ratio": written / expected if expected else float("nan")}
