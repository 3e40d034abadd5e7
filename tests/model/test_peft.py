"""Adapters of PEFT around embeddings, linear layers and recurrent weights, from training to merging."""

import copy
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SForConditionalGeneration
from hf_rnn_s2s.model.configuration_rnn_s2s import BUILT_IN
from hf_rnn_s2s.training.arguments import RnnS2STrainingArguments
from hf_rnn_s2s.training.trainer import RnnS2STrainer

from .. import random_models

SOURCE = torch.tensor([[5, 9, 11, 7, 2], [8, 6, 2, 0, 0]])
BATCH = {"input_ids": SOURCE, "attention_mask": SOURCE.ne(0), "labels": SOURCE.masked_fill(SOURCE == 0, -100)}
RECURRENT = {"target_modules": [], "target_parameters": ["weight_ih", "weight_hh"]}
TARGETS: dict[str, dict[str, Any]] = {
    "embeddings": {"target_modules": ["embed_tokens"]},
    "linear": {"target_modules": "all-linear"},
    "output layer": {"target_modules": ["lm_head"]},
    "recurrent": RECURRENT,
    "everything": {
        "target_modules": ["embed_tokens", "key_projection", "output_projection", "lm_head"],
        "target_parameters": RECURRENT["target_parameters"],
    },
}


build = partial(random_models.build, encoder_layers=2, dropout=0.0, initializer_range=1.0)


def adapted(model: RnnS2SForConditionalGeneration, **targets: Any) -> PeftModel:
    torch.manual_seed(0)
    return get_peft_model(model, LoraConfig(task_type="SEQ_2_SEQ_LM", r=4, lora_alpha=16, **targets))


def trained(model: PeftModel, steps: int = 30) -> list[float]:
    """The losses of some steps on one batch."""
    model.train()
    optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=3e-2)
    losses = []
    for _ in range(steps):
        loss = model(**BATCH).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(**BATCH).logits


def translations(model: Any, **arguments: Any) -> list[list[list[int]]]:
    """Of greedy and of beam search."""
    found = []
    for beams in (1, 3):
        inputs = {"input_ids": SOURCE, "attention_mask": BATCH["attention_mask"]}
        generated = model.generate(**inputs, max_new_tokens=7, num_beams=beams, **arguments)
        found.append((generated if isinstance(generated, torch.Tensor) else generated.sequences).tolist())
    return found


