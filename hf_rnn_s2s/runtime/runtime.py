"""What a model that was loaded from an export has: graphs that take its place in greedy and beam search on a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.utils import logging

from ..decoding.guard import has_hooks_for_all, has_own_hooks
from ..machine import has_fast_int8
from ..model.encoder_rnn_s2s import RnnS2SEncoderOutput
from ..model.inputs_rnn_s2s import boolean_mask, check_ids
from .format import ENCODER, TABLE_ROWS, Layout
from .sessions import Graphs
from .source_tokens import distinct
from .stepper import RuntimeStepper, ShortOutput
from .token_table import TABLE
from .unchanged import KnownWeights, modules_of

logger = logging.get_logger(__name__)


class Runtime:
    """The graphs of an exported model, and when they may be used.

    Args:
        graphs: the graphs.
        layout: what the configuration says of them.
        model: that was loaded with them.
    """

    def __init__(self, graphs: Graphs, layout: Layout, model: nn.Module) -> None:
        self.graphs, self.layout = graphs, layout
        self._known = KnownWeights(model)
        self._vocabulary: int = model.config.target_vocab_size  # type: ignore[union-attr, assignment]
        self._table: Tensor | None = None

    @property
    def folder(self) -> Path:
        """Where the graphs lie."""
        return self.graphs.folder

    def serves(self, model: Any) -> bool:
        """Whether the graphs compute what the model does; if not, a warning says why, once."""
        reason = self._why_not(model)
        if reason is not None:
            logger.warning_once(f"The exported graphs are not used, and torch computes instead: {reason}")
        return reason is None

    def is_of(self, model: Any) -> bool:
        """Whether a model has the weights that the graphs have."""
        return self._known.changed(model) is None

    def _why_not(self, model: Any) -> str | None:
        if model.device.type != "cpu":
            return f"they are for the CPU, and the model is on {model.device}."
        if self.layout.precision == "int8" and not has_fast_int8():
            return "this processor has no instructions for products of 8 bit integers."
        modules = modules_of(model)
        if has_hooks_for_all() or any(map(has_own_hooks, modules)):
            return "there are hooks, or another forward pass, on layers of the model."
        changed = self._known.changed(model, modules)
        if changed is not None:
            return f"{changed} has changed since the model was loaded. To have graphs of it, export it again."
        return None

    def encode(self, input_ids: Tensor, attention_mask: Tensor | None, config: Any) -> RuntimeEncoderOutput:
        """Read sources `(sources, source)`. Errors are those of the encoder."""
        check_ids(input_ids, config.vocab_size, "input_ids")
        if attention_mask is None:
            attention_mask = input_ids.ne(config.pad_token_id)
        mask = boolean_mask(attention_mask, input_ids.shape, "attention_mask", "source").contiguous()
        graph = self.graphs[ENCODER]
        tokens, places = distinct(input_ids.long().contiguous().numpy())
        inputs = {"tokens": tokens, "places": places, "mask": mask.numpy()}
        sources = dict(zip(self.layout.encoded, graph.run(inputs), strict=True))
        sources["mask"] = inputs["mask"]
        memory = torch.from_numpy(sources["memory"])
        return RuntimeEncoderOutput(last_hidden_state=memory, attention_mask=mask, of_runtime=sources)

    def stepper(
        self,
        encoded: RuntimeEncoderOutput,
        tokens: Tensor | None = None,
        candidates: int = 1,
    ) -> RuntimeStepper:
        """The steps of a search from what `encode` returned.

        Args:
            encoded: the sources.
            tokens: of a shortlist, `(shortlist,)`; None for all.
            candidates: how many continuations of a sentence are wanted, at most.
        """
        assert encoded.of_runtime is not None  # as `encode` makes it
        shortlist = None
        if tokens is not None:
            numbers, scale, bias = (None if name is None else self.graphs.weight(name) for name in self.layout.output)
            assert numbers is not None and bias is not None  # noqa: PT018 - every output layer has them
            shortlist = ShortOutput(tokens, numbers, scale, bias, candidates)
        return RuntimeStepper(self.graphs, {**encoded.of_runtime, **self.table()}, self._vocabulary, shortlist)

    def table(self) -> dict[str, np.ndarray]:
        """The table of tokens that the graphs of a step read, by its name; nothing if they read none.

        It is computed when it is first needed.
        """
        if TABLE_ROWS not in self.layout.graphs:
            return {}
        if self._table is None:
            self._table = torch.from_numpy(self.graphs.table(self._vocabulary))
        return {TABLE: self._table.numpy()}

    def __deepcopy__(self, memory: dict[int, Any]) -> Runtime:
        return self  # it does not change, and knows a copy by its weights


@dataclass
class RuntimeEncoderOutput(RnnS2SEncoderOutput):
    """What the encoder's graph returned.

    Attributes:
        of_runtime: all of it, by name.
    """

    of_runtime: dict[str, np.ndarray] | None = None
