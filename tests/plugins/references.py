"""The plug-ins once more, as plain loops over their equations in float64, one sentence and one step at a time."""

from collections.abc import Callable
from typing import Any

import torch

from .. import reference_model as plain
from ..reference_model import Weights


def weights_of(model: torch.nn.Module) -> Weights:
    return {name: tensor.detach().double() for name, tensor in model.state_dict().items()}


def layer(weights: Weights, name: str, inputs: torch.Tensor) -> torch.Tensor:
    """A linear layer, with or without a bias."""
    outputs = weights[f"{name}.weight"] @ inputs
    return outputs + weights[f"{name}.bias"] if f"{name}.bias" in weights else outputs


def weighted(scores: list[torch.Tensor], memory: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    attention = torch.softmax(torch.stack(scores), dim=0)
    return attention, sum(weight * one for weight, one in zip(attention, memory, strict=True))  # type: ignore[return-value]


def coverage(model: Any, source: list[int]) -> Callable[[list[int]], torch.Tensor]:
    """One decoder layer, whose outputs are the queries."""
    weights, config = weights_of(model), model.config
    memory, final_states = plain.encode(config, weights, source)
    first = plain.first_states(config, weights, final_states)[0]
    prefix = "model.decoder.attention"

    def logits(target: list[int]) -> torch.Tensor:
        state, covered, rows = first, torch.zeros(len(memory), dtype=torch.float64), []
        for token in target:
            embedded = weights["model.decoder.embed_tokens.weight"][token]
            state = plain.cell_step(config.cell_type, weights, "model.decoder.layers.0", embedded, state)
            asked = layer(weights, f"{prefix}.query_projection", state[0])
            scores = [
                layer(
                    weights,
                    f"{prefix}.score_projection",
                    torch.tanh(
                        asked
                        + layer(weights, f"{prefix}.key_projection", one)
                        + layer(weights, f"{prefix}.coverage_projection", covered[position].view(1))
                    ),
                )[0]
                for position, one in enumerate(memory)
            ]
            attention, context = weighted(scores, memory)
            covered = covered + attention
            rows.append(_vocabulary(weights, torch.cat([state[0], context])))
        return torch.stack(rows)

    return logits


def past(model: Any, source: list[int]) -> Callable[[list[int]], torch.Tensor]:
    """One decoder layer, whose outputs are the queries."""
    weights, config = weights_of(model), model.config
    memory, final_states = plain.encode(config, weights, source)
    first = plain.first_states(config, weights, final_states)[0]
    keys = [layer(weights, "model.decoder.attention.key_projection", one) for one in memory]

    def logits(target: list[int]) -> torch.Tensor:
        state, queries, rows = first, [], []
        for token in target:
            embedded = weights["model.decoder.embed_tokens.weight"][token]
            state = plain.cell_step(config.cell_type, weights, "model.decoder.layers.0", embedded, state)
            queries.append(state[0])
            _, summed = weighted([state[0] @ earlier for earlier in queries], queries)
            _, context = weighted([(state[0] + summed) @ key for key in keys], memory)
            rows.append(_vocabulary(weights, torch.cat([state[0], context])))
        return torch.stack(rows)

    return logits


def feeding(model: Any, source: list[int]) -> Callable[[list[int]], torch.Tensor]:
    weights, config = weights_of(model), model.config
    memory, final_states = plain.encode(config, weights, source)
    first = plain.first_states(config, weights, final_states)

    def logits(target: list[int]) -> torch.Tensor:
        states, fed_back, rows = list(first), torch.zeros(config.embedding_size, dtype=torch.float64), []
        for token in target:
            query = states[-1][0]
            _, context = weighted([plain.score(config, weights, query, one) for one in memory], memory)
            outputs = torch.cat([weights["model.decoder.embed_tokens.weight"][token], context, fed_back])
            for index in range(config.decoder_layers):
                name = f"model.decoder.layers.{index}"
                states[index] = plain.cell_step(config.cell_type, weights, name, outputs, states[index])
                outputs = states[index][0]
            fed_back = _attentional(weights, torch.cat([outputs, context]))
            rows.append(layer(weights, "lm_head", fed_back))
        return torch.stack(rows)

    return logits


def halving(model: Any, source: list[list[float]]) -> Callable[[list[int]], torch.Tensor]:
    weights, config = weights_of(model), model.config
    frames = [torch.tensor(frame, dtype=torch.float64) for frame in source]
    if len(frames) % 2:
        frames.append(torch.zeros_like(frames[0]))
    pairs = [torch.cat(pair) for pair in zip(frames[::2], frames[1::2], strict=True)]
    memory, _ = plain.run(config.cell_type, weights, "model.encoder.layer", pairs)

    def logits(target: list[int]) -> torch.Tensor:
        return plain.decode(config, weights, memory, [[torch.zeros(config.hidden_size).double()] * 2], target)[0]

    return logits


def copying(model: Any, source: list[int]) -> Callable[[list[int]], torch.Tensor]:
    """One decoder layer, with the ordinary attention."""
    weights, config = weights_of(model), model.config
    memory, final_states = plain.encode(config, weights, source)
    first = plain.first_states(config, weights, final_states)[0]

    def logits(target: list[int]) -> torch.Tensor:
        state, rows = first, []
        for token in target:
            embedded = weights["model.decoder.embed_tokens.weight"][token]
            state = plain.cell_step(config.cell_type, weights, "model.decoder.layers.0", embedded, state)
            attention, context = weighted([plain.score(config, weights, state[0], one) for one in memory], memory)
            attentional = _attentional(weights, torch.cat([state[0], context]))
            share = torch.sigmoid(layer(weights, "output_head.gate", attentional))[0]
            probabilities = share * torch.softmax(layer(weights, "lm_head", attentional), dim=0)
            for weight, copied in zip(attention, source, strict=True):
                probabilities[copied] += (1 - share) * weight
            rows.append(probabilities.log())
        return torch.stack(rows)

    return logits


def _attentional(weights: Weights, joined: torch.Tensor) -> torch.Tensor:
    return torch.tanh(layer(weights, "model.decoder.output_projection", joined))


def _vocabulary(weights: Weights, joined: torch.Tensor) -> torch.Tensor:
    return layer(weights, "lm_head", _attentional(weights, joined))
