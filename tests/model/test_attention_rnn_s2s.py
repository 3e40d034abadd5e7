import math
from typing import Any

import pytest
import torch

from hf_rnn_s2s.model.attention_rnn_s2s import ATTENTIONS, ScoredAttention
from hf_rnn_s2s.model.readout_rnn_s2s import CONTEXT_FUSIONS
from hf_rnn_s2s.model.scores_rnn_s2s import AttentionScore
from hf_rnn_s2s.model.state_rnn_s2s import Sources

QUERY_SIZE, MEMORY_SIZE = 6, 6
SCORES: Any = {name: kind for name, kind in ATTENTIONS.items() if kind and issubclass(kind, AttentionScore)}


def random_score(name: str) -> AttentionScore:
    torch.manual_seed(0)
    score = SCORES[name](QUERY_SIZE, MEMORY_SIZE).double()
    with torch.no_grad():
        for parameter in score.parameters():
            parameter.normal_()
    return score


def plain_score(score: AttentionScore, name: str, query: torch.Tensor, memory: torch.Tensor) -> float:
    """One number from one query and one memory position, as the papers write it."""
    if name == "dot":
        return float(sum(a * b for a, b in zip(query, memory, strict=True)))
    if name == "scaled_dot":
        return float(sum(a * b for a, b in zip(query, memory, strict=True))) / math.sqrt(QUERY_SIZE)
    key = score.key_projection.weight @ memory
    if name == "general":
        return float(query @ key)
    if name.endswith("cosine"):
        scale = score.scale if name == "cosine" else 1
        return float(scale * (query @ key) / (query.norm() * key.norm()))
    met = torch.tanh(score.query_projection.weight @ query + score.query_projection.bias + key)
    if name == "additive":
        return float(score.score_projection.weight @ met)
    direction, length = score.score_projection.direction[:, 0], score.score_projection.length
    return float(length * (direction @ met) / direction.square().sum().sqrt())


@pytest.mark.parametrize("name", SCORES)
@torch.no_grad()
def test_scores_are_those_of_the_equations(name: str) -> None:
    score = random_score(name)
    query = torch.randn(2, 3, QUERY_SIZE, dtype=torch.float64)
    memory = torch.randn(2, 4, MEMORY_SIZE, dtype=torch.float64)
    scores = score.score(query, score.prepare(memory))
    for row in range(2):
        for target in range(3):
            for source in range(4):
                expected = plain_score(score, name, query[row, target], memory[row, source])
                assert scores[row, target, source].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", SCORES)
@torch.no_grad()
def test_padding_has_no_weight_and_does_not_change_the_rest(name: str) -> None:
    attention = ScoredAttention(random_score(name), dropout=0.0)
    query = torch.randn(1, 3, QUERY_SIZE, dtype=torch.float64)
    memory = torch.randn(1, 5, MEMORY_SIZE, dtype=torch.float64)
    mask = torch.tensor([[True, False, True, True, False]])
    context, weights, _ = attention(query, Sources(memory, attention.prepare(memory), mask))
    short = memory[:, mask[0]]
    short_context, short_weights, _ = attention(query, Sources(short, attention.prepare(short), None))
    assert weights[:, :, ~mask[0]].eq(0).all()
    torch.testing.assert_close(weights[:, :, mask[0]], short_weights, rtol=0, atol=1e-12)
    torch.testing.assert_close(context, short_context, rtol=0, atol=1e-12)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 3, dtype=torch.float64))


def test_a_row_of_only_padding_has_a_zero_context() -> None:
    attention = ScoredAttention(random_score("general"), dropout=0.0)
    memory = torch.zeros(1, 4, MEMORY_SIZE, dtype=torch.float64)
    query = torch.randn(1, 2, QUERY_SIZE, dtype=torch.float64, requires_grad=True)
    nothing = torch.zeros(1, 4, dtype=torch.bool)
    context, weights, _ = attention(query, Sources(memory, attention.prepare(memory), nothing))
    assert context.eq(0).all()
    torch.testing.assert_close(weights, torch.full_like(weights, 0.25))
    context.sum().backward()
    assert query.grad is not None
    assert query.grad.eq(0).all()


def test_low_precision_padding_has_no_weight_either() -> None:
    attention = ScoredAttention(random_score("dot").bfloat16(), dropout=0.0)
    memory = torch.randn(1, 3, MEMORY_SIZE, dtype=torch.bfloat16)
    query = 100 * torch.randn(1, 2, QUERY_SIZE, dtype=torch.bfloat16)
    _, weights, _ = attention(query, Sources(memory, memory, torch.tensor([[True, True, False]])))
    assert weights[..., 2].eq(0).all()
    assert weights.isfinite().all()


def test_dropout_acts_on_the_context_but_not_on_the_shown_weights() -> None:
    attention = ScoredAttention(random_score("dot"), dropout=0.5).train()
    memory = torch.randn(1, 50, MEMORY_SIZE, dtype=torch.float64)
    query = torch.randn(1, 2, QUERY_SIZE, dtype=torch.float64)
    context, weights, _ = attention(query, Sources(memory, memory, None))
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, dtype=torch.float64))
    assert not torch.allclose(context, weights @ memory)


def test_fusions() -> None:
    inputs, context = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[10.0, 20.0]]])
    assert CONTEXT_FUSIONS["concat"](2, 2)(inputs, context).tolist() == [[[1.0, 2.0, 10.0, 20.0]]]
    assert CONTEXT_FUSIONS["concat"].width(2, 2) == 4
    assert CONTEXT_FUSIONS["add"](2, 2)(inputs, context).tolist() == [[[11.0, 22.0]]]
    assert CONTEXT_FUSIONS["add"].width(2, 2) == 2
