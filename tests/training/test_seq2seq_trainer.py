"""The model in the Trainer of transformers as it is, with logits in training and without them."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.nn import functional
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast, Seq2SeqTrainer, Seq2SeqTrainingArguments

from hf_rnn_s2s import RnnS2SForConditionalGeneration

TEXTS = [("a small dog", "ein kleiner Hund"), ("the big cat sleeps", "die Katze"), ("one two", "Hund Katze")]


class LossOfLogits(Seq2SeqTrainer):
    """As people write it who want a loss of their own."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        outputs = model(**inputs)
        loss = functional.cross_entropy(outputs.logits.flatten(0, 1), inputs["labels"].flatten())
        return (loss, outputs) if return_outputs else loss


@pytest.fixture
def dataset(tiny_tokenizer: PreTrainedTokenizerFast) -> Dataset:
    sources, targets = zip(*TEXTS, strict=True)
    encoded = tiny_tokenizer(list(sources), text_target=list(targets))
    return Dataset.from_dict({"input_ids": encoded["input_ids"], "labels": encoded["labels"]})


def trained(
    model: RnnS2SForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    folder: Path,
    kind: type[Seq2SeqTrainer] = Seq2SeqTrainer,
    **arguments: Any,
) -> tuple[dict[str, float], list[Any]]:
    """What the logs say of three steps and an evaluation, and the predictions that were to be scored."""
    predictions: list[Any] = []

    def keep(outcome: Any) -> dict[str, float]:
        predictions.append(outcome.predictions)
        return {}

    defaults = {
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
        "max_steps": 3,
        "per_device_train_batch_size": 3,
        "learning_rate": 0.01,
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 3,
        "save_strategy": "no",
        "generation_max_length": 8,
    }
    trainer = kind(
        model,
        Seq2SeqTrainingArguments(output_dir=str(folder), **{**defaults, **arguments}),
        train_dataset=dataset,
        eval_dataset=dataset,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
        compute_metrics=keep,
    )
    trainer.train()
    logs = trainer.state.log_history
    losses = {f"loss {log['step']}": log["loss"] for log in logs if "loss" in log}
    return {**losses, "eval_loss": next(log["eval_loss"] for log in logs if "eval_loss" in log)}, predictions


@pytest.mark.parametrize("with_generate", [False, True])
def test_training_without_logits_is_the_same_training(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
    with_generate: bool,
) -> None:
    results = []
    for skip in (False, True):
        model, in_training = copy.deepcopy(tiny_model), []
        model.skip_logits_in_training(skip)

        def see(module: Any, inputs: Any, output: Any, in_training: list[bool] = in_training) -> None:
            if module.training:
                in_training.append(output.logits is not None)

        model.register_forward_hook(see)
        results.append(trained(model, tiny_tokenizer, dataset, tmp_path, predict_with_generate=with_generate))
        assert in_training == [not skip] * 3
    (losses, [expected]), (others, [found]) = results
    assert others == pytest.approx(losses, rel=1e-5)
    assert losses["loss 3"] < losses["loss 1"]
    if with_generate:
        assert np.array_equal(found, expected)
    else:
        logits, memory = found
        assert logits.shape == (3, max(map(len, dataset["labels"])), tiny_model.config.vocab_size)
        assert memory.shape[-1] == tiny_model.config.hidden_size
        np.testing.assert_allclose(logits, expected[0], rtol=0, atol=1e-3)


def test_a_loss_of_ones_own_reads_the_logits(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    tiny_model.config.dropout = 0.0
    expected, _ = trained(copy.deepcopy(tiny_model), tiny_tokenizer, dataset, tmp_path)
    losses, _ = trained(tiny_model, tiny_tokenizer, dataset, tmp_path, kind=LossOfLogits)
    assert losses == pytest.approx(expected, rel=1e-5)


def test_the_trainers_own_label_smoothing_is_not_disturbed(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    """It takes the labels out and reads the logits, which are there then whatever was said."""
    expected, _ = trained(copy.deepcopy(tiny_model), tiny_tokenizer, dataset, tmp_path, label_smoothing_factor=0.1)
    tiny_model.skip_logits_in_training()
    losses, _ = trained(tiny_model, tiny_tokenizer, dataset, tmp_path, label_smoothing_factor=0.1)
    assert losses == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("skip", [False, True])
def test_training_without_logits_keeps_nothing_of_their_size(
    skip: bool, tiny_model: RnnS2SForConditionalGeneration
) -> None:
    tiny_model.train().skip_logits_in_training(skip)
    kept: list[tuple[int, ...]] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    ids = torch.randint(4, 200, (50, 40))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        tiny_model(input_ids=ids, labels=ids).loss.backward()
    assert ((ids.numel(), tiny_model.config.vocab_size) in kept) is not skip
