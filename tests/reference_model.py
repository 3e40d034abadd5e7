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
    """
    One step of an LSTM (Hochreiter & Schmidhuber 1997, Gers et al. 2000), of one with normalised gates (Ba et al.
    2016), of a GRU (Cho et al. 2014), or of one that resets the state before the product (Bahdanau et al. 2015).
    """
    if cell_type == "layer_norm_lstm":
        return _layer_norm_lstm_step(weights, prefix, inputs, state)
    if cell_type == "reset_first_gru":
        return _reset_first_gru_step(weights, prefix, inputs, state)
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


def _layer_norm_lstm_step(weights: Weights, prefix: str, inputs: torch.Tensor, state: State) -> State:
    size, gates = len(state[0]), []
    summed = weights[f"{prefix}.weight_ih"] @ inputs + weights[f"{prefix}.weight_hh"] @ state[0]
    for number in range(4):
        unit = slice(number * size, (number + 1) * size)
        centred = summed[unit] - summed[unit].sum() / size
        normed = centred / ((centred @ centred) / size + 1e-5) ** 0.5
        gates.append(weights[f"{prefix}.gain"][unit] * normed + weights[f"{prefix}.bias"][unit])
    cell = torch.sigmoid(gates[1]) * state[1] + torch.sigmoid(gates[0]) * torch.tanh(gates[2])
    return [torch.sigmoid(gates[3]) * torch.tanh(cell), cell]


def _reset_first_gru_step(weights: Weights, prefix: str, inputs: torch.Tensor, state: State) -> State:
    size, before = len(state[0]), state[0]
    of_input = (weights[f"{prefix}.weight_ih"] @ inputs + weights[f"{prefix}.bias"]).split(size)
    recurrent = weights[f"{prefix}.weight_hh"].split(size)
    reset = torch.sigmoid(of_input[0] + recurrent[0] @ before)
    update = torch.sigmoid(of_input[1] + recurrent[1] @ before)
    candidate = torch.tanh(of_input[2] + recurrent[2] @ (reset * before))
    return [(1 - update) * before + update * candidate]


def run(cell_type: str, weights: Weights, prefix: str, inputs: list[torch.Tensor]) -> tuple[list[torch.Tensor], State]:
    """A layer over a sequence, from zeros."""
    size = weights[f"{prefix}.weight_hh"].shape[1]
    state = [torch.zeros(size, dtype=torch.float64) for _ in range(2 if cell_type.endswith("lstm") else 1)]
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


