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

    Each pass draws a new order from torch's global random state, so a run is repeatable by its seed and resumable.

    Args:
        source_lengths, target_lengths: tokens of each example. Rows are sorted by the target, where the output layer
            makes padding dearest, and those of one target length by the source.
        batch_size: rows that are padded together.
    """

    def __init__(self, source_lengths: Sequence[int], target_lengths: Sequence[int], batch_size: int) -> None:
        above_any_source = max(source_lengths) + 1
        keys = [
            target * above_any_source + source for source, target in zip(source_lengths, target_lengths, strict=True)
        ]
        self.batch_size = batch_size
        self._groups = LengthGroupedSampler(batch_size, lengths=keys)

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[int]:
        rows = torch.tensor(list(self._groups))
        full = len(rows) // self.batch_size
        batches = rows[: full * self.batch_size].view(full, self.batch_size)
        # The batch that is not full stays last: a loader cuts the rows into batches from the beginning.
        return iter([*batches[torch.randperm(full)].flatten().tolist(), *rows[full * self.batch_size :].tolist()])


__all__ = ["ShuffledLengthGroups"]
