"""A `Seq2SeqTrainer` that scores texts, in the order of the examples, and trains on streams."""

import copy
import functools
import json
import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from huggingface_hub import ModelCard
from huggingface_hub.errors import EntryNotFoundError
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput, PredictionOutput, TrainOutput
from transformers.utils import CONFIG_NAME, logging

from ..data.bpe_dropout import UNITS, BpeDropoutCollator
from ..data.sampling import ShuffledLengthGroups, TokenBudgetBatches
from ..data.streaming import StreamLoader, StreamPasses
from ..decoding.out_of_memory import naming_the_batch
from ..decoding.sharing import CARD, DRAFT
from ..errors import UsageError
from ..machine import clip_gradients, keep_freed_memory
from ..model.pipeline_rnn_s2s import LENGTH_LIMITS
from ..model.remote_code_rnn_s2s import model_to_share
from ..model.tokenization_rnn_s2s import RnnS2SWordTokenizer
from .arguments import RnnS2STrainingArguments, incomplete_translations, wrong_processes
from .attention_metrics import EntropyMeter
from .averaging import WeightAveraging
from .checkpoints import (
    STREAM_STATE,
    begin_writing,
    choose_checkpoint,
    list_files,
    require_whole,
)
from .finite import not_finite, require_finite_weights
from .generating_ahead import LOWER, GeneratingAhead, describe_batch
from .loaders import lengths_of, load_stream, longest_first, require_segmentation, source_lengths
from .noise import divergence, noisy_inputs
from .reports import results_table
from .run_folder import naming_a_full_disk
from .tasks.base import Score

logger = logging.get_logger(__name__)

# What generate() writes at most where nobody says how much, the start token included
LENGTH_OF_GENERATE = 20
# Sentences of unfinished model cards, which transformers writes in push_to_hub of a model and in the Trainer
DRAFTS = (DRAFT, "This model card has been generated automatically according to the information the Trainer had")