def first_states(
    config: object, weights: Weights, final_states: list[State], memory: list[torch.Tensor] | None = None
) -> list[State]:
    """The bridge."""
    top = len(final_states) - 1
    if config.bridge == "zero":
        return [[torch.zeros_like(part) for part in final_states[top]] for _ in range(config.decoder_layers)]
    if config.bridge == "copy":
        return [final_states[min(layer, top)] for layer in range(config.decoder_layers)]
    if config.bridge == "last":
        return [final_states[top] for _ in range(config.decoder_layers)]
    mapped = []
    for name, part in zip(("hidden", "cell"), final_states[top], strict=False):
        if config.bridge == "backward":
            part = part[len(part) // 2 :]
        elif config.bridge == "average":
            part = sum(memory) / len(memory)
        prefix = f"model.decoder.bridge.projections.{name}"
        mapped.append(torch.tanh(weights[f"{prefix}.weight"] @ part + weights[f"{prefix}.bias"]))
    size = config.hidden_size
    return [[part[layer * size : (layer + 1) * size] for part in mapped] for layer in range(config.decoder_layers)]


def score(
    config: object,
    weights: Weights,
    query: torch.Tensor,
    memory: torch.Tensor,
    feature: torch.Tensor | None = None,
) -> torch.Tensor:
    """One query against one memory position."""
    prefix = "model.decoder.attention.score"
    if config.attention_type == "dot":
        return query @ memory
    if config.attention_type == "scaled_dot":
        return query @ memory / len(query) ** 0.5
    key = weights[f"{prefix}.key_projection.weight"] @ memory
    if config.attention_type == "general":
        return query @ key
    if config.attention_type.endswith("cosine"):
        cosine = (query @ key) / (query.norm() * key.norm())
        return cosine if config.attention_type == "plain_cosine" else weights[f"{prefix}.scale"][0] * cosine
    asked = weights[f"{prefix}.query_projection.weight"] @ query + weights[f"{prefix}.query_projection.bias"]
    if config.attention_type == "normed_additive":
        direction = weights[f"{prefix}.score_projection.direction"][:, 0]
        direction = weights[f"{prefix}.score_projection.length"][0] * direction / direction.norm()
    else:
        direction = weights[f"{prefix}.score_projection.weight"][0]
    return direction @ torch.tanh(asked + key if feature is None else asked + key + feature)


def location_features(weights: Weights, before: torch.Tensor) -> list[torch.Tensor]:
    """What earlier weights add to the score of each position: a convolution, or, without filters, themselves."""
    prefix = "model.decoder.attention"
    project = weights[f"{prefix}.coverage_projection.weight"]
    if f"{prefix}.filters.weight" not in weights:
        return [project @ weight.view(1) for weight in before]
    filters = weights[f"{prefix}.filters.weight"][:, 0]
    reach = filters.shape[1] // 2
    features = []
    for position in range(len(before)):
        total = torch.zeros(len(filters), dtype=torch.float64)
        for offset in range(-reach, reach + 1):
            if 0 <= position + offset < len(before):
                total = total + filters[:, offset + reach] * before[position + offset]
        features.append(project @ total)
    return features


def moves_from(
    config: object, weights: Weights, query: torch.Tensor, memory: list[torch.Tensor], before: int
) -> torch.Tensor:
    """Where hard attention looks after it has looked at one position: a probability for each."""
    prefix, kind, window = "model.decoder.attention", config.attention_type, config.attention_window
    keys = [weights[f"{prefix}.key_projection.weight"] @ one for one in memory]
    if "first_order" in kind:
        back = 0 if kind.endswith("monotonic") else window
        moves = weights[f"{prefix}.query_projection.weight"] @ query + weights[f"{prefix}.query_projection.bias"]
        scores = {
            place: (moves + keys[before])[place - before + back]
            for place in range(len(memory))
            if -back <= place - before <= window
        }
    else:
        first = before if kind.endswith("monotonic") else 0
        scores = {place: query @ keys[place] for place in range(first, len(memory))}
    total = sum(score.exp() for score in scores.values())
    nothing = torch.zeros((), dtype=torch.float64)
    return torch.stack([scores[one].exp() / total if one in scores else nothing for one in range(len(memory))])


def sum_over_positions(
    config: object,
    weights: Weights,
    memory: list[torch.Tensor],
    steps: list[tuple[torch.Tensor, torch.Tensor]],
    target: list[int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Log-probabilities of tokens, and of where hard attention looks, by the forward algorithm.

    Args:
        steps: of each step the query, and the state that the output layer reads.
    """
    looked = torch.zeros(len(memory), dtype=torch.float64)
    looked[0] = 1
    all_logits, all_weights = [], []
    for step, (query, top) in enumerate(steps):
        here = sum(share * moves_from(config, weights, query, memory, before) for before, share in enumerate(looked))
        projection = "model.decoder.output_projection"
        projected = weights[f"{projection}.weight"] @ top + weights[f"{projection}.bias"]
        values = [weights["model.decoder.attention.value_projection.weight"] @ one for one in memory]
        written = [
            torch.softmax(weights["lm_head.weight"] @ torch.tanh(projected + value) + weights["lm_head.bias"], dim=0)
            for value in values
        ]
        all_logits.append(sum(share * one for share, one in zip(here, written, strict=True)).log())
        all_weights.append(here)
        if step + 1 < len(target):
            looked = torch.stack([share * one[target[step + 1]] for share, one in zip(here, written, strict=True)])
            looked = looked / looked.sum()
    return torch.stack(all_logits), torch.stack(all_weights)


def decode(
    config: object, weights: Weights, memory: list[torch.Tensor], final_states: list[State], target: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and attention weights, one target token after another."""
    states = first_states(config, weights, final_states, memory)
    query_layer = 0 if config.attention_layer == "bottom" else config.decoder_layers - 1
    all_logits, all_weights, hard_steps = [], [], []
    remembered, is_hard = torch.zeros(len(memory), dtype=torch.float64), config.attention_type.startswith("hard")
    for token in target:
        below = weights["model.decoder.embed_tokens.weight"][token]
        context, outputs = None, None
        for layer in range(config.decoder_layers):
            if context is not None:
                below = fused(config, weights, str(layer), below, context)
            states[layer] = cell_step(config.cell_type, weights, f"model.decoder.layers.{layer}", below, states[layer])
            below = outputs = states[layer][0] if outputs is None else outputs + states[layer][0]
            if layer == query_layer and is_hard:
                query = outputs
            elif layer == query_layer and config.attention_type != "none":
                remembers = config.attention_type in ("coverage", "location")
                features = location_features(weights, remembered) if remembers else [None] * len(memory)
                pairs = zip(memory, features, strict=True)
                scores = torch.stack([score(config, weights, outputs, one, feature) for one, feature in pairs])
                attention = scores.exp() / scores.exp().sum()
                context = sum(weight * one for weight, one in zip(attention, memory, strict=True))
                remembered = attention + (remembered if config.attention_type == "coverage" else 0)
                all_weights.append(attention)
        if is_hard:
            hard_steps.append((query, below))
            continue
        if context is not None:
            below = fused(config, weights, "readout", below, context)
        projection = "model.decoder.output_projection"
        attentional = torch.tanh(weights[f"{projection}.weight"] @ below + weights[f"{projection}.bias"])
        all_logits.append(weights["lm_head.weight"] @ attentional + weights["lm_head.bias"])
    if is_hard:
        return sum_over_positions(config, weights, memory, hard_steps, target)
    return torch.stack(all_logits), torch.stack(all_weights) if all_weights else torch.empty(0)


def fused(config: object, weights: Weights, place: str, inputs: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """An input and the context as one vector."""
    if config.context_fusion == "add":
        return inputs + context
    joined = torch.cat([inputs, context])
    if config.context_fusion == "gated":
        gate = f"model.decoder.fusions.{place}.gate"
        joined = joined * torch.sigmoid(weights[f"{gate}.weight"] @ joined + weights[f"{gate}.bias"])
    return joined
