"""The decoder's state is changed as a whole, whatever its parts are."""

from typing import NamedTuple

import torch

from hf_rnn_s2s.model.state_rnn_s2s import DecoderOutput, DecoderState, Sources, map_tensors


class Past(NamedTuple):
    """What a decoder remembers that attends to its own outputs: they grow with every step."""

    outputs: torch.Tensor  # (rows, steps, hidden)
    lengths: torch.Tensor  # (rows,)


def state_after(steps: int, rows: int = 3) -> DecoderState:
    """Numbers tell row and step apart."""
    row = torch.arange(rows, dtype=torch.float32)
    outputs = row.view(-1, 1, 1) + 10 * torch.arange(1, steps + 1).view(1, -1, 1)
    past = Past(outputs, torch.full((rows,), steps))
    layers = ((row.view(-1, 1) + steps, row.view(-1, 1) - steps), (row.view(-1, 1) * steps,))
    return DecoderState(layers, {"past": past, "nothing": None}, [row.view(-1, 1, 1).expand(-1, 2, 2) + steps])


def test_every_part_is_selected_and_keeps_its_form() -> None:
    state = state_after(2)
    assert state.rows == 3
    chosen = state.select(torch.tensor([2, 0, 2, 1]))
    assert chosen.rows == 4
    assert chosen.layers[0][0].flatten().tolist() == [4, 2, 4, 3]
    assert chosen.layers[1][0].flatten().tolist() == [4, 0, 4, 2]
    assert isinstance(chosen.attention["past"], Past)
    assert chosen.attention["past"].outputs[..., 0].tolist() == [[12, 22], [10, 20], [12, 22], [11, 21]]
    assert chosen.attention["past"].lengths.tolist() == [2] * 4
    assert chosen.attention["nothing"] is None
    assert chosen.fed_back[0][:, 0, 0].tolist() == [4, 2, 4, 3]


def test_rows_are_repeated_one_after_another() -> None:
    state = state_after(1)
    assert torch.equal(state.repeat(1).layers[0][0], state.layers[0][0])
    assert state.repeat(2).layers[0][0].flatten().tolist() == [1, 1, 2, 2, 3, 3]
    assert state.repeat(2).fed_back[0].shape == (6, 2, 2)


def test_rows_that_stay_keep_their_state_also_where_a_part_has_grown() -> None:
    new, old = state_after(3), state_after(2)
    mask = torch.tensor([[True], [False], [True]])
    state = new.where(mask, old)
    assert state.layers[0][0].flatten().tolist() == [3, 3, 5]
    assert state.layers[0][1].flatten().tolist() == [-3, -1, -1]
    assert state.fed_back[0][:, 1, 1].tolist() == [3, 3, 5]
    past = state.attention["past"]
    assert past.outputs[..., 0].tolist() == [[10, 20, 30], [11, 21, 0], [12, 22, 32]]
    assert past.lengths.tolist() == [3, 2, 3]
    assert state.attention["nothing"] is None
    alike = new.where(mask, new)
    assert torch.equal(alike.attention["past"].outputs, new.attention["past"].outputs)


def test_maps_go_through_any_nesting() -> None:
    nested = {"a": [torch.tensor(1), (torch.tensor(2), None)], "b": None}
    assert map_tensors(lambda one: one + 1, nested) == {"a": [torch.tensor(2), (torch.tensor(3), None)], "b": None}
    copied = map_tensors(torch.Tensor.add, nested, nested)
    assert copied == {"a": [torch.tensor(2), (torch.tensor(4), None)], "b": None}
    assert map_tensors(torch.neg, None) is None


def test_positions_of_an_output() -> None:
    output = DecoderOutput(torch.arange(6).view(1, 3, 2), torch.arange(12).view(1, 2, 3, 2), (torch.arange(3)[None],))
    last = output.at(slice(-1, None))
    assert last.last_hidden_state.tolist() == [[[4, 5]]]
    assert last.weights is not None
    assert last.weights.tolist() == [[[[4, 5]], [[10, 11]]]]
    assert last.layer_outputs[0].tolist() == [[2]]
    assert DecoderOutput(output.last_hidden_state).at(torch.tensor([0, 2])).last_hidden_state.shape == (1, 2, 2)


def test_sources_are_selected_with_all_that_there_is() -> None:
    sources = Sources(torch.arange(6).view(3, 2, 1), None, torch.ones(3, 2).bool(), torch.arange(6).view(3, 2))
    chosen = sources.select(torch.tensor([2, 2]))
    assert chosen.memory.flatten().tolist() == [4, 5, 4, 5]
    assert chosen.keys is None
    assert chosen.ids is not None
    assert chosen.ids.tolist() == [[4, 5], [4, 5]]
