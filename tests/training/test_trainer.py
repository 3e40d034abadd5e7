"""The trainer: results in the order of the examples and by token, whatever the batches, and honest counts."""

import copy
import itertools
import json
import logging
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from datasets import Dataset
from torch.nn import functional
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SForConditionalGeneration
from hf_rnn_s2s.errors import UsageError
from hf_rnn_s2s.model.cells_rnn_s2s import SequenceDropout
from hf_rnn_s2s.separators import SEPARATORS
from hf_rnn_s2s.training.arguments import RnnS2STrainingArguments
from hf_rnn_s2s.training.trainer import RnnS2STrainer

TEXTS = [
    ("a small dog", "ein kleiner Hund"),
    ("the big cat sleeps on a red mat", "die Katze schläft"),
    ("one", "die große Katze schläft auf einer roten Matte"),
    ("two three four five six seven", "Hund"),
    ("the dog runs", "Katze"),
    ("the big red dog runs fast on a mat", "ein Hund läuft"),
    ("cat", "eine Katze"),
]


@pytest.fixture
def dataset(tiny_tokenizer: PreTrainedTokenizerFast) -> Dataset:
    rows = []
    for source, target in TEXTS:
        encoded = tiny_tokenizer(source, text_target=target)
        rows.append(
            {"source": source, "target": target, "input_ids": encoded["input_ids"], "labels": encoded["labels"]}
        )
    return Dataset.from_list(rows)


def score(hypotheses: list[str], references: list[str]) -> dict[str, Any]:
    same = [hypothesis == reference for hypothesis, reference in zip(hypotheses, references, strict=True)]
    return {"exact_match": sum(same) / len(same), "exact_match_signature": "by hand"}


def make_trainer(
    model: RnnS2SForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    folder: Path,
    **arguments: Any,
) -> RnnS2STrainer:
    model.generation_config.update(max_length=12, num_beams=1)
    defaults = {
        "eval_strategy": "no",
        "load_best_model_at_end": False,
        "disable_tqdm": True,
        "sample_translations": 0,
        "bf16": False,
    }
    return RnnS2STrainer(
        model,
        RnnS2STrainingArguments(output_dir=str(folder), **{**defaults, **arguments}),
        score=score,
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        train_dataset=dataset,
        eval_dataset=dataset,
    )


def translate_one_by_one(
    model: RnnS2SForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, dataset: Dataset
) -> list[str]:
    texts = []
    for ids in dataset["input_ids"]:
        generated: Any = cast(Any, model).generate(torch.tensor([ids]), max_length=12, num_beams=1)
        texts += tokenizer.batch_decode(generated, skip_special_tokens=True)
    return texts


def loss_per_token(model: RnnS2SForConditionalGeneration, dataset: Dataset) -> float:
    total, tokens = 0.0, 0
    for row in dataset:
        labels = torch.tensor([row["labels"]])
        with torch.no_grad():
            logits = model.eval()(input_ids=torch.tensor([row["input_ids"]]), labels=labels).logits
        total += functional.cross_entropy(logits[0], labels[0], reduction="sum").item()
        tokens += labels.numel()
    return total / tokens


@pytest.mark.parametrize(("strategy", "batch_size"), [("group_by_length", 3), ("random", 3), ("random", 16)])
def test_predictions_stand_in_the_order_of_the_examples(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
    strategy: str,
    batch_size: int,
) -> None:
    expected = translate_one_by_one(tiny_model, tiny_tokenizer, dataset)
    assert len(set(expected)) > 3  # else an order would not show
    trainer = make_trainer(
        tiny_model,
        tiny_tokenizer,
        dataset,
        tmp_path,
        train_sampling_strategy=strategy,
        per_device_eval_batch_size=batch_size,
    )
    assert trainer.predict(dataset).predictions == expected


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_loss_is_a_mean_over_tokens(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
    batch_size: int,
) -> None:
    expected = loss_per_token(tiny_model, dataset)
    trainer = make_trainer(
        tiny_model,
        tiny_tokenizer,
        dataset,
        tmp_path,
        per_device_eval_batch_size=batch_size,
        label_smoothing_factor=0.3,
    )
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(expected, rel=1e-5)
    assert metrics["eval_perplexity"] == pytest.approx(torch.tensor(expected).exp().item(), rel=1e-4)
    assert "eval_token_loss" not in metrics


