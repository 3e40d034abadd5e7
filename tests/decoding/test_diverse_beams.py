"""Diverse beam search against plain loops in float64, and with one group against ordinary beam search."""

import copy
import itertools
import random
from collections import Counter
from typing import Any

import pytest
import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from hf_rnn_s2s import RnnS2SForConditionalGeneration, StepGraphs
from hf_rnn_s2s.decoding import fast_search
from hf_rnn_s2s.decoding.divided_search import divided_beam_search

from .. import random_models
from ..random_searches import random_arguments, random_model, random_sources

START, END = 1, 2
Hypothesis = tuple[float, list[int]]


def reference(
    model: RnnS2SForConditionalGeneration, source: torch.Tensor, beams: int, groups: int, penalty: float, length: int
) -> list[Hypothesis]:
    """Vijayakumar et al. 2018, algorithm 1, with the Hamming diversity: the finished hypotheses of all groups."""
    size = beams // groups
    model = copy.deepcopy(model).double()

    def log_probabilities(target: list[int]) -> list[float]:
        with torch.no_grad():
            logits = model(source[None], decoder_input_ids=torch.tensor([[START, *target]])).logits
        return logits[0, -1].log_softmax(-1).tolist()

    running: list[list[Hypothesis]] = [[(0.0, [])] for _ in range(groups)]
    finished: list[list[Hypothesis]] = [[] for _ in range(groups)]
    done = [False] * groups
    for written in range(1, length + 1):
        chosen: Counter[int] = Counter()
        for group in range(groups):
            if done[group]:
                continue
            candidates = []
            for score, target in running[group]:
                for token, log_probability in enumerate(log_probabilities(target)):
                    candidates.append((score + log_probability - penalty * chosen[token], [*target, token]))
            candidates.sort(reverse=True)
            is_finished = [target[-1] == END or written == length for _, target in candidates]
            for number in range(size):
                if is_finished[number]:
                    score, target = candidates[number]
                    finished[group].append((score / len(target), target))
            finished[group] = sorted(finished[group], reverse=True)[:size]
            going_on = [one for one, ended in zip(candidates, is_finished, strict=True) if not ended]
            running[group] = going_on[:size]
            chosen.update(target[-1] for _, target in running[group])
            is_full = len(finished[group]) == size
            done[group] = not running[group] or (is_full and running[group][0][0] / written <= finished[group][-1][0])
    ranked: list[Hypothesis] = []
    for place in range(size):
        ranked += sorted((one[place] for one in finished if len(one) > place), reverse=True)
    return ranked


def stripped(sequence: torch.Tensor) -> list[int]:
    target = sequence.tolist()[1:]
    return target[: target.index(END) + 1] if END in target else target


@pytest.mark.parametrize(("beams", "groups"), [(2, 2), (6, 2), (6, 3), (4, 4)])
@pytest.mark.parametrize(("penalty", "seed"), [(0.3, None), (2.0, None), *((1.0, seed) for seed in range(6))])
def test_it_is_what_plain_loops_find(beams: int, groups: int, penalty: float, seed: int | None) -> None:
    """Also where one group is done before the others, which some of the models with a seed make happen."""
    model, sources = random_models.model_that_ends(), random_models.sources(3)
    if seed is not None:
        torch.manual_seed(seed)
        with torch.no_grad():
            model.lm_head.bias += torch.randn(model.lm_head.bias.shape)
    found = model.generate(
        sources,
        num_beams=beams,
        num_beam_groups=groups,
        diversity_penalty=penalty,
        num_return_sequences=beams,
        max_new_tokens=7,
    )
    for row, sequences in enumerate(found.view(3, beams, -1)):
        expected = [target for _, target in reference(model, sources[row], beams, groups, penalty, 7)]
        distinct = [one for place, one in enumerate(expected) if one not in expected[:place]]
        assert [stripped(one) for one in sequences][: len(distinct)] == distinct


def test_with_one_group_it_is_ordinary_beam_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """With any processors, prompts and lengths, as far as there are translations enough."""

    def divided(*arguments: Any, repeatable: bool, **others: Any) -> tuple[torch.Tensor, None]:
        return divided_beam_search(*arguments, **others), None

    compared = 0
    for seed in range(60):
        model = random_model(random.Random(seed))
        vocabulary = model.config.vocab_size
        torch.manual_seed(seed)
        sources = random_sources(random.Random(seed), vocabulary)
        arguments = random_arguments(random.Random(seed), vocabulary, is_wild=False)
        if arguments["num_beams"] == 1:
            continue
        expected = model.generate(**sources, **arguments)
        with monkeypatch.context() as patch:
            patch.setattr(fast_search, "beam_search", divided)
            try:
                found = model.generate(**sources, **arguments)
            except ValueError as error:
                if "The search found" not in str(error):
                    raise
                continue
        assert torch.equal(found, expected), (seed, arguments)
        compared += 1
    assert compared > 30


def test_a_large_penalty_keeps_the_groups_apart_at_every_step() -> None:
    model, sources = random_models.model_that_ends(), random_models.sources(6)
    with torch.no_grad():
        model.lm_head.bias[END] -= 100
    arguments: dict[str, Any] = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 5}
    found = model.generate(sources, num_beam_groups=4, diversity_penalty=1e4, **arguments).view(6, 4, -1)[:, :, 1:-1]
    assert all(len(set(tokens)) == 4 for row in found.transpose(1, 2).tolist() for tokens in row)
    ordinary = model.generate(sources, **arguments).view(6, 4, -1)[:, :, 1:-1]
    assert not all(len(set(tokens)) == 4 for row in ordinary.transpose(1, 2).tolist() for tokens in row)


