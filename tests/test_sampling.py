import random

import torch

from hf_rnn_s2s.sampling import ShuffledLengthGroups

ROWS, BATCH = 2013, 16


def lengths(seed: int) -> list[int]:
    generator = random.Random(seed)
    return [generator.randint(1, 40) for _ in range(ROWS)]


def batches(rows: list[int]) -> list[list[int]]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


def test_every_row_comes_once_in_batches_of_like_length() -> None:
    source, target = lengths(1), lengths(2)
    rows = list(ShuffledLengthGroups(source, target, BATCH, 3, lambda: 0))
    assert sorted(rows) == list(range(ROWS))
    assert len(ShuffledLengthGroups(source, target, BATCH, 3, lambda: 0)) == ROWS
    padded = sum(len(batch) * max(target[row] for row in batch) for batch in batches(rows))
    assert padded < 1.1 * sum(target)
    shuffled = torch.randperm(ROWS).tolist()
    assert sum(len(batch) * max(target[row] for row in batch) for batch in batches(shuffled)) > 1.7 * sum(target)


def test_rows_of_one_target_length_are_sorted_by_the_source() -> None:
    source = lengths(1)
    rows = list(ShuffledLengthGroups(source, [7] * ROWS, BATCH, 3, lambda: 0))
    assert sum(len(batch) * max(source[row] for row in batch) for batch in batches(rows)) < 1.1 * sum(source)


def test_lengths_of_consecutive_batches_do_not_follow_each_other() -> None:
    target = lengths(2)
    means = torch.tensor(
        [
            sum(target[row] for row in batch) / len(batch)
            for batch in batches(list(ShuffledLengthGroups(lengths(1), target, BATCH, 3, lambda: 0)))
        ]
    )
    correlation = torch.corrcoef(torch.stack([means[:-1], means[1:]]))[0, 1]
    assert abs(correlation) < 0.25


def test_fewer_rows_than_a_batch() -> None:
    assert sorted(ShuffledLengthGroups([3, 1, 2], [1, 1, 1], BATCH, 3, lambda: 0)) == [0, 1, 2]


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    lengths = list(range(1, 200))

    def order(seed: int, epoch: int, global_seed: int = 0) -> list[int]:
        torch.manual_seed(global_seed)
        return list(ShuffledLengthGroups(lengths, lengths, batch_size=4, seed=seed, epoch=lambda: epoch))

    assert order(7, 1) == order(7, 1, global_seed=1)  # whatever else draws random numbers
    assert len({tuple(order(seed, epoch)) for seed, epoch in ((7, 0), (7, 1), (8, 5))}) == 3
