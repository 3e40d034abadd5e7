"""The decoder: recurrent layers, attention over the memory, and the context joined to what lies above."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions
from transformers.utils.generic import can_return_tuple

from .attention_rnn_s2s import Attention, build_attention
from .base_rnn_s2s import RnnS2SPart
from .bridge_rnn_s2s import BRIDGES
from .cache_rnn_s2s import RnnS2SCache
from .cells_rnn_s2s import CELLS, RecurrentLayer, SequenceDropout, build_layer
from .configuration_rnn_s2s import RnnS2SConfig
from .encoder_rnn_s2s import RnnS2SEncoderOutput, rows_per_source
from .inputs_rnn_s2s import boolean_mask, check_ids, embed
from .readout_rnn_s2s import CONTEXT_FUSIONS, READOUTS
from .state_rnn_s2s import AttentionOutput, DecoderOutput, DecoderState, LayerState, Sources


class RnnS2SDecoder(RnnS2SPart):
    """Layers one on another, and attention over the memory.

    As configured by default, no layer waits for the context of the step before, so each runs a whole target in one
    fused call: the first layer reads embeddings only, its outputs are the queries, and the context joins the input of
    every layer above and of the readout (the attention of GNMT's second version). From `first_residual_layer` on,
    residual connections add a layer's input, without the context, to its output (Wu et al. 2016, section 3.1).

    `attention_layer`, `attention_query`, `context_layers` and `input_feeding` wire it as other papers do. Where a step
    needs what the one before has computed, the target is read step by step. To wire it in yet another way, derive a
    class: `read_at_once` says what a step does, `first_state` what it begins with, `needs_steps` whether it has any.

    Args:
        config: of the model.
        memory_size: width of the memory; None means `hidden_size`.
        state_size: width of the encoder's final states; None means `hidden_size`.

    Attributes:
        context_layer: reads the context after the query layer and changes its state; None in this class.
    """

    once = ("bridge",)  # called once per sentence

    def __init__(self, config: RnnS2SConfig, memory_size: int | None = None, state_size: int | None = None) -> None:
        super().__init__(config)
        size = config.decoder_size
        self.memory_size = config.hidden_size if memory_size is None else memory_size
        state_size = config.hidden_size if state_size is None else state_size
        self.embed_tokens = nn.Embedding(config.target_vocab_size, config.embedding_size, config.pad_token_id)
        self.embedding_dropout = SequenceDropout(config.dropout_of_embeddings)
        self.bridge = BRIDGES[config.bridge](config, state_size, self.memory_size)
        self.attention = build_attention(config, size, self.memory_size)
        self.is_hard = self.attention is not None and self.attention.is_hard  # it gives no contexts to join
        self.query_layer = 0 if config.attention_layer == "bottom" else config.decoder_layers - 1
        # What every step needs of the configuration is read here, since a look into it costs time at every step.
        self.input_feeding, self.copy_slots = config.input_feeding, config.copy_slots
        self.attends_first = config.context_layers == "all"  # before any layer reads
        self.queries_previous_state = config.attention_query == "previous"
        self.adds_from_layer = max(2, config.first_residual_layer or float("inf"))  # counted from 1
        fusion = CONTEXT_FUSIONS[config.context_fusion]
        readout = READOUTS[config.readout]
        joins = self.attention is not None and not self.is_hard and readout.reads_context
        self.top_size = fusion.width(size, self.memory_size) if joins else size
        self.readout = readout(config, self.top_size + config.embedding_size * readout.reads_token)
        # Of the inputs that the context joins, by the number of the layer that reads them
        joined = {str(index): width for index, width in enumerate(self._own_sizes()) if self._reads_context(index)}
        joined |= {"readout": size} if joins else {}
        self.fusions = nn.ModuleDict({place: fusion(width, self.memory_size) for place, width in joined.items()})
        self.context_layer: RecurrentLayer | None = None
        self.layers = nn.ModuleList(build_layer(config, width, size) for width in self.input_sizes())
        self.dropout = SequenceDropout(config.dropout)
        self.output_projection = self.readout.projection()
        self.post_init()

    def input_sizes(self) -> list[int]:
        """Width of the inputs of each layer."""
        join = CONTEXT_FUSIONS[self.config.context_fusion].width
        return [
            join(size, self.memory_size) if self._reads_context(index) else size
            for index, size in enumerate(self._own_sizes())
        ]

    def _own_sizes(self) -> list[int]:
        """The same without the context."""
        config = self.config
        bottom = config.embedding_size + (self.readout.size if self.input_feeding else 0)
        return [bottom, *[config.decoder_size] * (config.decoder_layers - 1)]

    def _reads_context(self, index: int) -> bool:
        has_context = self.attention is not None and not self.is_hard
        return has_context and (self.attends_first or index > self.query_layer)

    @property
    def needs_steps(self) -> bool:
        """Whether a step needs what the one before has computed, so that the target is read step by step."""
        parts: list[Any] = [self.attention, *self.layers]
        waits = self.input_feeding or self.attends_first or self.context_layer is not None
        return waits or any(getattr(part, "needs_steps", False) for part in parts)

    @can_return_tuple
    def forward(  # noqa: D417 - the other arguments are described in RnnS2SModel
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: Tensor | None = None,
        encoder_outputs: RnnS2SEncoderOutput | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_values: RnnS2SCache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Read a target, or the next tokens of one. `RnnS2SModel.forward` describes the other arguments and errors.

        Args:
            input_ids: `(batch, target)`, the tokens that are not in the cache yet.
            attention_mask: `(batch, target)` or `(batch, past + target)`; the state passes over positions with 0.
            encoder_outputs: memory, mask and final states of the source; with `bridge="zero"` the memory is enough.
            encoder_attention_mask: of the memory, `(batch, source)`; None takes the mask of `encoder_outputs`.
            past_key_values: what an earlier call returned; it is changed.

        Returns:
            As last hidden state what the readout returns, `(batch, target, readout)`, which the output layer turns
            into logits; hidden states are the embeddings and each layer's outputs. With `output_attentions`,
            `attentions` is empty, since no layer attends to the target, and `cross_attentions` has one tensor
            `(batch, heads, target, source)`, or is empty without attention. What `HardAttention` changes in both is
            said there.
        """
        ids: Tensor | None = input_ids
        if ids is not None and self.copy_slots:
            check_ids(ids, self.config.written_vocab_size, "decoder_input_ids")
            ids = self.known_ids(ids)
        embedded = embed(self.embed_tokens, ids, inputs_embeds, "decoder_input_ids", "decoder_inputs_embeds")
        self.require_rows_for(encoder_outputs, embedded.shape[0])
        assert encoder_outputs is not None  # the check says so
        cache = RnnS2SCache() if past_key_values is None and use_cache else past_key_values
        sources = self.prepare(encoder_outputs, encoder_attention_mask, cache)
        state = None if cache is None else cache.state
        if state is None:
            state = self.first_state(encoder_outputs, sources)
        mask = self.target_mask(attention_mask, embedded, keeps_cache=cache is not None)
        outputs = []
        single = cache is not None and cache.records_past
        for output, after in self.read_in_chunks(embedded, state, sources, mask, single):
            if cache is not None:
                cache.advance(after, sources.keys, output.last_hidden_state.shape[1])
            outputs.append(output)
        output = joined(outputs)
        attentions = () if output.weights is None else (output.weights,)
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=output.last_hidden_state,
            past_key_values=cache,
            hidden_states=(embedded, *output.layer_outputs) if output_hidden_states else None,
            attentions=() if output_attentions else None,
            cross_attentions=attentions if output_attentions else None,
        )

    def known_ids(self, ids: Tensor) -> Tensor:
        """Ids whose embedding is read: copied words, which the vocabulary lacks, are read as the unknown token."""
        if not self.copy_slots:
            return ids
        return ids.masked_fill(ids >= self.config.target_vocab_size, self.config.unk_token_id)  # type: ignore[arg-type]

    def prepare(
        self,
        encoder_outputs: RnnS2SEncoderOutput,
        attention_mask: Tensor | None = None,
        cache: RnnS2SCache | None = None,
    ) -> Sources:
        """What the decoder attends to, with the keys of the cache if it has some.

        Raises:
            ValueError: if the memory and the mask `(sources, source)` do not fit each other or the model.
        """
        memory = cast(Tensor, encoder_outputs.last_hidden_state)
        mask = self._memory_mask(encoder_outputs, attention_mask)
        keys = None
        if cache is not None:
            # A cache from elsewhere may have keys for every target row, and not for every source.
            keys = cache.keys if cache.keys is not None and cache.keys.shape[0] == memory.shape[0] else None
        ids = getattr(encoder_outputs, "source_ids", None)
        return Sources(memory, self.prepare_keys(memory) if keys is None else keys, mask, ids)

    def first_state(self, encoder_outputs: RnnS2SEncoderOutput, sources: Sources) -> DecoderState:
        """The state before the first token, in every row; see `RnnS2SEncoderOutput.rows_per_source`."""
        memory = sources.memory
        layers = self.bridge(self._final_states(encoder_outputs), memory, sources.mask)
        repeats = rows_per_source(encoder_outputs)
        state = DecoderState(layers) if repeats == 1 else DecoderState(layers).repeat(repeats)
        rows = memory.shape[0] * repeats
        return state._replace(
            attention=None if self.attention is None else self.attention.first_state(memory, rows),
            fed_back=memory.new_zeros(rows, self.readout.size) if self.input_feeding else None,
            readout=self.readout.first_state(memory, rows),
        )

    def read_in_chunks(
        self, embedded: Tensor, state: DecoderState, sources: Sources, mask: Tensor | None = None, single: bool = False
    ) -> Iterator[tuple[DecoderOutput, DecoderState]]:
        """Yield outputs and the state after them, of everything at once or of single tokens: the only loop over steps.

        `mask` `(rows, time)` is False where a row's state stays as it is; None means nowhere. `single` forces steps.
        """
        if mask is None and not single and not self.needs_steps:
            yield self.read_at_once(embedded, state, sources)
            return
        state = state._replace(dropout=self._draw_dropout(embedded, state))
        for step in range(embedded.shape[1]):
            output, after = self.read_at_once(embedded[:, step : step + 1], state, sources)
            state = after if mask is None else after.where(mask[:, step : step + 1], state)
            yield output, state

    def read_at_once(
        self, embedded: Tensor, state: DecoderState, sources: Sources
    ) -> tuple[DecoderOutput, DecoderState]:
        """Read embedded tokens `(rows, time, embedding)` in one call per layer; with `needs_steps`, the time is 1.

        Returns what was computed of the tokens, and the state after the last one.
        """
        dropout = state.dropout or {}
        inside = dropout.get("layers") or [{}] * (len(state.layers) + 1)  # arguments of each layer
        tokens = below = self.embedding_dropout(embedded, dropout.get("tokens"))
        if self.input_feeding:
            below = torch.cat([below, state.fed_back.unsqueeze(1)], dim=-1)
        context = weights = query = None
        attends, remembered = self.attention is not None, state.attention
        if attends and self.attends_first:
            query = state.layers[self.query_layer][0].unsqueeze(1)
            context, weights, remembered = self.attend(query, sources, remembered)
        layer_outputs: list[Tensor] = []
        states: list[LayerState] = []
        for index, layer in enumerate(self.layers):
            place, before = str(index), state.layers[index]
            if context is not None and place in self.fusions:
                below = self.fusions[place](below, context)
            below = below if index == 0 else self.dropout(below, dropout.get(place))
            outputs, after = layer(below, before, **inside[index])
            hidden = outputs
            if index + 1 >= self.adds_from_layer:
                outputs = outputs + layer_outputs[-1]
            if index == self.query_layer and attends and context is None:
                query = outputs
                if self.queries_previous_state:
                    query = torch.cat([before[0].unsqueeze(1), hidden[:, :-1]], dim=1)
                context, weights, remembered = self.attend(query, sources, remembered)
                if self.context_layer is not None:
                    outputs, after = self.context_layer(context, after, **inside[-1])
            layer_outputs.append(outputs)
            states.append(after)
            below = outputs
        top = query if self.readout.reads_query and query is not None else below
        last, summary = self._read_out(top, context, tokens, state)
        fed_back = last[:, -1] if self.input_feeding else state.fed_back
        output = DecoderOutput(last, weights, tuple(layer_outputs), embedded)
        return output, DecoderState(tuple(states), remembered, fed_back, summary, state.dropout, state.head)

    def _read_out(
        self, top: Tensor, context: Tensor | None, tokens: Tensor, state: DecoderState
    ) -> tuple[Tensor, Any]:
        """What the output layer reads of the top `(rows, time, hidden)`, and what the readout remembers."""
        readout = self.readout
        if context is not None and "readout" in self.fusions:
            top = self.fusions["readout"](top, context)
        top, summary = self.dropout(top, (state.dropout or {}).get("readout")), state.readout
        if readout.reads_token:
            read, summary = readout.summarize(tokens, summary)
            top = torch.cat([top, read], dim=-1)
        projected = self.output_projection(top)
        if self.is_hard and context is not None:  # `W [h; m]` for every position: `W h` once, plus its values
            shape = projected.shape[:2]
            projected = projected.reshape(len(context), -1, 1, projected.shape[-1]) + context.unsqueeze(1)
            projected = projected.view(*shape, *projected.shape[2:])
        return readout.activate(projected), summary

    def _draw_dropout(self, embedded: Tensor, state: DecoderState) -> Any:
        """What is dropped at every step alike; None where nothing is."""
        if not self.training or state.dropout is not None:
            return state.dropout
        sizes = dict(enumerate(self.input_sizes()))
        layers = [*self.layers, *([] if self.context_layer is None else [self.context_layer])]
        return {
            "tokens": self.embedding_dropout.draw(embedded, embedded.shape[-1]),
            "layers": [{"dropout": layer.draw_dropout(embedded)} for layer in layers],
            **{str(index): self.dropout.draw(embedded, sizes[index]) for index in range(1, len(sizes))},
            "readout": self.dropout.draw(embedded, self.top_size),
        }

    def attend(self, queries: Tensor, sources: Sources, remembered: Any = None) -> AttentionOutput:
        """Answer the queries `(rows, time, query)` of all target rows.

        Returns contexts `(rows, time, memory)`, or the values of hard attention as they are, weights
        `(rows, heads, time, source)`, and what is remembered.
        """
        count, (rows, time) = sources.memory.shape[0], queries.shape[:2]
        # The rows of a source become positions of one target, so that they share one copy of the memory.
        joined = queries if rows == count else queries.reshape(count, -1, queries.shape[-1])
        context, weights, remembered = cast(Attention, self.attention)(joined, sources, remembered)
        if weights.dim() == 3:  # of one head
            weights = weights.reshape(rows, 1, time, -1)
        else:
            weights = weights.unflatten(2, (-1, time)).transpose(1, 2).flatten(0, 1)
        is_in_form = self.is_hard or rows == count
        return context if is_in_form else context.reshape(rows, time, -1), weights, remembered

    def prepare_keys(self, memory: Tensor) -> Tensor | None:
        """Compute the attention's keys `(batch, source, key)` of the memory; None without attention."""
        return None if self.attention is None else self.attention.prepare(memory)

    @staticmethod
    def require_rows_for(encoder_outputs: RnnS2SEncoderOutput | None, rows: int) -> None:
        """Raise a ValueError unless these are the outputs of an encoder for so many target rows."""
        if encoder_outputs is None or encoder_outputs.last_hidden_state is None:
            raise ValueError("encoder_outputs is missing: the decoder needs the memory and the final state.")
        sources = encoder_outputs.last_hidden_state.shape[0]
        repeats = rows_per_source(encoder_outputs)
        if rows != sources * repeats:
            times = "" if repeats == 1 else f" times {repeats}, its rows_per_source"
            raise ValueError(f"decoder_input_ids has {rows} rows, but the source has {sources}{times}.")

    def target_mask(self, mask: Tensor | None, embedded: Tensor, keeps_cache: bool) -> Tensor | None:
        """The mask of the new tokens, `(rows, time)`; None where it makes no difference."""
        if mask is None:
            return None
        mask = mask[:, -embedded.shape[1] :] if mask.dim() == 2 else mask
        mask = boolean_mask(mask, embedded.shape[:2], "decoder_attention_mask", "target")
        # Padding after a row's last token reaches no token; it matters only to a state that is kept. An exported graph
        # cannot depend on the values of a mask.
        if not torch.compiler.is_exporting() and (
            mask.all() or (not keeps_cache and bool((mask[:, :-1] | ~mask[:, 1:]).all()))
        ):
            return None
        return mask

    def _memory_mask(self, encoder_outputs: RnnS2SEncoderOutput, attention_mask: Tensor | None) -> Tensor | None:
        """The mask `(batch, source)` of the memory. The shape of the memory is checked, too."""
        memory = cast(Tensor, encoder_outputs.last_hidden_state)
        if memory.dim() != 3 or memory.shape[-1] != self.memory_size:
            raise ValueError(
                f"encoder_outputs has a last_hidden_state of the shape {tuple(memory.shape)}; this decoder reads "
                f"(batch, source, {self.memory_size}). Pass what the encoder of this model returned."
            )
        mask = getattr(encoder_outputs, "attention_mask", None) if attention_mask is None else attention_mask
        return None if mask is None else boolean_mask(mask, memory.shape[:2], "attention_mask", "source")

    def _final_states(self, encoder_outputs: RnnS2SEncoderOutput) -> dict[str, Tensor]:
        """The encoder's final states by name; none if there are none and the bridge does without."""
        own = CELLS[self.config.cell_type].state_names
        known = dict.fromkeys(name for cell in CELLS.values() for name in cell.state_names)
        given = {name: getattr(encoder_outputs, f"final_{name}", None) for name in known}
        if not self.bridge.reads_state and all(part is None for part in given.values()):
            return {}
        for name, part in given.items():
            if (part is None) == (name in own):
                raise ValueError(
                    f"encoder_outputs has {'no' if part is None else 'a'} final_{name}, but cell_type is "
                    f"{self.config.cell_type!r}. Pass what the encoder of this model returned, whole."
                )
        return {name: part for name, part in given.items() if part is not None}


