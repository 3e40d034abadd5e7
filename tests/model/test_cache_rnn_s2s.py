import pytest
import torch
from transformers import Cache, DynamicCache

from hf_rnn_s2s import RnnS2SCache, RnnS2SForConditionalGeneration
from hf_rnn_s2s.decoding.caches import require_cache
from hf_rnn_s2s.model.state_rnn_s2s import DecoderState


def state_of(value: float, rows: int = 2) -> DecoderState:
    """Two layers of hidden and cell state that tell rows and values apart."""
    row = torch.arange(rows, dtype=torch.float32).unsqueeze(1)
    layers = range(2)
    return DecoderState(tuple(tuple(100 * layer + 10 * part + row + value for part in range(2)) for layer in layers))


def first_numbers(cache: RnnS2SCache) -> list[float]:
    assert cache.state is not None
    return cache.state.layers[0][0][:, 0].tolist()


def test_a_new_cache_is_empty() -> None:
    cache = RnnS2SCache()
    assert isinstance(cache, Cache)
    assert not cache.is_initialized
    assert not cache.is_compileable
    assert (cache.get_seq_length(), cache.get_max_length(), cache.batch_size, len(cache)) == (0, -1, -1, 0)
    assert repr(cache) == "RnnS2SCache(tokens=0, rows=-1, layers=0)"


def test_reordering_moves_states_and_leaves_keys() -> None:
    cache = RnnS2SCache()
    keys = torch.randn(2, 3, 4)
    cache.advance(state_of(0.0), keys, 5)
    cache.reorder_cache(torch.tensor([1, 1]))
    assert first_numbers(cache) == [1.0, 1.0]
    assert cache.state is not None
    assert cache.state.layers[1][1][:, 0].tolist() == [111.0, 111.0]
    assert cache.keys is keys
    assert cache.get_seq_length() == 5
    assert cache.get_mask_sizes(2) == (7, 0)


def test_selecting_and_repeating_rows_takes_the_keys_along() -> None:
    cache = RnnS2SCache()
    keys = torch.randn(2, 3, 4)
    cache.advance(state_of(0.0), keys, 1)
    cache.batch_select_indices(torch.tensor([1]))
    assert first_numbers(cache) == [1.0]
    assert cache.keys is not None
    assert torch.equal(cache.keys, keys[1:])
    cache.batch_repeat_interleave(3)
    assert first_numbers(cache) == [1.0, 1.0, 1.0]
    assert torch.equal(cache.keys, keys[1:].expand(3, -1, -1))
    assert cache.batch_size == 3


def test_crop_goes_back_and_can_do_so_again() -> None:
    cache = RnnS2SCache()
    cache.activate_past_recording()
    for step in range(4):
        cache.advance(state_of(step / 10), None, 1)
    cache.crop(0)
    assert cache.get_seq_length() == 4
    cache.crop(-2)
    assert (cache.get_seq_length(), first_numbers(cache)) == (2, pytest.approx([0.1, 1.1]))
    cache.advance(state_of(0.7), None, 1)
    cache.reorder_cache(torch.tensor([1, 0]))
    cache.crop(2)
    assert (cache.get_seq_length(), first_numbers(cache)) == (1, pytest.approx([1.0, 0.0]))
    cache.crop(-1)
    assert (cache.get_seq_length(), cache.is_initialized) == (0, False)
    with pytest.raises(ValueError, match="Cannot take back 1 tokens: only 0"):
        cache.crop(-1)


def test_crop_without_recorded_states_is_refused() -> None:
    cache = RnnS2SCache()
    cache.advance(state_of(0.0), None, 3)
    with pytest.raises(ValueError, match="activate_past_recording"):
        cache.crop(-1)
    cache.activate_past_recording()
    with pytest.raises(ValueError, match="one by one, not 2"):
        cache.advance(state_of(0.0), None, 2)


def test_reset_forgets() -> None:
    cache = RnnS2SCache()
    cache.advance(state_of(0.0), torch.zeros(2, 1, 1), 3)
    cache.reset()
    assert (cache.get_seq_length(), cache.is_initialized, cache.keys) == (0, False, None)


def test_another_kind_of_cache_is_refused(tiny_model: RnnS2SForConditionalGeneration) -> None:
    require_cache(None)
    require_cache(RnnS2SCache())
    source = torch.tensor([[5, 6, 2]])
    with pytest.raises(TypeError, match="past_key_values is a DynamicCache.*RnnS2SCache"):
        tiny_model(source, decoder_input_ids=source, past_key_values=DynamicCache())
    with pytest.raises(TypeError, match="past_key_values is a DynamicCache.*RnnS2SCache"):
        tiny_model.generate(source, past_key_values=DynamicCache(), num_beams=2)


def test_a_cache_of_another_batch_is_refused(tiny_model: RnnS2SForConditionalGeneration) -> None:
    source = torch.tensor([[5, 6, 2], [7, 8, 2]])
    cache = tiny_model(source, decoder_input_ids=source[:, :1]).past_key_values
    with pytest.raises(ValueError, match=r"past_key_values holds 2 rows, but decoder_input_ids has 6"):
        tiny_model.generate(source, past_key_values=cache, num_beams=3, max_new_tokens=3)
