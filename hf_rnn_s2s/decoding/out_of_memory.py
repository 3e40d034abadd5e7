"""What there was no memory for, and what to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def naming_the_batch(batch: str, way_out: str) -> Iterator[None]:
    """
    Raises:
        torch.OutOfMemoryError: for whatever error a lack of memory comes as, with the batch and the way out before its
            own text.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise torch.OutOfMemoryError(f"There is not enough memory for {batch}: {way_out}.\n{error}") from error


def _is_out_of_memory(error: Exception) -> bool:
    # On a CPU torch has no class for it.
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


__all__ = ["naming_the_batch"]
