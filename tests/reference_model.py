"""
The model once more, as slowly and obviously as possible: plain loops over the papers' equations in float64, one
sentence and one time step at a time, straight from the weights. The tests compare the package with it.
"""

from __future__ import annotations

import torch

Weights = dict[str, torch.Tensor]
State = list[torch.Tensor]


def logits_of(model: torch.nn.Module, source: list[int], target: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Args:
        model: an `RnnS2SForConditionalGeneration`.
        source: ids of one sentence, without padding.
        target: ids the decoder reads.

    Returns:
        Logits `(target, vocabulary)` and attention weights `(target, source)`, which are empty without attention.
    """
    weights = {name: tensor.detach().double() for name, tensor in model.state_dict().items()}
    memory, final_states = encode(model.config, weights, source)
    return decode(model.config, weights, memory, final_states, target)


def cell_step(cell_type: str, weights: Weights, prefix: str, inputs: torch.Tensor, state: State) -> State:
    """One step of an LSTM (Hochreiter & Schmidhuber 1997, Gers et al. 2000) or a GRU (Cho et al. 2014)."""
    from_input = weights[f"{prefix}.weight_ih"] @ inputs + weights[f"{prefix}.bias_ih"]
    from_hidden = weights[f"{prefix}.weight_hh"] @ state[0] + weights[f"{prefix}.bias_hh"]
    size = state[0].shape[0]
    if cell_type == "lstm":
        gates = (from_input + from_hidden).reshape(4, size)
        input_gate, forget_gate, output_gate = (torch.sigmoid(gates[index]) for index in (0, 1, 3))
        cell = forget_gate * state[1] + input_gate * torch.tanh(gates[2])
        return [output_gate * torch.tanh(cell), cell]
    from_input, from_hidden = from_input.reshape(3, size), from_hidden.reshape(3, size)
    reset_gate = torch.sigmoid(from_input[0] + from_hidden[0])
    update_gate = torch.sigmoid(from_input[1] + from_hidden[1])
    candidate = torch.tanh(from_input[2] + reset_gate * from_hidden[2])
    return [(1 - update_gate) * candidate + update_gate * state[0]]


def run(cell_type: str, weights: Weights, prefix: str, inputs: list[torch.Tensor]) -> tuple[list[torch.Tensor], State]:
    """A layer over a sequence, from zeros."""
    size = weights[f"{prefix}.weight_hh"].shape[1]
    state = [torch.zeros(size, dtype=torch.float64) for _ in range(2 if cell_type == "lstm" else 1)]
    outputs = []
    for one in inputs:
        state = cell_step(cell_type, weights, prefix, one, state)
        outputs.append(state[0])
    return outputs, state


def encode(config: object, weights: Weights, source: list[int]) -> tuple[list[torch.Tensor], list[State]]:
    """The memory and each layer's final state."""
    embedded = [weights["model.encoder.embed_tokens.weight"][token] for token in source]
    forward, forward_state = run(config.cell_type, weights, "model.encoder.forward_layer", embedded)
    backward, backward_state = run(config.cell_type, weights, "model.encoder.backward_layer", embedded[::-1])
    memory = [torch.cat(pair) for pair in zip(forward, backward[::-1], strict=True)]
    states = [[torch.cat(pair) for pair in zip(forward_state, backward_state, strict=True)]]
    for layer in range(config.encoder_layers - 1):
        above, state = run(config.cell_type, weights, f"model.encoder.upper_layers.{layer}", memory)
        memory = [below + one for below, one in zip(memory, above, strict=True)]
        states.append(state)
    return memory, states


def first_states(config: object, weights: Weights, final_states: list[State]) -> list[State]:
    """The bridge."""
    top = len(final_states) - 1
    if config.bridge == "zero":
        return [[torch.zeros_like(part) for part in final_states[top]] for _ in range(config.decoder_layers)]
    if config.bridge == "copy":
        return [final_states[min(layer, top)] for layer in range(config.decoder_layers)]
    mapped = []
    for name, part in zip(("hidden", "cell"), final_states[top], strict=False):
        prefix = f"model.decoder.bridge.projections.{name}"
        mapped.append(torch.tanh(weights[f"{prefix}.weight"] @ part + weights[f"{prefix}.bias"]))
    size = config.hidden_size
    return [[part[layer * size : (layer + 1) * size] for part in mapped] for layer in range(config.decoder_layers)]


def score(config: object, weights: Weights, query: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
    """One query against one memory position."""
    prefix = "model.decoder.attention.score"
    if config.attention_type == "dot":
        return query @ memory
    if config.attention_type == "scaled_dot":
        return query @ memory / len(query) ** 0.5
    key = weights[f"{prefix}.key_projection.weight"] @ memory
    if config.attention_type == "general":
        return query @ key
    if config.attention_type == "cosine":
        return weights[f"{prefix}.scale"][0] * (query @ key) / (query.norm() * key.norm())
    asked = weights[f"{prefix}.query_projection.weight"] @ query + weights[f"{prefix}.query_projection.bias"]
    return weights[f"{prefix}.score_projection.weight"][0] @ torch.tanh(asked + key)


def decode(
    config: object, weights: Weights, memory: list[torch.Tensor], final_states: list[State], target: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and attention weights, one target token after another."""
    states = first_states(config, weights, final_states)
    query_layer = 0 if config.attention_layer == "bottom" else config.decoder_layers - 1
    all_logits, all_weights = [], []
    for token in target:
        below = weights["model.decoder.embed_tokens.weight"][token]
        context, outputs = None, None
        for layer in range(config.decoder_layers):
            states[layer] = cell_step(config.cell_type, weights, f"model.decoder.layers.{layer}", below, states[layer])
            outputs = states[layer][0] if outputs is None else outputs + states[layer][0]
            if layer == query_layer and config.attention_type != "none":
                scores = torch.stack([score(config, weights, outputs, one) for one in memory])
                attention = scores.exp() / scores.exp().sum()
                context = sum(weight * one for weight, one in zip(attention, memory, strict=True))
                all_weights.append(attention)
            below = outputs
            if context is not None:
                below = outputs + context if config.context_fusion == "add" else torch.cat([outputs, context])
        projection = "model.decoder.output_projection"
        attentional = torch.tanh(weights[f"{projection}.weight"] @ below + weights[f"{projection}.bias"])
        all_logits.append(weights["lm_head.weight"] @ attentional + weights["lm_head.bias"])
    return torch.stack(all_logits), torch.stack(all_weights) if all_weights else torch.empty(0)
