"""The order of the training examples: batches of like length, in random order."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler

from ..errors import UsageError

# Batches in a window of `TokenBudgetBatches`: the more, the more its rows are mixed, and the more padding there is.
WINDOW = 4


class ShuffledLengthGroups(Sampler[int]):
    """
    Rows of a dataset such that each `batch_size` of them in a row have nearly the same lengths, which saves padding.

    The examples are shuffled and cut into pieces of 50 batches, and each piece is sorted by length, as
    `LengthGroupedSampler` of transformers does. But that one hands out a piece from its longest batch to its shortest,
    over and over, so that lengths go up and down in step with the updates. Here the batches are shuffled, too, and the
    target's length counts before the source's.

    The order follows from the seed and the number of the epoch alone, so a run is repeatable, and one that is resumed
    in the middle of an epoch goes on with the batches that are left of it.

    Args:
        source_lengths, target_lengths: tokens of each example. Rows are sorted by the target, where the output layer
            makes padding dearest, and those of one target length by the source.
        batch_size: rows that are padded together.
        seed: of the orders.
        epoch: tells, at the beginning of each pass, which epoch it is, counted from 0.
    """

    def __init__(
        self,
        source_lengths: Sequence[int],
        target_lengths: Sequence[int],
        batch_size: int,
        seed: int,
        epoch: Callable[[], int],
    ) -> None:
        above_any_source = max(source_lengths) + 1
        keys = [
            target * above_any_source + source for source, target in zip(source_lengths, target_lengths, strict=True)
        ]
        self.batch_size = batch_size
        self.seed = seed
        self._epoch = epoch
        self._generator = torch.Generator()
        self._groups = LengthGroupedSampler(batch_size, lengths=keys, generator=self._generator)

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[int]:
        self._generator.manual_seed(self.seed + self._epoch())
        rows = torch.tensor(list(self._groups))
        full = len(rows) // self.batch_size
        batches = rows[: full * self.batch_size].view(full, self.batch_size)
        # The batch that is not full stays last: a loader cuts the rows into batches from the beginning.
        return iter(
            [
                *batches[torch.randperm(full, generator=self._generator)].flatten().tolist(),
                *rows[full * self.batch_size :].tolist(),
            ]
        )


class TokenBudgetBatches(Sampler[list[int]]):
    """
    Batches of as many rows as fit into a number of tokens, padding included: many short ones, or few long ones.

    Sorted by length, the examples are cut into windows of a few batches. Which rows of a window come together, and in
    which order the batches come, is random. Where windows and batches begin and end follows from the lengths alone, so
    that every epoch has the same number of batches, and can be repeated or resumed.

    With several processes the batches of one step have the same number of rows of like lengths, give or take one, so
    that no process waits for another one. Only where there are fewer rows than processes some are repeated.

    Args:
        source_lengths, target_lengths: tokens of each example.
        token_budget: most tokens in a batch of one process, on the side that has more, padding included.
        seed: of the orders.
        epoch: tells, at the beginning of each pass, which epoch it is, counted from 0.
        processes: how many there are. Batches come in groups of so many, one for each.

    Raises:
        UsageError: if an example alone is longer than the budget.
        ValueError: if there are none.
    """

    def __init__(
        self,
        source_lengths: Sequence[int],
        target_lengths: Sequence[int],
        token_budget: int,
        seed: int,
        epoch: Callable[[], int],
        processes: int = 1,
    ) -> None:
        if not len(source_lengths):
            raise ValueError("There are no examples to make batches of.")
        sources, targets = torch.tensor(source_lengths), torch.tensor(target_lengths)
        longer = torch.maximum(sources, targets).clamp(min=1)
        if longer.max() > token_budget:
            raise UsageError(
                f"A batch of {token_budget} tokens has no room for the longest example, which has {longer.max()}: "
                "raise per_device_train_batch_tokens, or leave long pairs out (max_source_length, max_target_length)."
            )
        self.seed, self.processes = seed, processes
        self._epoch = epoch
        # By the target, where the output layer makes padding dearest, then by the source: up, down, up, and so on, so
        # that neighbours are alike where one target length ends and the next begins.
        above = sources.max() + 1
        self._keys = targets * above + torch.where(targets % 2 == 0, sources, above - 1 - sources)
        lengths = longer[self._keys.argsort(stable=True)].tolist()
        windows = _windows(lengths, token_budget)
        self._window_of = torch.tensor([number for number, (rows, _) in enumerate(windows) for _ in rows])
        self._steps = [step for rows, size in windows for step in _even_parts(rows, size * processes)]

    def __len__(self) -> int:
        return len(self._steps) * self.processes

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + self._epoch())
        # Of equal lengths any order, then any order within each window
        shuffled = torch.randperm(len(self._keys), generator=generator)
        rows = shuffled[self._keys[shuffled].argsort(stable=True)].tolist()
        noise = torch.rand(len(rows), generator=generator, dtype=torch.float64)
        places = (self._window_of + noise).argsort().tolist()
        for number in torch.randperm(len(self._steps), generator=generator).tolist():
            step = self._steps[number]
            of_step = [rows[place] for place in sorted(places[step.start : step.stop])]
            while len(of_step) < self.processes:
                of_step = (of_step * 2)[: self.processes]
            for process in range(self.processes):
                yield of_step[process :: self.processes]


def _windows(lengths: list[int], token_budget: int) -> list[tuple[range, int]]:
    """Ranges of rows, and how many rows of each range always fit into a batch."""
    windows, start, longest = [], 0, 0
    for row, length in enumerate(lengths):
        size = token_budget // max(longest, length)
        if row - start >= WINDOW * size:
            windows.append((range(start, row), token_budget // longest))
            start, longest = row, 0
        longest = max(longest, length)
    return [*windows, (range(start, len(lengths)), token_budget // longest)]


def _even_parts(rows: range, most: int) -> list[range]:
    """As few parts as possible with at most so many rows, all of nearly the same size."""
    count = -(-len(rows) // most)
    cuts = [rows.start + len(rows) * part // count for part in range(count + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(cuts)]


__all__ = ["ShuffledLengthGroups", "TokenBudgetBatches"]
