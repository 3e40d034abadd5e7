"""The order of the training examples: batches of like length, in random order."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler


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


__all__ = ["ShuffledLengthGroups"]
