"""Checks of a cache that somebody passes on: whether it is of this model, and for these sources."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..model.cache_rnn_s2s import RnnS2SCache
from ..model.cells_rnn_s2s import CELLS
from ..model.decoder_rnn_s2s import RnnS2SDecoder
from ..model.encoder_rnn_s2s import rows_per_source, whole_encoder_outputs


def require_cache(cache: object) -> None:
    """Raise a TypeError for a cache that is not an `RnnS2SCache`."""
    if cache is not None and not isinstance(cache, RnnS2SCache):
        raise TypeError(
            f"past_key_values is a {type(cache).__name__}, which holds attention keys and values; a recurrent decoder "
            "carries an RnnS2SCache. Leave past_key_values out and the model makes one."
        )


def require_own(cache: RnnS2SCache, decoder: RnnS2SDecoder, encoder_outputs: Any, rows: int) -> None:
    """Raise a TypeError or a ValueError unless the cache is one of this decoder for these sources and target rows."""
    require_cache(cache)
    memory = encoder_outputs.last_hidden_state
    decoder.require_rows_for(encoder_outputs, rows)
    require_rows(cache, memory.shape[0] * rows_per_source(encoder_outputs))
    length = None if decoder.attention is None else memory.shape[1]
    parts = len(CELLS[decoder.config.cell_type].state_names)
    require_form(cache, decoder.config.decoder_layers, parts, decoder.config.decoder_size, length)


def check_before_generation(model: Any, generation_config: Any, arguments: dict[str, Any]) -> None:
    """Raise an error for a cache or a prompt from which nothing can be written on."""
    cache = arguments.get("past_key_values")
    require_cache(cache)
    if generation_config.prefill_chunk_size is not None:
        raise ValueError("prefill_chunk_size: a recurrent decoder reads a prompt of any length at once; leave it out.")
    mask = arguments.get("decoder_attention_mask")
    if mask is not None and not mask[:, -1].all():
        raise ValueError(
            "decoder_attention_mask has a row that ends in padding, from which nothing can be written on. Put the "
            "padding of prompts on the left."
        )
    # With dropout other keys are to be expected; an assistant begins again and again with a cache of its own.
    if cache is not None and cache.is_initialized and not model.training and not generation_config.is_assistant:
        encoded = whole_encoder_outputs(arguments["encoder_outputs"], model.config.cell_type)
        if encoded is not None and encoded.last_hidden_state is not None:
            require_same_keys(cache, model.model.decoder.prepare_keys(encoded.last_hidden_state))


def require_rows(cache: RnnS2SCache | None, rows: int) -> None:
    """Raise a ValueError if the cache holds the states of another number of rows than the target has."""
    if cache is not None and cache.is_initialized and cache.batch_size != rows:
        raise ValueError(
            f"past_key_values holds {cache.batch_size} rows, but decoder_input_ids has {rows}: sentences times beams. "
            "Leave it out to begin anew."
        )


def require_form(cache: RnnS2SCache, layers: int, parts: int, size: int, length: int | None) -> None:
    """Raise a ValueError if the cache holds a state of other layers or sizes, or keys of another length.

    An empty one fits everything. `parts` is the number of tensors in the state of a layer, `size` their width, and
    `length` that of the memory, None without attention.
    """
    if cache.state is None:
        return
    found_length = None if cache.keys is None else cache.keys.shape[-2]
    first = cache.state.layers[0]
    found = (len(cache.state.layers), len(first), first[0].shape[-1], found_length)
    if found != (layers, parts, size, length):
        raise ValueError(
            "past_key_values was made by another model or for other sources: its layers, tensors per layer, their "
            f"width and the number of keys are {found}, but must be {(layers, parts, size, length)}. Leave it out to "
            "begin anew."
        )


def require_same_keys(cache: RnnS2SCache, keys: Tensor | None) -> None:
    """Raise a ValueError if the keys in the cache and these, `(sources, source, key)`, are of different sources."""
    if cache.keys is None or keys is None or cache.keys.shape[1:] != keys.shape[1:] or len(cache.keys) % len(keys):
        return
    keys = keys.repeat_interleave(len(cache.keys) // len(keys), dim=0)  # the cache may have them for every row
    # Rounding errors differ between batches; other sources have other keys altogether.
    if (cache.keys - keys).abs().max() > 0.05 * keys.abs().max():
        raise ValueError(
            "past_key_values was made for other sources than those passed with it. Leave it out to begin anew, or "
            "pass the sources it belongs to, in their order."
        )