class ConditionalDecoder(RnnS2SDecoder):
    """A decoder whose query layer makes two transitions at each step (Sennrich et al. 2017, Nematus, section 3).

    The first one reads the token, its state asks the attention, and a second cell reads the context from there. The
    state after both is what the layers above and the readout read, and what the next step begins with.
    """

    def __init__(self, config: RnnS2SConfig, memory_size: int | None = None, state_size: int | None = None) -> None:
        super().__init__(config, memory_size, state_size)
        self.context_layer = build_layer(config, self.memory_size, config.decoder_size)
        self.post_init()


# `decoder_type` of the configuration, and the class it names.
DECODERS: dict[str, type[RnnS2SDecoder]] = {"stack": RnnS2SDecoder, "conditional": ConditionalDecoder}


def joined(outputs: Sequence[DecoderOutput]) -> DecoderOutput:
    """Concatenate what was computed of successive chunks of the target."""
    if len(outputs) == 1:
        return outputs[0]
    weights = [output.weights for output in outputs if output.weights is not None]
    return DecoderOutput(
        torch.cat([output.last_hidden_state for output in outputs], dim=1),
        torch.cat(weights, dim=2) if weights else None,
        tuple(torch.cat(parts, dim=1) for parts in zip(*(one.layer_outputs for one in outputs), strict=True)),
        None,  # the caller has the tokens
    )
