"""Imports in less time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quickly() -> Iterator[None]:
    """Import without looking for garbage, of which there is little.

    torch and transformers make some million objects that stay. Python looks through them for garbage again and again,
    which takes a sixth of the time of importing them.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # what is there by now stays, and need not be looked at again
        gc.enable()
