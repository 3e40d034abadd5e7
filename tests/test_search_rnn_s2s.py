"""The package's own greedy and beam search against those of transformers: the same token ids, the same scores."""

import random
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import (
    EosTokenCriteria,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation import MaxLengthCriteria
from transformers.modeling_outputs import BaseModelOutput

from hf_rnn_s2s import (
    RnnS2SCache,
    RnnS2SConfig,
    RnnS2SForConditionalGeneration,
    generation_rnn_s2s,
    top_tokens_rnn_s2s,
)

CASES = 720  # of which 4 in 5 are beam searches
END = 2


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What the package's own beam search returns, each time it is called: token ids and scores."""
    made: list[tuple[torch.Tensor, torch.Tensor]] = []
    beam_search = generation_rnn_s2s.beam_search

    def remember(*args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        made.append(beam_search(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(generation_rnn_s2s, "beam_search", remember)
    return made


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the small vocabularies of the tests were so large that a look at all of their numbers is too dear."""
    monkeypatch.setattr(top_tokens_rnn_s2s, "GROUP", 8)
    monkeypatch.setattr(top_tokens_rnn_s2s, "FEW", 0)


def random_model(draw: random.Random) -> RnnS2SForConditionalGeneration:
    """Of any architecture. Its end token is more or less probable, so that hypotheses end early or late or never."""
    torch.manual_seed(draw.randrange(2**31))
    config = RnnS2SConfig(
        vocab_size=draw.choice([13, 40, 67, 131]),
        embedding_size=6,
        hidden_size=8,
        decoder_layers=draw.choice([1, 2]),
        cell_type=draw.choice(["lstm", "gru"]),
        attention_type=draw.choice(["none", "dot", "general", "additive", "cosine"]),
        attention_layer=draw.choice(["bottom", "top"]),
        context_fusion=draw.choice(["concat", "add"]),
        initializer_range=1.0,
        eos_token_id=draw.choice([END, END, [END, 5]]),
    )
    model = RnnS2SForConditionalGeneration(config).eval()
    with torch.no_grad():
        model.lm_head.bias.normal_(std=0.5)
        model.lm_head.bias[END] += draw.choice([-1.0, 1.0, 2.0, 4.0])
    return model


def random_arguments(draw: random.Random, vocabulary: int) -> dict[str, Any]:
    beams = draw.choice([1, 2, 3, 4, 6])
    arguments: dict[str, Any] = {"num_beams": beams, "max_new_tokens": draw.choice([1, 3, 5, 12])}
    if beams > 1:
        arguments["num_return_sequences"] = draw.randint(1, beams)
        arguments["length_penalty"] = draw.choice([1.0, 0.0, 0.6, 2.0, -0.5])
        arguments["early_stopping"] = draw.choice([False, True, "never"])
    of_one_kind: list[dict[str, Any]] = [
        {"repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 2},
        {"min_new_tokens": 2},
        {"bad_words_ids": [[7], [4, 9]]},
        {"suppress_tokens": [6, 8]},
        {"begin_suppress_tokens": [6]},
        {"forced_bos_token_id": 9},
        {"forced_eos_token_id": END},
        {"exponential_decay_length_penalty": (1, 1.2)},
        {"sequence_bias": [[[3], 1.5], [[4, 6], 2.0]]},
        {"renormalize_logits": True},
        {"encoder_repetition_penalty": 1.2},
        {"encoder_no_repeat_ngram_size": 2},
        {
            "prefix_allowed_tokens_fn": lambda row, target: [
                token for token in range(vocabulary) if token % 3 != row % 3
            ]
        },
    ]
    for processor in draw.sample(of_one_kind, draw.choice([0, 0, 1, 2])):
        if "min_new_tokens" not in processor or arguments["max_new_tokens"] > 2:
            arguments |= processor
    return arguments


def random_sources(draw: random.Random, vocabulary: int) -> dict[str, torch.Tensor]:
    rows, longest = draw.choice([1, 2, 5, 9]), draw.randint(1, 8)
    ids = torch.randint(3, vocabulary, (rows, longest))
    lengths = torch.tensor([draw.randint(1, longest) for _ in range(rows)])
    mask = (torch.arange(longest) < lengths.unsqueeze(1)).long()
    inputs = {"input_ids": ids * mask, "attention_mask": mask}
    if draw.random() < 0.2:
        inputs["decoder_input_ids"] = torch.randint(3, vocabulary, (rows, draw.randint(1, 3)))
    return inputs


@pytest.mark.parametrize("part", range(4))
def test_sequences_and_scores_are_those_of_transformers(
    part: int,
    searches: list[tuple[torch.Tensor, torch.Tensor]],
    small_groups: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw = random.Random(part)
    beam_searches = 0
    for _ in range(CASES // 4):
        model = random_model(draw)
        inputs = random_sources(draw, model.config.vocab_size)
        arguments = random_arguments(draw, model.config.vocab_size)
        searches.clear()
        generated = model.generate(**inputs, **arguments)
        with monkeypatch.context() as patch:
            patch.setattr(RnnS2SForConditionalGeneration, "_searches_itself", lambda *args, **kwargs: False)
            expected = model.generate(**inputs, **arguments, return_dict_in_generate=True, output_scores=True)
        if arguments["num_beams"] == 1:
            assert torch.equal(generated, expected.sequences), arguments
            continue
        beam_searches += 1
        ((sequences, scores),) = searches
        assert sequences is generated
        # Where processors leave no other hypothesis, transformers fills up with what has a score of -1e9.
        real = expected.sequences_scores > -1e8
        assert torch.equal(sequences[real], expected.sequences[real]), arguments
        torch.testing.assert_close(scores[real], expected.sequences_scores[real], rtol=1e-5, atol=1e-5)
    assert beam_searches >= 130  # of each of the four parts


def model_that_ends(vocabulary: int = 40, **values: Any) -> RnnS2SForConditionalGeneration:
    """Of a random model's sentences, some end early and some late."""
    torch.manual_seed(3)
    config = RnnS2SConfig(
        vocab_size=vocabulary, embedding_size=6, hidden_size=8, decoder_layers=1, initializer_range=1.0, **values
    )
    model = RnnS2SForConditionalGeneration(config).eval()
    with torch.no_grad():
        model.lm_head.bias[END] += 0.5
    return model


def sources(rows: int = 16) -> torch.Tensor:
    return torch.randint(3, 40, (rows, 6), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("num_beams", [1, 3])
def test_finished_rows_leave_the_batch(rows_per_step: list[int], num_beams: int) -> None:
    model_that_ends().generate(sources(), num_beams=num_beams, max_new_tokens=30)
    assert rows_per_step[0] == 16  # the beams of a sentence begin alike, and are read once
    assert 10 * num_beams < rows_per_step[1] <= 16 * num_beams
    assert rows_per_step[1:] == sorted(rows_per_step[1:], reverse=True)
    assert rows_per_step[-1] <= 4 * num_beams


def test_batches_have_few_sizes(rows_per_step: list[int]) -> None:
    """Those of up to 8 rows, and above that 8 between a power of 2 and the next one."""
    draw, sizes = random.Random(0), set()
    for _ in range(20):
        model, rows = model_that_ends(), draw.randint(60, 64)
        with torch.no_grad():
            model.lm_head.bias[END] += draw.random()
        rows_per_step.clear()
        model.generate(torch.randint(3, 40, (rows, 6)), num_beams=1, max_new_tokens=30)
        sizes |= set(rows_per_step) - {rows}
    assert len(sizes) > 10
    assert sizes <= {*range(1, 9), *range(10, 17, 2), *range(20, 33, 4), *range(40, 65, 8)}


class Unchanged(LogitsProcessor):
    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores


class Never(StoppingCriteria):
    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.zeros(len(input_ids), dtype=torch.bool)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize(
    "arguments",
    [
        {"logits_processor": LogitsProcessorList([Unchanged()])},
        {"stopping_criteria": StoppingCriteriaList([Never()])},
        {"prefix_allowed_tokens_fn": lambda row, target: list(range(40))},
    ],
    ids=["processor", "criterion", "prefix"],
)
def test_no_row_leaves_while_somebody_may_count_them(
    rows_per_step: list[int], arguments: dict[str, Any], num_beams: int
) -> None:
    model = model_that_ends()
    generated = model.generate(sources(), num_beams=num_beams, max_new_tokens=30, **arguments)
    assert rows_per_step[-1] == 16 * num_beams
    assert torch.equal(generated, model.generate(sources(), num_beams=num_beams, max_new_tokens=30))


@pytest.mark.parametrize(
    "arguments",
    [
        {"return_dict_in_generate": True},
        {"do_sample": True},
        {"use_cache": False},
        {"decoder_attention_mask": torch.ones(16, 1).long()},
        {"eos_token_id": None, "pad_token_id": 0},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_what_else_generate_can_do_is_left_to_transformers(
    rows_per_step: list[int], arguments: dict[str, Any]
) -> None:
    model_that_ends().generate(sources(), max_new_tokens=4, **arguments)
    assert not rows_per_step


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize(
    "criteria",
    [[MaxLengthCriteria(5)], [EosTokenCriteria(torch.arange(7, 17))], [MaxLengthCriteria(4), EosTokenCriteria(9)]],
    ids=["length", "tokens", "both"],
)
@pytest.mark.parametrize("eos_token_id", [END, None])
def test_the_callers_own_criteria_count(
    eos_token_id: int | None, criteria: list[StoppingCriteria], num_beams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of the kinds that `generate()` makes of its arguments."""
    model = model_that_ends()
    arguments: dict[str, Any] = {
        "num_beams": num_beams,
        "max_length": 12,
        "eos_token_id": eos_token_id,
        "pad_token_id": 0,
        "stopping_criteria": StoppingCriteriaList(criteria),
    }
    generated = model.generate(sources(), **arguments)
    monkeypatch.setattr(RnnS2SForConditionalGeneration, "_searches_itself", lambda *args, **kwargs: False)
    assert torch.equal(generated, model.generate(sources(), **arguments))
    assert not torch.equal(generated, model.generate(sources(), **{**arguments, "stopping_criteria": None}))


def test_a_forward_pass_put_over_another_one_is_called(rows_per_step: list[int]) -> None:
    for name in ("the model", "the decoder"):
        model = model_that_ends()
        module: Any = model if name == "the model" else model.model.decoder
        original, calls = module.forward, []

        def wrapped(*args: Any, original: Any = original, calls: list[str] = calls, **kwargs: Any) -> Any:
            calls.append("forward")
            return original(*args, **kwargs)

        module.forward = wrapped
        model.generate(sources(), max_new_tokens=2)
        assert len(calls) == 2, name
        assert not rows_per_step, name


def test_what_accelerate_puts_over_it_for_mixed_precision_may_be_left_out(rows_per_step: list[int]) -> None:
    """A search then is in the type of the weights, as it is with the model that gets saved."""
    model = model_that_ends()
    expected = model.generate(sources(), max_new_tokens=9)
    rows_per_step.clear()
    try:
        prepared = Accelerator(cpu=True, mixed_precision="bf16").prepare(model)
        assert "forward" in vars(prepared)
        assert torch.equal(prepared.generate(sources(), max_new_tokens=9), expected)
        assert rows_per_step
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def test_a_cache_of_the_callers_own_is_filled(rows_per_step: list[int]) -> None:
    model, cache = model_that_ends(), RnnS2SCache()
    expected = model.generate(sources(), max_new_tokens=4)
    rows_per_step.clear()
    generated = model.generate(sources(), max_new_tokens=4, past_key_values=cache)
    assert torch.equal(generated, expected)
    assert cache.get_seq_length() == generated.shape[1] - 1


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("attention_type", ["general", "none"])
def test_rows_that_do_not_fit_the_source_are_refused(attention_type: str, num_beams: int) -> None:
    model = model_that_ends(attention_type=attention_type)
    arguments: dict[str, Any] = {"num_beams": num_beams, "max_new_tokens": 3}
    with pytest.raises(ValueError, match=f"decoder_input_ids has {num_beams} rows, but the source has 5"):
        model.generate(sources(5), decoder_input_ids=torch.tensor([[1]]), **arguments)
    encoded = model.get_encoder()(sources(5))
    with pytest.raises(ValueError, match="encoder_outputs has no final_hidden"):
        model.generate(encoder_outputs=BaseModelOutput(encoded.last_hidden_state), **arguments)
    encoded.rows_per_source = 2
    with pytest.raises(ValueError, match=r"the source has 5 times \d, its rows_per_source"):
        model.generate(encoder_outputs=encoded, **arguments)


def test_a_changed_forward_pass_is_called(rows_per_step: list[int]) -> None:
    class Changed(RnnS2SForConditionalGeneration):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            output.logits[..., 7] = 1e4
            return output

    plain = model_that_ends()
    changed = Changed(plain.config).eval()
    assert changed.generate(sources(), max_new_tokens=2)[:, 1:].eq(7).all()
    handle = plain.model.decoder.register_forward_hook(lambda *args: None)
    plain.generate(sources(), max_new_tokens=2)
    assert not rows_per_step
    handle.remove()
    plain.generate(sources(), max_new_tokens=2)
    assert rows_per_step


def test_a_model_in_training_mode_searches_with_its_dropout(rows_per_step: list[int]) -> None:
    model = model_that_ends(dropout=0.5).train()
    first, second = (model.generate(sources(), max_new_tokens=20) for _ in range(2))
    assert not rows_per_step
    assert first.shape != second.shape or not torch.equal(first, second)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("way", ["bfloat16", "autocast", "output layer of another class"])
def test_logits_in_other_ways(way: str, num_beams: int) -> None:
    model = model_that_ends()
    arguments: dict[str, Any] = {"num_beams": num_beams, "max_new_tokens": 6}
    exact = model.generate(sources(), **arguments)
    if way == "bfloat16":
        generated = model.bfloat16().generate(sources(), **arguments)
    elif way == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            generated = model.generate(sources(), **arguments)
    else:
        model.lm_head = torch.nn.Sequential(model.lm_head)
        model.lm_head.weight = model.lm_head[0].weight
        generated = model.generate(sources(), **arguments)
    width = min(exact.shape[1], generated.shape[1])
    alike = exact[:, :width].eq(generated[:, :width]).all(1).float().mean()
    assert alike == 1 if way.startswith("output") else alike > 0.7


def test_a_vocabulary_smaller_than_the_candidates() -> None:
    model = model_that_ends(vocabulary=5)
    ids = sources() % 2 + 3
    assert model.generate(ids, num_beams=4, max_new_tokens=5).max() < 5


def test_a_prompt_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="decoder_input_ids has the id 40, outside the vocabulary of 40 tokens"):
        model_that_ends().generate(sources(1), decoder_input_ids=torch.tensor([[1, 40]]), num_beams=2)
