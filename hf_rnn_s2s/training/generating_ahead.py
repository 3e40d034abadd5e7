"""Evaluations whose translations other processes write, while this one computes the losses."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Seq2SeqTrainer
from transformers.trainer_utils import EvalLoopOutput

from ..decoding.guard import is_mixed_precision
from ..decoding.out_of_memory import naming_the_batch
from ..errors import RunError, as_usage_error

if TYPE_CHECKING:
    from ..decoding.workers import Workers

# What a batch has for the loss, and not for a search
OF_TARGETS = ("labels", "decoder_input_ids", "decoder_attention_mask")
LOWER = "lower per_device_eval_batch_size, or the beams (generation_num_beams, num_beams)"


class GeneratingAhead(Seq2SeqTrainer):
    """A `Seq2SeqTrainer` that lets `args.eval_processes` processes write the translations of an evaluation.

    They do what this process would do alone, batch by batch, and write ahead of it: what `prediction_step` gets from
    `generate()` is there already. Where anything is drawn at random, they draw other numbers.
    """

    args: Any
    _gen_kwargs: dict[str, Any]
    _workers: Workers | None = None
    _ahead: _Ahead | None = None  # of the evaluation that is going on

    def evaluation_loop(self, dataloader: Any, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Evaluate as in `Seq2SeqTrainer`.

        Raises:
            UsageError: if something cannot be sent to other processes.
            RunError: if one of them ends, and another one again.
        """
        if self.args.eval_processes == 1 or not self.args.predict_with_generate:
            return super().evaluation_loop(dataloader, *args, **kwargs)
        if self._workers is None:
            from ..decoding.workers import Workers

            self._workers = Workers(self.args.eval_processes)
        self._ahead = _Ahead(self._workers, self, dataloader)
        try:
            return super().evaluation_loop(self._ahead, *args, **kwargs)  # type: ignore[arg-type]
        finally:
            self._ahead.close()
            self._ahead = None

    def prediction_step(self, model: Any, inputs: Any, prediction_loss_only: bool, *args: Any, **kwargs: Any) -> Any:
        """Predict as in `Seq2SeqTrainer`, with a translation that is written already."""
        if self._ahead is None:
            return super().prediction_step(model, inputs, prediction_loss_only, *args, **kwargs)
        own, sequences = self.model, self._ahead.sequences
        writes_that: Any = copy.copy(own)
        writes_that.generate = lambda **arguments: sequences
        self.model = writes_that
        try:
            return super().prediction_step(model, inputs, prediction_loss_only, *args, **kwargs)
        finally:
            self.model = own


class _Ahead:
    """The batches of an evaluation, each when its translation is there.

    Args:
        workers: which write.
        trainer: that evaluates.
        batches: of the evaluation, as the Trainer loads them.

    Attributes:
        sequences: the translation of the last batch, `(batch, target)`.
    """

    def __init__(self, workers: Workers, trainer: GeneratingAhead, batches: Any) -> None:
        self._workers, self._trainer, self._batches = workers, trainer, batches
        self._results: Iterator[Tensor] | None = None
        self.sequences: Tensor | None = None

    def __iter__(self) -> Iterator[Any]:
        from ..decoding.workers import WorkerDied

        waiting: deque[Any] = deque()

        def jobs() -> Iterator[tuple[dict[str, Any], int]]:
            for batch in self._batches:
                waiting.append(batch)
                inputs = {name: value for name, value in batch.items() if name not in OF_TARGETS}
                yield inputs, int(torch.randint(2**62, ())) if draws else 0

        # Those that are None are left out by Seq2SeqTrainer, too.
        settings = {name: value for name, value in self._trainer._gen_kwargs.items() if value is not None}
        draws = settings.get("do_sample", self._trainer.model.generation_config.do_sample)  # type: ignore[union-attr]
        with as_usage_error():
            shared = self._workers.share((_model_to_send(self._trainer.model), settings))
        self._results = self._workers.run(_generate, shared, jobs())
        try:
            for sequences in self._results:
                self.sequences = sequences
                yield waiting.popleft()
        except WorkerDied as error:
            raise RunError(
                "A process of the evaluation ended, and another one again. If the system ended them for want of "
                f"memory, lower eval_processes, or {LOWER.removeprefix('lower ')}. If none could start at all, put "
                'what your script does under `if __name__ == "__main__":`, since each of them reads the script.'
            ) from error

    def close(self) -> None:
        """Let the processes write no more, where the evaluation has come to an early end."""
        if self._results is not None:
            self._results.close()  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self._batches)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)


def _model_to_send(model: Any) -> Any:
    """The model without what accelerate puts around it in mixed precision, which can be sent nowhere."""
    if "forward" not in vars(model) or not is_mixed_precision(model):
        return model
    other = copy.copy(model)
    for name in ("forward", "_original_forward"):
        vars(other).pop(name)
    return other


def _generate(shared: Any, job: tuple[dict[str, Any], int]) -> Tensor:
    """The translation of a batch, in a process of the pool; the seed beside it is that of what is drawn."""
    (model, settings), (inputs, seed) = shared, job
    torch.manual_seed(seed)
    with naming_the_batch(describe_batch(inputs), f"{LOWER}, or eval_processes"), torch.no_grad():
        return model.generate(**inputs, **settings)


def describe_batch(inputs: dict[str, Any]) -> str:
    """Describe a batch in an error."""
    rows, source = inputs["input_ids" if "input_ids" in inputs else "input_features"].shape[:2]
    target = f" and {inputs['labels'].shape[1]} target" if "labels" in inputs else ""
    unit = "source" if "input_ids" in inputs else "source frames"
    return f"a batch of {rows} pairs with {source} {unit}{target} tokens each, padding included"
