"""The recurrent state that `generate()` carries from step to step, in place of a key-value cache."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from .state_rnn_s2s import DecoderState


class RnnS2SCache(Cache):
    """Holds the decoder's state after the tokens it has read, and the attention keys of the source.

    Its size does not grow with the number of tokens. Assisted and prompt-lookup decoding call `crop`, for which the
    past states must have been recorded.

    Attributes:
        state: the decoder's state; None before the first token.
        keys: what the attention prepared of the memory, `(batch, ..., source, key)`; None without attention.
    """

    is_compileable = False
    is_croppable = True

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.state: DecoderState | None = None
        self.keys: Tensor | None = None
        self._token_count = 0
        self._records_past = False
        self._past: list[DecoderState | None] = []

    def advance(self, state: DecoderState, keys: Tensor | None, token_count: int) -> None:
        """Take over the decoder's state after it has read `token_count` more tokens.

        Raises:
            ValueError: if past states are recorded and there is more than one token: states in between would be lost.
        """
        if self._records_past:
            if token_count != 1:
                raise ValueError(f"While past states are recorded tokens come one by one, not {token_count} at once.")
            self._past.append(self.state)
        self.state = state
        self.keys = keys
        self._token_count += token_count

    def keep_of_head(self, remembered: Sequence[Any]) -> None:
        """Take over what the head remembers after each of the tokens that were read last."""
        assert self.state is not None  # the decoder has read them
        if self._records_past:  # the states between them are there, too
            for place, one in enumerate(remembered[:-1], start=1 - len(remembered)):
                self._past[place] = self._past[place]._replace(head=one)  # type: ignore[union-attr]
        self.state = self.state._replace(head=remembered[-1])

    @property
    def is_initialized(self) -> bool:
        """Whether the decoder has read any token."""
        return self.state is not None

    @property
    def batch_size(self) -> int:
        """Number of rows; -1 before the first token."""
        return -1 if self.state is None else self.state.rows

    @property
    def records_past(self) -> bool:
        """Whether `crop` can take back tokens that are read from now on."""
        return self._records_past

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Number of tokens read."""
        return self._token_count

    def get_max_length(self, layer_idx: int | None = None) -> int:
        """-1: there is no limit."""
        return -1

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Sizes of a causal mask over everything read, as transformers asks for them: length and offset."""
        return self._token_count + query_length, 0

    def reset(self) -> None:
        """Forget everything but whether past states are recorded."""
        self.state, self.keys, self._token_count = None, None, 0
        self._past.clear()

    def activate_past_recording(self) -> None:
        """Keep every state from now on, so that `crop` can go back to it."""
        self._records_past = True

    def crop(self, tokens_to_remove: int) -> None:
        """Take back the last `tokens_to_remove` tokens; its sign does not matter.

        Raises:
            ValueError: if more tokens are to be removed than were read while past states were recorded.
        """
        count = abs(tokens_to_remove)
        if count > len(self._past):
            raise ValueError(
                f"Cannot take back {count} tokens: only {len(self._past)} were read since activate_past_recording(). "
                "Call it before the decoder reads them."
            )
        if count:
            self.state = self._past[-count]
            del self._past[-count:]
            self._token_count -= count

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Continue row `i` from the state of row `beam_idx[i]`, a beam of the same sentence, with the same keys."""
        self._map_states(lambda tensor: tensor.index_select(0, beam_idx.to(tensor.device)))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the given rows, in this order, with their keys."""
        self._map_all(lambda tensor: tensor.index_select(0, indices.to(tensor.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row, with its keys, `repeats` times."""
        self._map_all(lambda tensor: tensor.repeat_interleave(repeats, dim=0))

    def _map_all(self, change: Callable[[Tensor], Tensor]) -> None:
        self._map_states(change)
        if self.keys is not None:
            self.keys = change(self.keys)

    def _map_states(self, change: Callable[[Tensor], Tensor]) -> None:
        self.state = None if self.state is None else self.state.map(change)
        self._past = [None if state is None else state.map(change) for state in self._past]

    def __len__(self) -> int:
        return 0 if self.state is None else len(self.state.layers)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(tokens={self._token_count}, rows={self.batch_size}, layers={len(self)})"
