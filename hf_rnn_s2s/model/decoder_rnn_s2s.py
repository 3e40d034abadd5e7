"""The decoder: recurrent layers, attention over the memory, and the context joined to what lies above."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions
from transformers.utils.generic import can_return_tuple

from .attention_rnn_s2s import ATTENTION_SCORES, CONTEXT_FUSIONS, Attention
from .base_rnn_s2s import RnnS2SPart, boolean_mask, embed
from .bridge_rnn_s2s import BRIDGES
from .cache_rnn_s2s import (
    DecoderState,
    RnnS2SCache,
    require_cache,
    require_form,
    require_rows,
)
from .configuration_rnn_s2s import RnnS2SConfig
from .encoder_rnn_s2s import RnnS2SEncoderOutput
from .recurrent_rnn_s2s import CELLS, STATE_NAMES, LayerState, SequenceDropout


class Sources(NamedTuple):
    """
    What the decoder looks at while it writes, made once per source sentence. Several rows of the target may belong to
    one source, such as its beams; they stand next to each other.

    Attributes:
        memory: `(sources, source, hidden)`.
        keys: what the attention prepared of it, `(sources, source, key)`; None without attention.
        mask: `(sources, source)`, True at tokens; None if there is no padding.
    """

    memory: torch.Tensor
    keys: torch.Tensor | None
    mask: torch.Tensor | None

    def select(self, indices: torch.Tensor) -> Sources:
        """The sources with these indices, in this order."""
        return Sources(*(None if part is None else part.index_select(0, indices) for part in self))  # type: ignore[arg-type]


@dataclass
class Reading:
    """What the decoder computed of some target positions."""

    layer_outputs: list[torch.Tensor]  # each (batch, time, hidden)
    weights: torch.Tensor | None  # (batch, time, source)
    last_hidden_state: torch.Tensor  # (batch, time, embedding)


class RnnS2SDecoder(RnnS2SPart):
    """
    Writes the target with attention over the memory.

    No layer waits for the context of the step before, so each runs a whole target in one fused call: with
    `attention_layer="bottom"` the first layer reads embeddings only and its outputs are the queries (the attention
    placement of GNMT's second version); with `"top"` the last layer's outputs are (Luong et al. 2015, section 3,
    without input feeding).
    """

    def __init__(self, config: RnnS2SConfig) -> None:
        super().__init__(config)
        cell, size = CELLS[config.cell_type], config.hidden_size
        self.embed_tokens = nn.Embedding(config.target_vocab_size, config.embedding_size, config.pad_token_id)
        self.embedding_dropout = SequenceDropout(config.dropout_of_embeddings)
        self.bridge = BRIDGES[config.bridge](config)
        self.attention: Attention | None = None
        self.fusion = CONTEXT_FUSIONS[config.context_fusion]
        fused_size = size
        if config.attention_type != "none":
            self.attention = Attention(ATTENTION_SCORES[config.attention_type](size, size), config.attention_dropout)
            fused_size = self.fusion.width(size, size)
        self.query_layer = 0 if config.attention_layer == "bottom" else config.decoder_layers - 1
        input_sizes = [config.embedding_size] + [
            fused_size if layer > self.query_layer else size for layer in range(1, config.decoder_layers)
        ]
        self.layers = nn.ModuleList(cell(input_size, size) for input_size in input_sizes)
        self.dropout = SequenceDropout(config.dropout)
        self.output_projection = nn.Linear(fused_size, config.embedding_size)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        encoder_outputs: RnnS2SEncoderOutput | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        past_key_values: RnnS2SCache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """
        Args:
            input_ids: `(batch, target)`, the tokens that are not in the cache yet.
            attention_mask: `(batch, target)` or `(batch, past + target)`; the state passes over positions with 0.
            encoder_outputs: memory, mask and final states of the source; with `bridge="zero"` the memory is enough.
            encoder_attention_mask: `(batch, source)`; None takes the mask of `encoder_outputs`.
            past_key_values: what an earlier call returned; it is changed.
            inputs_embeds: `(batch, target, embedding)` instead of `input_ids`.
            use_cache: whether to return a cache.
            output_attentions: whether to return the attention weights.
            output_hidden_states: whether to return the outputs of all layers.

        Returns:
            As last hidden state, `tanh(W [h; c])` `(batch, target, embedding)` (Luong et al. 2015, equation 5), which
            the output layer turns into logits; hidden states are the embeddings and each layer's outputs. With
            `output_attentions`, `attentions` is empty, since no layer attends to the target, and `cross_attentions`
            has one tensor `(batch, 1, target, source)`, or is empty without attention.

        Raises:
            TypeError: if the cache is of another kind, or an input of a dtype that the model does not read.
            ValueError: if inputs are missing, or do not fit each other, the model or the vocabulary.
        """
        require_cache(past_key_values)
        embedded = embed(self.embed_tokens, input_ids, inputs_embeds, "decoder_input_ids", "decoder_inputs_embeds")
        self.require_rows_for(encoder_outputs, embedded.shape[0])
        assert encoder_outputs is not None  # the check says so
        cache = RnnS2SCache() if past_key_values is None else past_key_values
        sources = self.prepare(encoder_outputs, encoder_attention_mask, cache)
        state = self.first_state(encoder_outputs) if cache.state is None else cache.state
        keeps_cache = past_key_values is not None or bool(use_cache)
        readings = []
        for chunk, moves_on in self._chunks(embedded, attention_mask, cache.records_past, keeps_cache):
            reading, new_state = self.read(chunk, state, sources)
            state = new_state if moves_on is None else _where(moves_on, new_state, state)
            cache.advance(state, sources.keys, chunk.shape[1])
            readings.append(reading)
        reading = _join(readings)
        attentions = () if reading.weights is None else (reading.weights.unsqueeze(1),)
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=reading.last_hidden_state,
            past_key_values=cache if keeps_cache else None,
            hidden_states=(embedded, *reading.layer_outputs) if output_hidden_states else None,
            attentions=() if output_attentions else None,
            cross_attentions=attentions if output_attentions else None,
        )

    def prepare(
        self,
        encoder_outputs: RnnS2SEncoderOutput,
        attention_mask: torch.Tensor | None = None,
        cache: RnnS2SCache | None = None,
    ) -> Sources:
        """
        What the decoder looks at, with the keys of the cache if it has some.

        Raises:
            ValueError: if the memory, the mask `(sources, source)` or the cache do not fit each other or the model.
        """
        memory = cast(torch.Tensor, encoder_outputs.last_hidden_state)
        mask = self._memory_mask(encoder_outputs, attention_mask)
        keys = None
        if cache is not None:
            self._require_own(cache, memory, memory.shape[0] * rows_per_source(encoder_outputs))
            # A cache from elsewhere may have keys for every row where the memory is there once for several.
            keys = cache.keys if cache.keys is not None and cache.keys.shape[0] == memory.shape[0] else None
        return Sources(memory, self.prepare_keys(memory) if keys is None else keys, mask)

    def first_state(self, encoder_outputs: RnnS2SEncoderOutput) -> DecoderState:
        """The state before the first token, in every row; see `RnnS2SEncoderOutput.rows_per_source`."""
        state = self.bridge(self._final_states(encoder_outputs))
        repeats = rows_per_source(encoder_outputs)
        if repeats == 1:
            return state
        return tuple(tuple(part.repeat_interleave(repeats, dim=0) for part in layer) for layer in state)

    def read(self, embedded: torch.Tensor, state: DecoderState, sources: Sources) -> tuple[Reading, DecoderState]:
        """Reads `(batch, time, embedding)` in one call per layer. Nothing is checked here."""
        context = weights = None
        layer_outputs: list[torch.Tensor] = []
        states: list[LayerState] = []
        below = self.embedding_dropout(embedded)
        for index, layer in enumerate(self.layers):
            outputs, layer_state = layer(below, state[index])
            if layer_outputs:
                outputs = outputs + layer_outputs[-1]
            layer_outputs.append(outputs)
            states.append(layer_state)
            if index == self.query_layer and self.attention is not None:
                context, weights = self._attend(outputs, sources)
            below = self.dropout(outputs if context is None else self.fusion.join(outputs, context))
        return Reading(layer_outputs, weights, torch.tanh(self.output_projection(below))), tuple(states)

    def _attend(self, queries: torch.Tensor, sources: Sources) -> tuple[torch.Tensor, torch.Tensor]:
        """Contexts `(batch, time, hidden)` and weights `(batch, time, source)` of queries `(batch, time, hidden)`."""
        memory = sources.memory
        rows, time = queries.shape[:2]
        # The rows of one source ask together, as if they were positions of one target: the memory is there once.
        queries = queries.reshape(memory.shape[0], -1, queries.shape[-1])
        context, weights = cast(Attention, self.attention)(queries, sources.keys, memory, sources.mask)
        return context.reshape(rows, time, -1), weights.reshape(rows, time, -1)

    def prepare_keys(self, memory: torch.Tensor) -> torch.Tensor | None:
        """The attention's keys `(batch, source, key)`, made once of the memory; None without attention."""
        return None if self.attention is None else self.attention.prepare(memory)

    def _memory_mask(
        self, encoder_outputs: RnnS2SEncoderOutput, attention_mask: torch.Tensor | None
    ) -> torch.Tensor | None:
        """The mask `(batch, source)` of the memory, which is looked at, too."""
        memory = cast(torch.Tensor, encoder_outputs.last_hidden_state)
        if memory.dim() != 3 or memory.shape[-1] != self.config.hidden_size:
            raise ValueError(
                f"encoder_outputs has a last_hidden_state of the shape {tuple(memory.shape)}; this decoder reads "
                f"(batch, source, {self.config.hidden_size}). Pass what the encoder of this model returned."
            )
        if attention_mask is None:
            attention_mask = getattr(encoder_outputs, "attention_mask", None)
        if attention_mask is None:
            return None
        return boolean_mask(attention_mask, memory.shape[:2], "attention_mask", "source")

    @staticmethod
    def require_rows_for(encoder_outputs: RnnS2SEncoderOutput | None, rows: int) -> None:
        """
        Raises:
            ValueError: if these are not the outputs of an encoder for so many rows of the target.
        """
        if encoder_outputs is None or encoder_outputs.last_hidden_state is None:
            raise ValueError("encoder_outputs is missing: the decoder needs the memory and the final state.")
        sources = encoder_outputs.last_hidden_state.shape[0]
        repeats = rows_per_source(encoder_outputs)
        if rows != sources * repeats:
            times = "" if repeats == 1 else f" times {repeats}, its rows_per_source"
            raise ValueError(f"decoder_input_ids has {rows} rows, but the source has {sources}{times}.")

    def _require_own(self, cache: RnnS2SCache, memory: torch.Tensor, rows: int) -> None:
        require_rows(cache, rows)
        keys = None if self.attention is None else tuple(memory.shape[1:])
        parts = len(CELLS[self.config.cell_type].state_names)
        require_form(cache, self.config.decoder_layers, parts, self.config.hidden_size, keys)

    def _final_states(self, encoder_outputs: RnnS2SEncoderOutput) -> dict[str, torch.Tensor]:
        own = CELLS[self.config.cell_type].state_names
        given = {name: getattr(encoder_outputs, f"final_{name}", None) for name in STATE_NAMES}
        if not self.bridge.reads_state and all(part is None for part in given.values()):
            memory = cast(torch.Tensor, encoder_outputs.last_hidden_state)
            return {name: torch.zeros_like(memory[:, :1]) for name in own}
        states = {}
        for name, part in given.items():
            if (part is None) == (name in own):
                raise ValueError(
                    f"encoder_outputs has {'no' if part is None else 'a'} final_{name}, but cell_type is "
                    f"{self.config.cell_type!r}. Pass what the encoder of this model returned, whole."
                )
            if part is not None:
                states[name] = part
        return states

    def _chunks(
        self, embedded: torch.Tensor, mask: torch.Tensor | None, records_past: bool, keeps_cache: bool
    ) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        """What is read at once, everything or single steps if it must be, and in which rows the state moves on."""
        length = embedded.shape[1]
        if mask is not None:
            of_chunk = mask[:, -length:] if mask.dim() == 2 else mask
            mask = boolean_mask(of_chunk, embedded.shape[:2], "decoder_attention_mask", "target")
            # Padding after a row's last token reaches no token; it matters only to a state that is kept. An exported
            # graph cannot depend on the numbers.
            if not torch.compiler.is_exporting() and (
                mask.all() or (not keeps_cache and bool((mask[:, :-1] | ~mask[:, 1:]).all()))
            ):
                mask = None
        if mask is None and not records_past:
            return [(embedded, None)]
        moves_on = [None] * length if mask is None else mask.split(1, dim=1)
        return list(zip(embedded.split(1, dim=1), moves_on, strict=True))


def rows_per_source(encoder_outputs: Any) -> int:
    """How many rows of the target belong to one row of the source."""
    return getattr(encoder_outputs, "rows_per_source", None) or 1


def _join(readings: list[Reading]) -> Reading:
    if len(readings) == 1:
        return readings[0]
    weights = [reading.weights for reading in readings if reading.weights is not None]
    return Reading(
        [torch.cat(parts, dim=1) for parts in zip(*(reading.layer_outputs for reading in readings), strict=True)],
        torch.cat(weights, dim=1) if weights else None,
        torch.cat([reading.last_hidden_state for reading in readings], dim=1),
    )


def _where(moves_on: torch.Tensor, new: DecoderState, old: DecoderState) -> DecoderState:
    return tuple(
        tuple(torch.where(moves_on, after, before) for after, before in zip(new_layer, old_layer, strict=True))
        for new_layer, old_layer in zip(new, old, strict=True)
    )


__all__ = ["Reading", "RnnS2SDecoder", "Sources", "rows_per_source"]
