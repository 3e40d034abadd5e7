"""Texts of a list or of a stream, put together into batches for the pipeline."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

# The part of `batch_tokens` that may be padding. Less than that costs less than another batch for the shorter rows.
PADDING_SHARE = 0.5


def batches_of_like_length(lengths: Sequence[int], batch_size: int, batch_tokens: int) -> list[list[int]]:
    """Put rows `0` to `len(lengths) - 1` in batches, from the longest to the shortest.

    Args:
        lengths: number of tokens of each row.
        batch_size: the most rows of a batch.
        batch_tokens: the most tokens of a batch, padding included, of which half may be padding. A row that is
            longer by itself is alone.
    """
    batches: list[list[int]] = []
    longest = padding = 0  # of the last batch, whose rows are padded to the longest
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        padding += longest - lengths[row]
        rows = len(batches[-1]) + 1 if batches else 0
        if 0 < rows <= batch_size and rows * longest <= batch_tokens and padding <= PADDING_SHARE * batch_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
            longest, padding = lengths[row], 0
    return batches


def batches_in_order(rows: int, batch_size: int) -> list[list[int]]:
    """Put rows `0` to `rows - 1` in batches of `batch_size`, the last of which may be smaller."""
    return [list(range(first, min(first + batch_size, rows))) for first in range(0, rows, batch_size)]


def collate(ids: list[list[int]], pad_id: int, padding_side: str) -> dict[str, Tensor]:
    """Pad rows of token ids to `input_ids` and `attention_mask`, both `(batch, source)`."""
    longest = max(map(len, ids))

    def rows(values: list[list[int]], filling: int) -> Tensor:
        padding = [[filling] * (longest - len(row)) for row in values]
        whole = zip(padding, values, strict=True) if padding_side == "left" else zip(values, padding, strict=True)
        return torch.tensor([[*left, *right] for left, right in whole])

    return {"input_ids": rows(ids, pad_id), "attention_mask": rows([[1] * len(row) for row in ids], 0)}


class Stream:
    """The results of a stream of texts.

    Args:
        texts: an iterator, or a dataset of torch.
        translate: turns lists of texts, each with the number of its first one among all, into as many results. It
            decides how far it reads ahead.
        batch_size: how many texts are read at a time.
        num_workers: how many processes read ahead in a dataset; iterators are read in this one.
    """

    def __init__(
        self,
        texts: Iterable[Any],
        translate: Callable[[Iterable[tuple[list[Any], int]]], Iterator[Any]],
        batch_size: int,
        num_workers: int = 0,
    ) -> None:
        self._texts, self._translate, self._batch_size = texts, translate, batch_size
        self._num_workers = num_workers

    def __len__(self) -> int:
        """The number of results, where the stream tells it."""
        return len(self._texts)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        return self._translate(self._numbered())

    def _numbered(self) -> Iterator[tuple[list[Any], int]]:
        first = 0
        for texts in self._read():
            yield texts, first
            first += len(texts)

    def _read(self) -> Iterator[list[Any]]:
        if isinstance(self._texts, Dataset):
            yield from DataLoader(
                self._texts, batch_size=self._batch_size, num_workers=self._num_workers, collate_fn=list
            )
            return
        texts = iter(self._texts)
        while batch := list(itertools.islice(texts, self._batch_size)):
            yield batch
