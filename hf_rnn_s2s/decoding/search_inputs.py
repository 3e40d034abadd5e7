"""What a search with several hypotheses of each sentence is given."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from .endings import are_from_config
from .normalization import LengthPenalty
from .stepper import Stepper


class SearchInputs(NamedTuple):
    """The arguments of `beam_search` in `decoding.search`, which says what each of them is.

    Attributes:
        input_ids: the prompts, `(sentences, prompt)`.
    """

    stepper: Stepper
    input_ids: Tensor
    logits_processor: LogitsProcessorList
    stopping_criteria: StoppingCriteriaList
    config: GenerationConfig
    drop_finished: bool
    normalization: LengthPenalty | None = None

    def penalty(self) -> LengthPenalty:
        """What makes the scores of finished hypotheses: where nothing is given, as in transformers."""
        return LengthPenalty(self.config.length_penalty) if self.normalization is None else self.normalization

    def has_plain_criteria(self) -> bool:
        """Whether the configuration alone says where hypotheses end."""
        return are_from_config(self.stopping_criteria, self.config)