def require_equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    """But for a rounding: some processors add up in another order where the same weights lie elsewhere in memory."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.fixture(params=[(cell, target) for cell in BUILT_IN["cell_type"] for target in TARGETS], ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[RnnS2SForConditionalGeneration, PeftModel]:
    """A model, and another one that was trained from it with adapters, which do something by now."""
    cell_type, target = request.param
    plain = build(cell_type=cell_type)
    plain.untie_embeddings()
    model = adapted(copy.deepcopy(plain), **TARGETS[target])
    losses = trained(model)
    assert losses[-1] < 0.9 * losses[0]
    assert (logits(model) - logits(plain)).abs().max() > 0.1
    return plain, model


def test_adapters_are_used_saved_turned_off_and_merged(
    case: tuple[RnnS2SForConditionalGeneration, PeftModel], tmp_path: Path, rows_per_step: list[int]
) -> None:
    plain, model = case
    expected, expected_logits = translations(model), logits(model)
    assert rows_per_step, "this is the package's own search"
    rows_per_step.clear()
    assert translations(model, output_scores=True, return_dict_in_generate=True) == expected
    assert not rows_per_step, "and this is that of transformers"

    with model.disable_adapter():
        require_equal(logits(model), logits(plain))
        assert translations(model) == translations(plain)
    assert logits(model).equal(expected_logits)

    model.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(copy.deepcopy(plain), tmp_path / "adapter").eval()
    require_equal(logits(loaded), expected_logits)
    assert translations(loaded) == expected

    merged = model.merge_and_unload()
    assert isinstance(merged, RnnS2SForConditionalGeneration)
    torch.testing.assert_close(logits(merged), expected_logits, rtol=0, atol=1e-4)
    assert translations(merged) == expected
    merged.save_pretrained(tmp_path / "merged")
    again = RnnS2SForConditionalGeneration.from_pretrained(tmp_path / "merged")
    require_equal(logits(again), logits(merged))


@pytest.mark.parametrize("values", [{}, {"decoder_vocab_size": 40}], ids=["joint", "separate"])
def test_tied_embeddings_stay_tied_where_others_have_adapters(values: dict[str, Any], tmp_path: Path) -> None:
    model = adapted(build(**values), **RECURRENT)
    trained(model, steps=5)
    expected = logits(model)
    merged = model.merge_and_unload()
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=1e-4)
    merged.save_pretrained(tmp_path)
    again = RnnS2SForConditionalGeneration.from_pretrained(tmp_path)
    assert again.config.tie_word_embeddings
    assert again.lm_head.weight is again.model.decoder.embed_tokens.weight
    torch.testing.assert_close(logits(again), logits(merged), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "values",
    [{}, {"decoder_vocab_size": 40}, {"share_encoder_decoder_embeddings": False}, {"tie_word_embeddings": False}],
    ids=str,
)
def test_untied_embeddings_are_the_same_and_go_different_ways(values: dict[str, Any], tmp_path: Path) -> None:
    model = build(**values)
    expected = logits(model)
    model.untie_embeddings()
    assert logits(model).equal(expected)
    with torch.no_grad():
        for number, module in enumerate((model.model.encoder.embed_tokens, model.model.decoder.embed_tokens)):
            module.weight.fill_(number)
    model.save_pretrained(tmp_path)
    again = RnnS2SForConditionalGeneration.from_pretrained(tmp_path)
    for name, weight in model.state_dict().items():
        assert again.state_dict()[name].equal(weight)
    with pytest.raises(TypeError, match="There is an adapter around one of the embeddings: untie them before"):
        adapted(model, **TARGETS["embeddings"]).get_base_model().untie_embeddings()


def test_embeddings_with_an_adapter_are_checked_as_before() -> None:
    model = adapted(build(), **TARGETS["embeddings"])
    with pytest.raises(ValueError, match="input_ids has the id 40, outside the vocabulary of 40 tokens"):
        model(input_ids=torch.tensor([[40]]), labels=torch.tensor([[1]]))
    with pytest.raises(ValueError, match="inputs_embeds has embeddings of 7 numbers; those of this model have 10"):
        model(inputs_embeds=torch.zeros(1, 2, 7), labels=torch.tensor([[1]]))
    embeds = model.get_base_model().get_input_embeddings()(SOURCE)
    arguments = {"attention_mask": BATCH["attention_mask"], "labels": BATCH["labels"]}
    assert model(inputs_embeds=embeds, **arguments).logits.equal(model(**BATCH).logits)


def test_weights_with_a_parametrization_are_not_packed() -> None:
    """What PEFT uses for parameters, and others for normalised weights."""
    model = build()
    for layer in model.model.decoder.layers:
        torch.nn.utils.parametrizations.weight_norm(layer, "weight_hh")
    torch.nn.utils.parametrizations.weight_norm(model.model.decoder.output_projection)
    with torch.no_grad():
        for layer in (*model.model.decoder.layers, model.model.decoder.output_projection):
            for name in layer.parametrizations:
                layer.parametrizations[name].original0.mul_(3)
    assert translations(model) == translations(model, output_scores=True, return_dict_in_generate=True)


@pytest.fixture
def _leaves_no_precision() -> Iterator[None]:
    """A trainer settles the precision of a whole process, of which other tests want another one."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("_leaves_no_precision")
def test_the_packages_trainer_trains_an_adapter(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    from datasets import Dataset

    texts = ["a small dog", "the big cat sleeps", "one two three"]
    encoded = tiny_tokenizer(texts, text_target=texts)
    columns = {"source": texts, "target": texts, "input_ids": encoded["input_ids"], "labels": encoded["labels"]}
    dataset = Dataset.from_dict(columns)
    base = build(vocab_size=len(tiny_tokenizer))
    base.untie_embeddings()
    settings = base.generation_config.to_dict()
    model = adapted(base, **TARGETS["everything"])
    arguments = RnnS2STrainingArguments(
        output_dir=str(tmp_path),
        bf16=False,
        disable_tqdm=True,
        max_steps=20,
        eval_strategy="steps",
        eval_steps=20,
        save_strategy="no",
        load_best_model_at_end=False,
        logging_steps=1,
        learning_rate=3e-2,
        label_smoothing_factor=0.1,
        generation_max_length=8,
        sample_translations=0,
    )
    trainer = RnnS2STrainer(
        model,
        arguments,
        score=lambda hypotheses, references: {},
        processing_class=tiny_tokenizer,
        data_collator=DataCollatorForSeq2Seq(tiny_tokenizer),
        train_dataset=dataset,
        eval_dataset=dataset,
    )
    trainer.train()
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert losses[-1] < 0.8 * losses[0]
    assert base.config.label_smoothing == 0.1
    model.eval()
    expected = logits(model)
    merged = model.merge_and_unload()
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=1e-4)
    assert merged.generation_config.to_dict() == settings
