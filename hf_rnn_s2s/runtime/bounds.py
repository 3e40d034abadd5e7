"""Which inputs of the decoder's products are certain to be numbers from -1 to 1, whatever the weights are.

Their 8 bit integers need no scale that is computed at every step. Nothing is certain of a model with parts that
somebody else has registered, not even of a subclass of this package's own: it may do anything with what it inherits.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ..model.attention_rnn_s2s import CoverageAttention, LocationAttention, ScoredAttention
from ..model.cells_rnn_s2s import RecurrentLayer
from ..model.encoder_rnn_s2s import BidirectionalStackEncoder, RnnS2SEncoder, UnidirectionalEncoder
from ..model.readout_rnn_s2s import ConcatFusion, GatedFusion, Readout

ENCODERS = (RnnS2SEncoder, UnidirectionalEncoder, BidirectionalStackEncoder)  # the memory holds states of layers
ATTENTIONS = (ScoredAttention, CoverageAttention, LocationAttention)  # contexts are means of the memory, or less
FUSIONS = (ConcatFusion, GatedFusion)  # they make no number larger


def is_readout_bounded(model: Any) -> bool:
    """Whether the readout returns hyperbolic tangents, as most do."""
    return has_own_parts(model) and type(model.model.decoder.readout).activate is Readout.activate


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
        has_own_parts(model)
        and not decoder.readout.reads_token
        and decoder.adds_from_layer > len(decoder.layers)
        and is_joined_bounded(model, "readout")
    )


def is_layer_bounded(model: Any, index: int) -> bool:
    """Whether the inputs of a layer above the first one, which is number 0, are."""
    adds = index >= model.model.decoder.adds_from_layer
    return has_own_parts(model) and index > 0 and not adds and is_joined_bounded(model, str(index))


def is_beside_token_bounded(model: Any) -> bool:
    """Whether what the first layer reads beside the embedding is: what was fed back, a context, or both."""
    feeds_back = model.model.decoder.input_feeding
    return has_own_parts(model) and is_joined_bounded(model, "0") and (not feeds_back or is_readout_bounded(model))


def is_joined_bounded(model: Any, place: str) -> bool:
    """Whether bounded numbers stay so where a context joins them, if one does."""
    fusions = model.model.decoder.fusions
    return place not in fusions or (type(fusions[place]) in FUSIONS and is_context_bounded(model))


def has_own_parts(model: Any) -> bool:
    """Whether all modules of a model are of this package or of torch."""
    package = RecurrentLayer.__module__.rpartition(".")[0]
    own = (f"{package}.", f"{package.rpartition('.')[0]}.package_models", f"{nn.__name__}.modules.")
    return all(type(module).__module__.startswith(own) for module in model.modules())
