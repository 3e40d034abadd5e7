"""The choice among several translations that agrees most with all of them (Kumar & Byrne 2004)."""

from __future__ import annotations

from collections.abc import Sequence


def least_risk(texts: Sequence[str]) -> int:
    """The number of the text with the highest mean chrF against all others, which stand for what may be right.

    Of equal ones it is the first. A text that occurs several times counts as often, as among samples it should.

    Raises:
        ImportError: without the package sacrebleu.
    """
    try:
        from sacrebleu.metrics import CHRF  # takes its time to import
    except ImportError as error:
        raise ImportError("minimum_bayes_risk measures chrF with sacrebleu: pip install sacrebleu") from error
    metric = CHRF()
    scores: dict[tuple[str, str], float] = {}
    means = []
    for number, text in enumerate(texts):
        others = [other for place, other in enumerate(texts) if place != number]
        for other in others:
            if (text, other) not in scores:
                scores[text, other] = metric.sentence_score(text, [other]).score
        means.append(sum(scores[text, other] for other in others) / max(1, len(others)))
    return max(range(len(texts)), key=means.__getitem__)
