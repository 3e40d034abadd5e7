"""The whole model against the slow reference, and the properties every row must have."""

import copy
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutput

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, RnnS2SModel
from hf_rnn_s2s.model.configuration_rnn_s2s import BUILT_IN

from .. import random_models
from ..reference_model import logits_of

CORE = ("cell_type", "attention_type")

VOCABULARY = 40


build = partial(random_models.build, vocab_size=VOCABULARY, initializer_range=1.0)


def combinations() -> Iterator[dict[str, Any]]:
    """Every attention type with every cell; every fusion, placement and bridge with each of them in turn."""
    for index, (cell, attention) in enumerate(product(*map(BUILT_IN.__getitem__, CORE))):
        fusions = BUILT_IN["context_fusion"]
        for layer in BUILT_IN["attention_layer"]:
            unseen = ("zero", "backward") if attention == "none" else ()
            bridges = [bridge for bridge in BUILT_IN["bridge"] if bridge not in unseen]
            bridge = bridges[index % len(bridges)]
            encoder_layers, decoder_layers = 1 + index % 3, 1 + index % 2 + (layer == "top")
            if bridge == "backward":
                encoder_layers = 1
            elif attention == "none":
                encoder_layers = min(encoder_layers, decoder_layers)
            is_hard = attention.startswith("hard")
            yield {
                "cell_type": cell,
                "attention_type": attention,
                "head_type": "marginal" if is_hard else "vocabulary",
                "context_fusion": fusions[0 if is_hard else (index + index // len(fusions)) % len(fusions)],
                "attention_layer": layer,
                "bridge": bridge,
                "encoder_layers": encoder_layers,
                "decoder_layers": decoder_layers,
            }


def named(values: dict[str, Any]) -> str:
    return "-".join(str(value) for value in values.values())


@pytest.mark.parametrize("values", list(combinations()), ids=named)
@torch.no_grad()
def test_logits_and_attention_are_those_of_the_equations(values: dict[str, Any]) -> None:
    model = build(**values).double()
    source, target = [5, 9, 11, 30, 2], [1, 8, 21, 33]
    output = model(torch.tensor([source]), decoder_input_ids=torch.tensor([target]), output_attentions=True)
    logits, weights = logits_of(model, source, target)
    torch.testing.assert_close(output.logits[0], logits, rtol=0, atol=1e-10)
    if values["attention_type"] == "none":
        assert output.cross_attentions == ()
    else:
        assert output.cross_attentions[0].shape == (1, 1, len(target), len(source))
        torch.testing.assert_close(output.cross_attentions[0][0, 0], weights, rtol=0, atol=1e-10)


@pytest.mark.parametrize("values", list(combinations()), ids=named)
@torch.no_grad()
def test_a_row_does_not_depend_on_padding_or_on_the_batch(values: dict[str, Any]) -> None:
    model = build(**values)
    rows = [[5, 9, 11, 30, 2], [7, 2], [14, 15, 2]]
    target = torch.tensor([[1, 8, 21], [1, 9, 9], [1, 30, 4]])
    alone = torch.cat(
        [model(torch.tensor([row]), decoder_input_ids=target[i : i + 1]).logits for i, row in enumerate(rows)]
    )
    for layout in ("right", "left", "both", "inside"):
        ids, mask = padded(rows, layout)
        together = model(ids, attention_mask=mask, decoder_input_ids=target)
        torch.testing.assert_close(together.logits, alone, rtol=0, atol=1e-5)
        without_mask = model(ids, decoder_input_ids=target)
        torch.testing.assert_close(without_mask.logits, alone, rtol=0, atol=1e-5)
        reversed_batch = model(ids.flip(0), attention_mask=mask.flip(0), decoder_input_ids=target.flip(0))
        torch.testing.assert_close(reversed_batch.logits.flip(0), alone, rtol=0, atol=1e-5)
        embeds = model.get_input_embeddings()(torch.where(mask.bool(), ids, 17))
        from_embeds = model(inputs_embeds=embeds, attention_mask=mask, decoder_input_ids=target)
        torch.testing.assert_close(from_embeds.logits, alone, rtol=0, atol=1e-5)


def padded(rows: list[list[int]], layout: str, width: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows with padding on one side, on both, or between the tokens, and their mask."""
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    for index, row in enumerate(rows):
        spare = width - len(row)
        if layout == "inside":
            positions = torch.cat([torch.arange(len(row) - 1), torch.tensor([width - 1])])
        else:
            positions = torch.arange(len(row)) + {"right": 0, "left": spare, "both": spare // 2}[layout]
        ids[index, positions] = torch.tensor(row)
    return ids, ids.ne(0).long()


@torch.no_grad()
def test_the_memory_stays_where_the_tokens_were() -> None:
    model = build(encoder_layers=2)
    alone = model.get_encoder()(torch.tensor([[5, 9, 2]]), output_hidden_states=True)
    ids, mask = torch.tensor([[0, 5, 0, 9, 2, 0]]), torch.tensor([[0, 1, 0, 1, 1, 0]])
    together = model.get_encoder()(ids, attention_mask=mask, output_hidden_states=True)
    torch.testing.assert_close(together.last_hidden_state[:, mask[0].bool()], alone.last_hidden_state)
    assert together.last_hidden_state[:, ~mask[0].bool()].eq(0).all()
    assert len(together.hidden_states) == 3
    torch.testing.assert_close(together.hidden_states[1][:, mask[0].bool()], alone.hidden_states[1])
    assert torch.equal(together.hidden_states[2], together.last_hidden_state)
    torch.testing.assert_close(together.final_cell, alone.final_cell)


@pytest.mark.parametrize("values", list(combinations()), ids=named)
@torch.no_grad()
def test_chunks_with_a_cache_equal_one_pass(values: dict[str, Any]) -> None:
    model = build(**values)
    source, mask = padded([[5, 9, 11, 30, 2], [7, 2]], "right")
    target = torch.randint(4, VOCABULARY, (2, 9))
    whole = model(source, attention_mask=mask, decoder_input_ids=target)
    encoder_outputs = model.get_encoder()(source, attention_mask=mask)
    cache, logits = None, []
    for chunk in target.split([3, 1, 1, 4], dim=1):
        output = model(encoder_outputs=encoder_outputs, decoder_input_ids=chunk, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        logits.append(output.logits)
    assert cache.get_seq_length() == 9
    torch.testing.assert_close(torch.cat(logits, dim=1), whole.logits, rtol=0, atol=1e-5)


@torch.no_grad()
def test_chunks_while_past_states_are_recorded_equal_one_pass() -> None:
    model = build()
    source, target = torch.tensor([[5, 9, 2]]), torch.randint(4, VOCABULARY, (1, 7))
    whole = model(source, decoder_input_ids=target).logits
    cache = model(source, decoder_input_ids=target[:, :2]).past_key_values
    cache.activate_past_recording()
    wrong = model(source, decoder_input_ids=torch.tensor([[30, 31, 32]]), past_key_values=cache)
    assert not torch.allclose(wrong.logits, whole[:, 2:5], atol=1e-3)
    cache.crop(-3)
    again = model(source, decoder_input_ids=target[:, 2:], past_key_values=cache)
    torch.testing.assert_close(again.logits, whole[:, 2:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("use_cache", [True, False])
@torch.no_grad()
def test_the_decoder_passes_over_masked_positions(use_cache: bool) -> None:
    model = build()
    source = torch.tensor([[5, 9, 2], [8, 9, 2]])
    alone = model(source, decoder_input_ids=torch.tensor([[1, 8, 21], [1, 9, 22]])).logits
    ids = torch.tensor([[0, 1, 8, 0, 21], [1, 0, 0, 9, 22]])
    mask = torch.tensor([[0, 1, 1, 0, 1], [1, 0, 0, 1, 1]])
    output = model(source, decoder_input_ids=ids, decoder_attention_mask=mask, use_cache=use_cache)
    torch.testing.assert_close(output.logits[mask.bool()].view_as(alone), alone, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_kept_state_is_that_of_the_last_unmasked_token() -> None:
    model = build()
    source = torch.tensor([[5, 9, 2], [8, 9, 2]])
    ids, mask = torch.tensor([[1, 8, 0], [1, 9, 22]]), torch.tensor([[1, 1, 0], [1, 1, 1]])
    cache = model(source, decoder_input_ids=ids, decoder_attention_mask=mask).past_key_values
    following = torch.tensor([[7], [7]])
    mask = torch.cat([mask, torch.ones(2, 1, dtype=torch.long)], dim=1)
    output = model(source, decoder_input_ids=following, decoder_attention_mask=mask, past_key_values=cache)
    alone = model(source[:1], decoder_input_ids=torch.tensor([[1, 8, 7]]))
    torch.testing.assert_close(output.logits[0, -1], alone.logits[0, -1], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_row_of_only_padding_reads_as_an_empty_source() -> None:
    model = build()
    ids = torch.tensor([[0, 0, 0], [5, 6, 2]])
    output = model(ids, decoder_input_ids=torch.tensor([[1, 8], [1, 8]]), output_attentions=True)
    assert output.encoder_last_hidden_state[0].eq(0).all()
    assert output.logits.isfinite().all()
    longer = model(torch.zeros(1, 7, dtype=torch.long), decoder_input_ids=torch.tensor([[1, 8]]))
    torch.testing.assert_close(longer.logits, output.logits[:1], rtol=0, atol=1e-5)


def test_loss_is_cross_entropy_of_the_shifted_labels() -> None:
    model = build(label_smoothing=0.3)
    source = torch.tensor([[5, 9, 2], [8, 9, 2]])
    labels = torch.tensor([[7, 8, 2], [9, 2, -100]])
    shifted = model.prepare_decoder_input_ids_from_labels(labels)
    assert shifted.tolist() == [[1, 7, 8], [1, 9, 2]]
    assert model.prepare_decoder_input_ids_from_labels(torch.tensor([[9, -100, -100]])).tolist() == [[1, 9, 0]]
    output = model(source, labels=labels)
    log_probabilities = model(source, decoder_input_ids=shifted).logits.log_softmax(-1)
    counted = [(row, step) for row in range(2) for step in range(3) if labels[row, step] != -100]
    plain = -sum(log_probabilities[row, step, labels[row, step]] for row, step in counted) / 5
    torch.testing.assert_close(output.loss, plain)
    torch.testing.assert_close(model(source, labels=labels, num_items_in_batch=10).loss, plain / 2)
    torch.testing.assert_close(model(source, labels=labels, num_items_in_batch=torch.tensor(10)).loss, plain / 2)
    uniform = -sum(log_probabilities[row, step].mean() for row, step in counted) / 5
    model.train()
    model.model.eval()  # the loss of a training step, without its dropout
    torch.testing.assert_close(model(source, labels=labels).loss, 0.7 * plain + 0.3 * uniform)
    assert output.past_key_values is None


def test_labels_that_do_not_count_give_no_loss_and_no_gradient() -> None:
    model = build()
    loss = model(torch.tensor([[5, 2]]), labels=torch.tensor([[-100, -100]])).loss
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad is None or parameter.grad.eq(0).all() for parameter in model.parameters())


@pytest.mark.parametrize("values", list(combinations()), ids=named)
def test_every_parameter_learns(values: dict[str, Any]) -> None:
    model = build(**values).train()
    source, mask = padded([[5, 9, 11, 30, 2], [7, 2]], "right")
    model(source, attention_mask=mask, labels=torch.randint(4, VOCABULARY, (2, 6))).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@torch.no_grad()
def test_output_fields() -> None:
    model = build(encoder_layers=2, decoder_layers=3)
    source, target = torch.tensor([[5, 9, 2]]), torch.tensor([[1, 8]])
    output = model(source, decoder_input_ids=target, output_hidden_states=True, output_attentions=True)
    assert [one.shape for one in output.encoder_hidden_states] == [(1, 3, 10), (1, 3, 12), (1, 3, 12)]
    assert [one.shape for one in output.decoder_hidden_states] == [(1, 2, 10)] + [(1, 2, 12)] * 3
    assert torch.equal(output.encoder_last_hidden_state, output.encoder_hidden_states[-1])
    assert torch.equal(output.encoder_hidden_states[0], model.get_input_embeddings()(source))
    bare = model(source, decoder_input_ids=target, use_cache=False)
    assert set(bare) == {"logits", "encoder_last_hidden_state"}
    as_tuple = model(source, decoder_input_ids=target, use_cache=False, return_dict=False)
    assert isinstance(as_tuple, tuple)
    torch.testing.assert_close(as_tuple[0], bare.logits)
    base = model.model(source, decoder_input_ids=target)
    torch.testing.assert_close(model.lm_head(base.last_hidden_state), bare.logits)
    assert isinstance(model.model, RnnS2SModel)


@torch.no_grad()
def test_the_configuration_asks_for_outputs_too() -> None:
    model = build()
    model.config.output_hidden_states = True
    model.config.output_attentions = True
    output = model(torch.tensor([[5, 9, 2]]), decoder_input_ids=torch.tensor([[1, 8]]))
    assert len(output.decoder_hidden_states) == 3
    assert len(output.cross_attentions) == 1


@torch.no_grad()
def test_logits_to_keep() -> None:
    model = build()
    source, target = torch.tensor([[5, 9, 2]]), torch.tensor([[1, 8, 9, 10]])
    whole = model(source, decoder_input_ids=target).logits
    torch.testing.assert_close(model(source, decoder_input_ids=target, logits_to_keep=2).logits, whole[:, -2:])
    chosen = torch.tensor([0, 3])
    torch.testing.assert_close(model(source, decoder_input_ids=target, logits_to_keep=chosen).logits, whole[:, chosen])


@torch.no_grad()
def test_encoder_outputs_may_be_passed_as_a_tuple_but_must_be_whole() -> None:
    model = build()
    source, target = torch.tensor([[5, 9, 2]]), torch.tensor([[1, 8]])
    expected = model(source, decoder_input_ids=target).logits
    as_tuple = model.get_encoder()(source, return_dict=False)
    torch.testing.assert_close(model(encoder_outputs=as_tuple, decoder_input_ids=target).logits, expected)
    for outputs in (BaseModelOutput(last_hidden_state=as_tuple[0]), as_tuple[:1]):
        with pytest.raises(ValueError, match="encoder_outputs has no final_hidden"):
            model(encoder_outputs=outputs, decoder_input_ids=target)


@pytest.mark.parametrize("cell_type", BUILT_IN["cell_type"])
@torch.no_grad()
def test_the_memory_is_enough_for_a_decoder_that_starts_from_zeros(cell_type: str) -> None:
    model = build(bridge="zero", cell_type=cell_type)
    source, target = torch.tensor([[5, 9, 2], [7, 2, 0]]), torch.tensor([[1, 8], [1, 9]])
    mask = source.ne(0)
    whole = model.get_encoder()(source, attention_mask=mask)
    memory = BaseModelOutput(last_hidden_state=whole.last_hidden_state)
    arguments = {"attention_mask": mask, "decoder_input_ids": target}
    expected = model(encoder_outputs=whole, **arguments).logits
    assert model(encoder_outputs=memory, **arguments).logits.equal(expected)
    for beams in (1, 3):
        generation = {"attention_mask": mask, "max_new_tokens": 6, "num_beams": beams}
        generated = model.generate(encoder_outputs=copy.deepcopy(memory), **generation)
        assert generated.equal(model.generate(source, **generation))
    if cell_type == "gru":
        whole.final_cell = whole.final_hidden
        with pytest.raises(ValueError, match="encoder_outputs has a final_cell, but cell_type is 'gru'"):
            model(encoder_outputs=whole, **arguments)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"decoder_input_ids": [[1]]}, "Pass either input_ids or inputs_embeds"),
        ({"input_ids": [[5]]}, "Pass either decoder_input_ids or decoder_inputs_embeds"),
        ({"input_ids": [[40]], "decoder_input_ids": [[1]]}, "input_ids has the id 40, outside the vocabulary of 40"),
        ({"input_ids": [[-1]], "decoder_input_ids": [[1]]}, "input_ids has the id -1, outside the vocabulary"),
        ({"input_ids": [[5]], "decoder_input_ids": [[41]]}, "decoder_input_ids has the id 41, outside"),
        ({"input_ids": [[5]], "labels": [[41, 2]]}, "labels has the id 41, outside the vocabulary of 40"),
        ({"input_ids": [[5]], "labels": [[-3, 2]]}, "labels has the id -3, outside the vocabulary of 40"),
        ({"input_ids": [5], "decoder_input_ids": [[1]]}, r"input_ids has the shape \(1,\); it must be"),
        ({"input_ids": [[]], "decoder_input_ids": [[1]]}, "input_ids has no tokens"),
        ({"input_ids": [[5]], "decoder_input_ids": [[]]}, "decoder_input_ids has no tokens"),
        ({"input_ids": [[5]], "attention_mask": [[1, 1]], "decoder_input_ids": [[1]]}, "attention_mask has the shape"),
        (
            {"input_ids": [[5]], "decoder_attention_mask": [[1]], "decoder_input_ids": [[1, 2]]},
            "decoder_attention_mask",
        ),
        ({"input_ids": [[5], [6]], "decoder_input_ids": [[1]]}, "decoder_input_ids has 1 rows, but the source has 2"),
        ({"input_ids": [[5]], "labels": [[7, 8]], "decoder_input_ids": [[1]]}, "labels has the shape"),
        ({"input_ids": [[5]], "labels": [7, 8]}, r"labels has the shape \(2,\); it must be \(batch, target\)"),
        ({"input_ids": [[5]], "labels": [[]]}, r"labels has the shape \(1, 0\); it must be"),
        ({"input_ids": [[5], [6]], "labels": [[7, 8]]}, "labels has 1 rows, but the source has 2"),
    ],
)
def test_bad_inputs_are_named(inputs: dict[str, list[Any]], message: str) -> None:
    model = build()
    tensors = {name: torch.tensor(value, dtype=torch.long) for name, value in inputs.items()}
    with pytest.raises(ValueError, match=message):
        model(**tensors)


def test_there_are_logits_beside_labels_in_training_too() -> None:
    model = build(dropout=0.0)
    source, labels = torch.tensor([[5, 9, 2]]), torch.tensor([[7, 8, 2]])
    evaluated = model.eval()(source, labels=labels)
    trained = model.train()(source, labels=labels)
    assert trained.logits.equal(evaluated.logits)
    loss, logits, memory = model(source, labels=labels, return_dict=False)
    assert loss.equal(trained.loss)
    assert logits.equal(trained.logits)
    assert memory.equal(trained.encoder_last_hidden_state)
    for mode in (True, False):
        assert model.train(mode)(source, labels=labels, return_logits=False).logits is None


def test_logits_are_skipped_in_training_where_that_is_said(tmp_path: Path) -> None:
    model = build(dropout=0.0)
    source, labels = torch.tensor([[5, 9, 2]]), torch.tensor([[7, 8, 2]])
    expected = model.train()(source, labels=labels)
    model.skip_logits_in_training()
    skipped = model(source, labels=labels)
    assert skipped.logits is None
    torch.testing.assert_close(skipped.loss, expected.loss)
    assert model(source, labels=labels, return_logits=True).logits.equal(expected.logits)
    assert model(source, decoder_input_ids=labels).logits.equal(model(source, decoder_input_ids=labels).logits)
    assert model.eval()(source, labels=labels).logits.equal(expected.logits)
    model.save_pretrained(tmp_path)
    assert RnnS2SForConditionalGeneration.from_pretrained(tmp_path).train()(source, labels=labels).logits is not None
    model.skip_logits_in_training(False)
    assert model.train()(source, labels=labels).logits.equal(expected.logits)


@pytest.mark.parametrize("training", [True, False])
def test_the_output_layer_is_computed_once_for_logits_and_loss(training: bool) -> None:
    model = build().train(training)
    products: list[torch.Tensor] = []
    model.lm_head.register_forward_hook(lambda module, inputs, logits: products.append(logits))
    source = torch.tensor([[5, 9, 2]])
    model(source, labels=source)
    assert [tuple(logits.shape) for logits in products] == [(1, 3, VOCABULARY)]


@pytest.mark.parametrize("kept", [1, 2, torch.tensor([0, 2])], ids=["one", "two", "given"])
def test_the_loss_is_of_all_positions_whichever_logits_are_kept(kept: int | torch.Tensor) -> None:
    model, source, labels = build(), torch.tensor([[5, 9, 2]]), torch.tensor([[7, 8, 2]])
    whole, some = model(source, labels=labels), model(source, labels=labels, logits_to_keep=kept)
    torch.testing.assert_close(some.loss, whole.loss)
    positions = slice(-kept, None) if isinstance(kept, int) else kept
    torch.testing.assert_close(some.logits, whole.logits[:, positions])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_both_ways_to_the_loss_have_the_same_gradients(smoothing: float) -> None:
    model = build(dropout=0.0, label_smoothing=smoothing).double().train()
    source, labels = torch.tensor([[5, 9, 2], [6, 2, 0]]), torch.tensor([[7, 8, 2], [9, 2, -100]])
    gradients = []
    for with_logits in (True, False):
        model.zero_grad()
        model(source, labels=labels, return_logits=with_logits).loss.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert gradients[0].abs().max() > 0.01
    torch.testing.assert_close(*gradients)


def test_labels_are_not_smoothed_unless_that_is_asked_for() -> None:
    model = build(dropout=0.0).train()
    source, labels = torch.tensor([[5, 9, 2]]), torch.tensor([[7, 8, 2]])
    output = model(source, labels=labels)
    torch.testing.assert_close(output.loss, functional.cross_entropy(output.logits[0], labels[0]))


def test_label_smoothing_is_in_the_loss_of_torch() -> None:
    model = build(label_smoothing=0.2, dropout=0.0).train()
    source, labels = torch.tensor([[5, 9, 2]]), torch.tensor([[7, 8, 2]])
    output = model(source, labels=labels, return_logits=True)
    expected = functional.cross_entropy(output.logits[0], labels[0], label_smoothing=0.2)
    torch.testing.assert_close(output.loss, expected)


@pytest.mark.parametrize("spread", [None, 0.05])
def test_embeddings_begin_as_wide_as_the_configuration_says(spread: float | None) -> None:
    torch.manual_seed(0)
    config = RnnS2SConfig(vocab_size=2000, embedding_size=32, hidden_size=8)
    if spread is not None:
        config.initializer_range = spread
    weight = RnnS2SForConditionalGeneration(config).get_input_embeddings().weight
    assert weight[1:].std().item() == pytest.approx(spread or 0.3, rel=0.02)
    assert not weight[config.pad_token_id].any()


def test_the_loss_without_a_label_that_counts_is_zero() -> None:
    model, source = build().train(), torch.tensor([[5, 9, 2]])
    for count in (None, 0, torch.tensor(0)):
        loss = model(source, labels=torch.full((1, 3), -100), num_items_in_batch=count).loss
        assert loss.item() == 0
        loss.backward()


class Scaled(torch.nn.Linear):
    """As an adapter on the output layer: its weights alone say less than calling it does."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return 0.1 * super().forward(inputs)


@pytest.mark.parametrize("way", ["hook", "forward", "class"])
def test_the_loss_is_that_of_the_logits_whatever_the_output_layer_does(
    way: str, tiny_model: RnnS2SForConditionalGeneration
) -> None:
    head = tiny_model.lm_head
    if way == "hook":
        head.register_forward_hook(lambda module, inputs, logits: 0.1 * logits)
    elif way == "forward":
        head.forward = lambda inputs: 0.1 * torch.nn.functional.linear(inputs, head.weight, head.bias)
    else:
        head.__class__ = Scaled
    ids = torch.randint(5, 20, (3, 6), generator=torch.Generator().manual_seed(0))
    labels = ids.masked_fill(ids == 7, -100)
    output = tiny_model(input_ids=ids, labels=labels)
    expected = torch.nn.functional.cross_entropy(output.logits.double().flatten(0, 1), labels.flatten())
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    output.loss.backward()
    assert head.weight.grad.abs().max() > 0
