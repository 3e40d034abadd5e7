"""Which inputs of the decoder's products are certain to be numbers from -1 to 1, whatever the weights are.

Their 8 bit integers need no scale that is computed at every step.
"""

from __future__ import annotations

from typing import Any

from ..model.attention_rnn_s2s import CoverageAttention, LocationAttention, ScoredAttention
from ..model.encoder_rnn_s2s import BidirectionalStackEncoder, RnnS2SEncoder, UnidirectionalEncoder
from ..model.readout_rnn_s2s import ConcatFusion, GatedFusion, Readout

# Of exactly these classes: a subclass may do anything with what it inherits.
ENCODERS = (RnnS2SEncoder, UnidirectionalEncoder, BidirectionalStackEncoder)  # the memory holds states of layers
ATTENTIONS = (ScoredAttention, CoverageAttention, LocationAttention)  # contexts are means of the memory, or less
FUSIONS = (ConcatFusion, GatedFusion)  # they make no number larger


def is_readout_bounded(model: Any) -> bool:
    """Whether the readout returns hyperbolic tangents, as most do."""
    return type(model.model.decoder.readout).activate is Readout.activate


def is_context_bounded(model: Any) -> bool:
    """Whether contexts are: the memory holds hidden states, and a context is a mean of it, or smaller."""
    encoder, config = model.get_encoder(), model.config
    adds = 0 < config.first_residual_layer <= config.encoder_layers
    holds_states = type(encoder) in ENCODERS and encoder.projection is None and not adds
    return holds_states and type(model.model.decoder.attention) in (*ATTENTIONS, type(None))


def is_projection_bounded(model: Any) -> bool:
    """Whether what the readout's projection reads is: the state of a layer, alone or joined to a context."""
    decoder = model.model.decoder
    return (
        not decoder.readout.reads_token
        and decoder.adds_from_layer > len(decoder.layers)
        and is_joined_bounded(model, "readout")
    )


def is_layer_bounded(model: Any, index: int) -> bool:
    """Whether the inputs of a layer above the first one, which is number 0, are."""
    return index > 0 and index < model.model.decoder.adds_from_layer and is_joined_bounded(model, str(index))


def is_joined_bounded(model: Any, place: str) -> bool:
    """Whether bounded numbers stay so where a context joins them, if one does."""
    fusions = model.model.decoder.fusions
    return place not in fusions or (type(fusions[place]) in FUSIONS and is_context_bounded(model))
