"""Everything `generate()` offers, on a vocabulary so small that every possible translation can be looked at."""

from itertools import product
from typing import Any

import pytest
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerFast,
    TextIteratorStreamer,
)

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration

END, START = 2, 1
VOCABULARY = 7
LENGTH = 4
SOURCES = torch.tensor([[4, 5, 6, 3, 2], [6, 4, 2, 0, 0], [3, 3, 5, 2, 0]])
MASK = SOURCES.ne(0).long()


def tiny(seed: int = 0, **values: Any) -> RnnS2SForConditionalGeneration:
    torch.manual_seed(seed)
    config = RnnS2SConfig(
        vocab_size=VOCABULARY, embedding_size=8, hidden_size=12, unk_token_id=None, initializer_range=1.0, **values
    )
    model = RnnS2SForConditionalGeneration(config).eval()
    with torch.no_grad():
        model.lm_head.bias.normal_(std=0.3)
    return model


@pytest.fixture(params=["lstm", "gru"])
def model(request: pytest.FixtureRequest) -> RnnS2SForConditionalGeneration:
    return tiny(cell_type=request.param, decoder_layers=2)


@torch.no_grad()
def log_probabilities(model: RnnS2SForConditionalGeneration, row: int, target: list[int]) -> torch.Tensor:
    """`(target + 1, vocabulary)`: of what follows the start token and each target token, in one pass, no cache."""
    source = SOURCES[row][MASK[row].bool()].unsqueeze(0)
    decoder_input_ids = torch.tensor([[START, *target]])
    return model(source, decoder_input_ids=decoder_input_ids, use_cache=False).logits[0].log_softmax(-1)


def plain_greedy(model: RnnS2SForConditionalGeneration, row: int, length: int) -> list[int]:
    target: list[int] = []
    while len(target) < length and END not in target:
        target.append(int(log_probabilities(model, row, target)[-1].argmax()))
    return target


@torch.no_grad()
def all_targets(
    model: RnnS2SForConditionalGeneration, row: int, length_penalty: float
) -> list[tuple[float, list[int]]]:
    """Every complete target and its score, the best first."""
    source = SOURCES[row][MASK[row].bool()]
    others = [token for token in range(VOCABULARY) if token != END]
    scored = []
    for inner in range(LENGTH + 1):
        end = [] if inner == LENGTH else [END]
        targets = torch.tensor([[*tokens, *end] for tokens in product(others, repeat=inner)])
        logits = model(source.expand(len(targets), -1), labels=targets).logits
        totals = logits.log_softmax(-1).gather(2, targets.unsqueeze(-1)).sum((1, 2))
        scores = totals / targets.shape[1] ** length_penalty
        scored += zip(scores.tolist(), targets.tolist(), strict=True)
    return sorted(scored, reverse=True)


def stripped(sequence: torch.Tensor) -> list[int]:
    """A generated row without the start token and without what stands behind the end token."""
    target = sequence.tolist()[1:]
    return target[: target.index(END) + 1] if END in target else target


def test_greedy_is_the_best_next_token_each_time(model: RnnS2SForConditionalGeneration) -> None:
    generated = model.generate(SOURCES, attention_mask=MASK, max_new_tokens=12)
    for row in range(3):
        assert stripped(generated[row]) == plain_greedy(model, row, 12)


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0])
def test_beam_search_equals_brute_force(length_penalty: float) -> None:
    model = tiny(seed=3)
    beams = 3 * VOCABULARY**2
    generated = model.generate(
        SOURCES,
        attention_mask=MASK,
        max_new_tokens=LENGTH,
        num_beams=beams,
        num_return_sequences=5,
        length_penalty=length_penalty,
        early_stopping="never",
        return_dict_in_generate=True,
        output_scores=True,
    )
    for row in range(3):
        expected = all_targets(model, row, length_penalty)[:5]
        sequences = generated.sequences.view(3, 5, -1)[row]
        scores = generated.sequences_scores.view(3, 5)[row]
        assert [stripped(one) for one in sequences] == [target for _, target in expected]
        assert scores.tolist() == pytest.approx([score for score, _ in expected], abs=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_beams": 1},
        {"num_beams": 3, "num_return_sequences": 3},
        {"num_beams": 3, "length_penalty": 0.3, "early_stopping": True},
        {"do_sample": True, "num_return_sequences": 4},
        {"do_sample": True, "num_beams": 3},
    ],
    ids=str,
)
def test_the_cache_changes_no_result(model: RnnS2SForConditionalGeneration, arguments: dict[str, Any]) -> None:
    results = []
    for use_cache in (True, False):
        torch.manual_seed(5)
        results.append(
            model.generate(SOURCES, attention_mask=MASK, max_new_tokens=9, use_cache=use_cache, **arguments)
        )
    assert torch.equal(*results)


