"""What training may do to the tokens that the model reads: drop words, and put its own predictions in their place."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..model.head_rnn_s2s import IGNORED_LABEL

Decay = Literal["linear", "exponential", "inverse_sigmoid"]


class Schedule(NamedTuple):
    """With which probability a step of scheduled sampling reads the true token (Bengio et al. 2015, section 2.4).

    Attributes:
        decay: `linear`, `1 - i / k`; `exponential`, `k ** i` with `k` below 1; or `inverse_sigmoid`,
            `k / (k + exp(i / k))`; at training step `i`.
        k: see there.
        least: what it never falls below.
    """

    decay: Decay
    k: float
    least: float = 0.0

    def probability(self, step: int) -> float:
        """The probability at a training step."""
        if self.decay == "linear":
            chosen = 1 - step / self.k
        elif self.decay == "exponential":
            chosen = self.k**step
        else:
            chosen = self.k / (self.k + math.exp(min(step / self.k, 700.0)))
        return max(self.least, chosen)


def noisy_inputs(
    model: Any,
    inputs: dict[str, Any],
    share: float,
    schedule: Schedule | None,
    step: int,
    special_ids: list[int],
) -> dict[str, Any]:
    """The inputs of a training step, with what word dropout and scheduled sampling make of them.

    What a head may copy stays as it is: words that are read as unknown can be copied all the same.

    Args:
        model: that is trained.
        inputs: those of `forward`, with `labels`.
        share: of the tokens, to be read as unknown.
        schedule: of scheduled sampling; None without it.
        step: the number of the training step.
        special_ids: tokens that are never dropped.
    """
    if not share and schedule is None:
        return inputs
    config = model.config
    target = model.prepare_decoder_input_ids_from_labels(inputs["labels"])
    if schedule is not None:
        target = sampled_inputs(model, inputs, target, schedule.probability(step))
    noisy = dict(inputs)
    if share:
        special = torch.tensor([*special_ids, config.pad_token_id, config.decoder_start_token_id])
        target = drop_words(target, share, config.unk_token_id, special)
        noisy["input_ids"] = drop_words(inputs["input_ids"], share, config.unk_token_id, special)
        if model.output_head.needs_source_ids:
            noisy.setdefault("copy_ids", inputs["input_ids"])
    return {**noisy, "decoder_input_ids": target}


def drop_words(ids: Tensor, probability: float, unknown: int, special: Tensor) -> Tensor:
    """Token ids of any shape, each one replaced by the unknown token with a probability, unless it is special."""
    dropped = torch.rand(ids.shape, device=ids.device) < probability
    return ids.masked_fill(dropped & ~torch.isin(ids, special.to(ids.device)), unknown)


@torch.no_grad()
def sampled_inputs(model: Any, inputs: dict[str, Any], decoder_input_ids: Tensor, probability: float) -> Tensor:
    """The tokens that the decoder reads in scheduled sampling, `(batch, target)`.

    Each one is the true token with a probability, and else the model's own prediction after what it has read so far.
    No gradient goes through predictions, so that the loss of these tokens is that of Bengio et al. 2015.

    Args:
        model: predicts in evaluation mode.
        inputs: the sources, as for `forward`.
        decoder_input_ids: the true tokens, `(batch, target)`, the start token first.
        probability: of a true token.
    """
    is_true = torch.rand(decoder_input_ids.shape, device=decoder_input_ids.device) < probability
    is_true[:, 0] = True
    if is_true.all():
        return decoder_input_ids
    was_training = model.training
    model.eval()
    try:
        names = ("input_ids", "attention_mask", "inputs_embeds", "input_features", "copy_ids")
        given = {name: inputs[name] for name in names if inputs.get(name) is not None}
        encoded = model.get_encoder()(**given, return_dict=True)
        given = {name: given[name] for name in ("attention_mask",) if name in given}
        read, cache = [decoder_input_ids[:, :1]], None
        for place in range(1, decoder_input_ids.shape[1]):
            output = model(
                encoder_outputs=encoded,
                decoder_input_ids=read[-1],
                past_key_values=cache,
                use_cache=True,
                **given,
            )
            cache = output.past_key_values
            predicted = output.logits[:, -1].argmax(-1)
            chosen = torch.where(is_true[:, place], decoder_input_ids[:, place], predicted)
            read.append(chosen.unsqueeze(1))
        return torch.cat(read, dim=1)
    finally:
        model.train(was_training)


def divergence(logits: Tensor, labels: Tensor) -> Tensor:
    """How far the two halves of a batch, the same rows with other dropout, are apart, summed over their tokens.

    The mean of the two Kullback-Leibler divergences between their predictions (Liang et al. 2021, R-Drop, equation 2).

    Args:
        logits: `(2 * batch, target, vocabulary)`.
        labels: `(2 * batch, target)`; those of -100 do not count.
    """
    first, second = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1).chunk(2)
    apart = functional.kl_div(first, second, reduction="none", log_target=True)
    apart = apart + functional.kl_div(second, first, reduction="none", log_target=True)
    counted = labels.chunk(2)[0].ne(IGNORED_LABEL)
    return (apart.sum(-1) * counted).sum() / 2
