"""Metrics in the form that sacreBLEU resamples, for confidence intervals and for tests of one system against another.

sacreBLEU has BLEU, chrF and TER in this form. The others here are sums over the results divided by other sums: an
error rate is all edits by all symbols, and a mean is all values by the number of results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sacrebleu.metrics.base import Metric, Score
from sacrebleu.significance import PairedTest

from .text_metric import require_references

# From a result and its references to what it adds to the two sums
Count = Callable[[str, Sequence[str]], tuple[float, float]]


class RatioScore(Score):
    """The value of a `RatioMetric`."""


class RatioMetric(Metric):
    """A sum over the results divided by another one.

    Args:
        name: of the metric.
        count: what a result adds to both sums.
        scale: what the quotient is multiplied with: 100 for percent.
    """

    def __init__(self, name: str, count: Count, scale: float = 1.0) -> None:
        super().__init__()
        self.name, self._count, self._scale = name, count, scale

    def _preprocess_segment(self, sent: str) -> str:
        return sent

    def _extract_reference_info(self, refs: Sequence[str]) -> dict[str, Any]:
        return {"references": list(refs)}

    def _compute_segment_statistics(self, hypothesis: str, ref_kwargs: dict[str, Any]) -> list[float]:
        return list(self._count(hypothesis, ref_kwargs["references"]))

    def _compute_score_from_stats(self, stats: Any) -> RatioScore:
        above, below = float(stats[0]), float(stats[1])
        if not below:  # all references that were drawn are empty: nothing is wrong, or all of it
            return RatioScore(self.name, self._scale * float(above > 0))
        return RatioScore(self.name, self._scale * above / below)

    def _aggregate_and_compute(self, stats: Any) -> RatioScore:
        above, below = (sum(column) for column in zip(*stats, strict=True))
        return self._compute_score_from_stats((above, below))


def share(name: str, holds: Callable[[str, Sequence[str]], bool], scale: float = 1.0) -> RatioMetric:
    """The share of results of which something holds, given their references."""
    return RatioMetric(name, lambda result, references: (float(holds(result, references)), 1.0), scale)


class Estimate(NamedTuple):
    """A score with its uncertainty.

    Attributes:
        score: of all results.
        mean: of the resampled scores.
        interval: half the width of their 95 % interval.
        other: the score of the other system; None if there is none.
        p_value: how probable a difference at least as large is by chance (paired bootstrap, Koehn 2004); None if there
            is no other system, or it wrote the same.
    """

    score: float
    mean: float
    interval: float
    other: float | None = None
    p_value: float | None = None


def estimate(
    metrics: Mapping[str, Metric],
    results: Sequence[str],
    references: Sequence[Sequence[str]],
    other: Sequence[str] | None = None,
    samples: int = 1000,
) -> tuple[dict[str, Estimate], dict[str, str]]:
    """Scores with 95 % intervals, and the difference from another system, all by sacreBLEU's paired bootstrap.

    Args:
        metrics: by name.
        results: of the system.
        references: one list or more of as many texts as there are results.
        other: results of the other system.
        samples: how many times the results are drawn anew.

    Returns:
        Of each metric the estimate, and sacreBLEU's signature.

    Raises:
        ValueError: if all references are empty.
    """
    require_references([list(texts) for texts in zip(*references, strict=True)])
    systems: list[tuple[str, Sequence[str]]] = [("system", results)]
    if other is not None:
        systems.insert(0, ("other", other))  # the first one is what sacreBLEU compares with
    names: dict[str, str] = {}
    for name, metric in metrics.items():  # sacreBLEU names what it returns by the scores
        names[metric.corpus_score(list(results[:1]), [[column[0]] for column in references]).name] = name
    test = PairedTest(systems, metrics, [list(column) for column in references], "bs", samples)
    signatures, found = test()
    is_same = other is not None and list(other) == list(results)
    estimates, signed = {}, {}
    for score_name, name in names.items():
        own: Any = found[score_name][-1]
        baseline: Any = found[score_name][0] if other is not None else None
        # Of a system against itself sacreBLEU gives the smallest p-value that there is.
        p_value = None if own.p_value is None or is_same else float(own.p_value)
        of_other = None if baseline is None else float(baseline.score)
        estimates[name] = Estimate(float(own.score), float(own.mean), float(own.ci), of_other, p_value)
        signed[name] = str(signatures[score_name])
    return estimates, signed
