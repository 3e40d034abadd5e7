import pytest
import torch
from torch import nn

from hf_rnn_s2s.model import cells_rnn_s2s
from hf_rnn_s2s.model.cells_rnn_s2s import CELLS, PaddedSource, RecurrentLayer, SequenceDropout

from ..reference_model import run

INPUT_SIZE, HIDDEN_SIZE = 5, 4


def random_layer(cell_type: str, dtype: torch.dtype = torch.float32) -> RecurrentLayer:
    torch.manual_seed(0)
    layer = CELLS[cell_type](INPUT_SIZE, HIDDEN_SIZE).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


@pytest.mark.parametrize("cell_type", CELLS)
@torch.no_grad()
def test_a_layer_computes_the_equations(cell_type: str) -> None:
    layer = random_layer(cell_type)
    inputs = torch.randn(1, 7, INPUT_SIZE)
    weights = {f"layer.{name}": tensor.double() for name, tensor in layer.state_dict().items()}
    expected, final = run(cell_type, weights, "layer", list(inputs[0].double()))
    outputs, state = layer(inputs)
    torch.testing.assert_close(outputs[0].double(), torch.stack(expected), rtol=0, atol=1e-6)
    for part, expected_part in zip(state, final, strict=True):
        torch.testing.assert_close(part[0].double(), expected_part, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell_type", ["lstm", "gru"])
def test_a_layer_agrees_with_torch_forwards_and_backwards(cell_type: str) -> None:
    layer = random_layer(cell_type, torch.float64)
    theirs = {"lstm": nn.LSTM, "gru": nn.GRU}[cell_type](INPUT_SIZE, HIDDEN_SIZE, batch_first=True).double()
    theirs.load_state_dict({f"{name}_l0": tensor for name, tensor in layer.state_dict().items()})
    inputs = torch.randn(3, 6, INPUT_SIZE, dtype=torch.float64)
    layer(inputs)[0].square().sum().backward()
    theirs(inputs)[0].square().sum().backward()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs.get_parameter(f"{name}_l0").grad)


@pytest.mark.parametrize("rows", [1, cells_rnn_s2s.FEW_ROWS, cells_rnn_s2s.FEW_ROWS + 1])
@pytest.mark.parametrize("cell_type", CELLS)
def test_step_by_step_is_the_same_for_few_rows_and_for_many(cell_type: str, rows: int) -> None:
    layer = random_layer(cell_type, torch.float64)
    inputs = torch.randn(rows, 5, INPUT_SIZE, dtype=torch.float64)
    expected, final = layer(inputs)
    state, steps = None, []
    for position in range(5):
        outputs, state = layer(inputs[:, position : position + 1], state)
        steps.append(outputs)
    torch.testing.assert_close(torch.cat(steps, dim=1), expected)
    torch.testing.assert_close(state, final)
    gradients = torch.autograd.grad(torch.cat(steps, dim=1).square().sum(), list(layer.parameters()))
    torch.testing.assert_close(gradients, torch.autograd.grad(expected.square().sum(), list(layer.parameters())))


@pytest.mark.parametrize("cell_type", CELLS)
def test_padding_before_the_tokens_changes_nothing(cell_type: str) -> None:
    layer = random_layer(cell_type)
    short = torch.randn(2, 4, INPUT_SIZE)
    garbage = 50 * torch.randn(2, 3, INPUT_SIZE)
    padding = torch.tensor([[True, True, True, False, False, False, False]]).expand(2, -1)
    outputs, state = layer(torch.cat([garbage, short], dim=1), padding=padding)
    expected, expected_state = layer(short)
    assert outputs[:, :3].eq(0).all()
    torch.testing.assert_close(outputs[:, 3:], expected, rtol=0, atol=1e-6)
    for part, expected_part in zip(state, expected_state, strict=True):
        torch.testing.assert_close(part, expected_part, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell_type", CELLS)
def test_gradients_do_not_see_padding(cell_type: str) -> None:
    short = torch.randn(2, 4, INPUT_SIZE)
    padding = torch.tensor([[True, True, False, False, False, False]]).expand(2, -1)
    garbage = torch.randn(2, 2, INPUT_SIZE, requires_grad=True)
    padded, plain = random_layer(cell_type), random_layer(cell_type)
    padded(torch.cat([garbage, short], dim=1), padding=padding)[0].square().sum().backward()
    plain(short)[0].square().sum().backward()
    assert garbage.grad is not None
    assert garbage.grad.eq(0).all()
    for name, parameter in padded.named_parameters():
        torch.testing.assert_close(parameter.grad, plain.get_parameter(name).grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cell_type", CELLS)
def test_gradients_exist_in_evaluation_mode_too(cell_type: str) -> None:
    layer = random_layer(cell_type).eval()
    inputs = torch.randn(1, 3, INPUT_SIZE, requires_grad=True)
    layer(inputs)[0].sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.abs().sum() > 0


@pytest.mark.parametrize("cell_type", CELLS)
def test_initial_weights(cell_type: str) -> None:
    torch.manual_seed(0)
    layer = CELLS[cell_type](INPUT_SIZE, HIDDEN_SIZE)
    layer.initialize()
    for gate in layer.weight_hh.detach().split(HIDDEN_SIZE):
        torch.testing.assert_close(gate @ gate.T, torch.eye(HIDDEN_SIZE), rtol=0, atol=1e-6)
    limit = (6 / (INPUT_SIZE + HIDDEN_SIZE)) ** 0.5
    assert limit / 2 < layer.weight_ih.abs().max() <= limit
    forget = [1.0] * HIDDEN_SIZE if cell_type.endswith("lstm") else [0.0] * HIDDEN_SIZE
    bias, *others = (getattr(layer, name) for name in layer.vectors)
    assert bias[HIDDEN_SIZE : 2 * HIDDEN_SIZE].tolist() == forget
    assert bias.sum() == sum(forget)
    for other in others:
        assert other.eq(cell_type == "layer_norm_lstm").all()  # the gain, or a second bias


@pytest.mark.parametrize(
    ("cell_type", "loaded"),
    [(name, vector) for name, kind in CELLS.items() for vector in ("weight_ih", "weight_hh", *kind.vectors)],
)
def test_a_loaded_parameter_is_never_drawn_again(cell_type: str, loaded: str) -> None:
    layer = random_layer(cell_type)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    layer.get_parameter(loaded)._is_hf_initialized = True
    layer.initialize()
    for name, tensor in layer.state_dict().items():
        assert torch.equal(tensor, before[name]) == (name == loaded)


def test_sequence_dropout_draws_one_mask_for_all_steps_of_a_row() -> None:
    torch.manual_seed(0)
    dropout = SequenceDropout(0.25)
    ones = torch.ones(40, 5, 60)
    dropped = dropout.train()(ones)
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert dropped.eq(0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert not torch.equal(dropped[0], dropped[1])
    assert torch.equal(dropout.eval()(ones), ones)


def test_padded_source_layouts() -> None:
    mask = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]).bool()
    ids = torch.tensor([[1, 2, 3, 0], [0, 1, 2, 3], [1, 0, 0, 2], [1, 2, 3, 4]])
    source = PaddedSource(mask)
    assert source.forward_order(ids).tolist() == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 0, 1, 2], [1, 2, 3, 4]]
    assert source.backward_order(ids).tolist() == [[0, 3, 2, 1], [0, 3, 2, 1], [0, 0, 2, 1], [4, 3, 2, 1]]
    assert source.padding.tolist() == [[True] + [False] * 3] * 2 + [[True] * 2 + [False] * 2, [False] * 4]
    assert torch.equal(source.original_order(source.forward_order(ids)), ids)
    assert torch.equal(source.backward_to_forward(source.backward_order(ids)), source.forward_order(ids))


