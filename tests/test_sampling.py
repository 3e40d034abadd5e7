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
    torch.manual_seed(0)
    source, target = lengths(1), lengths(2)
    rows = list(ShuffledLengthGroups(source, target, BATCH))
    assert sorted(rows) == list(range(ROWS))
    assert len(ShuffledLengthGroups(source, target, BATCH)) == ROWS
    padded = sum(len(batch) * max(target[row] for row in batch) for batch in batches(rows))
    assert padded < 1.1 * sum(target)
    shuffled = torch.randperm(ROWS).tolist()
    assert sum(len(batch) * max(target[row] for row in batch) for batch in batches(shuffled)) > 1.7 * sum(target)


def test_rows_of_one_target_length_are_sorted_by_the_source() -> None:
    torch.manual_seed(0)
    source = lengths(1)
    rows = list(ShuffledLengthGroups(source, [7] * ROWS, BATCH))
    assert sum(len(batch) * max(source[row] for row in batch) for batch in batches(rows)) < 1.1 * sum(source)


def test_lengths_of_consecutive_batches_do_not_follow_each_other() -> None:
    torch.manual_seed(0)
    target = lengths(2)
    means = torch.tensor(
        [
            sum(target[row] for row in batch) / len(batch)
            for batch in batches(list(ShuffledLengthGroups(lengths(1), target, BATCH)))
        ]
    )
    correlation = torch.corrcoef(torch.stack([means[:-1], means[1:]]))[0, 1]
    assert abs(correlation) < 0.25


def test_the_order_follows_the_seed_and_differs_by_pass() -> None:
    sampler = ShuffledLengthGroups(lengths(1), lengths(2), BATCH)
    torch.manual_seed(3)
    first, second = list(sampler), list(sampler)
    torch.manual_seed(3)
    assert first == list(sampler)
    assert second == list(sampler)
    assert first != second


def test_fewer_rows_than_a_batch() -> None:
    assert sorted(ShuffledLengthGroups([3, 1, 2], [1, 1, 1], BATCH)) == [0, 1, 2]


def test_a_seed_of_its_own_makes_the_order_of_every_epoch() -> None:
    lengths = list(range(1, 200))

    def orders(seed: int | None, global_seed: int) -> list[list[int]]:
        torch.manual_seed(global_seed)
        sampler = ShuffledLengthGroups(lengths, lengths, batch_size=4, seed=seed)
        epochs = []
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            epochs.append(list(sampler))
        return epochs

    first, second = orders(7, 0)
    assert first != second
    assert orders(7, 1) == [first, second]  # whatever else draws random numbers
    assert orders(8, 0)[0] != first
    assert orders(None, 0) != orders(None, 1)
