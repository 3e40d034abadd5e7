"""The configuration of an RNN sequence-to-sequence model: every architecture switch, checked when it is built."""

from __future__ import annotations

import copy
import math
from dataclasses import field, fields
from typing import Any

from .remote_code_rnn_s2s import CodeCarryingConfig

# Upper bounds of sizes: above those of any recurrent model, and low enough that a mistyped or hostile config.json is
# refused before it takes all memory.
MOST_TOKENS, WIDEST, MOST_LAYERS, MOST_HEADS = 10_000_000, 65_536, 1_000, 65_536
MOST_PARAMETERS = 10**11  # of a model as a whole, whose sizes may each be allowed; in float32, 400 GB
# What a model computes in; quantised weights are described by quantization_config.
DTYPES = ("float32", "bfloat16", "float16", "float64")
LANGUAGES = ("source_lang", "target_lang")  # fields that name a language
LONGEST_LANGUAGE = 100  # characters, more than any code or name of a column has
SWITCHES = ("tie_word_embeddings", "share_encoder_decoder_embeddings", "use_cache")  # fields that are True or False
# Fields that are a token id, and the vocabularies that must contain it.
TOKEN_IDS = {
    "pad_token_id": "both",
    "unk_token_id": "both",
    "bos_token_id": "target",
    "eos_token_id": "both",
    "decoder_start_token_id": "target",
}


def _option(default: Any, help: str, **rule: Any) -> Any:
    """A field of the architecture. Documentation, arguments of training and checks are made of what it says.

    Args:
        default: in a new model.
        help: what it is, in one or more sentences. The first one stands by itself.
        rule: what is allowed: `choices`, names of classes; `largest`, of whole numbers from 1 on; or `share=True`, for
            numbers from 0 up to 1.
    """
    return field(default=default, metadata={"help": help, **rule})