@pytest.mark.parametrize("num_beams", [1, 4])
def test_a_result_never_depends_on_its_batch_mates(model: RnnS2SForConditionalGeneration, num_beams: int) -> None:
    arguments = {"max_new_tokens": 9, "num_beams": num_beams}
    together = model.generate(SOURCES, attention_mask=MASK, **arguments)
    left = torch.stack([row.roll(int(row.eq(0).sum())) for row in SOURCES])
    left_padded = model.generate(left, attention_mask=left.ne(0).long(), **arguments)
    without_mask = model.generate(SOURCES, **arguments)
    for row in range(3):
        alone = model.generate(SOURCES[row][MASK[row].bool()].unsqueeze(0), **arguments)
        for generated in (together, left_padded, without_mask):
            assert stripped(generated[row]) == stripped(alone[0])


def test_one_beam_is_greedy(model: RnnS2SForConditionalGeneration) -> None:
    greedy = model.generate(SOURCES, attention_mask=MASK, max_new_tokens=9)
    assert torch.equal(greedy, model.generate(SOURCES, attention_mask=MASK, max_new_tokens=9, num_beams=1))
    assert torch.equal(greedy, model.generate(SOURCES, attention_mask=MASK, max_new_tokens=9, do_sample=True, top_k=1))


WARPERS = [
    {"temperature": 0.7},
    {"top_k": 3},
    {"top_p": 0.8},
    {"min_p": 0.1},
    {"typical_p": 0.8},
    {"epsilon_cutoff": 0.05},
    {"eta_cutoff": 0.05},
    {"top_h": 0.7},
    {"repetition_penalty": 1.3},
    {"encoder_repetition_penalty": 1.3},
    {"no_repeat_ngram_size": 2},
    {"encoder_no_repeat_ngram_size": 1},
    {"bad_words_ids": [[5]]},
    {"suppress_tokens": [4]},
    {"begin_suppress_tokens": [3]},
    {"forced_bos_token_id": 6},
    {"forced_eos_token_id": 2},
    {"exponential_decay_length_penalty": (3, 1.5)},
    {"sequence_bias": [[[3], 1.5]]},
    {"renormalize_logits": True},
    {"remove_invalid_values": True},
    {"min_new_tokens": 5},
]


@pytest.mark.parametrize("num_beams", [1, 2])
@pytest.mark.parametrize("warper", WARPERS, ids=lambda warper: next(iter(warper)))
def test_sampling_with_every_warper_draws_from_the_processed_scores(warper: dict[str, Any], num_beams: int) -> None:
    model = tiny(seed=4)
    torch.manual_seed(0)
    generated = model.generate(
        SOURCES,
        attention_mask=MASK,
        do_sample=True,
        num_beams=num_beams,
        max_new_tokens=8,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
        **warper,
    )
    transitions = model.compute_transition_scores(
        generated.sequences, generated.scores, getattr(generated, "beam_indices", None), normalize_logits=False
    )
    for row in range(3):
        steps = len(stripped(generated.sequences[row]))
        assert transitions[row, :steps].isfinite().all()
        if num_beams == 1:
            expected = log_probabilities(model, row, generated.sequences[row, 1:steps].tolist())
            raw = torch.stack(generated.logits)[:steps, row].log_softmax(-1)
            torch.testing.assert_close(raw, expected, rtol=0, atol=1e-5)
    if "bad_words_ids" in warper:
        assert not generated.sequences.eq(5).any()
    if "min_new_tokens" in warper:
        assert all(len(stripped(row)) > 5 for row in generated.sequences)
    if "forced_bos_token_id" in warper:
        assert generated.sequences[:, 1].eq(6).all()


def test_sampling_frequencies_are_the_models_probabilities() -> None:
    model = tiny(seed=4)
    torch.manual_seed(0)
    drawn = model.generate(
        SOURCES[:1], do_sample=True, top_k=0, max_new_tokens=1, min_new_tokens=0, num_return_sequences=4000
    )
    frequencies = torch.bincount(drawn[:, 1], minlength=VOCABULARY) / 4000
    expected = log_probabilities(model, 0, [])[0].exp()
    torch.testing.assert_close(frequencies, expected, rtol=0, atol=0.03)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_prefix_function_allows_only_what_it_says(num_beams: int) -> None:
    model = tiny(seed=6)
    seen_rows = set()

    def allowed(row: int, target: torch.Tensor) -> list[int]:
        seen_rows.add(row)
        return [3, 4] if len(target) < 4 else [END]

    generated = model.generate(
        SOURCES, attention_mask=MASK, num_beams=num_beams, prefix_allowed_tokens_fn=allowed, max_new_tokens=8
    )
    assert seen_rows == {0, 1, 2}
    assert all(set(row[1:4].tolist()) <= {3, 4} and row[4] == END for row in generated)


