"""What the graphs of an exported model compute, with nothing but tensors going in and out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..decoding.stepper import read_with
from ..model.decoder_rnn_s2s import RnnS2SDecoder
from ..model.encoder_rnn_s2s import TokenEncoder
from ..model.head_rnn_s2s import VocabularyHead
from ..model.state_rnn_s2s import DecoderState, Sources
from .bounds import is_layer_bounded, is_projection_bounded, is_readout_bounded
from .choice import GROUP, best_continuations, gathered, group_size, remainder
from .layers import GraphLinear, GraphRecurrentLayer, Storage, with_graph_layers
from .source_tokens import can_look_up, reader_of_places
from .token_table import LayerAfterTable, has_table


class EncoderGraph(nn.Module):
    """Sources become a memory, the keys of the attention, and the decoder's first state."""

    def __init__(self, model: Any, stored: Storage) -> None:
        super().__init__()
        self.encoder = cast(TokenEncoder, with_graph_layers(model.get_encoder(), stored))
        self.decoder = cast(RnnS2SDecoder, with_graph_layers(model.model.decoder, stored))
        # While torch exports the encoder, it says that it is of another class
        self.encoder_class, self.has_lookup = type(self.encoder), can_look_up(self.encoder)

    def forward(self, tokens: Tensor, places: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors of `Sources`, and those of the first state.

        Args:
            tokens: all that there are in the sources, `(tokens,)`.
            places: of each position's token among them, `(sources, source)`.
            mask: True at tokens, `(sources, source)`.
        """
        encoder: Any = self.encoder
        if self.has_lookup:
            reader = reader_of_places(self.encoder_class, encoder, tokens)
            encoded = reader.read(places.unsqueeze(-1), mask, None, False)
        else:
            embedded = functional.embedding(places, encoder.embed_tokens(tokens))
            encoded = encoder.read(embedded, mask, None, False)
        encoded = dataclasses.replace(encoded, attention_mask=mask)
        memory = encoded.last_hidden_state
        sources = Sources(memory, self.decoder.prepare_keys(memory), mask)
        state = self.decoder.first_state(encoded, sources)
        return *_present(sources[:2]), *tensors_of(state)


class Step(NamedTuple):
    """What a step reads beside the tokens.

    Attributes:
        parents: `(rows,)`, which row of the state each row goes on from; None: from that with its number.
        state: the tensors of a `DecoderState`, `(rows before, ...)`.
        sources: the tensors of `Sources`.
        table: what the first layer makes of each token, `(vocabulary, gates)`; None where it is computed.
    """

    parents: Tensor | None
    state: list[Tensor]
    sources: list[Tensor]
    table: Tensor | None = None


class Output(NamedTuple):
    """The rows of the output layer for the tokens of a shortlist, as its weights are stored.

    Attributes:
        numbers: `(in, tokens)`, integers or not.
        scale: of the integers, `(tokens,)`; for others it is not read.
        bias: `(tokens,)`.
        ids: of the tokens, `(tokens,)`.
    """

    numbers: Tensor
    scale: Tensor
    bias: Tensor
    ids: Tensor


class StepGraph(nn.Module):
    """A step of the decoder, and what becomes of its scores. This one returns all of them.

    Args:
        model: the model.
        stored: gives a parameter as it is stored.
        template: any state of the decoder, which says where each tensor belongs.
    """

    def __init__(self, model: Any, stored: Storage, template: DecoderState) -> None:
        super().__init__()
        self.decoder = _decoder_of_step(model, stored)
        self.head = cast(VocabularyHead, with_graph_layers(model.output_head, stored))
        self.lm_head = GraphLinear(model.lm_head, stored, is_readout_bounded(model))
        self.template, self.has_keys = template, model.model.decoder.attention is not None
        self.vocabulary = model.config.target_vocab_size

    def forward(
        self,
        tokens: Tensor,
        parents: Tensor,
        state: list[Tensor],
        sources: list[Tensor],
        table: Tensor | None = None,
    ) -> Any:
        """Read tokens `(rows,)`; see `Step`. Returns what is chosen, then the tensors of the new state."""
        logits, after = self._step(tokens, Step(parents, state, sources, table))
        return logits, *after

    def _step(self, tokens: Tensor, step: Step, shortlist: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        parents = step.parents
        parts = step.state if parents is None else [gathered(part, parents) for part in step.state]
        before = state_of(self.template, parts)
        memory, *rest = step.sources
        sources = Sources(memory, rest[0] if self.has_keys else None, rest[-1])
        embedded = self._embedded(tokens, step.table).unsqueeze(1)
        read = self.decoder.read_at_once(embedded, before, sources)
        output, after = read_with(self.head, self.lm_head, tokens.unsqueeze(1), *read)
        layer = self.lm_head if shortlist is None else functools.partial(self._of_shortlist, Output(*shortlist))
        return self.head(cast(nn.Module, layer), output, sources).squeeze(1), tensors_of(after)

    def _embedded(self, tokens: Tensor, table: Tensor | None) -> Tensor:
        """What the decoder reads of tokens `(rows,)`: rows of the table, or embeddings."""
        return self.decoder.embed_tokens(tokens) if table is None else functional.embedding(tokens, table).float()

    def _of_shortlist(self, layer: Output, inputs: Tensor) -> Tensor:
        """What the output layer returns for the tokens of a shortlist alone."""
        if self.lm_head.product.is_int8:
            return self.lm_head.product.of(inputs, layer.numbers, layer.scale, layer.bias)
        return inputs @ layer.numbers + layer.bias


class GreedyGraph(StepGraph):
    """A step that goes on with the token of the highest score in each row; `search_loop` makes a whole search of it.

    With the tensors of an `Output`, only the tokens of a shortlist are scored.
    """

    def forward(  # type: ignore[override]
        self,
        tokens: Tensor,
        finished: Tensor,
        ends: Tensor,
        padding: Tensor,
        most_finished: Tensor,
        state: list[Tensor],
        sources: list[Tensor],
        output: list[Tensor] | None = None,
        table: Tensor | None = None,
    ) -> Any:
        """Read tokens `(rows,)`.

        Args:
            tokens: that were written last.
            finished: which rows are, `(rows,)`. They get padding.
            ends: whether each token finishes a row, `(vocabulary,)`.
            padding: the token of rows that are finished, `()`.
            most_finished: how many rows may be finished before the search is to stop, `()`.
            state: as in `Step`.
            sources: as in `Step`.
            output: of a shortlist.
            table: as in `Step`.

        Returns:
            Whether the search goes on; the tokens that are written and the rows that are finished now; the tensors of
            the new state; and the tokens once more.
        """
        logits, after = self._step(tokens, Step(None, state, sources, table), output)
        best = logits.argmax(1)
        if output is not None:
            best = Output(*output).ids.gather(0, best)
        written = torch.where(finished, padding, best)
        now = finished | ends.gather(0, best)
        goes_on = now.sum() <= most_finished
        return goes_on, written, now, *after, written.clone()


class BeamGraph(StepGraph):
    """A step that goes on with the best continuations of each sentence; `search_loop` makes a loop of it.

    Which hypotheses are the best in the end is not decided here. The loop stops where some sentences have all of
    theirs, and may be finished.

    With the tensors of an `Output` as in `GreedyGraph`; the number of its tokens is a multiple of `GROUP`.
    """

    def forward(  # type: ignore[override]
        self,
        tokens: Tensor,
        parents: Tensor,
        offsets: Tensor,
        finished: Tensor,
        candidates: Tensor,
        kept: Tensor,
        ends: Tensor,
        most_full: Tensor,
        state: list[Tensor],
        sources: list[Tensor],
        output: list[Tensor] | None = None,
        table: Tensor | None = None,
    ) -> Any:
        """Read tokens `(rows,)`.

        Args:
            tokens: that were written last.
            parents: as in `Step`.
            offsets: the log-probabilities of the beams, `(sentences, beams)`.
            finished: how many hypotheses of each sentence are finished, `(sentences,)`.
            candidates: the numbers from 0 on of the continuations that are wanted, `(count,)`.
            kept: `(beams,)`; only the number of them counts, which is how many go on.
            ends: whether each token ends a hypothesis, `(vocabulary,)`.
            most_full: how many sentences may have as many finished hypotheses as beams before the search is to stop.
            state: as in `Step`.
            sources: as in `Step`.
            output: of a shortlist.
            table: as in `Step`.

        Returns:
            Whether the search goes on; the tokens, parents and offsets of the next step, of the best continuations
            that do not end, and how many hypotheses are finished then; the tensors of the new state; and the best
            continuations: log-probabilities, beams and tokens, each `(sentences, count)`.
        """
        logits, after = self._step(tokens, Step(parents, state, sources, table), output)
        group = group_size(self.vocabulary) if output is None else GROUP
        values, rows, best = best_continuations(logits, offsets, candidates.shape[0], group)
        if output is not None:
            best = gathered(Output(*output).ids, best)
        is_end = gathered(ends, best).long()
        count = kept.shape[0]
        now = finished + is_end[:, :count].sum(1)
        goes_on = (now >= count).sum() <= most_full
        # Those that do not end, in their order; all numbers are different, so that no other order is possible
        first = (is_end * candidates.shape[0] + candidates).topk(count, dim=1, largest=False).indices
        following = best.gather(1, first).flatten(), rows.gather(1, first).flatten(), values.gather(1, first)
        return goes_on, *following, now, *after, values, remainder(rows, offsets.shape[1]), best.clone()


def _decoder_of_step(model: Any, stored: Storage) -> RnnS2SDecoder:
    """The decoder for a graph; where there is a table of tokens, it reads rows of it in place of embeddings."""
    decoder = cast(RnnS2SDecoder, with_graph_layers(model.model.decoder, stored))
    if has_table(model, stored):
        decoder.layers[0] = LayerAfterTable(model, stored)
    for index, layer in enumerate(decoder.layers):
        if isinstance(layer, GraphRecurrentLayer) and is_layer_bounded(model, index):
            layer.take_bounded_inputs()
    if isinstance(decoder.output_projection, GraphLinear):
        decoder.output_projection.product.is_bounded = is_projection_bounded(model)
    return decoder


def tensors_of(state: DecoderState) -> list[Tensor]:
    """All tensors of a state, in order."""
    found: list[Tensor] = []
    state.map(lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found


def state_of(template: DecoderState, tensors: Sequence[Tensor]) -> DecoderState:
    """The state with these tensors, each in its place."""
    rest = iter(tensors)
    return template.map(lambda _: next(rest))


def _present(parts: Sequence[Tensor | None]) -> list[Tensor]:
    return [part for part in parts if part is not None]