def test_texts_are_scored_against_the_texts_of_the_examples(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    translations = translate_one_by_one(tiny_model, tiny_tokenizer, dataset)
    targets = [*translations[:5], "something else", "nothing of the kind"]
    # The labels stay as they are, so a score against decoded labels would be 0.
    changed = dataset.remove_columns("target").add_column("target", targets)
    trainer = make_trainer(tiny_model, tiny_tokenizer, dataset, tmp_path, per_device_eval_batch_size=3)

    predicted = trainer.predict(changed, metric_key_prefix="predict").metrics or {}
    assert predicted["predict_exact_match"] == 5 / 7
    assert predicted["predict_exact_match_signature"] == "by hand"
    evaluated = trainer.evaluate(changed)
    assert evaluated["eval_exact_match"] == 5 / 7
    assert "eval_exact_match_signature" not in evaluated  # a training log takes numbers only


def test_several_evaluation_sets_have_scores_of_their_own(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    trainer = make_trainer(tiny_model, tiny_tokenizer, dataset, tmp_path)
    trainer.eval_dataset = {"short": dataset.select([2, 6]), "long": dataset.select([1, 5])}
    metrics = trainer.evaluate()
    for name, part in trainer.eval_dataset.items():
        assert metrics[f"eval_{name}_loss"] == pytest.approx(loss_per_token(tiny_model, part), rel=1e-5)


def test_sample_translations_are_shown(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    translations = translate_one_by_one(tiny_model, tiny_tokenizer, dataset)
    make_trainer(tiny_model, tiny_tokenizer, dataset, tmp_path, sample_translations=2).evaluate()
    shown = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert shown[:6] == [
        "source  a small dog",
        "reference  ein kleiner Hund",
        f"hypothesis  {SEPARATORS.sub(' ', translations[0])}".strip(),
        "source  two three four five six seven",
        "reference  Hund",
        f"hypothesis  {SEPARATORS.sub(' ', translations[3])}".strip(),
    ]


def test_target_tokens_are_counted_without_padding(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    trainer = make_trainer(
        tiny_model, tiny_tokenizer, dataset, tmp_path, num_train_epochs=2, per_device_train_batch_size=3
    )
    metrics = trainer.train().metrics
    assert metrics["target_tokens"] == 2 * sum(len(labels) for labels in dataset["labels"])
    assert metrics["target_tokens_per_second"] == metrics["target_tokens"] / metrics["train_runtime"]


def test_accumulated_batches_train_as_one_batch_does(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    """Targets of unequal length: a mean of the means of the small batches would be another step."""
    config = copy.deepcopy(tiny_model.config)
    config.dropout = config.embedding_dropout = 0.0
    weights = []
    for batch_size, accumulation in [(6, 1), (2, 3)]:
        model = RnnS2SForConditionalGeneration(config)
        model.load_state_dict(tiny_model.state_dict())
        trainer = make_trainer(
            model,
            tiny_tokenizer,
            dataset.select(range(6)),
            tmp_path,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            max_steps=1,
            optim="sgd",
            warmup_steps=0,
            learning_rate=0.5,
            max_grad_norm=0.0,
            train_sampling_strategy="sequential",
        )
        trainer.train()
        weights.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    before = torch.cat([parameter.flatten() for parameter in tiny_model.parameters()])
    assert (weights[0] - before).abs().max() > 1e-2
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("asked", "expected"), [(None, 0.2), (0.0, 0.0), (0.3, 0.3)])
def test_label_smoothing_factor_becomes_the_label_smoothing_of_the_model(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
    asked: float | None,
    expected: float,
) -> None:
    tiny_model.config.label_smoothing = 0.2  # of the checkpoint that training goes on from
    trainer = make_trainer(tiny_model, tiny_tokenizer, dataset, tmp_path, label_smoothing_factor=asked)
    assert tiny_model.config.label_smoothing == expected
    assert trainer.label_smoother is None
    assert trainer.args.label_smoothing_factor == asked  # for another trainer with the same arguments
    batch = {name: torch.tensor([dataset[1][name]]) for name in ("input_ids", "labels")}
    for module in tiny_model.modules():
        if isinstance(module, SequenceDropout):
            module.probability = 0.0
    loss = trainer.compute_loss(tiny_model.train(), batch)
    with torch.no_grad():
        logits = tiny_model(**batch).logits
    plain, smoothed = (
        functional.cross_entropy(logits[0], batch["labels"][0], label_smoothing=smoothing)
        for smoothing in (0.0, expected)
    )
    torch.testing.assert_close(loss, smoothed)
    assert trainer.evaluate(dataset.select([1]))["eval_loss"] == pytest.approx(plain.item(), rel=1e-5)


def test_evaluation_leaves_the_generation_settings_as_they_were(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    trainer = make_trainer(tiny_model, tiny_tokenizer, dataset, tmp_path)
    settings = tiny_model.generation_config
    before = settings.to_dict()
    trainer.evaluate()
    trainer.predict(dataset)
    assert tiny_model.generation_config is settings
    assert settings.to_dict() == before
    trainer.save_model()
    saved = json.loads((tmp_path / "generation_config.json").read_text())
    assert saved["max_length"] == 12
    assert not {"temperature", "top_k", "min_length", "length_penalty", "early_stopping"} & set(saved)


def test_training_asks_for_no_logits_but_a_loss_function_gets_them(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    def run(**arguments: Any) -> list[bool]:
        model, seen = copy.deepcopy(tiny_model), []
        model.register_forward_hook(lambda module, inputs, output: seen.append(output.logits is not None))
        trainer = make_trainer(model, tiny_tokenizer, dataset, tmp_path, max_steps=1)
        trainer.compute_loss_func = arguments.get("compute_loss_func")
        trainer.data_collator = DataCollatorForSeq2Seq(
            tiny_tokenizer, model=model
        )  # it then also makes inputs of labels
        trainer.train()
        return seen

    def of_logits(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(outputs.logits.flatten(0, 1), labels.flatten())

    assert run() == [False]
    assert run(compute_loss_func=of_logits) == [True]


@pytest.mark.parametrize(
    ("name", "value"), [("predict_with_generate", False), ("prediction_loss_only", True), ("batch_eval_metrics", True)]
)
def test_arguments_without_complete_translations_are_refused(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
    name: str,
    value: bool,
) -> None:
    with pytest.raises(ValueError, match=f"{name}={value}: .* leave it at {not value}"):
        make_trainer(tiny_model, tiny_tokenizer, dataset, tmp_path, **{name: value})


def test_the_best_model_is_kept_and_loads_without_a_warning(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trainer = make_trainer(
        tiny_model,
        tiny_tokenizer,
        dataset,
        tmp_path,
        num_train_epochs=3,
        learning_rate=50.0,  # so that it gets worse and worse
        eval_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="loss",
    )
    transformers_logger = logging.getLogger("transformers")
    transformers_logger.addHandler(caplog.handler)
    try:
        trainer.train()
    finally:
        transformers_logger.removeHandler(caplog.handler)
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert len(losses) == 3
    assert trainer.evaluate()["eval_loss"] == pytest.approx(min(losses), rel=1e-5)
    assert max(losses) > min(losses) * 1.01
    assert not [record.getMessage() for record in caplog.records if "missing keys" in record.getMessage()]


def test_a_card_in_the_output_folder_is_kept(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    trainer = make_trainer(tiny_model, tiny_tokenizer, dataset, tmp_path, max_steps=1)
    trainer.train()
    trainer.create_model_card()
    assert "generated_from_trainer" in (tmp_path / "README.md").read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text("our own", encoding="utf-8")
    trainer.create_model_card()
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == "our own"


@pytest.mark.parametrize("strategy", ["group_by_length", "sequential"])
def test_batches_of_like_length_come_in_random_order(
    strategy: str, tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    lengths = [1 + row % 20 for row in range(200)]
    rows = [{"source": "", "target": "", "input_ids": [5, 2], "labels": [5] * length} for length in lengths]
    trainer = make_trainer(
        tiny_model,
        tiny_tokenizer,
        Dataset.from_list(rows),
        tmp_path,
        train_sampling_strategy=strategy,
        per_device_train_batch_size=4,
    )
    labels = [batch["labels"].ne(-100).sum(1) for batch in trainer.get_train_dataloader()]
    spread = [int(one.max() - one.min()) for one in labels]
    longest = [int(one.max()) for one in labels]
    if strategy == "sequential":
        assert set(spread) == {3}
        return
    assert sum(spread) / len(spread) < 3  # rows drawn at random spread over 12 on average
    assert sum(after > before for before, after in itertools.pairwise(longest)) > 10


def test_a_run_resumed_within_an_epoch_goes_on_with_the_batches_that_are_left(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    batches: list[list[int]] = []
    collate = DataCollatorForSeq2Seq(tiny_tokenizer)

    def noted(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batches.append([len(row["labels"]) * 100 + len(row["input_ids"]) for row in rows])
        return collate(rows)

    def train(**arguments: Any) -> list[list[int]]:
        batches.clear()
        trainer = make_trainer(
            tiny_model,
            tiny_tokenizer,
            dataset,
            tmp_path,
            per_device_train_batch_size=1,
            num_train_epochs=3,
            save_strategy="steps",
            save_steps=10,
            save_total_limit=9,
        )
        trainer.data_collator = noted
        trainer.train(**arguments)
        return list(batches)

    whole = train()
    assert len(whole) == 3 * len(TEXTS)
    epochs = [whole[start : start + len(TEXTS)] for start in range(0, len(whole), len(TEXTS))]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2]
    resumed = train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))  # in the second epoch of 7 steps
    assert resumed[-11:] == whole[10:]

    for checkpoint in tmp_path.glob("checkpoint-*"):
        if checkpoint.name != "checkpoint-10":
            (checkpoint / "optimizer.pt").unlink()
    assert train(resume_from_checkpoint=True)[-11:] == whole[10:]  # from the last one that is whole
    (tmp_path / "checkpoint-10" / "optimizer.pt").unlink()
    with pytest.raises(UsageError, match="checkpoint-10 is not a whole checkpoint: it has no optimizer.pt"):
        train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))
