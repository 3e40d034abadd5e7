"""What all metrics of texts have in common: they are built in code, so that nothing is downloaded."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, ClassVar

import datasets
import evaluate

References = Sequence[str] | Sequence[Sequence[str]]  # one reference for each prediction, or several


class TextMetric(evaluate.Metric):
    """An `evaluate` metric of texts, built in code, so that nothing is downloaded.

    `compute(predictions=…, references=…)` scores the lists; `add_batch` collects them first, in memory. With several
    processes they must be collected in files that all processes see: give `num_process`, `process_id`, an
    `experiment_id` and a `cache_dir`, the latter two the same in each process, as for any `evaluate` metric; process 0
    gets the result and the others None.

    Attributes:
        description_of_metric, citation_of_metric, inputs_of_metric, urls_of_metric: what `evaluate` shows.

    Raises:
        ValueError: for several processes without `experiment_id` (two runs at once would read each other's files).
    """

    description_of_metric: ClassVar[str]
    citation_of_metric: ClassVar[str] = ""
    inputs_of_metric: ClassVar[str]
    urls_of_metric: ClassVar[list[str]] = []

    def __init__(
        self,
        *args: Any,
        num_process: int = 1,
        keep_in_memory: bool | None = None,
        experiment_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        if num_process > 1 and experiment_id is None:
            raise ValueError(
                f"experiment_id: with num_process={num_process} the processes meet in files named after it; give all "
                "of them one name that no other run uses"
            )
        super().__init__(
            *args,
            num_process=num_process,
            keep_in_memory=num_process == 1 if keep_in_memory is None else keep_in_memory,
            # evaluate's default is the same file name for every run of this user: two at once would clash.
            experiment_id=experiment_id or uuid.uuid4().hex,
            **kwargs,
        )

    def _info(self) -> evaluate.MetricInfo:
        string = datasets.Value("string")
        return evaluate.MetricInfo(
            description=self.description_of_metric,
            citation=self.citation_of_metric,
            inputs_description=self.inputs_of_metric,
            features=[
                datasets.Features({"predictions": string, "references": datasets.Sequence(string)}),
                datasets.Features({"predictions": string, "references": string}),
            ],
            reference_urls=self.urls_of_metric,
        )

    # evaluate copies these two methods for each instance, and a copy cannot use the bare super().

    def add_batch(
        self, *, predictions: Sequence[str] | None = None, references: References | None = None, **kwargs: Any
    ) -> None:
        """Add a batch of predictions and references; they are scored when `compute` is called.

        Raises:
            ValueError: if one of them is missing, or if their numbers differ.
        """
        if predictions is None or references is None:
            raise ValueError("predictions and references: both are needed")
        if len(predictions) != len(references):
            raise ValueError(
                f"references: {len(references)} for {len(predictions)} predictions; give one reference, or one list "
                "of references, for each prediction"
            )
        if len(predictions) > 0:
            evaluate.Metric.add_batch(self, predictions=predictions, references=references, **kwargs)

    def compute(
        self, *, predictions: Sequence[str] | None = None, references: References | None = None, **kwargs: Any
    ) -> dict[str, Any] | None:
        """Score the given predictions together with those added before.

        Raises:
            ValueError: if there are none, their references are not valid, or `add_batch` raises it.
        """
        if predictions is not None or references is not None:
            self.add_batch(predictions=predictions, references=references)
        if len(self) == 0:
            raise ValueError("predictions: there is none to score; give some to compute or, before it, to add_batch")
        result: dict[str, Any] | None = evaluate.Metric.compute(self, **kwargs)
        return result


def as_alternatives(references: References) -> list[list[str]]:
    """The references of each prediction as a list."""
    return [[each] if isinstance(each, str) else list(each) for each in references]


def require_references(alternatives: list[list[str]]) -> None:
    """Raise a ValueError if a prediction has no reference, or all references are empty."""
    if not all(alternatives):
        raise ValueError("references: a prediction has none; give at least one for each")
    if not any(text.strip() for texts in alternatives for text in texts):
        raise ValueError("references: every one is empty, so there is nothing to compare with")
