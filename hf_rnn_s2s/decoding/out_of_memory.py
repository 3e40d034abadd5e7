"""Errors that say what there was not enough memory for, and what to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def naming_the_batch(batch: str, way_out: str) -> Iterator[None]:
    """Say in an error for lack of memory what the batch was, and the way out.

    Raises:
        torch.OutOfMemoryError: for every kind of error that a lack of memory comes as, with its own text at the end.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise torch.OutOfMemoryError(f"There is not enough memory for {batch}: {way_out}.\n{error}") from error


def _is_out_of_memory(error: Exception) -> bool:
    # On a CPU torch raises a plain RuntimeError.
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
