"""What `Seq2SeqTrainer` lacks for translation: scores of texts, in the order of the examples, whatever the batches."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase, Seq2SeqTrainer
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput, TrainOutput
from transformers.utils import logging

from .arguments import RnnS2STrainingArguments
from .machine import clip_gradients, keep_freed_memory
from .out_of_memory_rnn_s2s import naming_the_batch
from .reports import translations_table
from .sampling import ShuffledLengthGroups, TokenBudgetBatches

logger = logging.get_logger(__name__)

Score = Callable[[list[str], list[str]], dict[str, Any] | None]


class RnnS2STrainer(Seq2SeqTrainer):
    """
    `Seq2SeqTrainer` with these differences:

    - It scores the generated text against the text of the examples. The Trainer scores token ids, and a reference that
      was cut to a maximum length would flatter the model.
    - Evaluation runs from the longest source to the shortest, which saves padding, and its results come back in the
      order of the examples, each once. With length grouping the Trainer returns them shuffled; with several processes
      it returns some twice, from the last batch that was filled up.
    - `eval_loss` and `predict_loss` are means over target tokens; the Trainer's is a mean over batches, which changes
      with the batch size. (With several processes the examples that fill up the last batch count in its own mean.)
    - Batches of like length come in random order, see `ShuffledLengthGroups`. With `per_device_train_batch_tokens`
      they have as many tokens as that, see `TokenBudgetBatches`.
    - It counts the target tokens it trains on, without padding.
    - Label smoothing happens in the model (`config.label_smoothing`), so that evaluation losses are not smoothed.
    - It shows some translations at each evaluation.
    - On a CPU it keeps the memory that a step frees for the next one, and multiplies no gradients by 1.
    - Where memory is not enough, the error names the batch and what to lower.
    - It keeps the `README.md` that is already in the output folder, and pushes a checkpoint together with its code.

    Args:
        model: the model to train.
        args: see `RnnS2STrainingArguments`.
        score: maps hypotheses and references, two lists of texts, to a dictionary of metrics. Values that are texts,
            such as signatures, are in the metrics of `predict()` only, because training logs take numbers.
        processing_class: the tokenizer.
        eval_dataset: like the dataset of `predict()`, it has the columns `input_ids` and `labels`, and the texts
            `source` and `target`.
        other: everything else goes to `Seq2SeqTrainer`.

    Raises:
        ValueError: for a training argument with which there would be no complete translations to score.
    """

    model: PreTrainedModel
    args: RnnS2STrainingArguments
    processing_class: PreTrainedTokenizerBase

    def __init__(
        self,
        model: PreTrainedModel,
        args: RnnS2STrainingArguments,
        *,
        score: Score,
        processing_class: PreTrainedTokenizerBase,
        **other: Any,
    ) -> None:
        _require_complete_predictions(args)
        if args.label_smoothing_factor:
            logger.info("label_smoothing_factor is applied by the model, as config.label_smoothing.")
            model.config.label_smoothing, args.label_smoothing_factor = args.label_smoothing_factor, 0.0
        accelerator_config: Any = args.accelerator_config  # by now an object
        streams = (IterableDataset, torch.utils.data.IterableDataset)
        if isinstance(other.get("train_dataset"), streams) and accelerator_config.dispatch_batches is None:
            # Otherwise the first process would read for all, and could not join batches of different lengths.
            accelerator_config.dispatch_batches = False
        args.include_for_metrics = [*args.include_for_metrics, "loss"]
        super().__init__(model=model, args=args, processing_class=processing_class, **other)
        self.score = score
        self._target_tokens = torch.zeros((), dtype=torch.long)

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Trains as `Trainer.train` does. The metrics it returns also have `target_tokens` and
        `target_tokens_per_second`: target tokens trained on in this call, without padding, over all processes, and
        their number by `train_runtime`, which includes the evaluations."""
        self._target_tokens = torch.zeros((), dtype=torch.long, device=self.args.device)
        if self.args.device.type == "cpu":
            keep_freed_memory()
        output = super().train(*args, **kwargs)
        tokens = int(self.accelerator.reduce(self._target_tokens, reduction="sum"))
        output.metrics["target_tokens"] = tokens
        output.metrics["target_tokens_per_second"] = tokens / output.metrics["train_runtime"]
        return output

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list, torch.Tensor | int | None]:
        """The batches of one optimizer step, as in `Trainer`; counts their target tokens on the way."""
        batches, num_items_in_batch = super().get_batch_samples(*args, **kwargs)
        for batch in batches:
            self._target_tokens += batch["labels"].ne(-100).sum().to(self._target_tokens.device)
        return batches, num_items_in_batch

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """As in `Trainer`, with an error that says what there was no memory for."""
        lower = "tokens" if self.args.per_device_train_batch_tokens else "size"
        with naming_the_batch(
            _description(inputs),
            f"lower per_device_train_batch_{lower} (and raise gradient_accumulation_steps), or max_source_length and "
            "max_target_length",
        ):
            return super().training_step(model, inputs, *args, **kwargs)

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As in `Seq2SeqTrainer`, likewise."""
        with naming_the_batch(
            _description(inputs), "lower per_device_eval_batch_size, or the beams (generation_num_beams, num_beams)"
        ):
            return super().prediction_step(model, inputs, *args, **kwargs)

    def get_train_dataloader(self) -> DataLoader:
        """As in `Trainer`, or in batches of so many tokens."""
        budget = self.args.per_device_train_batch_tokens
        if budget is None:
            return super().get_train_dataloader()
        if not isinstance(self.train_dataset, Dataset):
            raise ValueError(
                "per_device_train_batch_tokens goes by the lengths of all examples and reads them from the columns of "
                f"a datasets.Dataset, but train_dataset is of the type {type(self.train_dataset).__name__}: set "
                "per_device_train_batch_size instead."
            )
        batches = TokenBudgetBatches(
            _lengths(self.train_dataset, "input_ids"),
            _lengths(self.train_dataset, "labels"),
            budget,
            seed=self._data_seed,
            epoch=self._epoch,
            processes=self.args.world_size,
        )
        loader = DataLoader(
            self._remove_unused_columns(self.train_dataset, description="Training"),
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
        )
        # There is a batch for every process at every step, of more rows or fewer; nothing is to be made even.
        even_batches, self.accelerator.even_batches = self.accelerator.even_batches, False
        try:
            return self.accelerator.prepare(loader)
        finally:
            self.accelerator.even_batches = even_batches

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As in `Seq2SeqTrainer`; `eval_dataset` has the columns that the class asks for."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, str):
            dataset = cast("dict[str, Dataset]", self.eval_dataset)[dataset]
        if not isinstance(dataset, dict):  # Trainer comes back here for each one of a dictionary
            self.compute_metrics = functools.partial(self._evaluation_metrics, dataset)
        return super().evaluate(eval_dataset, *args, **kwargs)

    def predict(self, test_dataset: Dataset, *args: Any, **kwargs: Any) -> PredictionOutput:
        """As in `Seq2SeqTrainer`, with `predictions` a list of texts in the order of the examples."""
        hypotheses: list[str] = []

        def metrics(outcome: EvalPrediction) -> dict[str, Any]:
            hypotheses.extend(self._hypotheses(test_dataset, outcome))
            return self._metrics(test_dataset, outcome, hypotheses)

        self.compute_metrics = metrics
        output = super().predict(test_dataset, *args, **kwargs)
        return PredictionOutput(cast(Any, hypotheses), output.label_ids, output.metrics)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """As in `Trainer`, with the loss by token in the place of the loss by batch."""
        output = super().evaluation_loop(*args, **kwargs)
        metrics = output.metrics or {}
        for name in [name for name in metrics if name.endswith("_token_loss")]:
            metrics[f"{name.removesuffix('_token_loss')}_loss"] = metrics.pop(name)
        return output

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Drafts a card as `Trainer` does, unless the output folder already has one."""
        if not Path(str(self.args.output_dir), "README.md").exists():
            super().create_model_card(*args, **kwargs)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        # Trainer copies the weights and the configuration into the folder it uploads, but not the code they name.
        if self.is_world_process_zero():
            self.model.config.save_pretrained(str(self.args.output_dir))
        super()._push_from_checkpoint(checkpoint_folder)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # A tied tensor is saved once, under one of its names; Trainer would report the others as missing.
        missing = [name for name in load_result.missing_keys if name not in self.model.all_tied_weights_keys]
        super()._issue_warnings_after_load(load_result._replace(missing_keys=missing))

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Any:
        sampler = super()._get_train_sampler(train_dataset)
        if not isinstance(sampler, LengthGroupedSampler):
            return sampler
        dataset = cast(Dataset, self.train_dataset if train_dataset is None else train_dataset)
        return ShuffledLengthGroups(
            _lengths(dataset, "input_ids"),
            _lengths(dataset, "labels"),
            self.args.train_batch_size,
            seed=self._data_seed,
            epoch=self._epoch,
        )

    @property
    def _data_seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def _epoch(self) -> int:
        # Not set_epoch(): what transformers and accelerate wrap around a sampler does not always pass it on.
        return int(self.state.epoch or 0)

    def _clip_grad_norm(self, model: Any) -> Any:
        if self.args.device.type != "cpu":
            return super()._clip_grad_norm(model)
        return clip_gradients(model, self.args.max_grad_norm)

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Any:
        return _longest_first(eval_dataset)  # to a DataLoader, a list of rows is a sampler

    def _evaluation_metrics(self, dataset: Dataset, outcome: EvalPrediction) -> dict[str, Any]:
        hypotheses = self._hypotheses(dataset, outcome)
        if self.is_world_process_zero() and self.args.sample_translations:
            step = max(1, len(dataset) // self.args.sample_translations)
            rows = range(0, len(dataset), step)[: self.args.sample_translations]
            samples = [(dataset[row]["source"], dataset[row]["target"], hypotheses[row]) for row in rows]
            tqdm.write(translations_table(samples))
        metrics = self._metrics(dataset, outcome, hypotheses)
        return {name: value for name, value in metrics.items() if not isinstance(value, str)}

    def _hypotheses(self, dataset: Dataset, outcome: EvalPrediction) -> list[str]:
        """The generated texts, in the order of the dataset, without what fills up the last batch."""
        generated = np.where(outcome.predictions == -100, self.processing_class.pad_token_id, outcome.predictions)
        in_order = generated[: len(dataset)][np.argsort(_longest_first(dataset))]
        return self.processing_class.batch_decode(
            in_order, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def _metrics(self, dataset: Dataset, outcome: EvalPrediction, hypotheses: list[str]) -> dict[str, Any]:
        # The loss stands once for every example: the mean of its batch. Weighted by the tokens of each example, those
        # add up to the mean over all tokens.
        weights = np.array([len(labels) for labels in dataset["labels"]])[_longest_first(dataset)]
        token_loss = float(np.average(np.asarray(outcome.losses)[: len(dataset)], weights=weights))
        perplexity = math.exp(token_loss) if token_loss < 700 else math.inf  # a float ends near exp(709)
        scores = self.score(hypotheses, list(dataset["target"])) or {}
        return {**scores, "token_loss": token_loss, "perplexity": perplexity}


def _description(inputs: dict[str, Any]) -> str:
    """Of a batch, for an error."""
    rows, source = inputs["input_ids"].shape
    target = inputs["labels"].shape[1] if "labels" in inputs else 0
    return f"a batch of {rows} pairs with {source} source and {target} target tokens each, padding included"


def _lengths(dataset: Dataset, column: str) -> list[int]:
    return [len(ids) for ids in dataset[column]]


def _longest_first(dataset: Dataset) -> list[int]:
    return np.argsort(-np.array(_lengths(dataset, "input_ids")), kind="stable").tolist()


def _require_complete_predictions(args: RnnS2STrainingArguments) -> None:
    needed = {
        "predict_with_generate": True,
        "prediction_loss_only": False,
        "eval_do_concat_batches": True,
        "batch_eval_metrics": False,
        "dataloader_drop_last": False,
        "remove_unused_columns": True,
    }
    for name, value in needed.items():
        if getattr(args, name) is not value:
            raise ValueError(
                f"{name}={getattr(args, name)}: this trainer scores complete translations; leave it at {value}. To "
                "save time, evaluate less often (eval_strategy, eval_steps) or on fewer examples."
            )


__all__ = ["RnnS2STrainer"]
