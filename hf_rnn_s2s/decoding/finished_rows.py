"""Rows of a search that are finished: when they are dropped from the batch, and where they are kept."""

from __future__ import annotations

import torch
from torch import Tensor


def most_finished(rows: int) -> int:
    """How many of so many rows may be finished, at most, before some are dropped."""
    return next((count - 1 for count in range(1, rows) if count > _kept(rows - count)), rows - 1)


def _kept(running: int) -> int:
    """How many finished rows stay in a batch in which so many others go on."""
    step = max(1, 2 ** (max(running - 1, 0).bit_length() - 3))
    return int(-running % step)


def rows_to_drop(finished: Tensor, count: int) -> Tensor | None:
    """Which rows to drop from the batch, `(rows,)`; None if there are none to drop.

    Moving the others costs part of a step, and a batch of a new size costs more than that, since kernels for the CPU
    are compiled for it. So batches have few sizes, an eighth apart, and some finished rows stay.

    Args:
        finished: which rows are finished, `(rows,)`.
        count: their number.
    """
    kept = _kept(len(finished) - count)
    if count <= kept:
        return None
    dropped = finished.clone()
    dropped[finished.nonzero().squeeze(1)[:kept]] = False
    return dropped


class FinishedRows:
    """The sequences of rows that were dropped from the batch."""

    def __init__(self, rows: int, pad_token_id: Tensor) -> None:
        self._rows, self._pad_token_id = rows, pad_token_id
        self._parts: list[tuple[Tensor, Tensor]] = []
        self._remaining = torch.arange(rows, device=pad_token_id.device)

    def add(self, dropped: Tensor, sequences: Tensor) -> None:
        """Add sequences `(dropped, length)`: those of the remaining rows where `dropped` `(remaining,)` is True."""
        self._parts.append((self._remaining[dropped], sequences))
        self._remaining = self._remaining[~dropped]

    def with_rest(self, sequences: Tensor) -> Tensor:
        """All sequences, padded to the longest one, `(rows, length)`, in the order of the rows.

        Args:
            sequences: those of the rows that remain, `(remaining, length)`.
        """
        if not self._parts:
            return sequences
        parts = [*self._parts, (self._remaining, sequences)]
        longest = max(sequences.shape[1] for _, sequences in parts)
        padded = self._pad_token_id.expand(self._rows, longest).contiguous()
        for rows, sequences in parts:
            padded[rows, : sequences.shape[1]] = sequences
        return padded
