"""How the weights of an exported model are stored, and what they are when they are read again.

All graphs of a folder read the one file of weights that `from_pretrained` reads, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

# Behind the name of a parameter: its 8 bit integers `(out, in)`, and the step between them in each row, `(out,)`
NUMBERS, SCALE = "_int8", "_scale"
LARGEST = 127  # the numbers are symmetric about 0
FEWEST = 2**5  # numbers in a matrix that is worth a scale


class Float32:
    """The weights as they are."""

    name = "float32"

    def stored(self, model: nn.Module, matrices: Iterable[list[str]]) -> dict[str, Tensor]:
        """What is written for a model in float32, without the second names of shared tensors.

        Args:
            model: the model.
            matrices: names of those that layers of a graph can take in integers, in one list if they share a scale.
        """
        return {name: tensor.detach().contiguous() for name, tensor in _own_tensors(model)}


class Int8(Float32):
    """Matrices in 8 bit integers, with a scale for each row, that is for each output of a product."""

    name = "int8"

    def stored(self, model: nn.Module, matrices: Iterable[list[str]]) -> dict[str, Tensor]:
        """As in `Float32`."""
        tensors = super().stored(model, ())
        for names in matrices:
            if not all(name in tensors and tensors[name].numel() >= FEWEST for name in names):
                continue  # another name of a tensor that is there already, or too small
            group = [tensors.pop(name) for name in names]
            largest = torch.stack([matrix.abs().amax(1) for matrix in group]).amax(0)
            scale = (largest / LARGEST).clamp(min=torch.finfo(torch.float32).tiny)
            for name, matrix in zip(names, group, strict=True):
                tensors[name + NUMBERS] = (matrix / scale.unsqueeze(1)).round().to(torch.int8)
                tensors[name + SCALE] = scale.clone()
        return tensors


# What `export_model(precision=...)` can be called with
PRECISIONS: dict[str, type[Float32]] = {"float32": Float32, "int8": Int8}


def restored(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of a model, in float32, of what was written for it."""
    parameters = {}
    for name, tensor in stored.items():
        if name.endswith(NUMBERS):
            name = name.removesuffix(NUMBERS)
            tensor = tensor.float() * stored[name + SCALE].unsqueeze(1)
        elif name.endswith(SCALE) and name.removesuffix(SCALE) + NUMBERS in stored:
            continue
        parameters[name] = tensor
    return parameters


def _own_tensors(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Parameters and buffers that are saved; of those with several names the first one."""
    saved = model.state_dict(keep_vars=True)
    seen: set[int] = set()
    for name, tensor in saved.items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor
