"""What all models share: inputs that are looked at before any kernel is, resized vocabularies, tied weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hf_rnn_s2s import RnnS2SForConditionalGeneration, RnnS2SModel

from ..random_models import build, config_of

SOURCE = torch.tensor([[5, 9, 11, 30, 2], [7, 2, 0, 0, 0]])
TARGET = torch.tensor([[1, 8, 21], [1, 9, 9]])


@pytest.mark.parametrize("cell_type", ["lstm", "gru"])
@pytest.mark.parametrize("width", [1, 7, 20])
def test_embeddings_of_another_width_are_refused(cell_type: str, width: int) -> None:
    """The kernel of the LSTM does not look: it would compute from whatever lies behind the numbers."""
    model, wrong = build(cell_type=cell_type), torch.randn(2, 3, width)
    with pytest.raises(ValueError, match=rf"inputs_embeds has embeddings of {width} numbers.*have 10"):
        model(inputs_embeds=wrong, decoder_input_ids=TARGET)
    with pytest.raises(ValueError, match=rf"decoder_inputs_embeds has embeddings of {width} numbers.*have 10"):
        model(SOURCE, decoder_inputs_embeds=wrong)
    with pytest.raises(ValueError, match=rf"The new embeddings have {width} numbers each, but embedding_size is 10"):
        model.set_input_embeddings(nn.Embedding(40, width))


def test_embeddings_of_another_dtype_are_refused() -> None:
    with pytest.raises(TypeError, match=r"inputs_embeds is of torch.bfloat16 and the model of torch.float32"):
        build()(inputs_embeds=torch.randn(2, 3, 10).bfloat16(), decoder_input_ids=TARGET)


def test_ids_that_are_no_integers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"input_ids is of torch.float32; token ids are integers"):
        build()(SOURCE.float(), decoder_input_ids=TARGET)


def test_ids_of_tokens_that_were_added_name_the_way_out() -> None:
    """The tokenizer belongs to the model; it has grown, and the model has not."""
    model = build()
    size = model.config.vocab_size
    added = torch.tensor([[size]])
    way_out = rf"the id {size}, .* after adding tokens to it, call model.resize_token_embeddings\(len\(tokenizer\)\)"
    with pytest.raises(ValueError, match=f"^input_ids has {way_out}"):
        model(added, decoder_input_ids=TARGET[:1])
    with pytest.raises(ValueError, match=f"^labels has {way_out}.* model.resize_decoder_token_embeddings"):
        model(SOURCE[:1], labels=added)
    with pytest.raises(ValueError, match="the id -5, .* belongs to the model.$"):
        model(-5 * torch.ones_like(added), decoder_input_ids=TARGET[:1])


@pytest.mark.parametrize("length", [0, 4])
def test_an_empty_batch_is_named(length: int) -> None:
    model = build()
    rows, embeds = torch.zeros(0, length, dtype=torch.long), torch.zeros(0, length, model.config.embedding_size)
    with pytest.raises(ValueError, match=rf"^input_ids has the shape \(0, {length}\): the batch is empty"):
        model(rows, decoder_input_ids=TARGET[:0])
    with pytest.raises(ValueError, match="^inputs_embeds has the shape .*: the batch is empty"):
        model(inputs_embeds=embeds, decoder_input_ids=TARGET[:0])
    with pytest.raises(ValueError, match="^decoder_input_ids has the shape .*: the batch is empty"):
        model(SOURCE, decoder_input_ids=rows)
    for num_beams in (1, 3):
        with pytest.raises(ValueError, match="^input_ids has the shape .*: the batch is empty"):
            model.generate(rows, num_beams=num_beams, max_new_tokens=3)


def test_a_mask_of_numbers_to_add_is_refused() -> None:
    additive = torch.zeros(2, 5).masked_fill(SOURCE == 0, float("-inf"))
    with pytest.raises(ValueError, match="attention_mask has numbers below 0"):
        build()(SOURCE, attention_mask=additive, decoder_input_ids=TARGET)
    with pytest.raises(ValueError, match="decoder_attention_mask has numbers below 0"):
        build()(SOURCE, decoder_input_ids=TARGET, decoder_attention_mask=additive[:, :3])


def test_short_integers_are_read_like_long_ones() -> None:
    model = build()
    expected = model(SOURCE, labels=TARGET)
    output = model(SOURCE.int(), labels=TARGET.int())
    assert torch.equal(output.logits, expected.logits)
    assert torch.equal(output.loss, expected.loss)


@pytest.mark.parametrize("pad_token_id", [0, 1])
def test_dummy_inputs_run(pad_token_id: int) -> None:
    model = build(pad_token_id=pad_token_id)
    assert model(**model.dummy_inputs).logits.shape == (2, 3, 40)


def sizes(model: RnnS2SForConditionalGeneration | RnnS2SModel) -> tuple[int, int]:
    """Rows of the source's and of the target's embeddings."""
    inner = model if isinstance(model, RnnS2SModel) else model.model
    return inner.encoder.embed_tokens.num_embeddings, inner.decoder.embed_tokens.num_embeddings


@pytest.mark.parametrize("kind", [RnnS2SModel, RnnS2SForConditionalGeneration])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, (45, 45)),
        ({"decoder_vocab_size": 40, "share_encoder_decoder_embeddings": True}, (45, 45)),
        ({"share_encoder_decoder_embeddings": False}, (45, 40)),
        ({"decoder_vocab_size": 30}, (45, 30)),
    ],
)
def test_the_configuration_follows_a_resized_vocabulary(
    kind: type[RnnS2SForConditionalGeneration] | type[RnnS2SModel],
    values: dict[str, Any],
    expected: tuple[int, int],
    tmp_path: Path,
) -> None:
    model = kind(config_of(**values)).eval()
    model.resize_token_embeddings(45)
    assert sizes(model) == (model.config.vocab_size, model.config.target_vocab_size) == expected
    model.save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path).eval()
    ids = torch.tensor([[44, 5, 2]])
    torch.testing.assert_close(
        loaded(ids, decoder_input_ids=TARGET[:1])[0], model(ids, decoder_input_ids=TARGET[:1])[0]
    )


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("new", [50, 25])
def test_a_resized_joint_vocabulary_is_that_of_both_sides(tied: bool, new: int) -> None:
    """As transformers' own tests ask for the sizes, before and after."""
    model = build(tie_word_embeddings=tied)
    assert model.config.get_text_config(decoder=True).vocab_size == 40
    kept = model.get_input_embeddings().weight[:25].clone()
    logits = model(TARGET, decoder_input_ids=TARGET).logits[..., :25]
    model.resize_token_embeddings(new)
    for arguments in ({}, {"decoder": True}, {"encoder": True}):
        assert model.config.get_text_config(**arguments).vocab_size == new
    assert model.get_input_embeddings().weight[:25].equal(kept)
    head = model.get_output_embeddings()
    assert (tuple(head.weight.shape), head.out_features, len(head.bias)) == ((new, 10), new, new)
    torch.testing.assert_close(model(TARGET, decoder_input_ids=TARGET).logits[..., :25], logits)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.post_init()
    assert all(weight.equal(weights[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("kind", [RnnS2SModel, RnnS2SForConditionalGeneration])
def test_the_target_vocabulary_is_resized_by_itself(
    kind: type[RnnS2SForConditionalGeneration] | type[RnnS2SModel], tmp_path: Path
) -> None:
    model = kind(config_of(decoder_vocab_size=30))
    model.resize_decoder_token_embeddings(33)
    assert sizes(model) == (model.config.vocab_size, model.config.target_vocab_size) == (40, 33)
    model.save_pretrained(tmp_path)
    assert sizes(kind.from_pretrained(tmp_path)) == (40, 33)
    with pytest.raises(ValueError, match="new_num_tokens=None must be a whole number"):
        model.resize_decoder_token_embeddings(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="share their embeddings: call resize_token_embeddings"):
        kind(config_of()).resize_decoder_token_embeddings(33)


@pytest.mark.parametrize("part", ["get_encoder", "get_decoder"])
def test_a_part_has_no_vocabulary_of_its_own(part: str) -> None:
    model = build(decoder_vocab_size=30)
    with pytest.raises(TypeError, match="Resize the vocabulary of the whole model"):
        getattr(model, part)().resize_token_embeddings(45)
    assert (model.config.vocab_size, model.config.decoder_vocab_size) == (40, 30)


def test_resizing_to_the_same_size_changes_nothing() -> None:
    model = build(share_encoder_decoder_embeddings=False)
    model.resize_token_embeddings(40)
    assert model.config.decoder_vocab_size is None