class RnnS2STrainer(GeneratingAhead):
    """A `Seq2SeqTrainer` for models that write text.

    It differs from `Seq2SeqTrainer` in these ways:

    - It scores the generated text against the text of the examples. The Trainer scores token ids, and a reference that
      was cut to a maximum length would flatter the model.
    - Evaluation runs from the longest source to the shortest, which saves padding, and its results come back in the
      order of the examples, each once. With length grouping the Trainer returns them shuffled; with several processes
      it returns some twice, from the last batch that was filled up.
    - `attention_entropy` says how spread out the attention is over the source, see `EntropyMeter`.
    - `eval_loss` and `predict_loss` are means over target tokens; the Trainer's is a mean over batches, which changes
      with the batch size. (With several processes the examples that fill up the last batch count in its own mean.)
    - Batches of similar length come in random order, see `ShuffledLengthGroups`. With `per_device_train_batch_tokens`
      they hold at most so many tokens, see `TokenBudgetBatches`. Streams of `datasets` are shuffled and sorted in
      blocks, and a resumed run continues in the middle of one, see `streaming`.
    - It asks the model for no logits in training, unless there is a `compute_loss_func`, which may read them.
    - It counts the target tokens it trains on, without padding.
    - Label smoothing happens in the model, so that evaluation losses are not smoothed: unless it is None,
      `label_smoothing_factor` becomes `config.label_smoothing`.
    - It shows some translations at each evaluation.
    - On a CPU it keeps the memory that a step frees for the next one, and does not multiply gradients by 1.
    - With `eval_processes` several processes write the translations of an evaluation, on a CPU.
    - If memory runs out, the error names the batch and what to lower.
    - It keeps the `README.md` that is already in the output folder, or in the repository on the Hub.
    - What it pushes carries the code that loads it, with every `hub_strategy`, unless `model.config.drop_code()` was
      called.

    Args:
        model: the model to train.
        args: the training arguments.
        score: maps hypotheses and references to a dictionary of metrics: two lists of texts, the second one of lists
            of texts where the examples have several references. Values that are texts,
            such as signatures, are only in the metrics of `predict()`, because training logs take numbers.
        processing_class: the tokenizer, or the processor that has it.
        eval_dataset: like the dataset of `predict()`, it has the columns `input_ids` and `labels`, or the features of
            speech, `input_features`, and their `length`, in the place of the former; and the texts
            `source` and `target`, and `references`, a list of texts, where there are more of them than the target.
        other: further arguments of `Seq2SeqTrainer`.

    Raises:
        UsageError: for a training argument with which there would be no complete translations to score; for
            `eval_processes` beside a GPU or other processes.
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
        if problems := [*incomplete_translations(args), *wrong_processes(args)]:
            raise UsageError(*problems)
        if args.label_smoothing_factor is not None:
            model.config.label_smoothing = args.label_smoothing_factor
        train_dataset: Any = other.get("train_dataset")
        accelerator_config: Any = args.accelerator_config  # the arguments have made it an object
        if isinstance(train_dataset, torch.utils.data.IterableDataset) and accelerator_config.dispatch_batches is None:
            # Otherwise the first process would read for all, and could not concatenate batches of different lengths.
            accelerator_config.dispatch_batches = False
        self._resumes_stream = not args.ignore_data_skip
        if isinstance(train_dataset, IterableDataset):
            args.ignore_data_skip = True  # the Trainer would read the stream again from its beginning
            other["callbacks"] = [StreamPasses(), *(other.get("callbacks") or [])]
        args.include_for_metrics = [*args.include_for_metrics, "loss"]
        super().__init__(model=model, args=args, processing_class=processing_class, **other)
        self.label_smoother = None  # the model smooths the labels
        self.score = score
        self._entropy = EntropyMeter(self._gather)
        self._stream: StreamLoader | None = None
        self._resumed_from: str | None = None
        self._batches: list[dict[str, Any]] = []  # of the current optimizer step
        self._target_tokens = torch.zeros((), dtype=torch.long)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train as `Trainer.train` does, and also measure the target tokens.

        The metrics it returns also have `target_tokens` and `target_tokens_per_second`: target tokens trained on in
        this call, without padding, over all processes, and the same divided by `train_runtime`, which includes the
        evaluations.

        With `resume_from_checkpoint=True` it resumes from the last checkpoint that is whole. A run that was complete
        is not trained any further.

        Raises:
            UsageError: if the checkpoint is not whole.
            NotFiniteError: if the loss, the norm of the gradients or a weight becomes infinite or NaN.
            RunError: if the disk is full.
            torch.OutOfMemoryError: if there is not enough memory for a batch.
        """
        self._target_tokens = torch.zeros((), dtype=torch.long, device=self.args.device)
        if self.args.device.type == "cpu":
            keep_freed_memory()
        if resume_from_checkpoint is True:  # still True if there is none, for which `Trainer` raises an error
            resume_from_checkpoint = str(choose_checkpoint(self._folder) or "") or True
        self._resumed_from = resume_from_checkpoint if isinstance(resume_from_checkpoint, str) else None
        if self._resumed_from is not None:
            require_whole(Path(self._resumed_from))
        if self.args.word_dropout and self.model.config.unk_token_id is None:
            raise ValueError("word_dropout reads tokens as unknown, but the model has unk_token_id=None.")
        require_segmentation(self.args.bpe_dropout, self.data_collator, self.train_dataset)
        output = super().train(resume_from_checkpoint, *args, **kwargs)
        tokens = int(self.accelerator.reduce(self._target_tokens, reduction="sum"))
        output.metrics["target_tokens"] = tokens
        output.metrics["target_tokens_per_second"] = tokens / output.metrics["train_runtime"]
        return output

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list, Tensor | int | None]:
        """Get the batches of one optimizer step as in `Trainer`, and count their target tokens."""
        batches, num_items_in_batch = super().get_batch_samples(*args, **kwargs)
        self._batches = batches
        for batch in batches:
            self._target_tokens += batch["labels"].ne(-100).sum().to(self._target_tokens.device)
        return batches, num_items_in_batch

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Do a step as in `Trainer`, with more informative errors.

        Raises:
            torch.OutOfMemoryError: if there is not enough memory; the message describes the batch.
            NotFiniteError: if the loss is infinite or NaN; the message shows the rows of the step.
        """
        lower = "tokens" if self.args.per_device_train_batch_tokens else "size"
        with naming_the_batch(
            describe_batch(inputs),
            f"lower per_device_train_batch_{lower} (and raise gradient_accumulation_steps), or max_source_length and "
            "max_target_length",
        ):
            loss = super().training_step(model, inputs, *args, **kwargs)
        # With logging_nan_inf_filter the Trainer checks each loss as well, and waits for the device anyway.
        if self.args.logging_nan_inf_filter or self.args.device.type == "cpu":
            self._require_finite(loss, "loss")
        return loss

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Compute the loss as in `Trainer`, but without logits in training.

        The loss does not need them, so they would be computed and stored in vain. Word dropout, scheduled sampling and
        R-Drop are done here.
        """
        if not model.training or self.compute_loss_func is not None:
            return super().compute_loss(model, inputs, *args, **kwargs)
        unwrapped, special = self.accelerator.unwrap_model(self.model), self._tokenizer.all_special_ids
        noise = self.args.word_dropout, self.args.sampling_schedule
        inputs = noisy_inputs(unwrapped, inputs, *noise, self.state.global_step, special)
        if self.args.r_drop:
            return self._loss_of_two_passes(model, inputs, *args, **kwargs)
        return super().compute_loss(model, {"return_logits": False, **inputs}, *args, **kwargs)

    def _loss_of_two_passes(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """R-Drop: the mean of the losses of two passes, and how far their predictions are apart."""
        count = inputs["labels"].ne(-100).sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        twice = {name: torch.cat([one, one]) for name, one in inputs.items()}
        given = None if num_items_in_batch is None else num_items_in_batch * 2
        loss, outputs = super().compute_loss(model, {**twice, "return_logits": True}, True, given)
        # As the Trainer does, since the gradients of all processes are averaged, and tokens are counted in all of them
        scale = self.accelerator.num_processes if given is not None and self.args.average_tokens_across_devices else 1
        loss = loss + scale * self.args.r_drop * divergence(outputs.logits, twice["labels"]) / count
        return (loss, outputs) if return_outputs else loss

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, *args: Any, **kwargs: Any
    ) -> Any:
        """Predict as in `Seq2SeqTrainer`, with more informative errors; the entropy of the attention is noted.

        Raises:
            torch.OutOfMemoryError: if there is not enough memory; the message describes the batch.
        """
        with naming_the_batch(describe_batch(inputs), LOWER):
            if getattr(self.model.config, "attention_type", "none") != "none" and not prediction_loss_only:
                model = self._entropy.watching(model)  # which is called for the loss alone; self.model generates
            return super().prediction_step(model, inputs, prediction_loss_only, *args, **kwargs)

    def get_train_dataloader(self) -> DataLoader:
        """Make batches as in `Trainer`, or those of a token budget or of a stream.

        Raises:
            ValueError: if there is a token budget, and the training data is not a `Dataset` of `datasets`.
        """
        if isinstance(self.train_dataset, IterableDataset):
            collate = self._get_collator_with_removed_columns(self.data_collator, description="Training")
            checkpoint = self._resumed_from if self._resumes_stream else None
            begin_pass = getattr(self.data_collator, "begin_pass", None)
            arguments = self.train_dataset, self.args, self._data_seed, collate, begin_pass, checkpoint
            self._stream = load_stream(*arguments)
            return cast(DataLoader, self._stream)
        budget = self.args.per_device_train_batch_tokens
        if budget is None:
            return super().get_train_dataloader()
        if not isinstance(self.train_dataset, Dataset):
            raise ValueError(
                "per_device_train_batch_tokens reads the lengths of examples from the columns of a dataset of "
                f"`datasets`, but train_dataset is of the type {type(self.train_dataset).__name__}: set "
                "per_device_train_batch_size instead."
            )
        batches = TokenBudgetBatches(
            source_lengths(self.train_dataset),
            lengths_of(self.train_dataset, "labels"),
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
        # Every step already has a batch for each process, so accelerate need not make the batches even.
        even_batches, self.accelerator.even_batches = self.accelerator.even_batches, False
        try:
            return self.accelerator.prepare(loader)
        finally:
            self.accelerator.even_batches = even_batches

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate as in `Seq2SeqTrainer`; `eval_dataset` has the columns that the docstring of the class names."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, str):
            dataset = cast("dict[str, Dataset]", self.eval_dataset)[dataset]
        if not isinstance(dataset, dict):  # Trainer calls this again for each data set of a dictionary
            self.compute_metrics = functools.partial(self._evaluation_metrics, dataset)
        return super().evaluate(eval_dataset, *args, **kwargs)

    def predict(self, test_dataset: Dataset, *args: Any, **kwargs: Any) -> PredictionOutput:
        """Predict as in `Seq2SeqTrainer`; `predictions` is a list of texts in the order of the examples."""
        hypotheses: list[str] = []

        def metrics(outcome: EvalPrediction) -> dict[str, Any]:
            hypotheses.extend(self._hypotheses(test_dataset, outcome))
            return self._metrics(test_dataset, outcome, hypotheses)

        self.compute_metrics = metrics
        output = super().predict(test_dataset, *args, **kwargs)
        return PredictionOutput(cast(Any, hypotheses), output.label_ids, output.metrics)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Evaluate as in `Trainer`, with the mean loss over tokens in place of that over batches."""
        # Seq2SeqTrainer fills in every default of generate(), which would then be saved with the model as if chosen.
        settings = vars(self.model.generation_config)
        chosen = copy.deepcopy(settings)
        # Among them a length, but behind the first batch, so that this one would have a token more.
        if all(settings.get(name) is self._gen_kwargs.get(name) is None for name in LENGTH_LIMITS):
            settings["max_length"] = LENGTH_OF_GENERATE
        self._entropy = EntropyMeter(self._gather)
        try:
            output = super().evaluation_loop(*args, **kwargs)
        finally:
            settings.update(chosen)
        metrics = output.metrics or {}
        for name in [name for name in metrics if name.endswith("_token_loss")]:
            metrics[f"{name.removesuffix('_token_loss')}_loss"] = metrics.pop(name)
        return output

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Draft a card as `Trainer` does, unless the output folder or the repository on the Hub already has one."""
        if not Path(self._folder, CARD).exists() and not self._has_card_on_the_hub():
            super().create_model_card(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save as in `Trainer`; if the output folder is pushed to the Hub, with the code that loads the model.

        Raises:
            NotFiniteError: if a weight is infinite or NaN.
            RunError: if the disk is full.
        """
        require_finite_weights(self.model, self._folder)
        folder = Path(output_dir or self._folder)
        with naming_a_full_disk(folder):
            super().save_model(output_dir, _internal_call)
            self._add_code(folder)

    def _set_signature_columns_if_needed(self) -> None:
        is_known = self._signature_columns is not None
        super()._set_signature_columns_if_needed()
        if not is_known:
            # What BPE-dropout reads, and the lengths of speech, which samplers read; collators leave both out.
            more = [*UNITS.values(), "length"]
            self._signature_columns = [*cast(Any, self._signature_columns), *more]  # type: ignore[assignment]

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # Trainer compares the number of steps only after each step, and would do one more.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            if isinstance(self.data_collator, BpeDropoutCollator):  # a stream tells it of its passes by itself
                self.data_collator.begin_pass(self._epoch())
            super()._run_epoch(*args, **kwargs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.is_world_process_zero():
            checkpoint = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            begin_writing(Path(self._get_output_dir(trial=trial), checkpoint))
        self.accelerator.wait_for_everyone()
        with naming_a_full_disk(self._folder):
            super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir: str) -> None:
        """Also save what a resumed run needs beyond what `Trainer` saves.

        After this `Trainer` saves only its state, the file that marks a checkpoint as whole.
        """
        super()._save_rng_state(output_dir)
        checkpoint = Path(output_dir)
        if self.is_world_process_zero():
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, WeightAveraging):
                    callback.save(checkpoint)
            if self._stream is not None:
                (checkpoint / STREAM_STATE).write_text(json.dumps(self._stream.state_dict()), encoding="utf-8")
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            list_files(checkpoint)

    def _require_finite(self, value: Tensor, name: str) -> None:
        if not torch.isfinite(value):
            learning_rate = cast(Any, self.optimizer).param_groups[0]["lr"]
            step = self.state.global_step + 1
            raise not_finite(value, name, step, learning_rate, self._batches, self._tokenizer, self._folder)

    @property
    def _tokenizer(self) -> Any:
        """The tokenizer, which may be a part of the processor."""
        return getattr(self.processing_class, "tokenizer", self.processing_class)

    @property
    def _gather(self) -> Any:
        """What gathers results of all processes. Of a single one it leaves a batch alone that is read ahead."""
        is_alone = self.accelerator.num_processes == 1
        return self.accelerator.gather if is_alone else self.accelerator.gather_for_metrics

    @property
    def _folder(self) -> Path:
        return Path(str(self.args.output_dir))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        # Trainer copies the weights and the configuration into the folder it uploads, but not the code they name.
        if self.is_world_process_zero():
            self.model.config.save_pretrained(self._folder)
            self._add_code(self._folder)
        super()._push_from_checkpoint(checkpoint_folder)

    def _add_code(self, folder: Path) -> None:
        # Only the first process has a name on the Hub, and only if something is pushed.
        if self.hub_model_id is None or not (folder / CONFIG_NAME).exists():
            return
        model = self.accelerator.unwrap_model(self.model)
        if hasattr(model.config, "carry_code"):
            model_to_share(model).config.save_pretrained(folder)

    def _has_card_on_the_hub(self) -> bool:
        """Whether the repository has a card that somebody has written. A mere draft may be replaced."""
        if self.hub_model_id is None:
            return False
        try:
            card = ModelCard.load(self.hub_model_id, token=self.args.hub_token)
        except EntryNotFoundError:
            return False
        return not any(draft in card.text for draft in DRAFTS)

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
            source_lengths(dataset),
            lengths_of(dataset, "labels"),
            self.args.train_batch_size,
            seed=self._data_seed,
            epoch=self._epoch,
        )

    @property
    def _data_seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def _epoch(self) -> int:
        # Not by set_epoch(): the wrappers of transformers and accelerate around a sampler do not always pass it on.
        return int(self.state.epoch or 0)

    def _clip_grad_norm(self, model: Any) -> Any:
        if self.args.device.type != "cpu":
            return super()._clip_grad_norm(model)
        norm = clip_gradients(model, self.args.max_grad_norm)
        self._require_finite(norm, "norm of the gradients")
        return norm

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Any:
        return longest_first(eval_dataset)  # to a DataLoader, a list of rows is a sampler

    def _evaluation_metrics(self, dataset: Dataset, outcome: EvalPrediction) -> dict[str, Any]:
        hypotheses = self._hypotheses(dataset, outcome)
        if self.is_world_process_zero() and self.args.sample_translations:
            step = max(1, len(dataset) // self.args.sample_translations)
            rows = range(0, len(dataset), step)[: self.args.sample_translations]
            samples = [(dataset[row]["source"], dataset[row]["target"], hypotheses[row]) for row in rows]
            tqdm.write(results_table(samples))
        metrics = self._metrics(dataset, outcome, hypotheses)
        return {name: value for name, value in metrics.items() if not isinstance(value, str)}

    def _hypotheses(self, dataset: Dataset, outcome: EvalPrediction) -> list[str]:
        """The generated texts in the order of the dataset, without the examples that fill up the last batch."""
        generated = np.where(outcome.predictions == -100, self._tokenizer.pad_token_id, outcome.predictions)
        in_order = generated[: len(dataset)][np.argsort(longest_first(dataset))]
        settings: dict[str, Any] = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        if isinstance(self._tokenizer, RnnS2SWordTokenizer):
            settings["source"] = list(dataset["source"])  # for the words that were copied from it
        return list(self._tokenizer.decode(in_order, **settings))

    def _metrics(self, dataset: Dataset, outcome: EvalPrediction, hypotheses: list[str]) -> dict[str, Any]:
        # Every example has the mean loss of its batch. Their mean, weighted by the tokens of each example, is the mean
        # over all tokens.
        weights = np.array([len(labels) for labels in dataset["labels"]])[longest_first(dataset)]
        token_loss = float(np.average(np.asarray(outcome.losses)[: len(dataset)], weights=weights))
        perplexity = math.exp(token_loss) if token_loss < 700 else math.inf  # exp(710) overflows a float
        references = "references" if "references" in dataset.column_names else "target"
        scores = self.score(hypotheses, list(dataset[references])) or {}
        return {**scores, **self._entropy.metrics(), "token_loss": token_loss, "perplexity": perplexity}
