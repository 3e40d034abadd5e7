"""Batches of rows by their lengths, and what is read of a stream."""

import random
from collections.abc import Iterable, Iterator

import pytest
import torch

from hf_rnn_s2s.decoding.batching import Stream, batches_in_order, batches_of_like_length, collate


@pytest.mark.parametrize("seed", range(5))
def test_batches_keep_their_bounds(seed: int) -> None:
    draw = random.Random(seed)
    lengths = [draw.choice([0, 1, 5, 20, 200, 3000]) + draw.randint(0, 20) for _ in range(draw.randint(1, 200))]
    batch_size, batch_tokens = draw.randint(1, 40), draw.randint(1, 4000)
    batches = batches_of_like_length(lengths, batch_size, batch_tokens)
    rows = [row for batch in batches for row in batch]
    assert sorted(rows) == list(range(len(lengths)))
    assert [lengths[row] for row in rows] == sorted(lengths, reverse=True)
    for batch, following in zip(batches, [*batches[1:], None], strict=True):

        def fits(batch: list[int]) -> bool:
            tokens = len(batch) * lengths[batch[0]]
            padding = tokens - sum(lengths[row] for row in batch)
            return len(batch) <= batch_size and tokens <= batch_tokens and padding <= batch_tokens / 2

        assert len(batch) == 1 or fits(batch)
        assert following is None or not fits([*batch, following[0]])  # as full as they may be


def test_sentences_of_every_day_share_one_batch() -> None:
    lengths = [5 + number for number in range(32)]
    assert batches_of_like_length(lengths, 32, 4096) == [list(range(31, -1, -1))]
    assert batches_of_like_length([], 32, 4096) == []


def test_batches_in_order() -> None:
    assert batches_in_order(5, 2) == [[0, 1], [2, 3], [4]]
    assert batches_in_order(0, 2) == []


@pytest.mark.parametrize(("side", "row"), [("left", [9, 9, 7]), ("right", [7, 9, 9])])
def test_rows_are_padded(side: str, row: list[int]) -> None:
    tensors = collate([[7], [4, 5, 6]], 9, side)
    assert tensors["input_ids"].tolist() == [row, [4, 5, 6]]
    assert torch.equal(tensors["attention_mask"], (tensors["input_ids"] != 9).long())


def test_a_stream_reads_no_more_than_it_needs() -> None:
    read: list[int] = []

    def texts() -> Iterator[str]:
        for number in range(10):
            read.append(number)
            yield str(number)

    seen: list[tuple[list[str], int]] = []

    def translate(batches: Iterable[tuple[list[str], int]]) -> Iterator[str]:
        for batch, first in batches:
            seen.append((batch, first))
            yield from (text * 2 for text in batch)

    results = iter(Stream(texts(), translate, batch_size=3))
    assert next(results) == "00"
    assert read == [0, 1, 2]
    assert list(results) == [str(number) * 2 for number in range(1, 10)]
    assert [first for _, first in seen] == [0, 3, 6, 9]
    assert seen[-1][0] == ["9"]
