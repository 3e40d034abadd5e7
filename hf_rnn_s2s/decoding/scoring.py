"""The probability of a given translation, token by token."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..model.head_rnn_s2s import IGNORED_LABEL


class Scores(NamedTuple):
    """What a model thinks of given targets.

    Attributes:
        tokens: natural logarithms of the probability of each target token, `(batch, target)`, 0 at padding.
        totals: their sums, `(batch,)`.
        lengths: numbers of tokens, `(batch,)`, end tokens included.
    """

    tokens: Tensor
    totals: Tensor
    lengths: Tensor


@torch.no_grad()
def score_targets(model: Any, labels: Tensor, **inputs: Any) -> Scores:
    """Score targets by reading them: one pass, and no search.

    Args:
        model: in evaluation mode, or its dropout makes the scores random.
        labels: `(batch, target)`, with -100 or the padding id at padding.
        inputs: the sources, as for `forward`.
    """
    padding = labels.eq(IGNORED_LABEL) | (labels.eq(model.config.pad_token_id))
    labels = labels.masked_fill(padding, IGNORED_LABEL)
    decoder_input_ids = model.prepare_decoder_input_ids_from_labels(labels)
    logits = model(**inputs, decoder_input_ids=decoder_input_ids, use_cache=False).logits
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
    of_labels = precise.gather(2, labels.masked_fill(padding, 0).unsqueeze(2)).squeeze(2)
    tokens = of_labels.masked_fill(padding, 0)
    return Scores(tokens, tokens.sum(1), (~padding).sum(1))
