"""Every preset once more, as a plain loop over its paper's equations: one sentence, one time step, one unit of work.

Each function takes the weights by their names, the ids of one source without padding and the ids that the decoder
reads, and returns the logits `(target, vocabulary)`. Nothing here comes from the package.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .equations import (
    State,
    Weights,
    additive,
    affine,
    attend,
    bahdanau_gru,
    both_ways,
    gru,
    layer_norm_lstm,
    lstm,
    run,
    zeros,
)

ENCODER, DECODER = "model.encoder", "model.decoder"
Reference = Callable[[Weights, list[int], list[int]], Tensor]


def embedded(weights: Weights, side: str, ids: list[int]) -> list[Tensor]:
    return [weights[f"{side}.embed_tokens.weight"][one] for one in ids]


def number_of_layers(weights: Weights, name: str) -> int:
    return len({key.removeprefix(f"{name}.").split(".")[0] for key in weights if key.startswith(f"{name}.")})


def reversed_stack(weights: Weights, source: list[int]) -> tuple[list[Tensor], list[State]]:
    """LSTM layers over the reversed source: the top one's outputs, as they are read, and the final state of each."""
    outputs, states = embedded(weights, ENCODER, source[::-1]), []
    above = number_of_layers(weights, f"{ENCODER}.upper_layers")
    for name in [f"{ENCODER}.forward_layer", *(f"{ENCODER}.upper_layers.{layer}" for layer in range(above))]:
        outputs, state = run(lstm, weights, name, outputs)
        states.append(state)
    return outputs, states


def sutskever2014(weights: Weights, source: list[int], target: list[int]) -> Tensor:
    _, states = reversed_stack(weights, source)
    rows = []
    for below in embedded(weights, DECODER, target):
        for layer, state in enumerate(states):
            states[layer] = lstm(weights, f"{DECODER}.layers.{layer}", below, state)
            below = states[layer][0]
        rows.append(affine(weights, "lm_head", below))
    return torch.stack(rows)


