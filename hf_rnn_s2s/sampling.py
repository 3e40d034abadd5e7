"""The order of the training examples: batches of like length, in random order."""

from collections.abc import Iterator, Sequence

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

    Each pass draws a new order, from torch's global random state or, with a seed, from that and the number of the
    epoch. Either way a run is repeatable and resumable.

    Args:
        source_lengths, target_lengths: tokens of each example. Rows are sorted by the target, where the output layer
            makes padding dearest, and those of one target length by the source.
        batch_size: rows that are padded together.
        seed: of the orders; None for the global random state.
    """

    def __init__(
        self, source_lengths: Sequence[int], target_lengths: Sequence[int], batch_size: int, seed: int | None = None
    ) -> None:
        above_any_source = max(source_lengths) + 1
        keys = [
            target * above_any_source + source for source, target in zip(source_lengths, target_lengths, strict=True)
        ]
        self.batch_size = batch_size
        self.seed = seed
        self._epoch = 0
        self._generator = None if seed is None else torch.Generator()
        self._groups = LengthGroupedSampler(batch_size, lengths=keys, generator=self._generator)

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch comes next, counted from 0; the Trainer does so."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[int]:
        if self._generator is not None and self.seed is not None:
            self._generator.manual_seed(self.seed + self._epoch)
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
