"""Builds the tokenizer and the model that a training run begins with, or loads them from a checkpoint."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from accelerate.utils import broadcast_object_list
from tokenizers import AddedToken
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.tokenization_utils_base import LARGE_INTEGER, VERY_LARGE_INTEGER

from ..data.arguments import DataArguments
from ..data.columns import Examples
from ..data.loading import training_texts
from ..errors import UsageError
from ..model.configuration_rnn_s2s import RnnS2SConfig
from ..model.modeling_rnn_s2s import RnnS2SForConditionalGeneration
from ..model.pipeline_rnn_s2s import DEFAULT_MAX_NEW_TOKENS
from ..model.tokenization_rnn_s2s import RnnS2STokenizer
from .arguments import NEW_MODEL_BEAMS, ModelArguments, RnnS2STrainingArguments
from .languages import set_languages
from .pretrained_encoders import join_tokenizers
from .tasks.base import Languages, Task
from .tokenizer_training import train_tokenizer

# Settings that may change when training continues from a checkpoint; the weights depend on all others.
CHANGEABLE_SETTINGS = {"dropout", "embedding_dropout", "attention_dropout"}


def get_tokenizer(
    arguments: ModelArguments,
    training: RnnS2STrainingArguments,
    checkpoint: str | None,
    examples: dict[str, Examples],
    task: Task | None = None,
) -> PreTrainedTokenizerFast:
    """Load the tokenizer of the checkpoint or of the given name, or train one in the first process for all.

    Raises:
        UsageError: if a tokenizer cannot be loaded, does not end texts with its end token, or has one vocabulary
            although `decoder_vocab_size` asks for two.
    """
    name = checkpoint or arguments.tokenizer_name or arguments.model_name_or_path
    if name is None:
        new = train_new_tokenizer(arguments, examples["train"], task) if training.process_index == 0 else None
        return broadcast_object_list([new])[0]
    tokenizer = load_tokenizer("tokenizer_name" if name == arguments.tokenizer_name else "model_name_or_path", name)
    target = target_side(tokenizer)
    if target("a")["input_ids"][-1] != target.eos_token_id:
        raise UsageError(f"The tokenizer {name} does not end a text with an end token, so no translation would end.")
    if arguments.decoder_vocab_size is not None and not isinstance(tokenizer, RnnS2STokenizer):
        raise UsageError(
            f"decoder_vocab_size={arguments.decoder_vocab_size} asks for a vocabulary of the target's own, but the "
            f"tokenizer {name} has one for both sides; leave it out."
        )
    return tokenizer


def load_tokenizer(option: str, name: str) -> Any:
    """Load the tokenizer that `option` names; a UsageError if it cannot be loaded."""
    with _explaining_load_errors(option, name):
        return AutoTokenizer.from_pretrained(name)


@contextmanager
def _explaining_load_errors(option: str, name: str) -> Iterator[None]:
    """Explain errors in loading what `option` names.

    Raises:
        UsageError: instead of the libraries' error, if there is nothing of that name.
    """
    try:
        yield
    except OSError as error:
        why = "there is no such folder here, and nothing of that name could be read from the Hub"
        if Path(name).is_dir():
            why = "something is missing in that folder"
        raise UsageError(f"{option} {name} cannot be loaded: {why}.\n{error}") from error


def set_longest_source(tokenizer: PreTrainedTokenizerFast, arguments: DataArguments) -> None:
    """Store the length of the longest source in the tokenizer, where pipelines look for it.

    Pipelines cut longer sources with a warning, as evaluations during training do.
    """
    limit = arguments.max_source_length
    tokenizer.model_max_length = VERY_LARGE_INTEGER if limit is None else limit


def longest_source(tokenizer: PreTrainedTokenizerFast) -> int | None:
    """The tokens that a trained model reads at most, as its tokenizer knows it; None for no limit."""
    limit = tokenizer.model_max_length
    return limit if limit < LARGE_INTEGER else None


def train_new_tokenizer(
    arguments: ModelArguments, examples: Examples, task: Task | None = None
) -> PreTrainedTokenizerFast:
    """Train a tokenizer with one vocabulary for both sides, or with `decoder_vocab_size` one for each.

    With a pretrained encoder, the source's is that of the encoder. Symbols that the task puts before sources become
    tokens of their own.
    """
    symbols: set[str] = set()

    def without_symbols(side: str, text: str) -> str:
        before, rest = task.split_symbols(text) if task is not None and side == "source" else ([], text)
        symbols.update(before)
        return rest

    tokenized = ("source", "target") if task is None else task.tokenized_sides

    def texts(*sides: str) -> Iterator[str]:
        return training_texts(examples, [side for side in sides if side in tokenized], without_symbols)

    tokenizer = _train_new_tokenizer(arguments, texts)
    if symbols:
        tokenizer.add_tokens([AddedToken(symbol, normalized=False) for symbol in sorted(symbols)])
    return tokenizer


def _train_new_tokenizer(arguments: ModelArguments, texts: Callable[..., Iterator[str]]) -> PreTrainedTokenizerFast:
    kind: Any = arguments.tokenizer_kind
    lower = arguments.do_lower_case
    options: dict[str, Any] = {"normalization": arguments.unicode_normalization, "do_lower_case": lower}
    if arguments.encoder_name is not None:
        size = arguments.decoder_vocab_size or arguments.vocab_size
        target = train_tokenizer(texts("target"), size, cast(Any, arguments.kind_of_target), do_lower_case=lower)
        return join_tokenizers(arguments.encoder_name, target)
    if not arguments.has_two_vocabularies:
        slots = arguments.architecture().get("copy_slots", 0)
        return train_tokenizer(texts("source", "target"), arguments.vocab_size, kind, copy_slots=slots, **options)
    return train_tokenizer(
        texts("source"),
        arguments.vocab_size,
        kind,
        target_texts=texts("target"),
        target_vocab_size=arguments.decoder_vocab_size,
        target_kind=arguments.decoder_tokenizer_kind,
        **options,
    )


def get_model(
    arguments: ModelArguments,
    checkpoint: str | None,
    tokenizer: PreTrainedTokenizerFast,
    languages: Languages = (None, None),
    task: str = RnnS2SConfig.task,
) -> RnnS2SForConditionalGeneration:
    """Load the model of the checkpoint or of the given name, or make a new one.

    It will be saved with its code, for the task, and with the languages of the run; there is a warning if it had other
    languages.

    Raises:
        UsageError: if the checkpoint cannot be loaded, is of another model type or for another task, differs from the
            arguments in a setting that its weights depend on, or does not belong to the tokenizer; if a pretrained
            encoder does not fit the tokenizer, or reads fewer tokens than `max_source_length`.
    """
    name, architecture = checkpoint or arguments.model_name_or_path, arguments.architecture()
    model = new_model(architecture, tokenizer) if name is None else load_model(name, architecture, tokenizer)
    if name is not None and model.config.task != task:
        raise UsageError(
            f"The model {name} is for {model.config.task}, and this run for {task}: set --task {model.config.task}, "
            "or begin with a new model."
        )
    model.config.task = task
    longest = getattr(model.config.encoder_config, "max_position_embeddings", None)
    if longest is not None and tokenizer.model_max_length > longest:
        raise UsageError(f"max_source_length must be at most {longest}: the pretrained encoder reads no more tokens.")
    set_languages(model.config, languages, str(name))
    model.config.carry_code()
    return model


def new_model(architecture: dict[str, Any], tokenizer: PreTrainedTokenizerFast) -> RnnS2SForConditionalGeneration:
    """Make a model with the vocabularies and special tokens of the tokenizer.

    Raises:
        UsageError: if the architecture does not go with so many tokens; and as `get_model`.
    """
    vocab_size, decoder_vocab_size = vocabularies(tokenizer)
    target = target_side(tokenizer)
    is_pretrained = architecture.get("encoder_type") == "pretrained"  # the encoder says how many tokens there are
    try:
        config = RnnS2SConfig(
            vocab_size=RnnS2SConfig.vocab_size if is_pretrained else vocab_size,
            decoder_vocab_size=decoder_vocab_size,
            pad_token_id=target.pad_token_id,
            bos_token_id=target.bos_token_id,
            eos_token_id=target.eos_token_id,
            unk_token_id=target.unk_token_id,
            decoder_start_token_id=target.pad_token_id if target.bos_token_id is None else target.bos_token_id,
            **architecture,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    if is_pretrained:
        check_vocabularies(tokenizer, config, f"of encoder_name={config.encoder_name}")
    # The class of the package's models stands above this package, so it is named by way of transformers.
    model = AutoModelForSeq2SeqLM.from_config(config)
    if config.encoder_name is not None:
        model.load_encoder()
    model.generation_config.update(num_beams=NEW_MODEL_BEAMS)
    return model


def load_model(
    name: str, architecture: dict[str, Any], tokenizer: PreTrainedTokenizerFast
) -> RnnS2SForConditionalGeneration:
    """Load the model in a folder or on the Hub, with other dropout rates if these are given.

    Raises:
        UsageError: see `get_model`.
    """
    with _explaining_load_errors("model_name_or_path", name):
        config = AutoConfig.from_pretrained(name)
    if not isinstance(config, RnnS2SConfig):
        raise UsageError(f"{name} is a {config.model_type!r} model; this script trains 'rnn_s2s' models.")
    for field, value in architecture.items():
        if field not in CHANGEABLE_SETTINGS and getattr(config, field) != value:
            raise UsageError(
                f"{field}={value}, but the checkpoint {name} has {field}={getattr(config, field)}; leave it out."
            )
        setattr(config, field, value)
    check_vocabularies(tokenizer, config, name)
    return AutoModelForSeq2SeqLM.from_pretrained(name, config=config)


def target_side(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tokenizer of targets, whether or not it is that of sources, too."""
    return tokenizer.target_tokenizer if isinstance(tokenizer, RnnS2STokenizer) else tokenizer


