"""What `Seq2SeqTrainer` lacks for translation: scores of texts, in the order of the examples, whatever the batches."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from tqdm.auto import tqdm
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase, Seq2SeqTrainer
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput, TrainOutput
from transformers.utils import logging

from .arguments import RnnS2STrainingArguments
from .reports import translations_table
from .sampling import ShuffledLengthGroups

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
    - Batches of like length come in random order, see `ShuffledLengthGroups`.
    - It counts the target tokens it trains on, without padding.
    - Label smoothing happens in the model (`config.label_smoothing`), so that evaluation losses are not smoothed.
    - It shows some translations at each evaluation.
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
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
            # Not set_epoch(): what transformers and accelerate wrap around the sampler does not always pass it on.
            epoch=lambda: int(self.state.epoch or 0),
        )

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
