import math
from typing import Any

import pytest
import torch

from hf_rnn_s2s import RnnS2SConfig
from hf_rnn_s2s.model.attention_rnn_s2s import ATTENTIONS, ScoredAttention, build_attention, sparsemax
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


def test_gates_are_those_of_the_equation() -> None:
    torch.manual_seed(0)
    fusion = CONTEXT_FUSIONS["gated"](3, 2).double()
    inputs, context = torch.randn(1, 2, 3, dtype=torch.float64), torch.randn(1, 2, 2, dtype=torch.float64)
    joined = torch.cat([inputs, context], dim=-1)
    for time in range(2):
        gate = torch.sigmoid(fusion.gate.weight @ joined[0, time] + fusion.gate.bias)
        torch.testing.assert_close(fusion(inputs, context)[0, time], gate * joined[0, time])


def nearest_in_simplex(scores: list[float]) -> list[float]:
    """The probabilities nearest to the scores, found by bisection of what is subtracted from all of them."""
    low, high = min(scores) - 1, max(scores)
    for _ in range(200):
        middle = (low + high) / 2
        if sum(max(0.0, score - middle) for score in scores) > 1:
            low = middle
        else:
            high = middle
    return [max(0.0, score - high) for score in scores]


def test_sparsemax_is_the_nearest_distribution() -> None:
    scores = 2 * torch.randn(20, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = sparsemax(scores, -1)
    for row, found in zip(scores.flatten(0, 1).tolist(), weights.flatten(0, 1).tolist(), strict=True):
        assert found == pytest.approx(nearest_in_simplex(row), abs=1e-9)
    assert weights.eq(0).any()
    torch.testing.assert_close(sparsemax(scores.transpose(1, 2), 1), weights.transpose(1, 2))
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda one: sparsemax(one, -1), scores[:2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_sparsemax_of_padding_is_nothing(dtype: torch.dtype) -> None:
    lowest = torch.finfo(dtype).min
    scores = torch.tensor([[2.0, 1.5, lowest, lowest], [lowest] * 4], dtype=dtype)
    assert sparsemax(scores, -1).tolist() == [[0.75, 0.25, 0, 0], [0.25] * 4]


def attention_of(**values: Any) -> Any:
    """An attention in float64, with random weights."""
    torch.manual_seed(0)
    config = RnnS2SConfig(hidden_size=6, embedding_size=6, **values)
    attention = build_attention(config, 6, 6)
    assert attention is not None
    attention = attention.double()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_()
    return attention


@torch.no_grad()
def test_a_monotonic_window_moves_with_the_steps() -> None:
    """Also from call to call, in every row of a source, over tokens alone, and no further than the last one."""
    attention = attention_of(attention_span="monotonic", attention_window=1)
    memory = torch.randn(2, 6, 6, dtype=torch.float64)
    mask = torch.tensor([[True] * 6, [True, False, True, True, False, False]])  # the second source has three tokens
    memory = memory * mask.unsqueeze(-1)
    sources = Sources(memory, attention.prepare(memory), mask)
    state = attention.first_state(memory, 4)
    queries = torch.randn(2, 2, 5, 6, dtype=torch.float64)  # two target rows of each source, five steps
    _, first, state = attention(queries[:, :, :2].flatten(1, 2), sources, state)
    _, second, state = attention(queries[:, :, 2:].flatten(1, 2), sources, state)
    assert state.tolist() == [5] * 4
    weights = torch.cat([first.view(2, 2, 2, 6), second.view(2, 2, 3, 6)], dim=2)
    allowed = [
        [[0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]],
        [[0, 2], [0, 2, 3], [2, 3], [2, 3], [2, 3]],  # places of the tokens
    ]
    for source in range(2):
        for row in range(2):
            for step in range(5):
                places = weights[source, row, step].nonzero().squeeze(1).tolist()
                assert places == allowed[source][step]
                scores = torch.stack([queries[source, row, step] @ sources.keys[source, place] for place in places])
                torch.testing.assert_close(weights[source, row, step, places], scores.softmax(0))


@torch.no_grad()
def test_a_predicted_window_is_that_of_the_equations() -> None:
    attention = attention_of(attention_span="predictive", attention_window=2)
    memory = torch.randn(1, 7, 6, dtype=torch.float64)
    mask = torch.tensor([[False, True, True, True, True, True, False]])
    query = torch.randn(1, 3, 6, dtype=torch.float64)
    _, weights, _ = attention(query, Sources(memory, attention.prepare(memory), mask), None)
    span = attention.span
    for step in range(3):
        moved = torch.tanh(span.query_projection.weight @ query[0, step])
        center = 5 * torch.sigmoid(span.position_projection.weight[0] @ moved)
        inside = [position for position in range(5) if abs(position - center) <= 2]
        keys = attention.prepare(memory)[0, 1:6]
        aligned = torch.softmax(torch.stack([query[0, step] @ keys[position] for position in inside]), 0)
        expected = torch.zeros(7, dtype=torch.float64)
        for weight, position in zip(aligned, inside, strict=True):
            expected[1 + position] = weight * torch.exp(-((position - center) ** 2) / 2)  # with D / 2 = 1
        torch.testing.assert_close(weights[0, step], expected)
    assert (weights.sum(-1) < 1).all()


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("span", ["global", "predictive", "monotonic"])
@torch.no_grad()
def test_heads_are_attentions_to_parts(name: str, span: str) -> None:
    values = {"attention_type": name, "attention_span": span, "attention_window": 2, "attention_hidden_size": 5}
    attention = attention_of(num_attention_heads=3, **values)
    memory = torch.randn(2, 5, 6, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    query = torch.randn(2, 4, 6, dtype=torch.float64)
    state = attention.first_state(memory, 2)
    context, weights, _ = attention(query, Sources(memory, attention.prepare(memory), mask), state)
    assert context.shape == (2, 4, 6)
    assert weights.shape == (2, 3, 4, 5)
    inner = attention.attention
    for head in range(3):
        part = slice(2 * head, 2 * head + 2)
        queries = query @ attention.query_projection.weight[part].T
        keys, contents = (
            memory @ one.weight[part].T for one in (attention.key_projection, attention.value_projection)
        )
        sources = Sources(contents, inner.prepare(keys), mask)
        expected, expected_weights, _ = inner(queries, sources, inner.first_state(memory, 2))
        torch.testing.assert_close(context[..., part], expected)
        torch.testing.assert_close(weights[:, head], expected_weights)


def test_heads_that_do_not_divide_the_memory_are_refused() -> None:
    with pytest.raises(ValueError, match="num_attention_heads=3 does not divide 8, the width of the memory"):
        build_attention(RnnS2SConfig(hidden_size=6, num_attention_heads=3), 6, 8)