def bahdanau2015(weights: Weights, source: list[int], target: list[int]) -> Tensor:
    """Appendix A.2."""
    annotations, _, (backward_first,) = both_ways(bahdanau_gru, weights, ENCODER, embedded(weights, ENCODER, source))
    s = torch.tanh(affine(weights, f"{DECODER}.bridge.projections.hidden", backward_first))
    rows = []
    for y in embedded(weights, DECODER, target):
        c, _ = attend(additive(weights, f"{DECODER}.attention.score", s, annotations), annotations)
        t = affine(weights, f"{DECODER}.output_projection", torch.cat([s, c, y]))
        maxout = torch.stack([torch.maximum(t[2 * j], t[2 * j + 1]) for j in range(len(t) // 2)])
        rows.append(affine(weights, "lm_head", maxout))
        (s,) = bahdanau_gru(weights, f"{DECODER}.layers.0", torch.cat([y, c]), (s,))
    return torch.stack(rows)


def luong2015(
    weights: Weights, source: list[int], target: list[int], window: int | None = None, prefix: str = ""
) -> Tensor:
    """Section 3.1 and 3.3; with a window, section 3.2."""
    outputs, states = reversed_stack(weights, source)
    memory, attention = outputs[::-1], f"{DECODER}.attention"
    fed_back = torch.zeros_like(weights[f"{DECODER}.output_projection.bias"])
    rows = []
    for y in embedded(weights, DECODER, target):
        below = torch.cat([y, fed_back])
        for layer, state in enumerate(states):
            states[layer] = lstm(weights, f"{DECODER}.layers.{layer}", below, state)
            below = states[layer][0]
        scores = [below @ affine(weights, f"{attention}.score.key_projection", one) for one in memory]
        if window is None:
            context, _ = attend(scores, memory)
        else:
            context = local_context(weights, below, scores, memory, window)
        fed_back = torch.tanh(affine(weights, f"{DECODER}.output_projection", torch.cat([below, context])))
        rows.append(affine(weights, "lm_head", fed_back))
    return torch.stack(rows)


def local_context(weights: Weights, h: Tensor, scores: list[Tensor], memory: list[Tensor], window: int) -> Tensor:
    """Equations 9 and 10, with positions counted from 0."""
    span = f"{DECODER}.attention.span"
    moved = torch.tanh(affine(weights, f"{span}.query_projection", h))
    p = len(memory) * torch.sigmoid(affine(weights, f"{span}.position_projection", moved))[0]
    inside = [s for s in range(len(memory)) if abs(s - float(p)) <= window]
    _, aligned = attend([scores[s] for s in inside], [memory[s] for s in inside])
    sigma = window / 2
    context = torch.zeros_like(memory[0])
    for weight, s in zip(aligned, inside, strict=True):
        context = context + weight * torch.exp(-((s - p) ** 2) / (2 * sigma**2)) * memory[s]
    return context


def luong2015_local(weights: Weights, source: list[int], target: list[int]) -> Tensor:
    return luong2015(weights, source, target, window=LOCAL_WINDOW)


LOCAL_WINDOW = 2  # positions to either side, in the small models of the tests


def gnmt2016(weights: Weights, source: list[int], target: list[int]) -> Tensor:
    """Section 3: residual connections from the third layer on, attention asked with the bottom of the past step."""
    memory, _, _ = both_ways(lstm, weights, ENCODER, embedded(weights, ENCODER, source))
    for layer in range(number_of_layers(weights, f"{ENCODER}.upper_layers")):
        above, _ = run(lstm, weights, f"{ENCODER}.upper_layers.{layer}", memory)
        number = layer + 2
        memory = [x + h for x, h in zip(memory, above, strict=True)] if number >= 3 else above
    layers = range(number_of_layers(weights, f"{DECODER}.layers"))
    states = [zeros(weights, f"{DECODER}.layers.{layer}", 2) for layer in layers]
    rows = []
    for y in embedded(weights, DECODER, target):
        context, _ = attend(additive(weights, f"{DECODER}.attention.score", states[0][0], memory), memory)
        below = y
        for layer in layers:
            read = below if layer == 0 else torch.cat([below, context])
            states[layer] = lstm(weights, f"{DECODER}.layers.{layer}", read, states[layer])
            below = below + states[layer][0] if layer + 1 >= 3 else states[layer][0]
        rows.append(affine(weights, "lm_head", below))
    return torch.stack(rows)


def rnmt_plus2018(weights: Weights, source: list[int], target: list[int]) -> Tensor:
    """Section 3."""
    outputs, _, _ = both_ways(layer_norm_lstm, weights, ENCODER, embedded(weights, ENCODER, source))
    for layer in range(number_of_layers(weights, f"{ENCODER}.upper_layers")):
        above, _, _ = both_ways(layer_norm_lstm, weights, f"{ENCODER}.upper_layers.{layer}", outputs)
        outputs = [x + h for x, h in zip(outputs, above, strict=True)] if layer + 2 >= 3 else above
    memory = [affine(weights, f"{ENCODER}.projection", one) for one in outputs]
    return rnmt_plus_decoder(weights, memory, target)


def rnmt_plus_decoder(weights: Weights, memory: list[Tensor], target: list[int]) -> Tensor:
    layers = range(number_of_layers(weights, f"{DECODER}.layers"))
    states = [zeros(weights, f"{DECODER}.layers.{layer}", 2) for layer in layers]
    rows = []
    for y in embedded(weights, DECODER, target):
        context = four_heads(weights, f"{DECODER}.attention", states[0][0], memory)
        below = y
        for layer in layers:
            read = torch.cat([below, context])
            states[layer] = layer_norm_lstm(weights, f"{DECODER}.layers.{layer}", read, states[layer])
            below = below + states[layer][0] if layer + 1 >= 3 else states[layer][0]
        rows.append(affine(weights, "lm_head", torch.cat([below, context])))
    return torch.stack(rows)


def four_heads(weights: Weights, name: str, query: Tensor, memory: list[Tensor]) -> Tensor:
    """Additive attention, once for each of four equal parts of mapped query, keys and values."""
    queries = affine(weights, f"{name}.query_projection", query).chunk(4)
    keys = [affine(weights, f"{name}.key_projection", one).chunk(4) for one in memory]
    values = [affine(weights, f"{name}.value_projection", one).chunk(4) for one in memory]
    contexts = []
    for head in range(4):
        scores = additive(weights, f"{name}.attention.score", queries[head], [key[head] for key in keys])
        contexts.append(attend(scores, [value[head] for value in values])[0])
    return torch.cat(contexts)


def nematus_conditional_gru(weights: Weights, source: list[int], target: list[int]) -> Tensor:
    memory, _, _ = both_ways(gru, weights, ENCODER, embedded(weights, ENCODER, source))
    return conditional_gru(weights, memory, target, lambda ys: ys[-1])


def conditional_gru(
    weights: Weights, memory: list[Tensor], target: list[int], summary: Callable[[list[Tensor]], Tensor]
) -> Tensor:
    """Sennrich et al. 2017: two transitions a step; `summary` says what the deep output reads of the tokens so far."""
    state = (torch.tanh(affine(weights, f"{DECODER}.bridge.projections.hidden", sum(memory) / len(memory))),)  # type: ignore[arg-type]
    rows, ys = [], []
    for y in embedded(weights, DECODER, target):
        ys.append(y)
        between = gru(weights, f"{DECODER}.layers.0", y, state)
        context, _ = attend(additive(weights, f"{DECODER}.attention.score", between[0], memory), memory)
        state = gru(weights, f"{DECODER}.context_layer", context, between)
        deep = affine(weights, f"{DECODER}.output_projection", torch.cat([state[0], context, summary(ys)]))
        rows.append(affine(weights, "lm_head", torch.tanh(deep)))
    return torch.stack(rows)


def cosine_add(weights: Weights, source: list[int], target: list[int]) -> Tensor:
    memory, forward, backward = both_ways(lstm, weights, ENCODER, embedded(weights, ENCODER, source))
    final = [torch.cat(pair) for pair in zip(forward, backward, strict=True)]
    bridge = f"{DECODER}.bridge.projections"
    parts = zip(("hidden", "cell"), final, strict=True)
    state: State = tuple(torch.tanh(affine(weights, f"{bridge}.{name}", part)) for name, part in parts)
    keys = [affine(weights, f"{DECODER}.attention.score.key_projection", one) for one in memory]
    rows = []
    for y in embedded(weights, DECODER, target):
        state = lstm(weights, f"{DECODER}.layers.0", y, state)
        s = state[0]
        cosines = [(s @ key) / (torch.sqrt(s @ s) * torch.sqrt(key @ key)) for key in keys]
        context, _ = attend(cosines, memory)
        rows.append(affine(weights, "lm_head", s + context))
    return torch.stack(rows)


def self_attentive(weights: Weights, source: list[int], target: list[int]) -> Tensor:
    outputs, _, _ = both_ways(gru, weights, ENCODER, embedded(weights, ENCODER, source))
    keys = [affine(weights, f"{ENCODER}.self_attention.score.key_projection", one) for one in outputs]
    memory = [one + attend([one @ key for key in keys], outputs)[0] for one in outputs]

    def mean_of_tokens(ys: list[Tensor]) -> Tensor:
        name = f"{DECODER}.readout"
        scores = [
            affine(weights, f"{name}.score_projection", torch.tanh(affine(weights, f"{name}.token_projection", y)))[0]
            for y in ys
        ]
        return attend(scores, ys)[0]

    return conditional_gru(weights, memory, target, mean_of_tokens)


def hybrid(weights: Weights, source: list[int], target: list[int]) -> Tensor:
    """Section 4: normalisation, attention, sum; normalisation, feed-forward layer, sum; and a last normalisation."""
    tokens, name = embedded(weights, ENCODER, source), f"{ENCODER}.layers"
    outputs = [token + position(number, len(token)) for number, token in enumerate(tokens)]
    for layer in range(number_of_layers(weights, f"{name}.layers")):
        part = f"{name}.layers.{layer}"
        normed = [layer_norm(weights, f"{part}.norm1", one, 1e-5) for one in outputs]
        mixed = zip(("in_proj_weight", "in_proj_bias"), ("weight", "bias"), strict=True)
        projections = {}
        for joined, short in mixed:
            for which, piece in zip("qkv", weights[f"{part}.self_attn.{joined}"].chunk(3), strict=True):
                projections[f"{which}.{short}"] = piece
        heads = dot_heads(projections, "q", "k", "v", normed)
        added = [affine(weights, f"{part}.self_attn.out_proj", one) for one in heads]
        outputs = [x + y for x, y in zip(outputs, added, strict=True)]
        for index, one in enumerate(outputs):
            inner = affine(weights, f"{part}.linear1", layer_norm(weights, f"{part}.norm2", one, 1e-5))
            outputs[index] = one + affine(weights, f"{part}.linear2", torch.clamp(inner, min=0))
    memory = [layer_norm(weights, f"{name}.norm", one, 1e-5) for one in outputs]
    return rnmt_plus_decoder(weights, memory, target)


HEADS = 2  # of the Transformers in the small models of the tests


def position(number: int, size: int) -> Tensor:
    """Vaswani et al. 2017, section 3.5."""
    values = []
    for dimension in range(size):
        angle = torch.tensor(number / 10000 ** (2 * (dimension // 2) / size), dtype=torch.float64)
        values.append(torch.sin(angle) if dimension % 2 == 0 else torch.cos(angle))
    return torch.stack(values)


def layer_norm(weights: Weights, name: str, inputs: Tensor, epsilon: float) -> Tensor:
    centred = inputs - inputs.mean()
    return weights[f"{name}.weight"] * centred / torch.sqrt((centred**2).mean() + epsilon) + weights[f"{name}.bias"]


def dot_heads(weights: Weights, query: str, key: str, value: str, inputs: list[Tensor]) -> list[Tensor]:
    """Vaswani et al. 2017, section 3.2.2, without the output layer."""
    queries, keys, values = (
        [affine(weights, name, one).chunk(HEADS) for one in inputs] for name in (query, key, value)
    )
    outputs = []
    for asked in queries:
        heads = []
        for head in range(HEADS):
            scores = [asked[head] @ one[head] / len(asked[head]) ** 0.5 for one in keys]
            heads.append(attend(scores, [one[head] for one in values])[0])
        outputs.append(torch.cat(heads))
    return outputs


def pretrained_encoder(weights: Weights, source: list[int], target: list[int]) -> Tensor:
    """BERT (Devlin et al. 2019: attention, sum, normalisation; feed-forward layer, sum, normalisation), and an RNN."""
    reader = f"{ENCODER}.reader"
    kinds = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    tables = [weights[f"{reader}.embeddings.{kind}.weight"] for kind in kinds]
    outputs = []
    for number, token in enumerate(source):
        summed = tables[0][token] + tables[1][number] + tables[2][0]
        outputs.append(layer_norm(weights, f"{reader}.embeddings.LayerNorm", summed, 1e-12))
    for layer in range(number_of_layers(weights, f"{reader}.encoder.layer")):
        part = f"{reader}.encoder.layer.{layer}"
        own = f"{part}.attention.self"
        heads = dot_heads(weights, f"{own}.query", f"{own}.key", f"{own}.value", outputs)
        for index, (one, attended) in enumerate(zip(outputs, heads, strict=True)):
            added = one + affine(weights, f"{part}.attention.output.dense", attended)
            middle = layer_norm(weights, f"{part}.attention.output.LayerNorm", added, 1e-12)
            inner = affine(weights, f"{part}.intermediate.dense", middle)
            gelu = inner * (1 + torch.erf(inner / 2**0.5)) / 2
            last = middle + affine(weights, f"{part}.output.dense", gelu)
            outputs[index] = layer_norm(weights, f"{part}.output.LayerNorm", last, 1e-12)
    return default_decoder(weights, outputs, target)


def default_decoder(weights: Weights, memory: list[Tensor], target: list[int]) -> Tensor:
    """Two LSTM layers, the second one with the context and a residual connection, from the mean of the memory."""
    bridge, mean = f"{DECODER}.bridge.projections", sum(memory) / len(memory)
    parts = [torch.tanh(affine(weights, f"{bridge}.{name}", mean)).chunk(2) for name in ("hidden", "cell")]  # type: ignore[arg-type]
    states: list[State] = list(zip(*parts, strict=True))
    rows = []
    for y in embedded(weights, DECODER, target):
        states[0] = lstm(weights, f"{DECODER}.layers.0", y, states[0])
        bottom = states[0][0]
        scores = [bottom @ affine(weights, f"{DECODER}.attention.score.key_projection", one) for one in memory]
        context, _ = attend(scores, memory)
        states[1] = lstm(weights, f"{DECODER}.layers.1", torch.cat([bottom, context]), states[1])
        top = bottom + states[1][0]
        attentional = torch.tanh(affine(weights, f"{DECODER}.output_projection", torch.cat([top, context])))
        rows.append(affine(weights, "lm_head", attentional))
    return torch.stack(rows)


UNKNOWN = 3  # the id of unknown words, of which each has a slot of its own in the tests


def pointer_generator2017(weights: Weights, source: list[int], target: list[int]) -> Tensor:
    """Section 2; logarithms of the final distribution, over the vocabulary and the slots."""
    size = len(weights["lm_head.bias"])
    memory, forward, backward = both_ways(lstm, weights, ENCODER, embedded(weights, ENCODER, source))
    final = [torch.cat(pair) for pair in zip(forward, backward, strict=True)]
    bridge, attention = f"{DECODER}.bridge.projections", f"{DECODER}.attention"
    parts = zip(("hidden", "cell"), final, strict=True)
    state: State = tuple(torch.tanh(affine(weights, f"{bridge}.{name}", part)) for name, part in parts)
    slots = iter(range(size, size + SLOTS))
    copied_ids = [next(slots) if token == UNKNOWN else token for token in source]
    coverage = [torch.zeros((), dtype=final[0].dtype) for _ in memory]
    rows = []
    for token in target:
        x = weights[f"{DECODER}.embed_tokens.weight"][token if token < size else UNKNOWN]
        state = lstm(weights, f"{DECODER}.layers.0", x, state)
        scores = []
        for h, c in zip(memory, coverage, strict=True):
            inner = affine(weights, f"{attention}.score.key_projection", h)
            inner = inner + affine(weights, f"{attention}.score.query_projection", state[0])
            inner = inner + weights[f"{attention}.coverage_projection.weight"][:, 0] * c
            scores.append(affine(weights, f"{attention}.score.score_projection", torch.tanh(inner))[0])
        context, a = attend(scores, memory)
        coverage = [c + one for c, one in zip(coverage, a, strict=True)]
        read = affine(weights, f"{DECODER}.output_projection", torch.cat([state[0], context]))
        vocabulary = torch.softmax(affine(weights, "lm_head", read), dim=0)
        p = torch.sigmoid(affine(weights, "output_head.gate", torch.cat([context, state[0], x])))[0]
        final_distribution = [p * one for one in vocabulary] + [0 * p for _ in range(SLOTS)]
        for place, one in zip(copied_ids, a, strict=True):
            final_distribution[place] = final_distribution[place] + (1 - p) * one
        smallest = torch.finfo(torch.float64).tiny
        rows.append(torch.log(torch.stack(final_distribution).clamp(min=smallest)))
    return torch.stack(rows)


SLOTS = 2


Moves = Callable[[Tensor, list[Tensor], int], list[Tensor]]  # of a state, the memory, and the position before
NOWHERE = torch.zeros((), dtype=torch.float64)


def wu2018_scores(weights: Weights, h: Tensor, memory: list[Tensor], first: int) -> list[Tensor]:
    """`p(a)` for all positions, which is 0 before the first allowed one."""
    exponentials = [torch.exp(h @ affine(weights, f"{ATTENTION}.key_projection", one)) for one in memory]
    total = sum(exponentials[first:])
    return [NOWHERE if place < first else one / total for place, one in enumerate(exponentials)]


def wu2019_moves(weights: Weights, h: Tensor, memory: list[Tensor], before: int, back: int) -> list[Tensor]:
    """`p(a | before)`: the softmax over those moves that stay inside the source."""
    moves = affine(weights, f"{ATTENTION}.query_projection", h)
    moves = moves + affine(weights, f"{ATTENTION}.key_projection", memory[before])
    inside = [d for d in range(-back, HARD_WINDOW + 1) if 0 <= before + d < len(memory)]
    total = sum(torch.exp(moves[d + back]) for d in inside)
    chosen = {before + d: torch.exp(moves[d + back]) / total for d in inside}
    return [chosen.get(place, NOWHERE) for place in range(len(memory))]


ATTENTION, HARD_WINDOW = f"{DECODER}.attention", 2


def hard(weights: Weights, source: list[int], target: list[int], moves: Moves) -> Tensor:
    """Log-probabilities of the next token, from sums over all alignments, each of which is listed."""
    memory = embedded(weights, ENCODER, source)
    for layer in (ENCODER, f"{ENCODER}.upper_layers.0"):
        memory, _, _ = both_ways(lstm, weights, layer, memory)
    state = zeros(weights, f"{DECODER}.layers.0", 2)
    # Of every alignment its last position, and its probability together with that of all tokens so far
    alignments = [(0, torch.ones((), dtype=memory[0].dtype))]
    rows: list[Tensor] = []
    for step, y in enumerate(embedded(weights, DECODER, target)):
        state = lstm(weights, f"{DECODER}.layers.0", y, state)
        written = []
        for m in memory:
            read = affine(weights, f"{DECODER}.output_projection", state[0])
            read = torch.tanh(read + affine(weights, f"{ATTENTION}.value_projection", m))
            written.append(torch.softmax(affine(weights, "lm_head", read), dim=0))
        longer = []
        for before, probability in alignments:
            for place, move in enumerate(moves(state[0], memory, before)):
                if move is not NOWHERE:
                    longer.append((place, probability * move))
        joint = sum(probability * written[place] for place, probability in longer)
        so_far = sum(probability for _, probability in alignments)
        rows.append(torch.log(joint / so_far))  # type: ignore[operator]
        if step + 1 < len(target):
            following = target[step + 1]
            alignments = [(place, probability * written[place][following]) for place, probability in longer]
    return torch.stack(rows)


def wu2019_hard_zeroth_order(weights: Weights, source: list[int], target: list[int]) -> Tensor:
    return hard(weights, source, target, lambda h, memory, before: wu2018_scores(weights, h, memory, 0))


def wu2019_hard_monotonic(weights: Weights, source: list[int], target: list[int]) -> Tensor:
    return hard(weights, source, target, lambda h, memory, before: wu2018_scores(weights, h, memory, before))


def wu2019_hard_first_order(weights: Weights, source: list[int], target: list[int]) -> Tensor:
    return hard(
        weights, source, target, lambda h, memory, before: wu2019_moves(weights, h, memory, before, HARD_WINDOW)
    )


def wu2019_hard(weights: Weights, source: list[int], target: list[int]) -> Tensor:
    return hard(weights, source, target, lambda h, memory, before: wu2019_moves(weights, h, memory, before, 0))
