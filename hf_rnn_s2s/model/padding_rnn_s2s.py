"""How padded sources are laid out for recurrent layers that read in either direction."""

import torch
from torch import Tensor


class UnpaddedSource:
    """Lays out a source without padding for the two directions. Its methods are those of `PaddedSource`."""

    padding = None

    def forward_order(self, inputs: Tensor) -> Tensor:
        """The inputs `(batch, source, ...)` as they are."""
        return inputs

    def backward_order(self, inputs: Tensor) -> Tensor:
        """Reverse `(batch, source, ...)`."""
        return inputs.flip(1)

    def backward_to_forward(self, outputs: Tensor) -> Tensor:
        """As in `PaddedSource`."""
        return outputs.flip(1)

    def original_order(self, outputs: Tensor) -> Tensor:
        """The outputs as they are."""
        return outputs


class PaddedSource:
    """Moves each row's tokens to the end of the row, in reading order or reversed, and the results back.

    Args:
        mask: `(batch, source)`, True at tokens. Padding may stand anywhere.
    """

    def __init__(self, mask: Tensor) -> None:
        time = mask.shape[1]
        lengths = mask.sum(1, keepdim=True)
        token_rank = mask.cumsum(1) - 1
        padding_rank = (~mask).cumsum(1) - 1
        forward_slot = torch.where(mask, time - lengths + token_rank, padding_rank)
        backward_slot = torch.where(mask, time - 1 - token_rank, padding_rank)
        self._forward_slot = forward_slot
        self._forward_source = forward_slot.argsort(1)
        self._backward_source = backward_slot.argsort(1)
        self._backward_slot_of_forward = backward_slot.gather(1, self._forward_source)
        self.padding = torch.arange(time, device=mask.device) < time - lengths

    def forward_order(self, inputs: Tensor) -> Tensor:
        """Put `(batch, source, ...)` in reading order, each row's tokens at its end."""
        return _take_positions(inputs, self._forward_source)

    def backward_order(self, inputs: Tensor) -> Tensor:
        """Put `(batch, source, ...)` in reverse order, each row's tokens at its end."""
        return _take_positions(inputs, self._backward_source)

    def backward_to_forward(self, outputs: Tensor) -> Tensor:
        """Bring outputs from the layout of `backward_order` to that of `forward_order`."""
        return _take_positions(outputs, self._backward_slot_of_forward)

    def original_order(self, outputs: Tensor) -> Tensor:
        """Bring outputs from the layout of `forward_order` to that of the input."""
        return _take_positions(outputs, self._forward_slot)


def _take_positions(tensor: Tensor, positions: Tensor) -> Tensor:
    # Whole rows of the flattened tensor move in one copy each; torch.gather would move single numbers.
    batch, time = positions.shape
    first_of_row = torch.arange(batch, device=positions.device).unsqueeze(1) * time
    return tensor.flatten(0, 1).index_select(0, (positions + first_of_row).flatten()).view_as(tensor)


__all__ = ["PaddedSource", "UnpaddedSource"]
