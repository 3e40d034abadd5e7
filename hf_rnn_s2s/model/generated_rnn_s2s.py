"""What `generate()` has written, as tensors: where each sequence ends, and where the model attended meanwhile."""

from typing import Any

import torch
from torch import Tensor


def lengths_of_sequences(sequences: Tensor, settings: dict[str, Any]) -> Tensor:
    """Lengths `(batch, sequences)` of `(batch, sequences, time)`, in tokens, the end token included.

    The decoder's prompt counts, whatever its ids are.
    """
    end_ids = settings.get("eos_token_id")
    end_ids = end_ids if isinstance(end_ids, (list, tuple)) else [] if end_ids is None else [end_ids]
    pad_id = settings.get("pad_token_id")
    if pad_id is None and end_ids:
        pad_id = end_ids[0]  # as generate() does
    given = settings.get("decoder_input_ids")
    positions = torch.arange(sequences.shape[-1], device=sequences.device)
    in_prompt = positions < (1 if given is None else given.shape[1])
    # A row stops at its first end token, or where it was stopped, and padding follows either way.
    is_token = torch.ones_like(sequences).bool() if pad_id is None else in_prompt | (sequences != pad_id)
    last = (is_token * positions).amax(-1)
    is_end = torch.isin(sequences, sequences.new_tensor(end_ids)) & ~in_prompt
    first_end = torch.where(is_end, positions, sequences.shape[-1]).amin(-1)
    return torch.where(is_end.any(-1), first_end, last) + 1


def attention_of_sequences(generated: Any) -> Tensor:
    """The attention that each returned sequence was written with, `(sequences, target, source)` in float32.

    `generate()` gives, for every step and layer, `(beams, heads, query, source)`. We read the last layer, the mean of
    the heads, and the last query, which chose the step's token. `beam_indices` says which beam a token came from.
    """
    if not generated.cross_attentions or any(not step or step[-1] is None for step in generated.cross_attentions):
        raise ValueError(
            "return_attentions=True, but the model returned no cross-attentions. A Transformer returns them only if "
            'it was loaded with attn_implementation="eager".'
        )
    steps = torch.stack([layers[-1][:, :, -1].float().mean(dim=1) for layers in generated.cross_attentions])
    beam_indices = generated.get("beam_indices")
    if beam_indices is None:
        return steps.transpose(0, 1)
    # Behind the end of a sequence stands -1; what is read there is cut off later, so any row will do.
    return steps[torch.arange(beam_indices.shape[1], device=steps.device), beam_indices.clamp(min=0)]


def put_back(values: Tensor, rows: Tensor, is_blank: Tensor) -> Tensor:
    """Put `(len(rows), ...)` back in its places among the `(batch, ...)` rows, and zeros in the blank ones."""
    if not is_blank.any():
        return values
    full = values.new_zeros(len(is_blank), *values.shape[1:])
    full[rows] = values
    return full


def blank_outputs(input_tensors: dict[str, Tensor], sequences: int) -> dict[str, Tensor]:
    """What a batch of nothing but blank texts gives, without running the model."""
    batch, source = input_tensors["input_ids"].shape
    return {
        "output_ids": input_tensors["input_ids"].new_zeros(batch, sequences, 1),
        "lengths": torch.zeros(batch, sequences, dtype=torch.long),
        "attention": torch.zeros(batch, sequences, 0, source),
    }
