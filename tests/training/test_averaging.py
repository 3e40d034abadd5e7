"""Averages of weights: the moving one's formula, where it stands when, resuming; and that of the last checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from hf_rnn_s2s.errors import UsageError
from hf_rnn_s2s.training.arguments import RnnS2STrainingArguments
from hf_rnn_s2s.training.averaging import LAST_WEIGHTS, WeightAveraging, average_checkpoints, last_checkpoints

from ..random_models import build

DATA = Dataset.from_dict({"x": [[1.0, 2.0], [0.5, -1.0], [3.0, 1.0], [-2.0, 0.5]], "y": [[1.0], [2.0], [-1.0], [0.0]]})


class Regression(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, 1)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        predicted = self.layer(x)
        return {"loss": (predicted - y).pow(2).mean(), "logits": predicted}


class Recorder(TrainerCallback):
    """The weights after each optimizer step, and those that were evaluated. Stands before the averaging callback."""

    def __init__(self) -> None:
        self.trained: list[torch.Tensor] = []
        self.evaluated: dict[int, torch.Tensor] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.trained.append(model.layer.weight.detach().clone())

    def on_evaluate(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.evaluated[state.global_step] = model.layer.weight.detach().clone()


def train(
    folder: Path, strategy: str = "epoch", decay: float | None = 0.8, resume: str | None = None, **arguments: Any
) -> tuple[Regression, Recorder]:
    model, recorder = Regression(), Recorder()
    averaging = [] if decay is None else [WeightAveraging(decay, resume)]
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=1,
            num_train_epochs=3,
            learning_rate=0.1,
            eval_strategy=strategy,
            save_strategy=strategy,
            eval_steps=3,
            save_steps=3,
            use_cpu=True,
            disable_tqdm=True,
            label_names=["y"],
            **arguments,
        ),
        train_dataset=DATA,
        eval_dataset=DATA,
        callbacks=[recorder, *averaging],
    )
    trainer.train(resume_from_checkpoint=resume)
    return model, recorder


def averages(weights: list[torch.Tensor], decay: float) -> list[torch.Tensor]:
    average, result = Regression().layer.weight.detach().clone(), []
    for number, weight in enumerate(weights, start=1):
        keep = min(decay, number / (9 + number))
        average = keep * average + (1 - keep) * weight
        result.append(average)
    return result


@pytest.mark.parametrize(("strategy", "steps"), [("epoch", [4, 8, 12]), ("steps", [3, 6, 9, 12])])
def test_the_average_is_evaluated_and_saved(tmp_path: Path, strategy: str, steps: list[int]) -> None:
    model, recorder = train(tmp_path, strategy)
    expected = averages(recorder.trained, 0.8)
    assert list(recorder.evaluated) == steps
    for step in steps:
        checkpoint = tmp_path / f"checkpoint-{step}"
        torch.testing.assert_close(recorder.evaluated[step], expected[step - 1])
        torch.testing.assert_close(load_file(checkpoint / "model.safetensors")["layer.weight"], expected[step - 1])
        torch.testing.assert_close(load_file(checkpoint / LAST_WEIGHTS)["layer.weight"], recorder.trained[step - 1])
    torch.testing.assert_close(model.layer.weight.detach(), expected[-1])
    assert not torch.allclose(expected[-1], recorder.trained[-1])


def test_training_itself_does_not_change(tmp_path: Path) -> None:
    _, averaged = train(tmp_path / "a")
    _, plain = train(tmp_path / "b", decay=None)
    torch.testing.assert_close(averaged.trained, plain.trained, rtol=0, atol=0)


def test_a_resumed_run_goes_on_exactly(tmp_path: Path) -> None:
    once, whole = train(tmp_path)
    again, rest = train(tmp_path, resume=str(tmp_path / "checkpoint-4"))
    torch.testing.assert_close(rest.trained, whole.trained[4:], rtol=0, atol=0)
    torch.testing.assert_close(again.layer.weight, once.layer.weight, rtol=0, atol=0)


def test_the_best_average_is_the_final_model(tmp_path: Path) -> None:
    model, recorder = train(
        tmp_path, load_best_model_at_end=True, metric_for_best_model="loss", greater_is_better=True
    )
    assert any(torch.equal(model.layer.weight, weight) for weight in recorder.evaluated.values())
    assert not torch.equal(model.layer.weight, recorder.evaluated[12])  # the largest loss came earlier


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5])
def test_a_wrong_decay_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="ema_decay="):
        WeightAveraging(decay)


def test_the_mean_of_the_last_checkpoints(tmp_path: Path) -> None:
    """By number and not by name; what is no whole checkpoint does not count; tied weights stay tied."""
    models = [build(seed) for seed in range(4)]
    for model, step in zip(models, (900, 1000, 90, 1100), strict=True):
        model.save_pretrained(tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-1200").mkdir()
    chosen = last_checkpoints(tmp_path, 3)
    assert [one.name for one in chosen] == ["checkpoint-900", "checkpoint-1000", "checkpoint-1100"]
    averaged = build(9)
    average_checkpoints(averaged, chosen)
    parameters = [dict(models[number].named_parameters()) for number in (0, 1, 3)]
    for name, one in averaged.named_parameters():
        torch.testing.assert_close(one, sum(each[name] for each in parameters) / 3, rtol=0, atol=1e-6)
    assert averaged.lm_head.weight is averaged.model.decoder.embed_tokens.weight
    assert len(last_checkpoints(tmp_path, 9)) == 4
    with pytest.raises(ValueError, match="average_checkpoints: the run has left no checkpoint"):
        average_checkpoints(averaged, last_checkpoints(tmp_path / "none", 3))


def test_averaging_that_cannot_be_is_refused() -> None:
    for values, message in (
        ({"average_checkpoints": 1}, "average_checkpoints=1 must be at least 2"),
        ({"average_checkpoints": 3}, "average_checkpoints=3 needs save_total_limit=4 or more; it is 2"),
        ({"average_checkpoints": 3, "ema_decay": 0.99}, "two ways to average weights; choose one"),
        (
            {"average_checkpoints": 2, "save_strategy": "no", "load_best_model_at_end": False},
            "average_checkpoints needs checkpoints",
        ),
    ):
        with pytest.raises(UsageError, match=message):
            RnnS2STrainingArguments(output_dir="unused", report_to="none", **values)
