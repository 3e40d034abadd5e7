"""Whether a model in memory still has the weights and the layers that its graphs were made of.

Graphs have weights of their own, so later changes of the model have no effect on them. To compare all weights would
take longer than a search. Nearly every change shows in torch's version counter or in the tensor's address, and changes
by way of `.data` in a sample of its numbers; only if one of these differs, all numbers are compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

# Roughly how many numbers of a parameter are compared at every call
SAMPLE_SIZE = 16


class KnownWeights:
    """The digests of all parameters of a model; a copy has the same digests.

    Args:
        model: the model, on the CPU.
    """

    def __init__(self, model: nn.Module) -> None:
        self._kinds = {path: type(module) for path, module in model.named_modules()}
        self._digests = {name: _digest(parameter) for name, parameter in _parameters(model)}
        self._snapshots: dict[str, _Snapshot] = {}  # of when a parameter was last found unchanged
        self._form: _Form | None = None  # of the model then

    def changed(self, model: nn.Module, modules: Sequence[nn.Module] | None = None) -> str | None:
        """The name of a parameter or a module that is not what it was when the digests were made; None for none.

        Args:
            model: the model.
            modules: what `modules_of` returns for it, where that is known.
        """
        form = _Form.of(modules_of(model) if modules is None else modules)
        if form == self._form and all(one.matches(one.parameter) for one in self._snapshots.values()):
            return None
        kinds = {path: type(module) for path, module in model.named_modules()}
        for path, kind in self._kinds.items():
            if kinds.get(path) is not kind:
                return path
        found = dict(_parameters(model))
        for name in found.keys() ^ self._digests.keys():
            return name
        for name, parameter in found.items():
            snapshot = self._snapshots.get(name)
            if snapshot is not None and snapshot.matches(parameter):
                continue
            if _digest(parameter) != self._digests[name]:
                return name
            self._snapshots[name] = _Snapshot.of(parameter)
        self._form = form
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_snapshots": {}, "_form": None}  # a copy has parameters of its own


class _Form(NamedTuple):
    """Which modules a model consists of, and the ids of their parameters, which the snapshots keep alive."""

    modules: tuple[nn.Module, ...]
    parameters: tuple[int, ...]

    @classmethod
    def of(cls, modules: Sequence[nn.Module]) -> _Form:
        """The form of a model that has these modules."""
        return cls(tuple(modules), tuple(id(one) for module in modules for one in module._parameters.values()))


class _Snapshot(NamedTuple):
    """A parameter as it was at some time: `sample` is a view of some of its numbers, `content` what they were."""

    parameter: Tensor
    version: int | None
    address: int
    sample: Any
    content: bytes

    @classmethod
    def of(cls, parameter: Tensor) -> _Snapshot:
        """The snapshot of a parameter as it is now."""
        flat = _bytes(parameter)
        sample = flat[:: max(1, len(flat) // SAMPLE_SIZE) | 1]  # an odd step meets all bytes of the numbers
        return cls(parameter, _version(parameter), parameter.data_ptr(), sample, sample.tobytes())

    def matches(self, parameter: Tensor) -> bool:
        """Whether no change of the parameter shows."""
        return (
            parameter is self.parameter
            and _version(parameter) == self.version
            and parameter.data_ptr() == self.address
            and self.sample.tobytes() == self.content
        )


def modules_of(model: nn.Module) -> list[nn.Module]:
    """All modules of a model, in less time than `modules()` takes; those in several places several times."""
    modules = [model]
    for module in modules:  # which grows meanwhile
        modules += [child for child in module._modules.values() if child is not None]
    return modules


def _parameters(model: nn.Module) -> Any:
    """Parameters by all of their names, so that tying and untying them shows, too."""
    return model.named_parameters(remove_duplicate=False)


def _version(tensor: Tensor) -> int | None:
    """How many changes in place torch has counted; None for tensors of inference mode, where it does not count."""
    return None if tensor.is_inference() else tensor._version


def _bytes(parameter: Tensor) -> Any:
    return parameter.detach().contiguous().view(-1).view(torch.uint8).numpy()


def _digest(parameter: Tensor) -> bytes | None:
    """The digest of all numbers; None on another device than the CPU."""
    if parameter.device.type != "cpu":
        return None
    return hashlib.sha256(_bytes(parameter).data).digest()
