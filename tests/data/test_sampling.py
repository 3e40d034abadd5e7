import random

import pytest
import torch

from hf_rnn_s2s.data.sampling import ShuffledLengthGroups, TokenBudgetBatches

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


BUDGET = 300
TARGET = lengths(2)
SOURCE = [max(1, length + difference % 5 - 2) for length, difference in zip(TARGET, lengths(1), strict=True)]


def by_tokens(epoch: int = 0, seed: int = 3, processes: int = 1) -> TokenBudgetBatches:
    return TokenBudgetBatches(SOURCE, TARGET, BUDGET, seed, lambda: epoch, processes)


def padded_tokens(batch: list[int]) -> int:
    """Of the side that has more."""
    return len(batch) * max(max(side[row] for row in batch) for side in (SOURCE, TARGET))


def test_every_row_comes_once_and_no_batch_is_over_its_budget() -> None:
    batches = list(by_tokens())
    assert sorted(row for batch in batches for row in batch) == list(range(ROWS))
    assert len(batches) == len(by_tokens())
    sizes = [padded_tokens(batch) for batch in batches]
    assert max(sizes) <= BUDGET
    assert sum(sizes) / len(sizes) > 0.85 * BUDGET  # hardly any room is left
    assert min(map(len, batches)) < 10 < 40 < max(map(len, batches))


def test_batches_by_tokens_waste_little_padding() -> None:
    batches = list(by_tokens())
    for side in (SOURCE, TARGET):
        assert sum(len(batch) * max(side[row] for row in batch) for batch in batches) < 1.1 * sum(side)


def test_batches_by_tokens_follow_from_seed_and_epoch_alone() -> None:
    torch.manual_seed(1)
    first = list(by_tokens(epoch=2, seed=5))
    torch.manual_seed(2)
    assert list(by_tokens(epoch=2, seed=5)) == first
    others = [list(by_tokens(epoch, seed)) for epoch, seed in ((3, 5), (2, 6))]
    for other in others:
        assert len(other) == len(first)
        common = {tuple(sorted(batch)) for batch in first} & {tuple(sorted(batch)) for batch in other}
        assert len(common) < 0.2 * len(first)  # other rows come together, not the same ones in another order


def test_lengths_of_consecutive_batches_by_tokens_do_not_follow_each_other() -> None:
    means = torch.tensor([sum(TARGET[row] for row in batch) / len(batch) for batch in by_tokens()])
    assert abs(torch.corrcoef(torch.stack([means[:-1], means[1:]]))[0, 1]) < 0.25


def test_the_processes_of_a_step_have_like_batches() -> None:
    batches = list(by_tokens(processes=3))
    assert len(batches) % 3 == 0
    assert len(batches) == len(by_tokens(processes=3))
    assert sorted(row for batch in batches for row in batch) == list(range(ROWS))
    for step in range(0, len(batches), 3):
        of_step = batches[step : step + 3]
        assert max(map(len, of_step)) - min(map(len, of_step)) <= 1
        assert max(map(padded_tokens, of_step)) <= BUDGET
        if min(map(len, of_step)) > 3:
            assert max(map(padded_tokens, of_step)) < 1.6 * min(map(padded_tokens, of_step))


def test_fewer_rows_than_processes() -> None:
    batches = list(TokenBudgetBatches([3, 1], [1, 1], 10, 0, lambda: 0, processes=5))
    assert [len(batch) for batch in batches] == [1] * 5
    assert {row for batch in batches for row in batch} == {0, 1}


@pytest.mark.parametrize("source", [[3, 41], [41, 3]])
def test_a_budget_too_small_for_the_longest_example_is_refused(source: list[int]) -> None:
    assert list(TokenBudgetBatches(source, [5, 5], 41, 0, lambda: 0))
    with pytest.raises(ValueError, match="A batch of 40 tokens has no room for the longest example, which has 41"):
        TokenBudgetBatches(source, [5, 5], 40, 0, lambda: 0)
