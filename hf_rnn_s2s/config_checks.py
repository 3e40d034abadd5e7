"""What a configuration is checked for: values that are not allowed, and combinations that make no sense."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from .model.configuration_rnn_s2s import CHECKS, MOST_LAYERS, RnnS2SConfig

MOST_PARAMETERS = 10**11  # of a model as a whole, whose sizes may each be allowed; in float32, 400 GB
# What a model computes in; quantised weights are described by quantization_config.
DTYPES = ("float32", "bfloat16", "float16", "float64")
LANGUAGES = ("source_lang", "target_lang")  # fields that name a language
LONGEST_LANGUAGE = 100  # characters, more than any code or name of a column has
# Fields that are True or False
SWITCHES = (
    "tie_word_embeddings",
    "share_encoder_decoder_embeddings",
    "input_feeding",
    "reverse_source",
    "freeze_encoder",
    "use_cache",
)
# Fields that are a token id, and the vocabularies that must contain it.
TOKEN_IDS = {
    "pad_token_id": "both",
    "unk_token_id": "both",
    "bos_token_id": "target",
    "eos_token_id": "both",
    "decoder_start_token_id": "target",
}
BOTTOM_IN_BOTH = ("bidirectional", "self_attentive")  # encoders of which only the first layer reads in both directions
ALL_IN_BOTH = ("bidirectional_stack", "pyramidal")  # those of which every layer does
WITHOUT_STATE = ("transformer", "pretrained")  # encoders that give no final states
COPYING = ("copying",)  # heads that copy
# Attentions that look at one position, over which a head sums
HARD = ("hard", "hard_monotonic", "hard_first_order", "hard_first_order_monotonic")
# Target tokens of the marginal head, which scores them for every source position: training holds a few tensors of
# rows * target * source * tokens numbers. For 64 rows of 30 and 30 characters, each has 460 MB then.
MOST_MARGINAL_TOKENS = 2_000
# Options of the contexts that an ordinary attention gives, and what each one is about
OF_CONTEXTS = {
    "attention_normalizer": "weights",
    "attention_dropout": "weights",
    "context_fusion": "contexts",
    "context_layers": "contexts",
    "decoder_type": "contexts",
    "input_feeding": "contexts",
}
REMEMBERING = ("coverage", "location")  # attentions that look at earlier weights


def register_checks() -> None:
    """Let every configuration be checked when it is built, and before a model is; to do so again changes nothing."""
    if check_configuration not in CHECKS:
        CHECKS.append(check_configuration)


def check_configuration(config: RnnS2SConfig, given: dict[str, Any]) -> None:
    """Raise a ValueError that names a field and what is allowed, unless all values are, and fit each other.

    `given` are arguments beside the fields.
    """
    _require_dtype(config.dtype)
    _require_dtype(given.get("torch_dtype"))  # its name in older files
    _require_quantization(given.get("quantization_config"))
    _check_values(config)
    _check_number_of_parameters(config)
    _check_token_ids(config)
    for contradiction in contradictions(config):
        raise ValueError(contradiction)


def _check_values(config: RnnS2SConfig) -> None:
    for option in fields(config):
        name, rule, value = option.name, option.metadata, getattr(config, option.name)
        if value is not None or option.default is not None:
            if "largest" in rule or "least" in rule:
                _require_size(name, value, rule.get("largest", MOST_LAYERS), rule.get("least", 1))
            if "share" in rule:
                _require_share(name, value)
            if "weight" in rule and not (_is_number(value) and 0 <= value < math.inf):
                raise ValueError(f"{name}={value!r} must be a finite number of at least 0.")
    for name in SWITCHES:
        if not isinstance(getattr(config, name), bool):
            raise ValueError(f"{name}={getattr(config, name)!r} must be True or False.")
    for name in LANGUAGES:
        language = getattr(config, name)
        is_text = isinstance(language, str) and language.strip() and len(language) <= LONGEST_LANGUAGE
        if language is not None and not is_text:
            allowed = f"None or a language, such as 'en', in 1 to {LONGEST_LANGUAGE} characters"
            raise ValueError(f"{name}={language!r:.200} must be {allowed}.")
    spread = config.initializer_range
    if not (_is_number(spread) and 0 < spread < math.inf):
        raise ValueError(f"initializer_range={spread!r} must be a finite number above 0.")


def _check_number_of_parameters(config: RnnS2SConfig) -> None:
    """Count the embeddings, and recurrent layers of four gates with inputs as wide as their states."""
    embeddings = (config.vocab_size + (config.decoder_vocab_size or 0)) * config.embedding_size
    widest = max(config.hidden_size, 2 * config.direction_size, config.decoder_size)
    layers = 8 * widest**2 * (config.encoder_layers + config.decoder_layers)
    if embeddings + layers > MOST_PARAMETERS:
        raise ValueError(
            f"vocab_size, decoder_vocab_size and embedding_size make about {embeddings:,} parameters, "
            f"hidden_size, encoder_layers and decoder_layers about {layers:,}; together they must be at most "
            f"{MOST_PARAMETERS:,}: there is no such recurrent model."
        )


def _check_token_ids(config: RnnS2SConfig) -> None:
    for name, side in TOKEN_IDS.items():
        value = getattr(config, name)
        limit = config.target_vocab_size if side == "target" else min(config.vocab_size, config.target_vocab_size)
        several = name == "eos_token_id" and isinstance(value, (list, tuple)) and len(value) > 0
        for token_id in value if several else [value]:
            if token_id is None and not several:
                continue
            if isinstance(token_id, bool) or not isinstance(token_id, int) or not 0 <= token_id < limit:
                kind = "ids" if several else "None or one id"
                raise ValueError(f"{name}={value!r} must be {kind} from 0 to {limit - 1}, inside the vocabulary.")
    for name in ("pad_token_id", "decoder_start_token_id"):
        if getattr(config, name) is None:
            raise ValueError(f"{name}=None: the model needs it to shift labels and to begin decoding; set an id.")


def _require_size(name: str, value: object, largest: int, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {least}.")
    if value > largest:
        raise ValueError(f"{name}={value!r} must be at most {largest:,}: there is no such recurrent model.")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _require_share(name: str, value: Any) -> None:
    if not (_is_number(value) and 0 <= value < 1):
        raise ValueError(f"{name}={value!r} must be a number from 0 up to, but not including, 1.")


def _require_dtype(dtype: Any) -> None:
    """Raise unless it is None, or a type that the model computes in, as `config.json` or torch writes it."""
    name = dtype if isinstance(dtype, str) else str(dtype).removeprefix("torch.")
    if dtype is not None and name not in DTYPES:
        raise ValueError(f"dtype={dtype!r} is not known; allowed are {', '.join(DTYPES)}, or leave it out.")


def _require_quantization(quantization: Any) -> None:
    """Raise unless it is None, or names a method of quantization in a form that transformers reads."""
    if isinstance(quantization, dict):
        names_method = "quant_method" in quantization or any(map(quantization.get, ("load_in_8bit", "load_in_4bit")))
    else:
        names_method = hasattr(quantization, "quant_method")
    if quantization is not None and not names_method:
        raise ValueError(
            f"quantization_config={quantization!r} does not say how the weights are quantised: it must be what a "
            "quantizer of transformers wrote, with its quant_method. Leave it out if they are not."
        )


def contradictions(config: Any) -> Iterator[str]:
    """What is wrong with a configuration whose values are each allowed."""
    yield from _of_vocabularies(config)
    yield from _of_encoders(config)
    yield from _of_attentions(config)
    yield from _of_decoders(config)
    yield from _of_heads(config)


def _of_vocabularies(config: Any) -> Iterator[str]:
    if config.share_encoder_decoder_embeddings and config.decoder_vocab_size not in (None, config.vocab_size):
        yield (
            f"share_encoder_decoder_embeddings=True contradicts decoder_vocab_size={config.decoder_vocab_size} "
            f"beside vocab_size={config.vocab_size}; for separate vocabularies set "
            "share_encoder_decoder_embeddings=False."
        )
    if not config.is_encoder_decoder:
        yield "is_encoder_decoder=False: an RNN sequence-to-sequence model is an encoder-decoder; leave it True."


def _of_encoders(config: Any) -> Iterator[str]:
    kind, layers, two = config.encoder_type, config.encoder_layers, 2 * config.direction_size
    if kind in WITHOUT_STATE:
        yield from _of_transformers(config)
    if kind != "pretrained" and (config.encoder_name is not None or config.encoder_config is not None):
        yield (
            f"encoder_name={config.encoder_name!r} and encoder_config are of a pretrained encoder, but "
            f"encoder_type={kind!r}. Set encoder_type='pretrained', or leave them out."
        )
    if kind not in type(config).__dataclass_fields__["encoder_type"].metadata["choices"]:
        return  # a class of the user's own
    is_stack, is_bottom = kind in ALL_IN_BOTH, kind in BOTTOM_IN_BOTH
    if (is_stack or is_bottom) and config.encoder_direction_size is None and config.hidden_size % 2:
        yield (
            f"hidden_size={config.hidden_size} must be even: each direction of a bidirectional layer has half. Or set "
            "encoder_direction_size."
        )
    if is_bottom and layers > 1 and two != config.hidden_size:
        widths = f"{two}, that of two directions, and {config.hidden_size}, the hidden_size"
        if config.first_residual_layer in (1, 2):
            yield (
                f"first_residual_layer={config.first_residual_layer}: the second encoder layer cannot add to the "
                f"first, since their widths are {widths}. Set first_residual_layer=3, or 0 for none."
            )
        if config.bridge == "copy":
            yield f"bridge='copy' hands on the states of all encoder layers, but their widths are {widths}."
    if config.reverse_source and (is_stack or is_bottom):
        yield (
            f"reverse_source=True: encoder_type={kind!r} reads in both directions anyway. Choose "
            "encoder_type='unidirectional'."
        )
    if config.bridge == "backward" and not (is_stack or (is_bottom and layers == 1)):
        yield (
            f"bridge='backward' needs a top encoder layer in both directions, and encoder_type={kind!r} with "
            f"encoder_layers={layers} has none. Choose bridge='dense'."
        )


def _of_transformers(config: Any) -> Iterator[str]:
    kind, nested = config.encoder_type, config.encoder_config
    if config.bridge not in ("average", "zero"):
        yield (
            f"bridge={config.bridge!r} reads the encoder's final states, but encoder_type={kind!r} has none. Choose "
            "bridge='average' or 'zero'."
        )
    if config.reverse_source:
        yield f"reverse_source=True: encoder_type={kind!r} has no direction; leave it out."
    if kind == "transformer":
        if config.embedding_size != config.hidden_size:
            yield (
                f"embedding_size={config.embedding_size} must be hidden_size={config.hidden_size} with "
                "encoder_type='transformer', which adds to the embeddings."
            )
        if config.hidden_size % config.encoder_attention_heads:
            yield (
                f"encoder_attention_heads={config.encoder_attention_heads} does not divide "
                f"hidden_size={config.hidden_size}."
            )
    elif nested is None:
        yield (
            "encoder_type='pretrained' needs encoder_name, the folder or the name on the Hub of a pretrained encoder, "
            "such as 'google-bert/bert-base-uncased'."
        )
    elif getattr(nested, "vocab_size", config.vocab_size) != config.vocab_size:
        yield (
            f"vocab_size={config.vocab_size} does not fit the pretrained encoder, which has {nested.vocab_size} "
            "tokens. Leave it out, and use the tokenizer of that encoder for the source."
        )


def _of_attentions(config: Any) -> Iterator[str]:
    kind, heads, size = config.attention_type, config.num_attention_heads, config.decoder_size
    if kind == "none":
        if config.bridge == "zero":
            yield (
                "attention_type='none' contradicts bridge='zero': the decoder would never see the source. Choose "
                "another bridge (dense, copy) or an attention."
            )
        if config.bridge == "copy" and config.encoder_layers > config.decoder_layers:
            yield (
                f"encoder_layers={config.encoder_layers} is more than decoder_layers={config.decoder_layers}: with "
                "attention_type='none' and bridge='copy' nothing would read the upper encoder layers. Choose "
                "bridge='last'."
            )
        if config.bridge == "backward":
            yield (
                "attention_type='none' contradicts bridge='backward': nothing would read the encoder's forward "
                "direction. Choose another bridge (dense, copy)."
            )
        for name in ("attention_query", "context_layers", "attention_span", "attention_normalizer", "decoder_type"):
            value = getattr(config, name)
            if value != type(config).__dataclass_fields__[name].default:
                yield f"{name}={value!r} says how an attention works, but attention_type='none'; leave it out."
    if kind in HARD:
        yield from _of_hard_attentions(config)
    if kind in ("none", *REMEMBERING, *HARD) and heads != 1:
        yield f"num_attention_heads={heads}: attention_type={kind!r} has one head; leave it out."
    if size % heads:
        yield f"num_attention_heads={heads} does not divide {size}, the width of the queries."
    if kind in (*REMEMBERING, *HARD) and config.attention_span != "global":
        yield f"attention_span={config.attention_span!r}: attention_type={kind!r} looks where it wants; leave it out."


def _of_hard_attentions(config: Any) -> Iterator[str]:
    kind = config.attention_type
    if config.head_type in ("vocabulary", *COPYING):
        yield (
            f"attention_type={kind!r} looks at one source position, and head_type={config.head_type!r} does not sum "
            "over all of them. Set head_type='marginal', or another attention_type."
        )
    for name, what in OF_CONTEXTS.items():
        value = getattr(config, name)
        if value != type(config).__dataclass_fields__[name].default:
            yield f"{name}={value!r} is about {what}, but attention_type={kind!r} has none; leave it out."
    if config.readout in ("state", "joined", "maxout"):
        yield (
            f"readout={config.readout!r} is no sum of a map of the state and one of a source position, as "
            f"attention_type={kind!r} needs it. Choose readout='attentional', 'linear', 'deep' or 'self_attentive'."
        )


def _of_heads(config: Any) -> Iterator[str]:
    known = type(config).__dataclass_fields__["attention_type"].metadata["choices"]
    if config.head_type == "marginal":
        if config.attention_type in known and config.attention_type not in HARD:
            yield (
                "head_type='marginal' sums over the source positions that a hard attention may look at, but "
                f"attention_type={config.attention_type!r}. Set attention_type='hard', or leave head_type out."
            )
        if config.target_vocab_size > MOST_MARGINAL_TOKENS:
            name = "vocab_size" if config.decoder_vocab_size is None else "decoder_vocab_size"
            yield (
                f"{name}={config.target_vocab_size}: head_type='marginal' scores every target token for every source "
                f"position, so there may be {MOST_MARGINAL_TOKENS:,} of them at most, such as characters or phones. "
                f"Set a smaller {name}, or take another head_type and attention_type."
            )
    if config.attention_type == "none":
        if config.head_type == "copying":
            yield "head_type='copying' copies from where the attention looks, but attention_type='none'."
        if config.coverage_loss:
            yield f"coverage_loss={config.coverage_loss} is about the attention, but attention_type='none'."
    if config.copy_slots and config.head_type not in COPYING:
        yield (
            f"copy_slots={config.copy_slots}: head_type={config.head_type!r} copies nothing. Set head_type='copying', "
            "or leave copy_slots out."
        )
    if config.copy_slots and config.unk_token_id is None:
        yield (
            f"copy_slots={config.copy_slots} stand for words that the vocabulary lacks, which the decoder reads as "
            "the unknown token, but unk_token_id=None."
        )


def _of_decoders(config: Any) -> Iterator[str]:
    asks_before, reads_all = config.attention_query == "previous", config.context_layers == "all"
    if reads_all and not asks_before:
        yield (
            "context_layers='all': the layer that asks reads the context itself, so it can ask only with its previous "
            "state. Set attention_query='previous', or context_layers='above'."
        )
    if config.decoder_type == "conditional" and asks_before:
        yield (
            "decoder_type='conditional' asks between its two transitions, which contradicts "
            "attention_query='previous'; leave that out."
        )
    is_top = config.attention_layer == "top" or config.decoder_layers == 1
    if config.readout == "maxout" and config.attention_type != "none" and not is_top:
        yield (
            "readout='maxout' reads the layer that asks the attention, so nothing would read the layers above it. Set "
            "attention_layer='top'."
        )
    reads_nothing = config.readout == "state" and config.attention_type != "none"
    if reads_nothing and is_top and not reads_all and config.decoder_type == "stack":
        yield (
            "readout='state' reads no context, and as no layer is above the one that asks, the attention would change "
            "nothing. Choose another readout, or attention_layer='bottom' with two layers or more."
        )
    size = config.readout_size
    if config.readout in ("state", "joined"):
        if size is not None:
            yield f"readout_size={size}: readout={config.readout!r} is as wide as what it reads; leave it out."
        size = config.decoder_size if config.readout == "state" else None
    if config.tie_word_embeddings and size not in (None, config.embedding_size):
        yield (
            f"The output layer reads {size} numbers (readout={config.readout!r}), and tie_word_embeddings=True gives "
            f"it embeddings of {config.embedding_size}. Set tie_word_embeddings=False, or make the two equal."
        )