def test_the_first_ones_that_are_returned_come_from_different_groups() -> None:
    model, sources = random_models.model_that_ends(), random_models.sources(8)
    arguments: dict[str, Any] = {"num_beams": 6, "num_return_sequences": 3, "max_new_tokens": 8}
    diverse = model.generate(sources, num_beam_groups=3, diversity_penalty=3.0, **arguments).view(8, 3, -1)
    ordinary = model.generate(sources, **arguments).view(8, 3, -1)

    def first_tokens(found: torch.Tensor) -> float:
        return sum(len(set(row)) for row in found[:, :, 1].tolist()) / len(found)

    assert first_tokens(diverse) > 2.5 > first_tokens(ordinary)
    best = model.generate(sources, num_beam_groups=3, diversity_penalty=3.0, num_beams=6, max_new_tokens=8)
    for row in range(8):
        assert stripped(best[row]) == stripped(diverse[row, 0])


def test_a_row_does_not_depend_on_its_batch() -> None:
    for seed in range(12):
        draw = random.Random(seed)
        model = random_model(draw)
        sources = torch.randint(3, model.config.vocab_size, (4, 6))
        arguments: dict[str, Any] = {
            "num_beams": 6,
            "num_beam_groups": draw.choice([2, 3]),
            "diversity_penalty": draw.choice([0.2, 1.0]),
            "early_stopping": draw.choice([True, False, "never"]),
            "max_new_tokens": 9,
            "force_phrases": draw.choice([None, [[4, 4], [3]]]),  # each group writes them
            "num_return_sequences": draw.randint(1, 3),
        }
        returned = arguments["num_return_sequences"]
        found = model.generate(sources, **arguments)
        for row in range(4):
            alone = model.generate(sources[row : row + 1], **arguments)
            of_row = found[row * returned : (row + 1) * returned, : alone.shape[1]]
            assert torch.equal(alone, of_row), seed
            if arguments["force_phrases"] is not None:
                assert all({(4, 4), (3,)} <= pieces(tokens) for tokens in of_row.tolist()), of_row


def pieces(tokens: list[int]) -> set[tuple[int, ...]]:
    return {(token,) for token in tokens} | set(itertools.pairwise(tokens))


class After15(StoppingCriteria):
    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return input_ids[:, -1] == 15


def test_a_criterion_of_the_callers_own_ends_hypotheses() -> None:
    model, sources = random_models.model_that_ends(), random_models.sources(6)
    groups: dict[str, Any] = {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.5, "max_new_tokens": 8}
    expected = model.generate(sources, **groups, eos_token_id=[END, 15])
    criteria = StoppingCriteriaList([After15()])
    assert torch.equal(model.generate(sources, **groups, stopping_criteria=criteria), expected)
    assert not torch.equal(model.generate(sources, **groups), expected)


def test_ensembles_and_penalties_are_diverse_too() -> None:
    model, sources = random_models.model_that_ends(), random_models.sources(4)
    groups: dict[str, Any] = {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5, "max_new_tokens": 8}
    expected = model.generate(sources, **groups, coverage_penalty=0.3)
    assert torch.equal(model.generate(sources, **groups, coverage_penalty=0.3, ensemble=[model]), expected)
    other = random_models.build(7, initializer_range=1.0)
    assert not torch.equal(model.generate(sources, **groups, coverage_penalty=0.3, ensemble=[other]), expected)


def test_the_settings_may_stand_in_the_generation_config() -> None:
    model, sources = random_models.model_that_ends(), random_models.sources(4)
    settings: dict[str, Any] = {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5, "max_new_tokens": 8}
    expected = model.generate(sources, **settings)
    assert torch.equal(model.generate(sources, trust_remote_code=True, **settings), expected)
    model.generation_config.update(**settings)
    assert torch.equal(model.generate(sources), expected)
    config = copy.deepcopy(model.generation_config)
    model.generation_config.update(num_beam_groups=None, num_beams=1)
    assert torch.equal(model.generate(sources, generation_config=config), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 5}, "num_beams=5 cannot be divided into num_beam_groups=2 groups"),
        ({"num_beams": 1}, "num_beams=1 cannot be divided into num_beam_groups=2 groups"),
        ({"diversity_penalty": None}, "diversity_penalty=None must be a number above 0"),
        ({"diversity_penalty": -0.5}, "diversity_penalty=-0.5 must be a number above 0"),
        ({"diversity_penalty": "much"}, "diversity_penalty='much' must be a number from"),
        ({"num_beam_groups": 0}, "num_beam_groups=0 must be a whole number from 1"),
        ({"num_beam_groups": 2.0}, "num_beam_groups=2.0 must be a whole number"),
        ({"do_sample": True}, "num_beam_groups: only greedy and beam search that return token ids alone"),
        ({"return_dict_in_generate": True}, "num_beam_groups: only greedy and beam search"),
        ({"step_graphs": StepGraphs()}, "step_graphs do not know num_beam_groups"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # objects have their address in their text
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    model = random_models.model_that_ends()
    arguments = {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5, **settings}
    with pytest.raises(ValueError, match=message):
        model.generate(random_models.sources(2), max_new_tokens=4, **arguments)