def vocabularies(tokenizer: PreTrainedTokenizerFast) -> tuple[int, int | None]:
    """Size of the source vocabulary, and of the target vocabulary if that is separate, else None."""
    separate = isinstance(tokenizer, RnnS2STokenizer)
    return len(tokenizer), len(tokenizer.target_tokenizer) if separate else None


def check_vocabularies(tokenizer: PreTrainedTokenizerFast, config: RnnS2SConfig, name: str) -> None:
    """Check that the tokenizer fits the model.

    Raises:
        UsageError: if it has more tokens than the model, or another number of vocabularies.
    """
    (source, target), is_joint = vocabularies(tokenizer), config.vocab_size == config.target_vocab_size
    separate = target is not None and config.decoder_vocab_size is None
    joint = target is None and not is_joint
    if separate or joint or source > config.vocab_size or (target or source) > config.target_vocab_size:
        sides = f"{source} tokens for both sides" if target is None else f"{source} source and {target} target tokens"
        raise UsageError(
            f"The tokenizer has {sides}, but the model {name} has vocab_size={config.vocab_size} and "
            f"decoder_vocab_size={config.decoder_vocab_size}; use the tokenizer that belongs to the model."
        )


def set_generation(
    model: RnnS2SForConditionalGeneration,
    model_arguments: ModelArguments,
    data_arguments: DataArguments,
    training_arguments: RnnS2STrainingArguments,
) -> None:
    """Set the generation settings that are saved with the model; those that are not given stay as they are."""
    longest = training_arguments.generation_max_length
    if longest is None and training_arguments.do_train:
        longest = 1 + (data_arguments.max_target_length or DEFAULT_MAX_NEW_TOKENS)  # the start token counts, too
    wanted = {
        "num_beams": model_arguments.num_beams,
        "length_penalty": model_arguments.length_penalty,
        "max_length": longest,
    }
    model.generation_config.update(**{name: value for name, value in wanted.items() if value is not None})