class RnnS2SConfig(CodeCarryingConfig):
    """The architecture of an encoder-decoder of recurrent layers with attention.

    It covers the models of Bahdanau et al. 2015, Luong et al. 2015 and Wu et al. 2016. The article this package set
    out to implement compares linearly mapped encoder outputs with the decoder state by their cosine and adds the
    weighted sum to that state: `RnnS2SConfig(attention_type="cosine", context_fusion="add")`.

    All arguments are keywords.

    Args:
        options: each field below, with its own description.
        pad_token_id, bos_token_id, eos_token_id, unk_token_id, decoder_start_token_id: the special tokens; decoding
            starts from `decoder_start_token_id`.
        source_lang, target_lang: the languages the model translates from and into, as its training data called them,
            for example `"en"` and `"zh_Hans"`; None where nobody said. The model computes the same whatever they are.

    Raises:
        ValueError: for a value that is not allowed, or that contradicts another one. The message names the field.
            Sizes and numbers of layers have an upper bound, and so has the number of parameters they make together.
    """

    model_type = "rnn_s2s"
    keys_to_ignore_at_inference = ["past_key_values"]
    attribute_map = {"num_hidden_layers": "encoder_layers"}

    vocab_size: int = _option(
        8000,
        "Number of tokens of the source, and of the target too while `decoder_vocab_size` is None.",
        largest=MOST_TOKENS,
    )
    decoder_vocab_size: int | None = _option(
        None,
        "Number of target tokens where source and target have separate vocabularies; None means one joint vocabulary.",
        largest=MOST_TOKENS,
    )
    encoder_type: str = _option(
        "bidirectional",
        "What reads the source. `bidirectional`: one bidirectional layer (Schuster & Paliwal 1997), then layers that "
        "run forward and add a residual (Wu et al. 2016, section 3.1).",
        choices=("bidirectional",),
    )
    decoder_type: str = _option(
        "residual",
        "How the decoder is wired. `residual`: every layer from the second one on adds to what it reads.",
        choices=("residual",),
    )
    head_type: str = _option(
        "vocabulary",
        "What turns decoder outputs into scores of tokens. `vocabulary`: the output layer alone.",
        choices=("vocabulary",),
    )
    cell_type: str = _option(
        "lstm",
        "The recurrent cell. `lstm`: Hochreiter & Schmidhuber 1997; `gru`: Cho et al. 2014.",
        choices=("lstm", "gru"),
    )
    attention_type: str = _option(
        "general",
        "How a query is compared with the memory, see `attention_rnn_s2s`. `none` is the plain encoder-decoder of "
        "Sutskever et al. 2014, which sees the source through the initial state only.",
        choices=("none", "dot", "scaled_dot", "general", "additive", "cosine"),
    )
    attention_layer: str = _option(
        "bottom",
        "The decoder layer whose outputs are the queries. `bottom`: the first one, and the context joins the input of "
        "every further layer and of the output layer (GNMT's second version); `top`: the last one, and the context "
        "joins the output layer only (Luong et al. 2015).",
        choices=("bottom", "top"),
    )
    context_fusion: str = _option(
        "concat",
        "How a context joins a layer's input. `concat`: side by side; `add`: as a sum.",
        choices=("concat", "add"),
    )
    bridge: str = _option(
        "dense",
        "How the final encoder state becomes the first decoder state. `dense`: by a learned map and tanh (Bahdanau et "
        "al. 2015, appendix A.2.2); `copy`: as it is (Sutskever et al. 2014); `zero`: not at all.",
        choices=("dense", "copy", "zero"),
    )
    embedding_size: int = _option(
        256, "Width of the token embeddings, and of the output layer that is tied to them.", largest=WIDEST
    )
    hidden_size: int = _option(
        512,
        "Width of every recurrent layer and of the memory. The two directions of the first encoder layer have half of "
        "it each, so it is even.",
        largest=WIDEST,
    )
    encoder_layers: int = _option(
        1, "Number of encoder layers. 1 is one bidirectional layer; further ones run forward.", largest=MOST_LAYERS
    )
    decoder_layers: int = _option(2, "Number of decoder layers.", largest=MOST_LAYERS)
    num_attention_heads: int = _option(
        1, "Number of attention heads. The attention of this version has one.", largest=MOST_HEADS
    )
    dropout: float = _option(
        0.2,
        "Dropout between recurrent layers and before the output layer, as a probability. One mask is drawn for a "
        "whole sequence (Gal & Ghahramani 2016), which regularises recurrent layers better than a new one per step.",
        share=True,
    )
    embedding_dropout: float | None = _option(
        None, "Dropout of the embedded tokens; None means the value of `dropout`.", share=True
    )
    attention_dropout: float = _option(0.0, "Dropout of the attention weights.", share=True)
    label_smoothing: float = _option(
        0.0,
        "Share of the target probability that is spread over the whole vocabulary, in training mode only; in "
        "evaluation mode the loss is the plain cross-entropy.",
        share=True,
    )
    share_encoder_decoder_embeddings: bool | None = _option(
        None, "One embedding matrix for source and target; None means yes while the vocabulary is joint."
    )
    tie_word_embeddings: bool = _option(
        True, "The output layer uses the decoder's embedding matrix (Press & Wolf 2017)."
    )
    initializer_range: float = _option(
        0.3,
        "Standard deviation of the initial embeddings, and with `tie_word_embeddings` of the output layer. Nothing "
        "scales them on their way into the recurrent layers, which learn slowly from small inputs.",
    )
    pad_token_id: int = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    unk_token_id: int | None = 3
    decoder_start_token_id: int = 1
    source_lang: str | None = None
    target_lang: str | None = None
    is_encoder_decoder: bool = True
    use_cache: bool = True

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Check the number of layers as given, before the generated `__init__` fills in its default."""
        _require_one_number_of_layers(kwargs)
        return super().__new__(cls)

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in what follows from other fields, and check all values."""
        if self.share_encoder_decoder_embeddings is None:
            self.share_encoder_decoder_embeddings = self.decoder_vocab_size is None
        _require_dtype(self.dtype)
        _require_dtype(kwargs.get("torch_dtype"))  # its name in older files
        _require_quantization(kwargs.get("quantization_config"))
        super().__post_init__(**kwargs)
        self.check()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Build a configuration from the content of a `config.json`; `kwargs` are as in `PreTrainedConfig.from_dict`.

        Raises:
            ValueError: if it is that of another model type, or a value is not allowed.
        """
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(
                f"This is a configuration of model_type {model_type!r}, but {cls.__name__} reads {cls.model_type!r}. "
                "Load the checkpoint with the class of its own type, or with the Auto classes."
            )
        _require_one_number_of_layers(kwargs)
        return super().from_dict(config_dict, **kwargs)

    def check(self) -> None:
        """Raise a ValueError that names the field and what is allowed, unless all values are, and fit each other.

        The model does so again when it is built, for values that were changed in the meantime.
        """
        self._check_values()
        self._check_number_of_parameters()
        self._check_token_ids()
        self._check_contradictions()

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Any:
        """The configuration of one side, or of both if the arguments are equal: this object, or a copy if it differs.

        `vocab_size` and `num_hidden_layers` are those of the side. For both sides, the former is the target's, which
        `generate()` takes for the vocabulary it writes, and the latter the encoder's.
        """
        if encoder and not decoder:
            return self
        layers = self.decoder_layers if decoder and not encoder else self.encoder_layers
        if (self.target_vocab_size, layers) == (self.vocab_size, self.encoder_layers):
            return self
        config = copy.copy(self)
        config.vocab_size, config.num_hidden_layers = self.target_vocab_size, layers
        return config

    @property
    def target_vocab_size(self) -> int:
        """Number of target tokens, whether or not the vocabulary is joint."""
        return self.vocab_size if self.decoder_vocab_size is None else self.decoder_vocab_size

    @property
    def dropout_of_embeddings(self) -> float:
        """`embedding_dropout`, or `dropout` where that is None."""
        return self.dropout if self.embedding_dropout is None else self.embedding_dropout

    def _check_values(self) -> None:
        for option in fields(self):
            name, rule, value = option.name, option.metadata, getattr(self, option.name)
            if name in CHOICES and value not in CHOICES[name]:
                raise ValueError(f"{name}={value!r} is not known; allowed are {', '.join(CHOICES[name])}.")
            if value is not None or option.default is not None:
                if "largest" in rule:
                    _require_size(name, value, rule["largest"])
                if "share" in rule:
                    _require_share(name, value)
        for name in SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r} must be True or False.")
        for name in LANGUAGES:
            language = getattr(self, name)
            is_text = isinstance(language, str) and language.strip() and len(language) <= LONGEST_LANGUAGE
            if language is not None and not is_text:
                allowed = f"None or a language, such as 'en', in 1 to {LONGEST_LANGUAGE} characters"
                raise ValueError(f"{name}={language!r:.200} must be {allowed}.")
        spread = self.initializer_range
        if isinstance(spread, bool) or not isinstance(spread, (int, float)) or not 0 < spread < math.inf:
            raise ValueError(f"initializer_range={spread!r} must be a finite number above 0.")

    def _check_number_of_parameters(self) -> None:
        """Count the embeddings, and recurrent layers of four gates with inputs as wide as their states."""
        embeddings = (self.vocab_size + (self.decoder_vocab_size or 0)) * self.embedding_size
        layers = 8 * self.hidden_size**2 * (self.encoder_layers + self.decoder_layers)
        if embeddings + layers > MOST_PARAMETERS:
            raise ValueError(
                f"vocab_size, decoder_vocab_size and embedding_size make about {embeddings:,} parameters, "
                f"hidden_size, encoder_layers and decoder_layers about {layers:,}; together they must be at most "
                f"{MOST_PARAMETERS:,}: there is no such recurrent model."
            )

    def _check_token_ids(self) -> None:
        for name, side in TOKEN_IDS.items():
            value = getattr(self, name)
            limit = self.target_vocab_size if side == "target" else min(self.vocab_size, self.target_vocab_size)
            several = name == "eos_token_id" and isinstance(value, (list, tuple)) and len(value) > 0
            for token_id in value if several else [value]:
                if token_id is None and not several:
                    continue
                if isinstance(token_id, bool) or not isinstance(token_id, int) or not 0 <= token_id < limit:
                    kind = "ids" if several else "None or one id"
                    raise ValueError(f"{name}={value!r} must be {kind} from 0 to {limit - 1}, inside the vocabulary.")
        for name in ("pad_token_id", "decoder_start_token_id"):
            if getattr(self, name) is None:
                raise ValueError(f"{name}=None: the model needs it to shift labels and to begin decoding; set an id.")

    def _check_contradictions(self) -> None:
        if self.num_attention_heads != 1 and self.attention_type in BUILT_IN["attention_type"]:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads!r}: attention_type={self.attention_type!r} has one "
                "head; leave it out."
            )
        if self.hidden_size % 2:
            size = f"hidden_size={self.hidden_size}"
            raise ValueError(f"{size} must be even: each direction of the first encoder layer has half.")
        if self.share_encoder_decoder_embeddings and self.decoder_vocab_size not in (None, self.vocab_size):
            raise ValueError(
                f"share_encoder_decoder_embeddings=True contradicts decoder_vocab_size={self.decoder_vocab_size} "
                f"beside vocab_size={self.vocab_size}; for separate vocabularies set "
                "share_encoder_decoder_embeddings=False."
            )
        if self.attention_type == "none" and self.bridge == "zero":
            raise ValueError(
                "attention_type='none' contradicts bridge='zero': the decoder would never see the source. Choose "
                "another bridge (dense, copy) or an attention."
            )
        if not self.is_encoder_decoder:
            raise ValueError(
                "is_encoder_decoder=False: an RNN sequence-to-sequence model is an encoder-decoder; leave it True."
            )


def _require_size(name: str, value: object, largest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r} must be a whole number of at least 1.")
    if value > largest:
        raise ValueError(f"{name}={value!r} must be at most {largest:,}: there is no such recurrent model.")


def _require_share(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"{name}={value!r} must be a number from 0 up to, but not including, 1.")


def _require_one_number_of_layers(values: dict[str, Any]) -> None:
    """Raise if both names of the number of encoder layers are given, with different values."""
    own, alias = values.get("encoder_layers"), values.get("num_hidden_layers")
    if own is not None and alias is not None and own != alias:
        raise ValueError(
            f"num_hidden_layers={alias!r} contradicts encoder_layers={own!r}: they are two names of one thing; leave "
            "num_hidden_layers out."
        )


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


# The fields of the architecture.
OPTIONS = {option.name: option for option in fields(RnnS2SConfig) if "help" in option.metadata}
# What each field that names a class may be; `hf_rnn_s2s.register` adds to it.
CHOICES: dict[str, tuple[str, ...]] = {
    name: option.metadata["choices"] for name, option in OPTIONS.items() if "choices" in option.metadata
}
BUILT_IN = dict(CHOICES)  # the same without classes of the user's own
