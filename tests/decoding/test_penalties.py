"""Penalties, ensembles and scores against sums by hand, over all targets of a tiny vocabulary."""

import math
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch

from hf_rnn_s2s import RnnS2SForConditionalGeneration, StepGraphs

from .. import random_models
from ..reference_model import logits_of

START, END, VOCABULARY, LENGTH = 1, 2, 7, 3
TOKENS = torch.tensor([[4, 5, 6, 3, 2], [6, 4, 2, 0, 0], [3, 3, 5, 2, 0]])
MASK = TOKENS.ne(0).long()
SOURCES = [row[row.ne(0)].tolist() for row in TOKENS]
ALL_BEAMS: dict[str, Any] = {
    "num_beams": 3 * VOCABULARY**2,
    "num_return_sequences": 4,
    "early_stopping": "never",
    "max_new_tokens": LENGTH,
}


@cache
def model_number(seed: int, attention_type: str = "general") -> RnnS2SForConditionalGeneration:
    return random_models.build(
        seed, vocab_size=VOCABULARY, initializer_range=1.0, unk_token_id=None, attention_type=attention_type
    )


@cache
def reference(seed: int, row: int, target: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities `(target + 1, vocabulary)` and attention `(target + 1, source)`, by plain loops."""
    logits, weights = logits_of(model_number(seed), SOURCES[row], [START, *target])
    return logits.log_softmax(-1), weights


def all_targets() -> Iterator[list[int]]:
    others = [token for token in range(VOCABULARY) if token != END]
    for inner in range(LENGTH + 1):
        for tokens in product(others, repeat=inner):
            yield [*tokens, *([] if inner == LENGTH else [END])]


def best_four(score: Callable[[list[int]], float]) -> list[list[int]]:
    return [target for _, target in sorted(((score(target), target) for target in all_targets()), reverse=True)[:4]]


def stripped(sequence: torch.Tensor) -> list[int]:
    target = sequence.tolist()[1:]
    return target[: target.index(END) + 1] if END in target else target


@pytest.mark.parametrize(("alpha", "beta"), [(0.6, 0.0), (0.0, 0.4), (1.0, 0.2), (2.0, 3.0), (-1.0, 0.5)])
def test_gnmt_penalties_are_those_of_brute_force(alpha: float, beta: float) -> None:
    """Wu et al. 2016, equation 14."""
    model = model_number(3)
    names = {"gnmt_length_penalty": alpha, "coverage_penalty": beta}
    found = model.generate(TOKENS, attention_mask=MASK, **ALL_BEAMS, **names).view(3, 4, -1)
    for row in range(3):

        def score(target: list[int], row: int = row) -> float:
            log_probabilities, weights = reference(3, row, tuple(target[:-1]))
            total = sum(float(one[token]) for one, token in zip(log_probabilities, target, strict=True))
            length = (5 + len(target)) ** alpha / (5 + 1) ** alpha
            return total / length + beta * sum(math.log(min(1.0, float(one))) for one in weights.sum(0))

        assert [stripped(one) for one in found[row]] == best_four(score)


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
def test_penalties_that_change_nothing_change_nothing(early_stopping: Any) -> None:
    model = random_models.model_that_ends()
    sources = random_models.sources()
    arguments: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 12, "early_stopping": early_stopping}
    plain = model.generate(sources, length_penalty=0.0, **arguments)
    assert torch.equal(model.generate(sources, gnmt_length_penalty=0.0, **arguments), plain)
    longer = model.generate(sources, gnmt_length_penalty=3.0, **arguments)
    assert longer.ne(0).sum() >= plain.ne(0).sum()


def test_an_ensemble_averages_probabilities() -> None:
    first, second = model_number(3), model_number(4)
    found = first.generate(TOKENS, attention_mask=MASK, ensemble=[second], length_penalty=1.0, **ALL_BEAMS)
    greedy = first.generate(TOKENS, attention_mask=MASK, ensemble=[second], max_new_tokens=LENGTH)
    for row in range(3):

        def step(target: list[int], row: int = row) -> torch.Tensor:
            both = [reference(seed, row, tuple(target))[0][-1].exp() for seed in (3, 4)]
            return ((both[0] + both[1]) / 2).log()

        def score(target: list[int], step: Any = step) -> float:
            return sum(float(step(target[:place])[token]) for place, token in enumerate(target)) / len(target)

        assert [stripped(one) for one in found.view(3, 4, -1)[row]] == best_four(score)
        target: list[int] = []
        while len(target) < LENGTH and END not in target:
            target.append(int(step(target).argmax()))
        assert stripped(greedy[row]) == target


def test_models_of_other_architectures_write_together() -> None:
    """Both with the penalties of coverage, of which a model without attention has none."""
    sizes: dict[str, Any] = {"vocab_size": 40, "hidden_size": 12, "embedding_size": 10, "initializer_range": 1.0}
    first = random_models.build(1, **sizes)
    others = [
        random_models.build(2, **sizes, cell_type="gru", decoder_layers=1, attention_type="additive"),
        random_models.build(3, **sizes, attention_type="none", bridge="last", encoder_layers=2),
        random_models.build(4, **{**sizes, "hidden_size": 16}, input_feeding=True),
    ]
    sources = random_models.sources(5)
    together = first.generate(sources, ensemble=others, num_beams=4, max_new_tokens=8, coverage_penalty=0.1)
    alone = [
        first.generate(sources[row : row + 1], ensemble=others, num_beams=4, max_new_tokens=8, coverage_penalty=0.1)
        for row in range(5)
    ]
    for row in range(5):
        assert stripped(together[row]) == stripped(alone[row][0])


def test_scores_are_sums_of_log_probabilities() -> None:
    model = model_number(3)
    targets = [[4, 6, 2], [5, 2], [3, 3, 3]]
    labels = torch.tensor([[4, 6, 2], [5, 2, -100], [3, 3, 3]])
    scores = model.score(TOKENS, labels, attention_mask=MASK)
    for row, target in enumerate(targets):
        log_probabilities, _ = reference(3, row, tuple(target[:-1]))
        expected = [float(one[token]) for one, token in zip(log_probabilities, target, strict=True)]
        assert scores.tokens[row, : len(target)].tolist() == pytest.approx(expected, abs=1e-5)
        assert scores.tokens[row, len(target) :].eq(0).all()
        assert scores.totals[row].item() == pytest.approx(sum(expected), abs=1e-5)
    assert scores.lengths.tolist() == [3, 2, 3]
    with pytest.raises(ValueError, match="score: pass the targets as labels"):
        model.score(TOKENS)


def test_what_makes_no_sense_is_refused() -> None:
    model = model_number(3)
    other = random_models.build(vocab_size=VOCABULARY + 1, unk_token_id=None)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"ensemble": [other]}, "ensemble: model 0 has vocab_size=8, and the model that is called 7"),
        ({"ensemble": []}, "ensemble is empty"),
        ({"ensemble": [model], "shortlist": True}, "shortlist"),
        (
            {"ensemble": [model], "do_sample": True},
            "ensemble: only greedy and beam search that return token ids alone",
        ),
        ({"gnmt_length_penalty": 0.6}, "gnmt_length_penalty compares hypotheses.*set num_beams above 1"),
        ({"coverage_penalty": float("nan"), "num_beams": 2}, "coverage_penalty=nan must be a finite number"),
        (
            {"coverage_penalty": 0.2, "num_beams": 2, "step_graphs": StepGraphs()},
            "step_graphs do not know coverage_pen",
        ),
        (
            {"coverage_penalty": 0.2, "num_beams": 2, "output_attentions": True},
            "coverage_penalty: only greedy and beam",
        ),
    ]
    for arguments, message in refused:
        with pytest.raises((ValueError, OSError), match=message):
            model.generate(TOKENS, **arguments)
    with pytest.raises(TypeError, match="ensemble is a RnnS2SForConditionalGeneration; it must be a list"):
        model.generate(TOKENS, ensemble=model)
    plain = random_models.build(vocab_size=VOCABULARY, attention_type="none", unk_token_id=None)
    with pytest.raises(ValueError, match="coverage_penalty is about the attention, but attention_type='none'"):
        plain.generate(TOKENS, num_beams=2, coverage_penalty=0.2)
