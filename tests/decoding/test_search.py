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

from hf_rnn_s2s import RnnS2SCache, RnnS2SForConditionalGeneration
from hf_rnn_s2s.decoding import fast_search, top_tokens
from hf_rnn_s2s.model import modeling_rnn_s2s as plain

from ..random_models import END, model_that_ends, sources
from ..random_searches import BansAnother, random_arguments, random_model, random_sources

CASES = 320  # of each of the two random tests; 4 in 5 are beam searches


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What the package's own beam search returns, each time it is called: token ids and scores."""
    made: list[tuple[torch.Tensor, torch.Tensor]] = []
    beam_search = fast_search.beam_search

    def remember(*args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        made.append(beam_search(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(fast_search, "beam_search", remember)
    return made


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the small vocabularies of the tests were so large that a look at all of their numbers is too dear."""
    monkeypatch.setattr(top_tokens, "GROUP", 8)
    monkeypatch.setattr(top_tokens, "FEW", 0)


def compare(
    draw: random.Random, kind: str, is_wild: bool, searches: list[Any], monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """One random case, ours and that of transformers; the arguments that it had."""
    model = random_model(draw, kind)
    inputs, seed = random_sources(draw, model.config.vocab_size), draw.randrange(2**31)

    def arguments() -> dict[str, Any]:
        return random_arguments(random.Random(seed), model.config.vocab_size, is_wild)

    searches.clear()
    generated = model.generate(**inputs, **arguments())
    with monkeypatch.context() as patch:
        patch.setattr(RnnS2SForConditionalGeneration, "generate", plain.RnnS2SForConditionalGeneration.generate)
        expected = model.generate(**inputs, **arguments(), return_dict_in_generate=True, output_scores=True)
    assert torch.equal(generated, expected.sequences), arguments()
    if searches:
        sequences, scores = searches[-1]
        assert sequences is generated
        torch.testing.assert_close(scores, expected.sequences_scores, rtol=1e-5, atol=1e-5, equal_nan=True)
    return arguments()


@pytest.mark.parametrize("part", range(4))
def test_sequences_and_scores_are_those_of_transformers(
    part: int,
    searches: list[tuple[torch.Tensor, torch.Tensor]],
    small_groups: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw, beam_searches = random.Random(part), 0
    for _ in range(CASES // 4):
        arguments = compare(draw, "plain", False, searches, monkeypatch)
        assert len(searches) == (arguments["num_beams"] > 1)
        beam_searches += len(searches)
    assert beam_searches >= 55  # of each of the four parts


@pytest.mark.parametrize("kind", ["plain", "banned", "tied"])
@pytest.mark.parametrize("groups", ["small groups", "all at once"])
@pytest.mark.filterwarnings("ignore")  # many arguments do not go together
def test_also_where_nothing_is_as_usual(
    groups: str,
    kind: str,
    searches: list[tuple[torch.Tensor, torch.Tensor]],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scores that are equal, infinite, or no numbers, and hypotheses that nothing can follow."""
    if groups == "small groups":
        request.getfixturevalue("small_groups")
    draw, own = random.Random(f"{kind}, {groups}"), 0
    for _ in range(CASES // 6):
        compare(draw, kind, True, searches, monkeypatch)
        own += len(searches)
    assert own >= 30


@pytest.mark.parametrize(("vocabulary", "early_stopping"), [(13, False), (67, True), (131, "never")])
def test_hypotheses_whose_scores_are_no_numbers(
    vocabulary: int,
    early_stopping: bool | str,
    searches: list[tuple[torch.Tensor, torch.Tensor]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    -inf becomes the lowest number, the decay makes infinity of it, and normalised that is no number, which `topk`
    takes for the greatest. So transformers keeps beginnings that are not finished for the best hypotheses.
    """
    model = model_that_ends(vocabulary)
    arguments: dict[str, Any] = {
        "num_beams": 3,
        "max_new_tokens": 8,
        "early_stopping": early_stopping,
        "repetition_penalty": 5.0,
        "encoder_repetition_penalty": 0.5,
        "no_repeat_ngram_size": 2,
        "min_new_tokens": 5,
        "exponential_decay_length_penalty": (2, 3.0),
        "renormalize_logits": True,
        "remove_invalid_values": True,
    }
    found = model.generate(sources(2) % 10 + 3, **arguments)
    monkeypatch.setattr(RnnS2SForConditionalGeneration, "generate", plain.RnnS2SForConditionalGeneration.generate)
    assert torch.equal(found, model.generate(sources(2) % 10 + 3, **arguments))
    assert found.shape == (2, 5)
    assert searches[-1][1].isnan().all()


@pytest.mark.parametrize("vocabulary", [8, 40])
def test_more_hypotheses_are_wanted_than_there_are(vocabulary: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a forced end nothing has a chance any more. What transformers returns beside it has not ended."""
    model = model_that_ends(vocabulary)
    ids, arguments = sources() % 5 + 3, {"num_beams": 4, "num_return_sequences": 4, "forced_bos_token_id": END}
    found = model.generate(ids, max_new_tokens=9, **arguments)
    monkeypatch.setattr(RnnS2SForConditionalGeneration, "generate", plain.RnnS2SForConditionalGeneration.generate)
    assert torch.equal(found, model.generate(ids, max_new_tokens=9, **arguments))
    assert found.shape == (64, 2)


def test_ends_without_hope_count_for_early_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    """With two tokens to choose from, one of which ends, some beams begin without a chance, and end at once."""
    model = model_that_ends(8)
    with torch.no_grad():
        model.lm_head.bias[[token for token in range(8) if token not in (3, END)]] = -torch.inf
        model.lm_head.bias[END] -= 3
    ids, arguments = sources(1) % 5 + 3, {"num_beams": 3, "max_new_tokens": 4, "early_stopping": True}
    found = model.generate(ids, **arguments)
    monkeypatch.setattr(RnnS2SForConditionalGeneration, "generate", plain.RnnS2SForConditionalGeneration.generate)
    assert torch.equal(found, model.generate(ids, **arguments))
    assert found.tolist() == [[1, 3, END]]  # and not [1, 3, 3, END], which is more probable


def test_of_equal_candidates_the_same_ones_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a model of which nothing has been learnt yet."""
    model = model_that_ends()
    torch.nn.init.zeros_(model.lm_head.weight)
    torch.nn.init.zeros_(model.lm_head.bias)
    found = model.generate(sources(), num_beams=4, num_return_sequences=4, max_new_tokens=9)
    monkeypatch.setattr(RnnS2SForConditionalGeneration, "generate", plain.RnnS2SForConditionalGeneration.generate)
    expected = model.generate(sources(), num_beams=4, num_return_sequences=4, max_new_tokens=9)
    assert torch.equal(found, expected)


def test_an_ordinary_search_is_made_once(rows_per_step: list[int]) -> None:
    model = model_that_ends()
    processors: list[dict[str, Any]] = [{"repetition_penalty": 1.3}, {"forced_bos_token_id": 9}]
    for arguments in ({}, *processors, {"logits_processor": [Unchanged()]}):
        rows_per_step.clear()
        found = model.generate(sources(), num_beams=3, max_new_tokens=12, **arguments)
        assert len(rows_per_step) <= 12
        assert len(rows_per_step) >= found.shape[1] - 1


def test_what_keeps_count_of_its_calls_is_called_once_for_every_step() -> None:
    """Although the outcome could only be known from a second search."""
    banning = BansAnother()
    arguments: dict[str, Any] = {"num_beams": 4, "num_return_sequences": 4, "forced_bos_token_id": END}
    model_that_ends().generate(sources(), max_new_tokens=9, logits_processor=[banning], **arguments)
    assert 1 <= banning.calls <= 9


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
    monkeypatch.setattr(RnnS2SForConditionalGeneration, "generate", plain.RnnS2SForConditionalGeneration.generate)
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
    AcceleratorState._reset_state(reset_partial_state=True)  # another test may have chosen a precision
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
