"""Word dropout, scheduled sampling and R-Drop: what they compute, and that a training run does them."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SForConditionalGeneration
from hf_rnn_s2s.errors import UsageError
from hf_rnn_s2s.training.arguments import RnnS2STrainingArguments
from hf_rnn_s2s.training.noise import Schedule, divergence, drop_words, sampled_inputs
from hf_rnn_s2s.training.trainer import RnnS2STrainer

from ..random_models import build

SOURCE = torch.tensor([[5, 9, 11, 2], [7, 3, 2, 0]])
TARGET = torch.tensor([[1, 8, 21, 13, 30], [1, 9, 22, 17, 5]])


def test_schedules_are_those_of_the_paper() -> None:
    """Bengio et al. 2015, section 2.4."""
    linear, exponential, sigmoid = (
        Schedule("linear", 100),
        Schedule("exponential", 0.9),
        Schedule("inverse_sigmoid", 20),
    )
    for step in (0, 1, 30, 99, 100, 500, 10**6):
        assert linear.probability(step) == max(0, 1 - step / 100)
        assert exponential.probability(step) == pytest.approx(0.9**step)
        expected = 20 / (20 + math.exp(step / 20)) if step / 20 < 700 else 0
        assert sigmoid.probability(step) == pytest.approx(expected, abs=1e-12)
    assert Schedule("linear", 100, least=0.25).probability(90) == 0.25


def test_words_are_dropped_with_the_probability() -> None:
    torch.manual_seed(0)
    ids = torch.randint(0, 20, (200, 50))
    special = torch.tensor([0, 1, 2])
    dropped = drop_words(ids, 0.3, 3, special)
    is_special = torch.isin(ids, special)
    assert torch.equal(dropped[is_special], ids[is_special])
    words = ~is_special & ids.ne(3)
    changed = dropped[words].ne(ids[words])
    assert dropped[words][changed].eq(3).all()
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("values", [{}, {"input_feeding": True}, {"attention_type": "coverage"}], ids=str)
def test_scheduled_sampling_reads_the_models_own_predictions(values: dict[str, Any]) -> None:
    """With a probability of 0, exactly what greedy search writes; with 1, the true tokens; else one of the two."""
    model = build(**values, initializer_range=1.0, dropout=0.5).train()
    inputs = {"input_ids": SOURCE, "attention_mask": SOURCE.ne(0).long()}
    own = sampled_inputs(model, inputs, TARGET, 0.0)
    assert model.training
    settings: dict[str, Any] = {"max_new_tokens": 4, "min_new_tokens": 4, "eos_token_id": None, "num_beams": 1}
    expected = model.eval().generate(**inputs, **settings)
    assert torch.equal(own, expected)
    assert sampled_inputs(model, inputs, TARGET, 1.0) is TARGET
    torch.manual_seed(3)
    mixed = sampled_inputs(model, inputs, TARGET, 0.5)
    assert torch.equal(mixed[:, 0], TARGET[:, 0])
    for row in range(2):
        for place in range(1, 5):
            prefix = mixed[row : row + 1, :place]
            given = {name: one[row : row + 1] for name, one in inputs.items()}
            predicted = model(**given, decoder_input_ids=prefix).logits[0, -1].argmax()
            assert mixed[row, place] in (TARGET[row, place], predicted)
    assert not torch.equal(mixed, TARGET)


def test_the_divergence_is_that_of_the_paper() -> None:
    """Liang et al. 2021, equation 2, as sums over the vocabulary."""
    torch.manual_seed(0)
    logits = torch.randn(4, 2, 5, dtype=torch.float64)
    labels = torch.tensor([[1, 2], [3, -100], [1, 2], [3, -100]])
    total = 0.0
    for row, time in ((0, 0), (0, 1), (1, 0)):
        p, q = (logits[one, time].softmax(0).tolist() for one in (row, row + 2))
        total += sum(a * math.log(a / b) + b * math.log(b / a) for a, b in zip(p, q, strict=True)) / 2
    assert divergence(logits, labels).item() == pytest.approx(total, abs=1e-12)


def run(
    model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path, **values: Any
) -> tuple[RnnS2STrainer, list[Any]]:
    """A short training run, and what the model was called with in it."""
    calls: list[Any] = []
    model.register_forward_pre_hook(lambda _, __, kwargs: calls.append(dict(kwargs)), with_kwargs=True)
    rows = {"input_ids": [[5, 9, 11, 2], [7, 8, 2]] * 8, "labels": [[8, 21, 13, 2], [9, 2]] * 8}
    arguments = RnnS2STrainingArguments(
        output_dir=str(folder),
        max_steps=4,
        per_device_train_batch_size=8,
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        **values,
    )
    trainer = RnnS2STrainer(
        model,
        arguments,
        score=lambda *_: None,
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        train_dataset=Dataset.from_dict(rows),
    )
    trainer.train()
    return trainer, calls


def test_a_run_drops_words_on_both_sides(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = build(vocab_size=len(tiny_tokenizer))
    _, calls = run(model, tiny_tokenizer, tmp_path, word_dropout=0.9)
    for call in calls:
        assert call["labels"].ne(3).all()
        for name in ("input_ids", "decoder_input_ids"):
            assert call[name].eq(3).any(), name
        assert call["decoder_input_ids"][:, 0].eq(1).all()
    model = build(vocab_size=len(tiny_tokenizer), unk_token_id=None)
    with pytest.raises(ValueError, match="word_dropout reads tokens as unknown, but the model has unk_token_id=None"):
        run(model, tiny_tokenizer, tmp_path, word_dropout=0.1)


def test_a_run_reads_predictions_more_and_more(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = build(vocab_size=len(tiny_tokenizer))
    _, calls = run(model, tiny_tokenizer, tmp_path, scheduled_sampling="linear", scheduled_sampling_k=3)
    trained = [call for call in calls if call.get("labels") is not None]
    assert len(trained) == 4
    shares = []
    for call in trained:
        true = RnnS2SForConditionalGeneration.prepare_decoder_input_ids_from_labels(model, call["labels"])
        shares.append(call["decoder_input_ids"][:, 1:].eq(true[:, 1:]).float().mean().item())
    assert shares[0] == 1
    assert shares[3] < 0.3


def test_a_run_makes_two_passes_that_come_together(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """The first loss is that of both passes and their divergence; a large weight brings the passes together."""
    model = build(vocab_size=len(tiny_tokenizer), dropout=0.5)
    trainer, calls = run(model, tiny_tokenizer, tmp_path, r_drop=2.0)
    assert [call["input_ids"].shape[0] for call in calls] == [16] * 4
    inputs = {name: calls[0][name] for name in ("input_ids", "attention_mask", "labels")}
    half = {name: one[:8] for name, one in inputs.items()}
    model.train()
    torch.manual_seed(5)
    found = trainer.compute_loss(model, half)
    torch.manual_seed(5)
    output = model(**inputs, return_logits=True)
    count = half["labels"].ne(-100).sum()
    expected = output.loss + 2.0 * divergence(output.logits, inputs["labels"]) / count
    torch.testing.assert_close(found, expected)


def test_what_makes_no_sense_is_refused() -> None:
    for values, message in (
        ({"word_dropout": 1.0}, "word_dropout=1.0 must be at least 0 and below 1"),
        ({"r_drop": -1.0}, "r_drop=-1.0 must be a finite number of at least 0"),
        ({"scheduled_sampling_k": 10.0}, "scheduled_sampling_k says how fast.*set scheduled_sampling, too"),
        ({"scheduled_sampling": "exponential", "scheduled_sampling_k": 10.0}, "must lie between 0 and 1 for an expon"),
        ({"scheduled_sampling": "linear", "scheduled_sampling_k": 0.0}, "scheduled_sampling_k=0.0 must be a finite"),
        ({"scheduled_sampling": "linear", "scheduled_sampling_least": 2.0}, "scheduled_sampling_least=2.0 must be fr"),
    ):
        with pytest.raises(UsageError, match=message):
            RnnS2STrainingArguments(output_dir="unused", report_to="none", **values)


def test_words_that_are_read_as_unknown_can_be_copied(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = build(vocab_size=len(tiny_tokenizer), head_type="copying")
    _, calls = run(model, tiny_tokenizer, tmp_path, word_dropout=0.9)
    for call in calls:
        assert call["input_ids"].eq(3).any()
        assert call["copy_ids"].ne(3).all()
