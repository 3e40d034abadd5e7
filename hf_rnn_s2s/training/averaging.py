"""Averages of weights: a moving one, evaluated and saved in their place, and that of a run's last checkpoints."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_NAME

from .arguments import RnnS2STrainingArguments

LAST_WEIGHTS = "last_weights.safetensors"  # in a checkpoint, beside the averaged model.safetensors


class WeightAveraging(TrainerCallback):
    """Keeps an exponential moving average of the weights: `average = d · average + (1 - d) · weights`.

    It is updated after every optimizer step (Polyak & Juditsky 1992 average uniformly; the exponential form forgets
    the beginning of training). Step n uses `d = min(decay, n / (9 + n))`, so that the first steps count less and less.

    The model holds the average whenever it is evaluated or saved and when training ends, and the weights themselves
    while it trains. A checkpoint also holds the latter, so that a resumed run continues exactly.

    Args:
        decay: above 0, below 1; 0.999 remembers about the last 1,000 steps.
        resume_from_checkpoint: the checkpoint that the run resumes from. If it was made without averaging, the average
            starts from its weights.

    Raises:
        ValueError: for a decay outside its range.
    """

    def __init__(self, decay: float, resume_from_checkpoint: str | None = None) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"ema_decay={decay} must lie between 0 and 1, e.g. 0.999.")
        self.decay = decay
        self.checkpoint = resume_from_checkpoint
        # What the model does not hold: the average while it trains, the last weights while it is evaluated.
        self.stored: dict[str, Tensor] = {}
        self.model_is_averaged = False
        self._saved_into: Path | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Start the average from the model's weights; load the last weights of the checkpoint into the model."""
        self.stored = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        self.model_is_averaged = False
        last_weights = None if self.checkpoint is None else Path(self.checkpoint, LAST_WEIGHTS)
        if last_weights is not None and last_weights.is_file():
            with torch.no_grad():
                for name, weight in load_file(last_weights).items():
                    model.get_parameter(name).copy_(weight)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Put the weights themselves back into the model."""
        if self.model_is_averaged:
            self._swap(model)

    @torch.no_grad()
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Update the average, and put it into the model if an evaluation, a checkpoint or the end is due."""
        decay = min(self.decay, state.global_step / (9 + state.global_step))
        for name, weight in model.named_parameters():
            self.stored[name].lerp_(weight, 1 - decay)
        self._average_if_needed(control, model)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Put the average into the model if an evaluation, a checkpoint or the end is due."""
        self._average_if_needed(control, model)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add the last weights to the checkpoint, unless `save` has done so already."""
        # RnnS2STrainer has called save() earlier, before the checkpoint was marked as complete.
        folder = Path(str(args.output_dir), f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}")
        if state.is_world_process_zero and folder.is_dir() and folder != self._saved_into:
            self.save(folder)
        self._saved_into = None

    def save(self, checkpoint: Path) -> None:
        """Write the last weights into a checkpoint, whose model holds only the average."""
        save_file(self.stored, checkpoint / LAST_WEIGHTS)
        self._saved_into = checkpoint

    def _average_if_needed(self, control: TrainerControl, model: nn.Module) -> None:
        """Put the average into the model if needed. The Trainer's own callback comes first and has set what is due."""
        due = control.should_evaluate or control.should_save or control.should_training_stop
        if due and not self.model_is_averaged:
            self._swap(model)

    @torch.no_grad()
    def _swap(self, model: nn.Module) -> None:
        for name, weight in model.named_parameters():
            outside = self.stored[name].clone()
            self.stored[name].copy_(weight)
            weight.copy_(outside)
        self.model_is_averaged = not self.model_is_averaged


def last_checkpoints(folder: Path, count: int) -> list[Path]:
    """The last `count` checkpoints of a run in their order, or all if there are fewer."""
    found = folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    whole = [one for one in found if (one / SAFE_WEIGHTS_NAME).is_file() and one.name.rpartition("-")[2].isdigit()]
    return sorted(whole, key=lambda one: int(one.name.rpartition("-")[2]))[-count:]


@torch.no_grad()
def average_checkpoints(model: nn.Module, checkpoints: list[Path]) -> None:
    """Put the mean of the weights of some checkpoints into a model (as Sennrich et al. 2016 do, among others).

    Raises:
        ValueError: if there are none.
    """
    if not checkpoints:
        raise ValueError("average_checkpoints: the run has left no checkpoint; set save_strategy to epoch or steps.")
    sums: dict[str, Tensor] = {}
    for checkpoint in checkpoints:
        for name, weight in load_file(checkpoint / SAFE_WEIGHTS_NAME).items():
            precise = weight.double()
            sums[name] = sums[name] + precise if name in sums else precise
    for name, total in sums.items():
        model.get_parameter(name).copy_(total / len(checkpoints))


def chosen_callbacks(arguments: RnnS2STrainingArguments, checkpoint: str | None) -> list[TrainerCallback]:
    """The callbacks for early stopping and weight averaging, if the arguments ask for them."""
    chosen: list[TrainerCallback] = []
    if arguments.early_stopping_patience is not None:
        chosen.append(EarlyStoppingCallback(arguments.early_stopping_patience))
    if arguments.ema_decay is not None:
        chosen.append(WeightAveraging(arguments.ema_decay, checkpoint))
    return chosen
