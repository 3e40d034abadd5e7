"""An object in a file that several processes map into their memory, so that they share its tensors."""

from __future__ import annotations

import functools
import io
import os
import pickle
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# The classes of tensors that are kept aside. Those of other classes know themselves how they are pickled.
PLAIN = (Tensor, nn.Parameter)


class SavedObject:
    """An object as it was when it was saved.

    Args:
        value: anything that can be pickled.

    Attributes:
        path: of the file, which is removed with this object.

    Raises:
        ValueError: if the object cannot be pickled.
    """

    def __init__(self, value: Any) -> None:
        self._content, tensors = _taken_apart(value)
        file, name = tempfile.mkstemp(suffix=".pt", prefix="hf_rnn_s2s_")
        self.path = Path(name)
        weakref.finalize(self, _remove, name, os.getpid())
        with os.fdopen(file, "wb") as stream:
            torch.save({"content": self._content, "tensors": tensors}, stream)
        self._tensors = _read(name)["tensors"]  # in the memory that all share

    def is_like(self, value: Any) -> bool:
        """Whether another object, or the same one later, would be saved with the same content.

        Raises:
            ValueError: as the constructor.
        """
        content, tensors = _taken_apart(value)
        return (
            content == self._content
            and len(tensors) == len(self._tensors)
            and all(_is_same(one, other) for one, other in zip(tensors, self._tensors, strict=True))
        )


@functools.lru_cache(maxsize=1)
def load_saved(path: Path) -> Any:
    """The object in a file; it is loaded once, until another one is asked for."""
    saved = _read(str(path))
    return _Unpickler(saved["content"], saved["tensors"]).load()


def picklable(value: Any, name: str) -> bytes:
    """The pickled form of what another process is to be told.

    Args:
        value: of any kind. Tensors are copied, not shared.
        name: what the error calls it.

    Raises:
        ValueError: if it cannot be pickled.
    """
    with _naming(name):
        return pickle.dumps(value)


class _Pickler(pickle.Pickler):
    """Pickles an object, and keeps its plain tensors aside."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.tensors: list[Tensor] = []
        self._numbers: dict[int, int] = {}

    def persistent_id(self, value: Any) -> int | None:
        """The number of a tensor; None for anything else, which is pickled as usual."""
        if type(value) not in PLAIN:
            return None
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self.tensors)
            self.tensors.append(value)
        return self._numbers[id(value)]


class _Unpickler(pickle.Unpickler):
    """Puts tensors back into an object."""

    def __init__(self, content: bytes, tensors: list[Tensor]) -> None:
        super().__init__(io.BytesIO(content))
        self._tensors = tensors

    def persistent_load(self, number: int) -> Tensor:
        """The tensor of this number, which is one object wherever it stands."""
        return self._tensors[number]


def _taken_apart(value: Any) -> tuple[bytes, list[Tensor]]:
    file = io.BytesIO()
    pickler = _Pickler(file)
    with _naming("the model, its tokenizer, or an argument"):
        pickler.dump(value)
    return file.getvalue(), pickler.tensors


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turn the errors of pickling into one that says what cannot be sent to another process, and why."""
    try:
        yield
    except (pickle.PicklingError, AttributeError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{name} cannot be sent to another process: {error}. Give functions that stand at the top of a module, "
            "and no open files; or leave processes out."
        ) from error


def _is_same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are of one kind and have the same numbers; sparse ones, which are rare, never are."""
    kinds = [(type(it), it.dtype, it.shape, it.layout, it.device, it.requires_grad) for it in (one, other)]
    return kinds[0] == kinds[1] and one.layout is torch.strided and np.array_equal(_bits(one), _bits(other))


def _bits(tensor: Tensor) -> np.ndarray:
    """The bits of a tensor, as whole numbers of 64 bits where they can be, which are compared eight times faster."""
    flat = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
    return flat.view(np.int64) if len(flat) % 8 == 0 else flat


def _read(name: str) -> Any:
    return torch.load(name, mmap=True, weights_only=True)


def _remove(name: str, owner: int) -> None:
    if owner != os.getpid():  # a process that was forked from the one that still uses it
        return
    with suppress(OSError):  # some systems keep files that are mapped; this one then stays in the temporary folder
        os.remove(name)
