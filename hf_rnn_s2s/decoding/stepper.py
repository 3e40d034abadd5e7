"""The decoder one token at a time, with nothing around it: what a search repeats for every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..model.decoder_rnn_s2s import RnnS2SDecoder, joined
from ..model.encoder_rnn_s2s import RnnS2SEncoderOutput
from ..model.head_rnn_s2s import VocabularyHead
from ..model.state_rnn_s2s import DecoderOutput, DecoderState, Sources
from .guard import may_use_weights
from .packing import Module, packed
from .top_tokens import best_log_probabilities, best_tokens


class Until(NamedTuple):
    """How far greedy search goes before it looks at what was written.

    Attributes:
        steps: how many tokens it writes in each row, at most, 1 or more.
        end_ids: tokens that finish a row, `(ends,)`.
        padding: the token of rows that are finished, `()`.
        most_finished: it stops when more rows than that are finished.
    """

    steps: int
    end_ids: Tensor
    padding: Tensor
    most_finished: int


class Wanted(NamedTuple):
    """What beam search wants of its next steps.

    Attributes:
        candidates: how many continuations of each sentence it is to be given.
        beams: how many of them go on.
        steps: how many steps may be taken, at most. Those go on that do not end, the best first.
        end_ids: tokens that end a hypothesis, `(ends,)`, each once.
        finished: how many hypotheses of each sentence are finished, `(sentences,)`. With as many as beams it is full.
        most_full: no further step is taken when more sentences than that are full.
    """

    candidates: int
    beams: int
    steps: int
    end_ids: Tensor
    finished: Tensor
    most_full: int


class Stepper:
    """What one search carries from step to step: the decoder's state in every row, and the sources.

    Beams of one sentence are rows that stand next to each other; the sources are there once for all of them.

    Args:
        decoder: reads tokens.
        head: turns decoder outputs into scores.
        lm_head: the output layer, which the head calls.
        encoder_outputs: those of the sources, one row for each.
        attention_mask: `(sources, source)`, 1 at tokens; None takes the mask of `encoder_outputs`.
        tokens: `(shortlist,)`, the only ids that may be written, in ascending order; None for the whole vocabulary.
        rows: number of rows in a step. For one row weights are not packed: reading them takes as long as packing.
        check: is called with the logits of the first step, `(rows, vocabulary)`.
        covers: whether to add up the attention.

    Attributes:
        modules: the decoder, the head and the output layer as they were given.
        vocabulary_size: number of logits in a row.
        is_precise: whether what `best_continuations` chose from had 32 bits or more.
    """

    is_precise = True

    def __init__(
        self,
        decoder: RnnS2SDecoder,
        head: VocabularyHead,
        lm_head: nn.Module,
        encoder_outputs: RnnS2SEncoderOutput,
        attention_mask: Tensor | None,
        tokens: Tensor | None = None,
        rows: int = 2,
        check: Callable[[Tensor], None] | None = None,
        covers: bool = False,
    ) -> None:
        self.modules = (decoder, head, lm_head)
        self._tokens, self._rows, self._check = tokens, rows, check
        self._decoder, self._head = self._prepare_module(decoder), self._prepare_module(head)
        # Only this head is certain to make one score of each row of the output layer's weights.
        selected = None if tokens is None or type(head) is not VocabularyHead else _select_rows(lm_head, tokens)
        self._lm_head = self._prepare_module(lm_head if selected is None else selected)
        self._columns = tokens if selected is None else None
        prepared = decoder.prepare(encoder_outputs, attention_mask)
        self._sources = self._prepare_sources(prepared)
        # With the mask as it was given: without one, a bridge that takes means would round them in another way.
        self._state = decoder.first_state(encoder_outputs, prepared if self._sources.mask is None else self._sources)
        self._start = self._sources, self._state
        self._covers, self._covered = covers, self._nothing_covered() if covers else None
        self.vocabulary_size = decoder.config.written_vocab_size if tokens is None else len(tokens)

    def step(self, token_ids: Tensor) -> Tensor:
        """Read tokens `(rows, time)`, and return the logits `(rows, vocabulary)` of the next one.

        The caller may change the logits in place.
        """
        embedded = self._decoder.embed_tokens(self._decoder.known_ids(token_ids))
        if token_ids.shape[1] == 1:
            read = self._decoder.read_at_once(embedded, self._state, self._sources)
        else:  # a prompt
            outputs, states = zip(*self._decoder.read_in_chunks(embedded, self._state, self._sources), strict=True)
            read = joined(outputs)._replace(embedded=embedded), states[-1]
        output, self._state = read_with(self._head, self._lm_head, token_ids, *read)
        last = output if token_ids.shape[1] == 1 else output.at(slice(-1, None))
        if self._covered is not None and last.weights is not None:
            self._covered = self._covered + last.weights.mean(1).squeeze(1).float()
        logits = self._head(self._lm_head, last, self._sources).squeeze(1)
        if self._columns is not None:
            logits = logits[:, self._columns]
        if self._check is not None:
            self._check(logits)
            self._check = None
        return logits

    def best_tokens(self, token_ids: Tensor, finished: Tensor, until: Until) -> Tensor:
        """Read tokens `(rows, time)`, and return those that are written behind them, `(rows, written)`.

        A token is the id with the highest logit of its row, or padding where the row is `finished` `(rows,)`. This
        stepper writes one of each row; others may write more, as `until` says.
        """
        best = self.ids(best_tokens(self.step(token_ids).float()))
        return torch.where(finished, until.padding, best).unsqueeze(1)

    def best_continuations(self, token_ids: Tensor, offsets: Tensor, wanted: Wanted) -> tuple[Tensor, Tensor, Tensor]:
        """Read tokens `(rows, time)`, and return the best continuations of each sentence, over all of its beams.

        `offsets` `(sentences, beams)` are added to the log-probabilities. Returns their log-probabilities with the
        offsets, the best first, their beams and the ids of their tokens, each `(steps, sentences, candidates)`. This
        stepper takes one step; others may take more, as `wanted` says, each from what goes on of the one before.
        """
        logits = self.step(token_ids)
        self.is_precise = logits.dtype.itemsize >= 4
        found = best_log_probabilities(logits.view(*offsets.shape, -1), offsets, wanted.candidates)
        values, beams, columns = (one.unsqueeze(0) for one in found)
        return values, beams, self.ids(columns)

    def restart(self) -> None:
        """Go back to the state and the sources from before the first step."""
        self._sources, self._state = self._start
        self._covered = self._nothing_covered() if self._covers else None

    @property
    def covered(self) -> Tensor | None:
        """The attention to each source position so far, `(rows, source)`, 1 at padding; None if it is not added up."""
        return self._covered

    def _nothing_covered(self) -> Tensor | None:
        """The first of these sums; None without attention."""
        memory, mask = self._sources.memory, self._sources.mask
        if self.modules[0].attention is None:
            return None
        return torch.zeros(memory.shape[:2], device=memory.device) if mask is None else (~mask).float()

    def _prepare_module(self, module: Module) -> Module:
        """The module that the steps call."""
        return packed(module) if self._rows > 1 else module

    def _prepare_sources(self, sources: Sources) -> Sources:
        """The sources that the steps read, without a mask where nothing is padded."""
        # Looked up on the CPU only: elsewhere it would wait for the device.
        mask = sources.mask
        unpadded = mask is not None and mask.device.type == "cpu" and bool(mask.all())
        return sources._replace(mask=None) if unpadded else sources

    def ids(self, columns: Tensor) -> Tensor:
        """The token ids of columns of the logits."""
        return columns if self._tokens is None else self._tokens[columns]

    def reorder(self, rows: Tensor, sources: Tensor | None = None) -> None:
        """Give row `i` the state of row `rows[i]`.

        Args:
            rows: indices of rows, `(new rows,)`: the same number of rows for each source.
            sources: indices of the sources that are still needed; None keeps all.
        """
        self._state = self._state.select(rows)
        if self._covered is not None:
            self._covered = self._covered.index_select(0, rows)
        if sources is not None:
            self._sources = self._sources.select(sources)


def read_with(
    head: VocabularyHead, lm_head: nn.Module, token_ids: Tensor, output: DecoderOutput, state: DecoderState
) -> tuple[DecoderOutput, DecoderState]:
    """What a head makes of what the decoder computed of tokens, if it has to read it first, and the state with it."""
    if not head.reads_first:
        return output, state
    output, remembered = head.read(lm_head, output, token_ids, state.head, None)
    return output, state._replace(head=remembered[-1])


def _select_rows(lm_head: nn.Module, tokens: Tensor) -> nn.Module | None:
    """An output layer for these tokens only; None if more than the weights may decide what the layer computes."""
    if not isinstance(lm_head, nn.Linear) or not may_use_weights(lm_head, nn.Linear):
        return None
    selected = nn.Linear(lm_head.in_features, len(tokens), lm_head.bias is not None, device="meta")
    selected.weight = nn.Parameter(lm_head.weight[tokens], requires_grad=False)
    if lm_head.bias is not None:
        selected.bias = nn.Parameter(lm_head.bias[tokens], requires_grad=False)
    return selected