def test_unpadded_source_is_a_padded_one_without_padding() -> None:
    outputs = torch.randn(2, 5, 3)
    plain, padded = PaddedSource(None), PaddedSource(torch.ones(2, 5, dtype=torch.bool))
    for name in ("forward_order", "backward_order", "backward_to_forward", "original_order"):
        assert torch.equal(getattr(plain, name)(outputs), getattr(padded, name)(outputs))


@pytest.mark.parametrize("cell_type", CELLS)
def test_dropout_in_the_recurrence_is_the_same_at_every_step(cell_type: str) -> None:
    """Read at once or step by step; and with factors of one it is as without."""
    layer = random_layer(cell_type, torch.float64).train()
    layer.state_dropout, layer.candidate_dropout = 0.5, 0.25
    inputs = torch.randn(3, 5, INPUT_SIZE, dtype=torch.float64)
    dropout = layer.draw_dropout(inputs)
    for mask, kept in zip(dropout, (0.5, 0.75), strict=True):
        assert mask is not None
        assert mask.shape == (3, HIDDEN_SIZE)
        assert set(mask.unique().tolist()) <= {0.0, 1 / kept}
    expected, final = layer(inputs, dropout=dropout)
    state, steps = None, []
    for position in range(5):
        outputs, state = layer(inputs[:, position : position + 1], state, dropout=dropout)
        steps.append(outputs)
    torch.testing.assert_close(torch.cat(steps, dim=1), expected)
    torch.testing.assert_close(state, final)
    assert not torch.allclose(layer(inputs)[0], layer(inputs)[0])
    ones = torch.ones(3, HIDDEN_SIZE, dtype=torch.float64)
    without = layer.eval()(inputs)
    torch.testing.assert_close(layer(inputs, dropout=(ones, ones)), without)
    torch.testing.assert_close(layer(inputs), without)


@pytest.mark.parametrize("cell_type", CELLS)
def test_a_state_without_candidates_stays_as_it_is(cell_type: str) -> None:
    """What is dropped of the candidate is not lost from the state (Semeniuta et al. 2016)."""
    layer = random_layer(cell_type, torch.float64)
    state = tuple(torch.randn(2, HIDDEN_SIZE, dtype=torch.float64) for _ in layer.state_names)
    nothing = torch.zeros(2, HIDDEN_SIZE, dtype=torch.float64)
    _, after = layer(torch.randn(2, 1, INPUT_SIZE, dtype=torch.float64), state, dropout=(None, nothing))
    assert (after[-1].abs() <= state[-1].abs() + 1e-12).all()
    assert torch.equal(after[-1].sign(), state[-1].sign())


@pytest.mark.parametrize("cell_type", ["lstm", "gru"])
def test_a_loop_over_steps_computes_what_the_kernel_does(cell_type: str) -> None:
    layer = random_layer(cell_type, torch.float64)
    inputs = torch.randn(3, 6, INPUT_SIZE, dtype=torch.float64)
    padding = torch.arange(6) < torch.tensor([[2], [0], [4]])
    ones = torch.ones(3, HIDDEN_SIZE, dtype=torch.float64)
    expected, final = layer(inputs, padding=padding)
    outputs, state = layer(inputs, padding=padding, dropout=(ones, None))
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(state, final)