def test_a_processor_of_the_users_own() -> None:
    class Only(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            return scores.masked_fill(torch.arange(VOCABULARY) != 5, float("-inf"))

    generated = tiny().generate(SOURCES, logits_processor=LogitsProcessorList([Only()]), max_new_tokens=3)
    assert generated[:, 1:].tolist() == [[5, 5, 5]] * 3


def test_streaming_gives_the_text_piece_by_piece(
    tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    inputs = tiny_tokenizer(["a small dog"], return_tensors="pt")
    streamer = TextIteratorStreamer(tiny_tokenizer, skip_special_tokens=True)
    generated = tiny_model.generate(**inputs, streamer=streamer, max_new_tokens=12)
    assert "".join(streamer) == tiny_tokenizer.decode(generated[0], skip_special_tokens=True)


def test_stop_strings(tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    arguments = {**tiny_tokenizer(["a small dog"], return_tensors="pt"), "max_new_tokens": 20, "min_new_tokens": 20}
    whole = tiny_tokenizer.decode(tiny_model.generate(**arguments)[0], skip_special_tokens=True)
    stop = next(letter for letter in whole if letter.isalpha())
    generated = tiny_model.generate(**arguments, stop_strings=[stop], tokenizer=tiny_tokenizer)
    text = tiny_tokenizer.decode(generated[0], skip_special_tokens=True)
    assert whole.startswith(text)
    assert stop in text
    assert len(text) < len(whole)


def test_transition_scores_add_up_to_the_sequence_scores(model: RnnS2SForConditionalGeneration) -> None:
    generated = model.generate(
        SOURCES,
        attention_mask=MASK,
        num_beams=4,
        num_return_sequences=2,
        max_new_tokens=6,
        length_penalty=0.0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    transitions = model.compute_transition_scores(generated.sequences, generated.scores, generated.beam_indices)
    torch.testing.assert_close(transitions.sum(1), generated.sequences_scores)


def test_attention_of_the_chosen_beam_can_be_read_off(model: RnnS2SForConditionalGeneration) -> None:
    generated = model.generate(
        SOURCES,
        attention_mask=MASK,
        num_beams=4,
        max_new_tokens=6,
        return_dict_in_generate=True,
        output_attentions=True,
        output_scores=True,
    )
    for row in range(3):
        target = stripped(generated.sequences[row])
        source = SOURCES[row][MASK[row].bool()]
        expected = model(
            source.unsqueeze(0), decoder_input_ids=torch.tensor([[START, *target[:-1]]]), output_attentions=True
        )
        for step in range(len(target)):
            # The weights of a step belong to the beams before it, which beam_indices of that step names.
            beam = generated.beam_indices[row, step]
            weights = generated.cross_attentions[step][0][beam, 0, 0]
            torch.testing.assert_close(
                weights[MASK[row].bool()], expected.cross_attentions[0][0, 0, step], rtol=0, atol=1e-5
            )


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_decoder_prompt_is_continued(model: RnnS2SForConditionalGeneration, num_beams: int) -> None:
    prompt = torch.tensor([[START, 4, 6]]).expand(3, -1)
    generated = model.generate(
        SOURCES, attention_mask=MASK, decoder_input_ids=prompt, max_new_tokens=5, num_beams=num_beams
    )
    assert torch.equal(generated[:, :3], prompt)
    if num_beams == 1:
        for row in range(3):
            target = [4, 6]
            while len(target) < 7 and END not in target:
                target.append(int(log_probabilities(model, row, target)[-1].argmax()))
            assert stripped(generated[row]) == target


def test_prompts_of_different_lengths_may_be_padded(model: RnnS2SForConditionalGeneration) -> None:
    prompts = torch.tensor([[START, 4, 6], [0, START, 5], [0, 0, START]])
    generated = model.generate(
        SOURCES,
        attention_mask=MASK,
        decoder_input_ids=prompts,
        decoder_attention_mask=prompts.ne(0).long(),
        max_new_tokens=5,
    )
    for row in range(3):
        prompt = prompts[row][prompts[row].ne(0)].unsqueeze(0)
        source = SOURCES[row][MASK[row].bool()].unsqueeze(0)
        alone = model.generate(source, decoder_input_ids=prompt, max_new_tokens=5)
        start = 3 - prompt.shape[1]
        assert stripped(generated[row, start:]) == stripped(alone[0])


@pytest.mark.parametrize("num_beams", [1, 3])
def test_encoder_outputs_may_be_passed_in(model: RnnS2SForConditionalGeneration, num_beams: int) -> None:
    expected = model.generate(SOURCES, attention_mask=MASK, max_new_tokens=6, num_beams=num_beams)
    encoder_outputs = model.get_encoder()(SOURCES, attention_mask=MASK)
    generated = model.generate(encoder_outputs=encoder_outputs, max_new_tokens=6, num_beams=num_beams)
    assert torch.equal(generated, expected)


def test_generation_goes_on_from_a_returned_cache(model: RnnS2SForConditionalGeneration) -> None:
    whole = model.generate(SOURCES[:1], max_new_tokens=10, min_new_tokens=10)
    first = model.generate(SOURCES[:1], max_new_tokens=4, min_new_tokens=4, return_dict_in_generate=True)
    rest = model.generate(
        SOURCES[:1],
        decoder_input_ids=first.sequences,
        past_key_values=first.past_key_values,
        max_new_tokens=6,
        min_new_tokens=6,
    )
    assert torch.equal(rest, whole)
    assert first.past_key_values.get_seq_length() == 10
    with pytest.raises(ValueError, match="decoder_input_ids has 5 tokens, but the cache has read 10"):
        model.generate(SOURCES[:1], decoder_input_ids=first.sequences, past_key_values=first.past_key_values)


@pytest.mark.parametrize(
    "arguments", [{"prompt_lookup_num_tokens": 3}, {"assistant": 0}, {"assistant": 1}], ids=["lookup", "same", "other"]
)
@pytest.mark.parametrize("row", range(3))
def test_assisted_decoding_gives_what_greedy_gives(
    model: RnnS2SForConditionalGeneration, row: int, arguments: dict[str, Any]
) -> None:
    source = SOURCES[row][MASK[row].bool()].unsqueeze(0)
    length = {"max_new_tokens": 25, "min_new_tokens": 20}
    expected = model.generate(source, **length)
    if "assistant" in arguments:
        arguments = {"assistant_model": model if arguments["assistant"] == 0 else tiny(seed=9)}
    assert torch.equal(model.generate(source, **length, **arguments), expected)


def test_prompt_lookup_really_rolls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from hf_rnn_s2s import RnnS2SCache

    removed = []
    crop = RnnS2SCache.crop
    monkeypatch.setattr(RnnS2SCache, "crop", lambda self, count: (removed.append(abs(count)), crop(self, count))[1])
    model = tiny(seed=1)
    expected = model.generate(SOURCES[:1], max_new_tokens=30, min_new_tokens=30)
    generated = model.generate(SOURCES[:1], max_new_tokens=30, min_new_tokens=30, prompt_lookup_num_tokens=3)
    assert torch.equal(generated, expected)
    assert sum(removed) > 0


def test_length_limits(model: RnnS2SForConditionalGeneration) -> None:
    shortest = model.generate(SOURCES, attention_mask=MASK, max_new_tokens=30, min_new_tokens=7)
    assert all(len(stripped(row)) > 7 for row in shortest)
    longest = model.generate(SOURCES, attention_mask=MASK, max_new_tokens=3, min_new_tokens=3)
    assert longest.shape == (3, 4)


def test_the_generation_config_of_the_model_is_used(model: RnnS2SForConditionalGeneration) -> None:
    expected = model.generate(SOURCES, attention_mask=MASK, num_beams=3, max_new_tokens=6)
    model.generation_config = GenerationConfig(
        num_beams=3, max_new_tokens=6, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1
    )
    assert torch.equal(model.generate(SOURCES, attention_mask=MASK), expected)


def test_a_word_that_generate_does_not_know_is_refused(model: RnnS2SForConditionalGeneration) -> None:
    with pytest.raises(ValueError, match="num_beam"):
        model.generate(SOURCES, num_beam=3)


def test_separate_vocabularies() -> None:
    model = tiny(decoder_vocab_size=5)
    generated = model.generate(SOURCES, attention_mask=MASK, max_new_tokens=8, num_beams=2)
    assert generated.max() < 5
    assert model.get_output_embeddings().out_features == 5
    for options in ({"num_beams": 3}, {"do_sample": True, "top_k": 0}):
        generated = model.generate(
            SOURCES,
            attention_mask=MASK,
            max_new_tokens=6,
            length_penalty=0.0,
            return_dict_in_generate=True,
            output_scores=True,
            **options,
        )
        transitions = model.compute_transition_scores(
            generated.sequences, generated.scores, getattr(generated, "beam_indices", None), normalize_logits=True
        )
        for row in range(3):
            target = stripped(generated.sequences[row])
            following = log_probabilities(model, row, target)[: len(target)]
            expected = following[torch.arange(len(target)), torch.tensor(target)]
            torch.testing.assert_close(transitions[row, : len(target)], expected, rtol=0, atol=1e-5)


def test_bfloat16_generates(model: RnnS2SForConditionalGeneration) -> None:
    half = model.bfloat16()
    generated = half.generate(SOURCES, attention_mask=MASK, max_new_tokens=6, num_beams=3)
    assert generated.shape[0] == 3
    assert half(SOURCES, attention_mask=MASK, decoder_input_ids=generated).logits.dtype == torch.bfloat16


def test_generation_goes_on_with_encoder_outputs_of_every_form(model: RnnS2SForConditionalGeneration) -> None:
    first = model.generate(SOURCES[:1], max_new_tokens=3, min_new_tokens=3, return_dict_in_generate=True)
    expected = model.generate(SOURCES[:1], max_new_tokens=6, min_new_tokens=6)
    options: dict[str, Any] = {"decoder_input_ids": first.sequences, "max_new_tokens": 3, "min_new_tokens": 3}
    encoded = model.get_encoder()(SOURCES[:1], return_dict=False)
    generated = model.generate(encoder_outputs=encoded, past_key_values=first.past_key_values, **options)
    assert torch.equal(generated, expected)


def test_a_model_in_training_mode_goes_on_from_its_cache() -> None:
    model = tiny(dropout=0.5).train()  # other keys at each look at the source
    first = model.generate(SOURCES[:1], max_new_tokens=3, min_new_tokens=3, return_dict_in_generate=True)
    rest = model.generate(
        SOURCES[:1], decoder_input_ids=first.sequences, past_key_values=first.past_key_values, max_new_tokens=2
    )
    assert torch.equal(rest[:, :4], first.sequences)


def test_only_the_whole_target_goes_on_from_a_cache(model: RnnS2SForConditionalGeneration) -> None:
    first = model.generate(SOURCES[:1], max_new_tokens=4, min_new_tokens=4, return_dict_in_generate=True)
    with pytest.raises(ValueError, match="decoder_input_ids has 2 tokens, but the cache has read 4"):
        model.generate(
            SOURCES[:1],
            decoder_input_ids=first.sequences[:, -1:],
            decoder_attention_mask=torch.ones(1, 5).long(),
            past_key_values=first.past_key_values,
            max_new_tokens=5,
        )


def test_a_prompt_that_ends_in_padding_is_refused(model: RnnS2SForConditionalGeneration) -> None:
    prompts = torch.tensor([[START, 4, 6], [START, 5, 0], [START, 0, 0]])
    with pytest.raises(ValueError, match="decoder_attention_mask has a row that ends in padding.*on the left"):
        model.generate(SOURCES, decoder_input_ids=prompts, decoder_attention_mask=prompts.ne(0).long())


def test_prefill_in_chunks_is_refused(model: RnnS2SForConditionalGeneration) -> None:
    with pytest.raises(ValueError, match="prefill_chunk_size: a recurrent decoder reads a prompt of any length"):
        model.generate(SOURCES, prefill_chunk_size=2)


@pytest.mark.parametrize("attention_type", ["general", "none"])
@pytest.mark.parametrize("way", ["prompt_lookup", "assistant"])
@pytest.mark.parametrize("cell_type", ["lstm", "gru"])
def test_assisted_decoding_gives_the_attention_of_plain_greedy(cell_type: str, way: str, attention_type: str) -> None:
    model = tiny(cell_type=cell_type, attention_type=attention_type)
    options: dict[str, Any] = {"max_new_tokens": 9, "output_attentions": True, "return_dict_in_generate": True}
    helper: dict[str, Any] = {"assistant_model": tiny(3)} if way == "assistant" else {"prompt_lookup_num_tokens": 3}
    expected = model.generate(SOURCES[:1], **options)
    generated = model.generate(SOURCES[:1], **helper, **options)
    assert torch.equal(generated.sequences, expected.sequences)
    assert len(generated.cross_attentions) == len(expected.cross_attentions)
    for ours, plain in zip(generated.cross_attentions, expected.cross_attentions, strict=True):
        assert len(ours) == len(plain) == (attention_type != "none")
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-5)
    assert generated.decoder_attentions == expected.decoder_attentions
