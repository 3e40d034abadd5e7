"""The arguments of `train.py` that say what model to train, and how."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, make_dataclass
from typing import Any, ClassVar, Literal

import torch
from transformers import Seq2SeqTrainingArguments
from transformers.utils import logging

from ..config_checks import MOST_MARGINAL_TOKENS
from ..errors import UsageError
from ..machine import has_fast_bfloat16
from ..model.configuration_rnn_s2s import CHOICES, OPTIONS, RnnS2SConfig, preset_values
from ..model.tokenization_rnn_s2s import SPECIAL_TOKENS
from ..options import meaning
from .noise import Schedule
from .symbol_tokenizers import SYMBOL_KINDS
from .tasks import metric_directions
from .tokenizer_training import SMALLEST_VOCABULARY, Kind, Normalization

logger = logging.get_logger(__name__)

NEW_MODEL_BEAMS = 5
# The least that numbers of a run may be, where transformers does not look at them
LEAST = {
    "per_device_train_batch_size": 1,
    "per_device_train_batch_tokens": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "shuffle_buffer_size": 1,
    "ensemble_size": 1,
    "eval_processes": 1,
    "sample_translations": 0,
}
# Options of the model that a run says in another way: by its tokenizer, and by `label_smoothing_factor`
OF_THE_RUN = {"vocab_size", "decoder_vocab_size", "label_smoothing"}


def _options() -> list[tuple[str, Any, Any]]:
    """An argument for every option of `RnnS2SConfig`: None, unless somebody asks for a value."""
    types = {kind.__name__: kind for kind in (int, float, bool, str)}
    arguments = []
    for name, option in OPTIONS.items():
        if name not in OF_THE_RUN:
            text = option.metadata["help"].replace("`", "").removesuffix(".")
            metadata: dict[str, Any] = {"help": f"{text}; {option.default} in a new model."}
            if name in CHOICES:
                metadata["choices"] = CHOICES[name]
                meanings = [f"{one}: {what}" for one in CHOICES[name] if (what := meaning(name, one))]
                metadata["help"] += " " + "; ".join(meanings).replace("`", "") if meanings else ""
            kind = types[str(option.type).removesuffix(" | None")]
            arguments.append((name, kind | None, field(default=None, metadata=metadata)))
    return arguments


def _preset(name: str, value: Any) -> Any:
    """An argument of `Seq2SeqTrainingArguments` that begins with another value here."""
    return field(default=value, metadata=Seq2SeqTrainingArguments.__dataclass_fields__[name].metadata)


_Options: Any = make_dataclass("_Options", _options())


@dataclass
class ModelArguments(_Options):
    """Which model is trained, with which vocabulary, and how it writes. The options are those of `RnnS2SConfig`."""

    _argument_group_name: ClassVar[str] = "model"

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Checkpoint to go on from: a folder or a name on the Hub. None: a new model."}
    )
    preset: str | None = field(
        default=None,
        metadata={
            "help": "Architecture of a paper for a new model, such as luong2015; other options change parts of it. "
            "The names are those of RnnS2SConfig.from_preset. None: the default architecture."
        },
    )
    ensemble_models: list[str] | None = field(
        default=None,
        metadata={
            "help": "Other models, folders or names on the Hub, which write together with this one in validation and "
            "test: the mean of their probabilities. The losses are those of this one. For do_train=false."
        },
    )
    tokenizer_name: str | None = field(
        default=None,
        metadata={"help": "Tokenizer to use: a folder or a name on the Hub. None: the checkpoint's, or a new one."},
    )
    tokenizer_kind: Kind = field(
        default="bpe",
        metadata={
            "help": "Kind of a new tokenizer. bpe, unigram: subwords; char: characters; symbol: what stands between "
            "spaces, such as phones; word: the same, for models that copy words they do not know."
        },
    )
    decoder_tokenizer_kind: Kind | None = field(
        default=None,
        metadata={"help": "Kind of a separate target vocabulary; by default that of the source."},
    )
    unicode_normalization: Normalization = field(
        default="NFC",
        metadata={
            "help": "Unicode form of the source in a new tokenizer without subwords, and of the target if both share "
            "a vocabulary. NFD: a letter and its accent are two characters, a Korean syllable is two or three."
        },
    )
    do_lower_case: bool = field(
        default=False,
        metadata={
            "help": "A new tokenizer makes small letters of capitals, on both sides (with encoder_name on that of the "
            "target), and the model writes none. ROUGE and the error rates of speech do not mind; BLEU and the others "
            "are counted against references as they are."
        },
    )
    vocab_size: int = field(
        default=8000,
        metadata={"help": "Tokens of a new tokenizer, at most; of the source if both sides have their own."},
    )
    decoder_vocab_size: int | None = field(
        default=None,
        metadata={"help": "Tokens of a separate target vocabulary, at most. None: one vocabulary for both sides."},
    )
    num_beams: int | None = field(
        default=None,
        metadata={
            "help": "Beams of the final translation; saved with the model. While training: generation_num_beams. "
            f"None: as the model has it, {NEW_MODEL_BEAMS} in a new one."
        },
    )
    length_penalty: float | None = field(
        default=None,
        metadata={
            "help": "Above 0, beam search prefers longer translations; saved with the model. None: as the model has "
            "it, 1.0 in a new one."
        },
    )

    license: str | None = field(
        default=None, metadata={"help": "License of the trained model for its card, by its Hub name, e.g. apache-2.0."}
    )

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise UsageError(*problems)

    def _problems(self) -> Iterator[str]:
        if self.num_beams is not None and self.num_beams < 1:
            yield f"num_beams={self.num_beams} must be at least 1; 1 is greedy search."
        kinds = {"vocab_size": self.tokenizer_kind, "decoder_vocab_size": self.kind_of_target}
        for name, kind in kinds.items():
            value, useful = getattr(self, name), "some thousands"
            least = SMALLEST_VOCABULARY
            if kind in SYMBOL_KINDS:
                least, useful = len(SPECIAL_TOKENS) + 1, "all symbols"
            if value is not None and value < least:
                yield f"{name}={value} must be at least {least}; a useful vocabulary has {useful}."
        if self.unicode_normalization != "NFC" and self.tokenizer_kind not in SYMBOL_KINDS:
            yield f"unicode_normalization={self.unicode_normalization} needs a tokenizer_kind without subwords: char."
        if self.model_name_or_path is None:
            try:  # a configuration for its checks alone, which need not wait for a tokenizer
                RnnS2SConfig(**self._vocabularies(), **self.architecture())
                yield from self._problems_of_copying()
            except ValueError as error:
                yield str(error)

    def _problems_of_copying(self) -> Iterator[str]:
        asked = self.architecture()
        slots, copies = asked.get("copy_slots", 0), asked.get("head_type") == "copying"
        for name in ("decoder_vocab_size", "decoder_tokenizer_kind"):
            if copies and getattr(self, name) is not None:
                yield (
                    "head_type=copying copies tokens of the source, which the target's vocabulary must have: leave "
                    f"{name} out."
                )
        if slots and self.tokenizer_kind != "word" and self.tokenizer_name is None:
            yield (
                f"copy_slots={slots} are for words that the vocabulary lacks, and "
                f"tokenizer_kind={self.tokenizer_kind} lacks none: set tokenizer_kind=word, or copy_slots=0."
            )

    def _vocabularies(self) -> dict[str, Any]:
        """Sizes of the vocabularies. Of symbols there are as many as the data has, for which few are taken here."""
        sizes = {"vocab_size": self.vocab_size, "decoder_vocab_size": self.decoder_vocab_size}
        if self.kind_of_target in SYMBOL_KINDS and self.tokenizer_name is None:
            name = "vocab_size" if self.decoder_vocab_size is None else "decoder_vocab_size"
            sizes[name] = min(sizes[name] or 0, MOST_MARGINAL_TOKENS)
        return sizes

    @property
    def kind_of_target(self) -> str:
        """The kind of a target vocabulary of its own."""
        return str(self.decoder_tokenizer_kind or self.tokenizer_kind)

    @property
    def has_two_vocabularies(self) -> bool:
        """Whether a new tokenizer has a vocabulary for each side."""
        return self.decoder_vocab_size is not None or self.decoder_tokenizer_kind is not None

    def architecture(self) -> dict[str, Any]:
        """The arguments of `RnnS2SConfig` that somebody asked for, by themselves or by a preset.

        Raises:
            ValueError: if there is no such preset.
        """
        asked = {} if self.preset is None else preset_values(self.preset)
        given = {name: getattr(self, name) for name in OPTIONS if getattr(self, name, None) is not None}
        return {name: value for name, value in {**asked, **given}.items() if name not in OF_THE_RUN}


@dataclass
class RnnS2STrainingArguments(Seq2SeqTrainingArguments):
    """The training arguments of transformers, with values that suit a recurrent model, and a few of our own."""

    _argument_group_name: ClassVar[str] = "training (transformers' Seq2SeqTrainingArguments)"

    output_dir: str | None = _preset("output_dir", "outputs/demo")
    do_train: bool = field(
        default=True, metadata={"help": "Train. false, beside model_name_or_path: only validate and translate."}
    )
    do_predict: bool = field(default=True, metadata={"help": "Translate the test split at the end, and score it."})
    num_train_epochs: float = _preset("num_train_epochs", 10.0)
    per_device_train_batch_size: int = _preset("per_device_train_batch_size", 64)
    per_device_train_batch_tokens: int | None = field(
        default=None,
        metadata={
            "help": "Tokens in a batch of one device, on the side that has more, padding included: many short pairs "
            "or few long ones, in the place of per_device_train_batch_size."
        },
    )
    per_device_eval_batch_size: int = _preset("per_device_eval_batch_size", 128)
    eval_processes: int = field(
        default=1,
        metadata={
            "help": "Processes that write the translations of validation and test, with one thread each, on a CPU: as "
            "many as it has cores, where the threads of a single one gain little. Each takes some memory."
        },
    )
    learning_rate: float = _preset("learning_rate", 2e-3)
    warmup_steps: float = _preset("warmup_steps", 0.05)
    train_sampling_strategy: str = _preset("train_sampling_strategy", "group_by_length")
    shuffle_buffer_size: int = field(
        default=10_000,
        metadata={
            "help": "With streaming: rows that are read ahead, shuffled and sorted into batches of like length. More "
            "of them are mixed better, and take more memory."
        },
    )
    logging_steps: float = _preset("logging_steps", 50)
    logging_first_step: bool = _preset("logging_first_step", True)
    eval_strategy: str = _preset("eval_strategy", "epoch")
    save_strategy: str = _preset("save_strategy", "epoch")
    save_total_limit: int | None = _preset("save_total_limit", 2)
    load_best_model_at_end: bool = _preset("load_best_model_at_end", True)
    metric_for_best_model: str | None = _preset("metric_for_best_model", "loss")
    restore_callback_states_from_checkpoint: bool = _preset("restore_callback_states_from_checkpoint", True)
    label_smoothing_factor: float | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "Share of the target probability that is spread over the vocabulary in training; saved with the "
            f"model. None: as the model has it, {RnnS2SConfig.label_smoothing} in a new one."
        },
    )
    predict_with_generate: bool = _preset("predict_with_generate", True)
    generation_num_beams: int | None = _preset("generation_num_beams", 1)
    bf16: bool | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "Products in bfloat16, weights in float32. None: yes where there are units for it (AMX, "
            "AVX512-BF16, NVIDIA Ampere and later), unless fp16 is asked for."
        },
    )
    # The Trainer writes this one into the model's configuration, and False there would slow generation down.
    use_cache: bool = _preset("use_cache", True)
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={"help": "true: go on from the last checkpoint in output_dir; a folder: from that checkpoint."},
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={
            "help": "Stop after so many evaluations in a row without a better metric_for_best_model. A run that is "
            "resumed keeps the patience it was started with."
        },
    )
    ensemble_size: int = field(
        default=1,
        metadata={
            "help": "Train so many models, with this seed and the next ones, each in a folder of its own in "
            "output_dir, and let them write together at the end."
        },
    )
    ema_decay: float | None = field(
        default=None,
        metadata={"help": "Evaluate and save a moving average of the weights; 0.999 averages about 1,000 steps."},
    )
    average_checkpoints: int | None = field(
        default=None,
        metadata={
            "help": "At the end, save the mean of the weights of so many last checkpoints, in place of the best one. "
            "save_total_limit must keep them."
        },
    )
    export: str | None = field(
        default=None,
        metadata={
            "help": "At the end, also write the model as graphs for ONNX Runtime, into a folder of this name in "
            "output_dir: int8 or float32.",
            "choices": ["int8", "float32"],
        },
    )
    word_dropout: float = field(
        default=0.0,
        metadata={"help": "Share of the tokens, on both sides, that are read as unknown in training."},
    )
    bpe_dropout: float = field(
        default=0.0,
        metadata={
            "help": "Probability of a merge to be left out, so that words are spelled in other subwords in every pass "
            "(Provilkov et al. 2020), with a byte-pair tokenizer; 0.1 is usual. Batches are made by the ordinary "
            "lengths, and a text that would become longer than its limit stays as it is."
        },
    )
    scheduled_sampling: Literal["linear", "exponential", "inverse_sigmoid"] | None = field(
        default=None,
        metadata={
            "help": "Train on the model's own predictions, too (Bengio et al. 2015). It says how the share of true "
            "tokens falls with the steps i. linear: 1 - i / k; exponential: k ** i; inverse_sigmoid: k / (k + exp(i / "
            "k)). None: true tokens only. A step takes longer, since the target is written before it is read."
        },
    )
    scheduled_sampling_k: float | None = field(
        default=None, metadata={"help": "k of scheduled_sampling. None: 10000, 0.9999 or 1000, in their order."}
    )
    scheduled_sampling_least: float = field(
        default=0.0, metadata={"help": "What the share of true tokens never falls below."}
    )
    r_drop: float = field(
        default=0.0,
        metadata={
            "help": "Weight of the divergence between two passes with other dropout, which training then makes of "
            "every batch (Liang et al. 2021, R-Drop); 0: one pass."
        },
    )
    sample_translations: int = field(
        default=5, metadata={"help": "Translations to show at each evaluation; 0 shows none."}
    )

    def __post_init__(self) -> None:
        # Without this, transformers refuses bfloat16 on a machine that has no accelerator.
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        self._choose_precision()
        if not self.do_train:  # nothing to evaluate, to save and to choose from on the way
            self.eval_strategy = self.save_strategy = "no"
            self.load_best_model_at_end = False
        if self.greater_is_better is None and self.metric_for_best_model is not None:
            # transformers takes everything but a loss for better when it is greater
            self.greater_is_better = metric_directions().get(self.metric_for_best_model.removeprefix("eval_"))
        problems = list(self._problems())
        try:
            super().__post_init__()
        except (ValueError, OSError, ImportError) as error:  # also of a file that is to be read, or a missing library
            problems.append(str(error))
        for name in ("lr_scheduler_kwargs", "gradient_checkpointing_kwargs"):
            if isinstance(value := getattr(self, name), str):
                problems.append(f'{name} {value!r} is no JSON object, such as {{"power": 2.0}}.')
        if problems:
            raise UsageError(*problems)

    def _problems(self) -> Iterator[str]:
        if self.generation_max_length is not None and self.generation_max_length < 2:
            yield (
                f"generation_max_length={self.generation_max_length} leaves no room for a token: the start counts too."
            )
        smoothing = self.label_smoothing_factor
        if smoothing is not None and not 0 <= smoothing < 1:
            yield f"label_smoothing_factor={smoothing} must be at least 0 and below 1."
        if self.do_train and self.early_stopping_patience is not None and self.eval_strategy == "no":
            yield "early_stopping_patience counts evaluations; set eval_strategy to epoch or steps."
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            yield f"ema_decay={self.ema_decay} must lie between 0 and 1, e.g. 0.999."
        yield from self._problems_of_averaging()
        yield from self._problems_of_noise()
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                yield f"{name}={value} must be at least {least}."
        if self.do_train and self.max_steps <= 0 and self.num_train_epochs <= 0:
            yield f"num_train_epochs={self.num_train_epochs} is no training; it must be above 0, or set max_steps."
        chosen = (self.metric_for_best_model or "loss").removeprefix("eval_")
        if chosen not in metric_directions():
            yield f"metric_for_best_model {chosen!r} cannot choose; there are {', '.join(metric_directions())}."
        yield from incomplete_translations(self)

    def _problems_of_averaging(self) -> Iterator[str]:
        count, limit = self.average_checkpoints, self.save_total_limit
        if count is None or not self.do_train:
            return
        if count < 2:
            yield f"average_checkpoints={count} must be at least 2, or left out."
        if self.ema_decay is not None:
            yield "average_checkpoints and ema_decay are two ways to average weights; choose one."
        if self.save_strategy == "no":
            yield "average_checkpoints needs checkpoints: set save_strategy to epoch or steps."
        needed = count + bool(self.load_best_model_at_end)  # the best one is kept, too
        if limit is not None and limit < needed:
            yield f"average_checkpoints={count} needs save_total_limit={needed} or more; it is {limit}."

    def _problems_of_noise(self) -> Iterator[str]:
        if not 0 <= self.word_dropout < 1:
            yield f"word_dropout={self.word_dropout} must be at least 0 and below 1."
        if not 0 <= self.bpe_dropout <= 1:
            yield f"bpe_dropout={self.bpe_dropout} must be from 0 to 1; with 1, words are spelled in characters."
        if not 0 <= self.r_drop < math.inf:
            yield f"r_drop={self.r_drop} must be a finite number of at least 0."
        if not 0 <= self.scheduled_sampling_least <= 1:
            yield f"scheduled_sampling_least={self.scheduled_sampling_least} must be from 0 to 1."
        k, decay = self.scheduled_sampling_k, self.scheduled_sampling
        if k is not None and decay is None:
            yield "scheduled_sampling_k says how fast true tokens give way; set scheduled_sampling, too."
        elif k is not None and decay == "exponential" and not 0 < k < 1:
            yield f"scheduled_sampling_k={k} must lie between 0 and 1 for an exponential decay, e.g. 0.9999."
        elif k is not None and not 0 < k < math.inf:
            yield f"scheduled_sampling_k={k} must be a finite number above 0, e.g. 1000."

    @property
    def sampling_schedule(self) -> Schedule | None:
        """How scheduled sampling goes; None without it."""
        decay = self.scheduled_sampling
        if decay is None:
            return None
        k = self.scheduled_sampling_k
        usual = {"linear": 10_000.0, "exponential": 0.9999, "inverse_sigmoid": 1000.0}
        return Schedule(decay, usual[decay] if k is None else k, self.scheduled_sampling_least)

    def _choose_precision(self) -> None:
        accelerator = None if self.use_cpu else torch.accelerator.current_accelerator()
        device = "cpu" if accelerator is None else accelerator.type
        is_fast = has_fast_bfloat16(device)
        if self.bf16 is None:
            self.bf16 = is_fast and not self.fp16
        elif self.bf16 and not is_fast and device in ("cpu", "cuda"):  # of others it is not known
            logger.warning(f"bf16=true, but this {device} has no units for bfloat16: float32 would be faster.")


def wrong_processes(arguments: RnnS2STrainingArguments) -> Iterator[str]:
    """What keeps other processes from writing the translations of an evaluation."""
    if arguments.eval_processes > 1 and arguments.device.type != "cpu":
        yield (
            f"eval_processes={arguments.eval_processes} share the cores of a CPU, and the model is on "
            f"{arguments.device}: leave it out, or set use_cpu=true."
        )
    elif arguments.eval_processes > 1 and arguments.world_size > 1:
        yield (
            f"eval_processes={arguments.eval_processes}, but {arguments.world_size} processes share the work already: "
            "leave it out."
        )


def incomplete_translations(arguments: Seq2SeqTrainingArguments) -> Iterator[str]:
    """What would keep `RnnS2STrainer` from scoring complete translations."""
    needed = {
        "predict_with_generate": True,
        "prediction_loss_only": False,
        "eval_do_concat_batches": True,
        "batch_eval_metrics": False,
        "dataloader_drop_last": False,
        "remove_unused_columns": True,
    }
    for name, value in needed.items():
        if getattr(arguments, name) is not value:
            yield (
                f"{name}={getattr(arguments, name)}: this trainer scores complete translations; leave it at {value}. "
                "To save time, evaluate less often (eval_strategy, eval_steps) or on fewer examples."
            )
