"""Error rates, in percent: of whole results, and of the symbols that they are made of (through `jiwer`)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jiwer

from .text_metric import References, TextMetric, as_alternatives, require_references

Split = Callable[[str], list[str]]  # a text into symbols

INSIDE_A_WORD = re.compile(r"(?<=\w)['’](?=\w)")
APOSTROPHE = "\ufdd1"  # stands for one inside a word, while others are taken out
SPACE = "\u2423"  # stands for a symbol that is a space, which jiwer would take for a gap between symbols


class Edits(NamedTuple):
    """How many symbols have to be changed, added or taken out, and how many symbols the reference has."""

    needed: int
    length: int


class TransductionMetric(TextMetric):
    """The word error rate of transduction, the share of results that are not exactly right, and that of symbols.

    Texts are compared in Unicode NFC, with one space in place of several. Of several references any one counts, and
    for the symbols the one that is nearest.
    """

    description_of_metric = "Shares of wrong results and of wrong symbols, the latter as jiwer counts edits."
    inputs_of_metric = """
Args:
    predictions: list of results.
    references: list of right results, or for each prediction a list of those.
    split: function that makes symbols of a text; by default what stands between spaces.

Returns:
    wer: share of the predictions that equal none of their references, 0 to 100.
    ser: edits for each 100 symbols of the references; may pass 100.

Raises:
    ValueError: no predictions, a prediction without a reference, or nothing but empty references.
"""
    urls_of_metric = ["https://github.com/jitsi/jiwer"]

    def _compute(self, predictions: Sequence[str], references: References, split: Split = str.split) -> dict[str, Any]:
        alternatives = as_alternatives(references)
        require_references(alternatives)
        wrong, edits = 0, []
        for prediction, texts in zip(map(comparable, predictions), alternatives, strict=True):
            texts = [comparable(text) for text in texts]
            wrong += prediction not in texts
            edits.append(fewest_edits(prediction, texts, split))
        return {"wer": 100 * wrong / len(predictions), "ser": error_rate(edits)}


class SpeechMetric(TextMetric):
    """Word and character error rate of speech recognition, and the share of transcripts that are exactly right.

    Texts are compared in lower case and Unicode NFC, without punctuation, with one space in place of several; of
    several references the one that is nearest.
    """

    description_of_metric = "Word and character error rate as jiwer counts edits, and the share of exact transcripts."
    inputs_of_metric = """
Args:
    predictions: list of transcripts.
    references: list of right transcripts, or for each prediction a list of those.

Returns:
    wer: edits for each 100 words of the references; may pass 100.
    cer: edits for each 100 characters of the references, spaces included.
    exact_match: share of the predictions that equal one of their references, 0 to 1.

Raises:
    ValueError: no predictions, a prediction without a reference, or nothing but empty references.
"""
    urls_of_metric = ["https://github.com/jitsi/jiwer"]

    def _compute(self, predictions: Sequence[str], references: References) -> dict[str, Any]:
        alternatives = [[spoken(text) for text in texts] for texts in as_alternatives(references)]
        require_references(alternatives)
        written = [spoken(text) for text in predictions]
        pairs = list(zip(written, alternatives, strict=True))
        return {
            "wer": error_rate([fewest_edits(prediction, texts, str.split) for prediction, texts in pairs]),
            "cer": error_rate([fewest_edits(prediction, texts, list) for prediction, texts in pairs]),
            "exact_match": sum(prediction in texts for prediction, texts in pairs) / len(pairs),
        }


def spoken(text: str) -> str:
    """What can be heard of a text: no case, and no punctuation but the apostrophe inside a word."""
    text = INSIDE_A_WORD.sub(APOSTROPHE, text.lower())
    kept = (" " if unicodedata.category(letter)[0] in "PS" and letter != APOSTROPHE else letter for letter in text)
    return comparable("".join(kept).replace(APOSTROPHE, "'"))


def comparable(text: str) -> str:
    """The text in NFC, with one space in place of every run of white space, and none at its ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def fewest_edits(prediction: str, references: Sequence[str], split: Split) -> Edits:
    """The edits from a prediction to the reference that is nearest, for its length."""
    written = split(prediction)
    candidates = [edits_between(written, split(reference)) for reference in references]
    return min(candidates, key=lambda edits: (edits.needed / max(edits.length, 1), edits.needed))


def edits_in_results(
    normal: Callable[[str], str], split: Split
) -> Callable[[str, Sequence[str]], tuple[float, float]]:
    """A function that counts the edits of a result, and the symbols of its nearest reference.

    Args:
        normal: makes of a text what is compared.
        split: makes symbols of that.
    """

    def count(result: str, references: Sequence[str]) -> tuple[float, float]:
        edits = fewest_edits(normal(result), [normal(text) for text in references], split)
        return float(edits.needed), float(edits.length)

    return count


def edits_between(written: Sequence[str], expected: Sequence[str]) -> Edits:
    """The edits from one sequence of symbols to another."""
    if not expected:  # of which jiwer makes an error
        return Edits(len(written), 0)
    if written == expected:
        return Edits(0, len(expected))
    reference, hypothesis = (" ".join(one if one.strip() else SPACE for one in side) for side in (expected, written))
    found = jiwer.process_words(reference, hypothesis)
    return Edits(found.substitutions + found.deletions + found.insertions, len(expected))


def error_rate(edits: Sequence[Edits]) -> float:
    """Edits for each 100 symbols of the references."""
    length = sum(one.length for one in edits)
    return 100 * sum(one.needed for one in edits) / length if length else float("nan")
