"""
Whether weights are still those that integers were made of.

The integers lie in a graph of their own, so weights that change later are weights that nobody reads. Looking at all of
them would take longer than a step of a search. What torch counts and where a tensor lies tell of nearly every change,
and some of its numbers of the others, those by way of `.data`; only then all are looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

NUMBERS_LOOKED_AT = 16


class QuantizedWeights:
    """
    Remembers some parameters of a module by their digests; copies of it remember the same.

    Args:
        module: which has them now.
        names: of the parameters, all in float32 on the CPU.
    """

    def __init__(self, module: nn.Module, names: Iterable[str]) -> None:
        self._digests = {name: _digest(module._parameters[name]) for name in names}
        self._seen: dict[str, _Seen] = {}  # when they were last found to be the same

    def require_unchanged(self, module: nn.Module) -> None:
        """
        Raises:
            ValueError: if a parameter of the module has other numbers than the one that was remembered.
        """
        for name, digest in self._digests.items():
            parameter, seen = module._parameters[name], self._seen.get(name)
            if seen is not None and seen.still_holds(parameter):
                continue
            if _digest(parameter) != digest:
                raise ValueError(
                    f"{name} of {type(module).__name__} is no longer what its 8 bit integers were made of: it was "
                    "changed, loaded, resized or converted after quantize_int8. Change the model that the copy was "
                    "made of instead, and call quantize_int8 on it again."
                )
            self._seen[name] = _Seen.of(parameter)  # type: ignore[arg-type]

    def __getstate__(self) -> dict[str, Any]:
        return {"_digests": self._digests, "_seen": {}}  # a copy has parameters of its own


class _Seen(NamedTuple):
    """A parameter at some time. The numbers are a view of some of its own, and how they were."""

    parameter: torch.Tensor
    version: int | None
    address: int
    numbers: np.ndarray
    content: bytes

    @classmethod
    def of(cls, parameter: torch.Tensor) -> _Seen:
        flat = parameter.detach().numpy().reshape(-1)
        numbers = flat[:: max(1, len(flat) // NUMBERS_LOOKED_AT)]
        return cls(parameter, _version(parameter), parameter.data_ptr(), numbers, numbers.tobytes())

    def still_holds(self, parameter: torch.Tensor | None) -> bool:
        return (
            parameter is self.parameter
            and _version(parameter) == self.version
            and parameter.data_ptr() == self.address
            and self.numbers.tobytes() == self.content
        )


def _version(tensor: torch.Tensor) -> int | None:
    """How often torch has seen it change; in inference mode it does not count."""
    return None if tensor.is_inference() else tensor._version


def _digest(parameter: torch.Tensor | None) -> bytes | None:
    """Of all numbers; None where they cannot be the ones that were quantized."""
    if parameter is None or parameter.device.type != "cpu" or parameter.dtype != torch.float32:
        return None
    return hashlib.sha256(parameter.detach().contiguous().numpy().data).digest()


__all__ = ["QuantizedWeights"]
