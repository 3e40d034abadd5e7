"""The order of the training examples: batches of similar length, in random order."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler

from ..errors import UsageError

# Batches in a window of `TokenBudgetBatches`: more of them mix the rows more, and cost more padding.
WINDOW = 4


class ShuffledLengthGroups(Sampler[int]):
    """Row numbers of a dataset, each `batch_size` in succession of similar length, which saves padding.

    The examples are shuffled and cut into pieces of 50 batches, and each piece is sorted by length, as
    `LengthGroupedSampler` of transformers does. But that sampler yields each piece from its longest batch to its
    shortest, so that lengths rise and fall periodically during training. Here the batches are shuffled, too, and rows
    are sorted by target length before source length.

    The order follows from the seed and the number of the epoch alone, so a run is repeatable, and one that is resumed
    in the middle of an epoch continues with its remaining batches.

    Args:
        source_lengths: source tokens of each example; they order the rows of the same target length.
        target_lengths: target tokens of each example. Rows are sorted by them first, as padding costs most in the
            output layer.
        batch_size: rows that are padded together.
        seed: of the random order.
        epoch: called at the beginning of each pass, returns the number of the epoch, counted from 0.
    """

    def __init__(
        self,
        source_lengths: Sequence[int],
        target_lengths: Sequence[int],
        batch_size: int,
        seed: int,
        epoch: Callable[[], int],
    ) -> None:
        source_limit = max(source_lengths) + 1
        keys = [target * source_limit + source for source, target in zip(source_lengths, target_lengths, strict=True)]
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
    """Batches of as many rows as fit into a token budget, padding included: many short rows, or few long ones.

    Sorted by length, the examples are cut into windows of a few batches. Which rows of a window share a batch, and the
    order of the batches, is random. The sizes of windows and batches follow from the lengths alone, so that all epochs
    have the same number of batches, and can be repeated or resumed.

    With several processes the batches of one step have rows of similar lengths, and equally many of them, give or take
    one, so that no process waits for another one. Rows are repeated only if there are fewer of them than processes.

    Args:
        source_lengths: source tokens of each example.
        target_lengths: target tokens of each example.
        token_budget: most tokens in a batch of one process, on its longer side, padding included.
        seed: of the random order.
        epoch: called at the beginning of each pass, returns the number of the epoch, counted from 0.
        processes: number of processes. The batches of one step follow each other, one for each process.

    Raises:
        UsageError: if a single example is longer than the budget.
        ValueError: if there are no examples.
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
        # Sort by target length, as padding costs most in the output layer, then by source length: alternately rising
        # and falling, so that the lengths do not jump where one target length ends and the next begins.
        source_limit = sources.max() + 1
        self._keys = targets * source_limit + torch.where(targets % 2 == 0, sources, source_limit - 1 - sources)
        lengths = longer[self._keys.argsort(stable=True)].tolist()
        windows = _windows(lengths, token_budget)
        self._window_of = torch.tensor([number for number, (rows, _) in enumerate(windows) for _ in rows])
        self._steps = [step for rows, size in windows for step in _even_parts(rows, size * processes)]

    def __len__(self) -> int:
        return len(self._steps) * self.processes

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + self._epoch())
        # Shuffle rows of equal lengths, then the rows of each window
        shuffled = torch.randperm(len(self._keys), generator=generator)
        rows = shuffled[self._keys[shuffled].argsort(stable=True)].tolist()
        noise = torch.rand(len(rows), generator=generator, dtype=torch.float64)
        places = (self._window_of + noise).argsort().tolist()
        for number in torch.randperm(len(self._steps), generator=generator).tolist():
            step = self._steps[number]
            step_rows = [rows[place] for place in sorted(places[step.start : step.stop])]
            while len(step_rows) < self.processes:
                step_rows = (step_rows * 2)[: self.processes]
            for process in range(self.processes):
                yield step_rows[process :: self.processes]


def _windows(lengths: list[int], token_budget: int) -> list[tuple[range, int]]:
    """Ranges of sorted rows, and how many rows of each range fit into a batch even if all are its longest."""
    windows, start, longest = [], 0, 0
    for row, length in enumerate(lengths):
        size = token_budget // max(longest, length)
        if row - start >= WINDOW * size:
            windows.append((range(start, row), token_budget // longest))
            start, longest = row, 0
        longest = max(longest, length)
    return [*windows, (range(start, len(lengths)), token_budget // longest)]


def _even_parts(rows: range, most: int) -> list[range]:
    """Cut rows into as few parts of at most `most` rows as possible, all of nearly the same size."""
    count = -(-len(rows) // most)
    cuts = [rows.start + len(rows) * part // count for part in range(count + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(cuts)]
