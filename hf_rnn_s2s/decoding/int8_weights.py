"""Whether weights are still those that 8 bit integers were made of.

The integers are in an ONNX graph, so later changes of the weights have no effect on them. Comparing all weights would
take longer than a step of a search. Nearly every change shows in torch's version counter or in the tensor's address,
and changes by way of `.data` in a sample of its numbers; only if one of these differs, all numbers are compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

# Roughly how many numbers of a parameter are compared at every call
SAMPLE_SIZE = 16


class QuantizedWeights:
    """The digests of some parameters of a module; a copy has the same digests.

    Args:
        module: the module.
        names: those of the parameters, all in float32 on the CPU.
    """

    def __init__(self, module: nn.Module, names: Iterable[str]) -> None:
        self._digests = {name: _digest(module._parameters[name]) for name in names}
        self._snapshots: dict[str, _Snapshot] = {}  # of when a parameter was last found unchanged

    def require_unchanged(self, module: nn.Module) -> None:
        """Check that the parameters still have their digests.

        Args:
            module: the module that has the parameters now.

        Raises:
            ValueError: if one of them has other numbers than when its digest was made.
        """
        for name, digest in self._digests.items():
            parameter, snapshot = module._parameters[name], self._snapshots.get(name)
            if snapshot is not None and snapshot.matches(parameter):
                continue
            if _digest(parameter) != digest:
                raise ValueError(
                    f"{name} of {type(module).__name__} is no longer what its 8 bit integers were made of: it was "
                    "changed, loaded, resized or converted after quantize_int8. Change the model that the copy was "
                    "made of instead, and call quantize_int8 on it again."
                )
            self._snapshots[name] = _Snapshot.of(parameter)  # type: ignore[arg-type]

    def __getstate__(self) -> dict[str, Any]:
        return {"_digests": self._digests, "_snapshots": {}}  # a copy has parameters of its own


class _Snapshot(NamedTuple):
    """A parameter as it was at some time: `sample` is a view of some of its numbers, `content` what they were."""

    parameter: Tensor
    version: int | None
    address: int
    sample: np.ndarray
    content: bytes

    @classmethod
    def of(cls, parameter: Tensor) -> _Snapshot:
        """The snapshot of a parameter as it is now."""
        flat = parameter.detach().numpy().reshape(-1)
        sample = flat[:: max(1, len(flat) // SAMPLE_SIZE)]
        return cls(parameter, _version(parameter), parameter.data_ptr(), sample, sample.tobytes())

    def matches(self, parameter: Tensor | None) -> bool:
        """Whether no change of the parameter shows."""
        return (
            parameter is self.parameter
            and _version(parameter) == self.version
            and parameter.data_ptr() == self.address
            and self.sample.tobytes() == self.content
        )


def _version(tensor: Tensor) -> int | None:
    """How many changes in place torch has counted; None for tensors of inference mode, where it does not count."""
    return None if tensor.is_inference() else tensor._version


def _digest(parameter: Tensor | None) -> bytes | None:
    """The digest of all numbers; None where the type or the device is another than that of quantized weights."""
    if parameter is None or parameter.device.type != "cpu" or parameter.dtype != torch.float32:
        return None
    return hashlib.sha256(parameter.detach().contiguous().numpy().data).digest()
