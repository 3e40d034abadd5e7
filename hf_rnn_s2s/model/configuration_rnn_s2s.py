"""The configuration of an RNN sequence-to-sequence model: every architecture switch, checked when it is built."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import field, fields
from typing import Any

from transformers import AutoConfig

from .remote_code_rnn_s2s import CodeCarryingConfig

# Upper bounds of sizes: above those of any recurrent model, and low enough that a mistyped or hostile config.json is
# refused before it takes all memory.
MOST_TOKENS, WIDEST, MOST_LAYERS = 10_000_000, 65_536, 1_000

# Filled by the package; a checkpoint needs neither. What `RnnS2SConfig.from_preset` knows, and checks of a
# configuration together with what it was given beside its fields.
PRESETS: dict[str, Callable[[], dict[str, Any]]] = {}
CHECKS: list[Callable[[Any, dict[str, Any]], None]] = []


def _option(default: Any, help: str, **rule: Any) -> Any:
    """A field of the architecture. Documentation, arguments of training and checks are made of what it says.

    Args:
        default: in a new model.
        help: what it is, in one or more sentences. The first one stands by itself.
        rule: what is allowed: `choices`, names of classes in one text; `largest`, of whole numbers from 1 on;
            `least=0`, of whole numbers from 0 on; `share=True`, for numbers from 0 up to 1; or `weight=True`, for
            numbers from 0 on.
    """
    if "choices" in rule:
        rule["choices"] = tuple(rule["choices"].split())
    return field(default=default, metadata={"help": help, **rule})


class RnnS2SConfig(CodeCarryingConfig):
    """The architecture of an encoder-decoder of recurrent layers with attention.

    All arguments are keywords. `from_preset` has the architectures of the literature, by name.

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
        "Number of tokens of the source, and of the target while `decoder_vocab_size` is None.",
        largest=MOST_TOKENS,
    )
    decoder_vocab_size: int | None = _option(
        None, "Number of target tokens in a vocabulary of its own; None means a joint one.", largest=MOST_TOKENS
    )
    encoder_type: str = _option(
        "bidirectional",
        "What reads the source.",
        choices="bidirectional unidirectional bidirectional_stack self_attentive pyramidal transformer pretrained",
    )
    decoder_type: str = _option("stack", "What writes the target.", choices="stack conditional")
    head_type: str = _option(
        "vocabulary", "What turns decoder outputs into scores of tokens.", choices="vocabulary copying marginal"
    )
    copy_slots: int = _option(
        0,
        "Number of words of one source that can be copied though the vocabulary lacks them.",
        least=0,
        largest=WIDEST,
    )
    coverage_loss: float = _option(
        0.0, "Weight of the coverage loss, which training adds to the cross-entropy (See et al. 2017).", weight=True
    )
    cell_type: str = _option(
        "lstm",
        "The recurrent cell. The last two have no fused kernel, so that training is slower.",
        choices="lstm gru layer_norm_lstm reset_first_gru",
    )
    attention_type: str = _option(
        "general",
        "How a query is compared with the memory. With `none`, the plain encoder-decoder of Sutskever et al. 2014, "
        "the decoder sees the source through its first state only. The hard ones go with the marginal head.",
        choices="none dot scaled_dot general additive normed_additive cosine plain_cosine coverage location hard "
        "hard_monotonic hard_first_order hard_first_order_monotonic",
    )
    attention_span: str = _option(
        "global", "Which part of the source a query may look at; `global`: all.", choices="global monotonic predictive"
    )
    attention_window: int = _option(
        10,
        "Number of positions on either side of the middle of such a window, and how far hard_first_order may move.",
        largest=WIDEST,
    )
    attention_normalizer: str = _option(
        "softmax", "What turns scores into weights. Sparsemax gives some of zero.", choices="softmax sparsemax"
    )
    attention_layer: str = _option(
        "bottom", "The decoder layer whose outputs are the queries: the first or the last one.", choices="bottom top"
    )
    attention_query: str = _option(
        "current",
        "Whether it asks with its state after the token, or with its previous one (Bahdanau et al. 2015).",
        choices="current previous",
    )
    context_layers: str = _option(
        "above",
        "Which layers read the context, beside the readout: those above the one that asks, or all.",
        choices="above all",
    )
    context_fusion: str = _option("concat", "How a context joins a layer's input.", choices="concat add gated")
    input_feeding: bool = _option(
        False,
        "The first layer also reads what the output layer read at the step before (Luong et al. 2015), which takes a "
        "loop over the steps in training, as do coverage, location, conditional decoders and contexts for all layers.",
    )
    readout: str = _option(
        "attentional",
        "What the output layer reads of state h, context c and the token's embedding y.",
        choices="attentional linear state joined deep maxout self_attentive",
    )
    bridge: str = _option(
        "dense",
        "How the encoder's final states become the decoder's first ones.",
        choices="dense backward average copy last zero",
    )
    reverse_source: bool = _option(
        False, "The encoder reads the source from its last token to the first (Sutskever et al. 2014)."
    )
    embedding_size: int = _option(
        256, "Width of the token embeddings, and of the output layer that is tied to them.", largest=WIDEST
    )
    hidden_size: int = _option(
        512, "Width of all layers, and of the memory, unless options below say otherwise.", largest=WIDEST
    )
    encoder_direction_size: int | None = _option(
        None, "Width of each direction of a bidirectional layer; None means half of `hidden_size`.", largest=WIDEST
    )
    encoder_attention_heads: int = _option(8, "Number of heads of the `transformer` encoder.", largest=WIDEST)
    encoder_ffn_dim: int = _option(2048, "Width of its feed-forward layers.", largest=WIDEST)
    num_mel_bins: int = _option(80, "Number of features of a frame of speech, for `pyramidal`.", largest=WIDEST)
    stacked_frames: int = _option(1, "Number of frames that its first layer reads side by side.", largest=WIDEST)
    apply_spec_augment: bool = _option(
        False, "Whether spans of frames and of features of speech are set to 0 in training (Park et al. 2019)."
    )
    mask_time_prob: float = _option(0.1, "Share of the frames in such spans.", share=True)
    mask_time_length: int = _option(10, "Frames in one span.", largest=WIDEST)
    mask_feature_prob: float = _option(0.1, "Share of the features in such spans.", share=True)
    mask_feature_length: int = _option(8, "Features in one span.", largest=WIDEST)
    encoder_name: str | None = _option(
        None, "A pretrained encoder, such as a BERT: a folder or a name on the Hub, from which its weights come."
    )
    freeze_encoder: bool = _option(False, "Whether the weights of a pretrained encoder stay as they are.")
    encoder_projection_size: int | None = _option(
        None, "Width of a learned map of the encoder's outputs, which then is that of the memory.", largest=WIDEST
    )
    decoder_hidden_size: int | None = _option(
        None, "Width of the decoder's layers; None means `hidden_size`.", largest=WIDEST
    )
    attention_hidden_size: int | None = _option(
        None, "Width of the hidden layer of additive scores; None means that of the query.", largest=WIDEST
    )
    readout_size: int | None = _option(
        None, "Width of what the output layer reads; None means `embedding_size`.", largest=WIDEST
    )
    encoder_layers: int = _option(1, "Number of encoder layers.", largest=MOST_LAYERS)
    decoder_layers: int = _option(2, "Number of decoder layers.", largest=MOST_LAYERS)
    first_residual_layer: int = _option(
        2, "The first layer of encoder and decoder, counted from 1, that adds to what it reads; 0: none.", least=0
    )
    num_attention_heads: int = _option(
        1, "Number of attention heads, each of which attends to a part of query and memory.", largest=WIDEST
    )
    location_filters: int = _option(10, 'Number of filters of `attention_type="location"`.', largest=WIDEST)
    location_width: int = _option(7, "Number of positions on either side that such a filter sees.", largest=WIDEST)
    dropout: float = _option(
        0.2,
        "Dropout between recurrent layers and before the output layer. One mask is drawn for a whole sequence, which "
        "regularises recurrent layers better than a new one per step (Gal & Ghahramani 2016).",
        share=True,
    )
    embedding_dropout: float | None = _option(
        None, "Dropout of the embedded tokens; None means the value of `dropout`.", share=True
    )
    attention_dropout: float = _option(0.0, "Dropout of the attention weights.", share=True)
    state_dropout: float = _option(
        0.0,
        "Dropout of the hidden state on its way to the next step (Gal & Ghahramani 2016). No fused kernel can do it.",
        share=True,
    )
    recurrent_dropout: float = _option(
        0.0, "Dropout of what a step adds to the state (Semeniuta et al. 2016). As slow.", share=True
    )
    label_smoothing: float = _option(
        0.0,
        "Share of the target probability that is spread over the whole vocabulary, in training mode only.",
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
        "Standard deviation of the initial embeddings. Recurrent layers learn slowly from small inputs.",
    )
    pad_token_id: int = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    unk_token_id: int | None = 3
    decoder_start_token_id: int = 1
    encoder_config: Any = None  # of a pretrained encoder
    task: str = "translation"  # what the model is trained for, which decides the pipeline of a checkpoint
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
        if self.decoder_type == "residual":  # its name for a while
            self.decoder_type = "stack"
        is_pretrained = self.encoder_type == "pretrained"
        if self.share_encoder_decoder_embeddings is None:
            self.share_encoder_decoder_embeddings = self.decoder_vocab_size is None and not is_pretrained
        if isinstance(self.encoder_config, dict):
            self.encoder_config = AutoConfig.for_model(**self.encoder_config)
        elif is_pretrained and self.encoder_config is None and self.encoder_name is not None:
            self.encoder_config = AutoConfig.from_pretrained(self.encoder_name)
        if self.encoder_config is not None:
            self.encoder_config.dtype = None  # that of the whole model
            if self.vocab_size == RnnS2SConfig.vocab_size:
                self.vocab_size = getattr(self.encoder_config, "vocab_size", self.vocab_size)
        self.check(kwargs)
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

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> RnnS2SConfig:
        """The architecture of a paper, with the paper's sizes; `overrides` are fields with other values.

        The functions in `hf_rnn_s2s.presets` describe them: `help(hf_rnn_s2s.presets)`.

        Raises:
            ValueError: for an unknown name, or values that are not allowed or contradict each other.
        """
        return cls(**{**preset_values(name), **overrides})

    def check(self, given: dict[str, Any] | None = None) -> None:
        """Raise a ValueError that names the field and what is allowed, unless all values are, and fit each other.

        The model does so again when it is built, for values that were changed in the meantime. `given` are arguments
        beside the fields. Without the package, only the names of classes are looked at.
        """
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not known; allowed are {', '.join(allowed)}.")
        for check in CHECKS:
            check(self, given or {})

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Any:
        """The configuration of one side, or of both if the arguments are equal: this object, or a copy if it differs.

        `vocab_size` and `num_hidden_layers` are those of the side. For both sides, the former is the target's, which
        `generate()` takes for the vocabulary it writes, and the latter the encoder's.
        """
        if encoder and not decoder:
            return self
        layers = self.decoder_layers if decoder and not encoder else self.encoder_layers
        if (self.written_vocab_size, layers) == (self.vocab_size, self.encoder_layers):
            return self
        config = copy.copy(self)
        config.vocab_size, config.num_hidden_layers = self.written_vocab_size, layers
        return config

    @property
    def target_vocab_size(self) -> int:
        """Number of target tokens, whether or not the vocabulary is joint."""
        return self.vocab_size if self.decoder_vocab_size is None else self.decoder_vocab_size

    @property
    def written_vocab_size(self) -> int:
        """Number of ids that can be written: the target's tokens, and the slots for copied words."""
        return self.target_vocab_size + self.copy_slots

    @property
    def decoder_size(self) -> int:
        """Width of the decoder's layers."""
        return self.hidden_size if self.decoder_hidden_size is None else self.decoder_hidden_size

    @property
    def direction_size(self) -> int:
        """Width of each direction of a bidirectional layer of the encoder."""
        return self.hidden_size // 2 if self.encoder_direction_size is None else self.encoder_direction_size

    @property
    def dropout_of_embeddings(self) -> float:
        """`embedding_dropout`, or `dropout` where that is None."""
        return self.dropout if self.embedding_dropout is None else self.embedding_dropout


def preset_values(name: str) -> dict[str, Any]:
    """The fields that a preset sets; a ValueError names all presets if there is none of that name."""
    if name not in PRESETS:
        known = ", ".join(PRESETS) or "none, as they are in the package hf_rnn_s2s, which is not imported"
        raise ValueError(f"There is no preset {name!r}; known are {known}.")
    return PRESETS[name]()


def _require_one_number_of_layers(values: dict[str, Any]) -> None:
    """Raise if both names of the number of encoder layers are given, with different values."""
    own, alias = values.get("encoder_layers"), values.get("num_hidden_layers")
    if own is not None and alias is not None and own != alias:
        raise ValueError(
            f"num_hidden_layers={alias!r} contradicts encoder_layers={own!r}: they are two names of one thing; leave "
            "num_hidden_layers out."
        )


# The fields of the architecture.
OPTIONS = {option.name: option for option in fields(RnnS2SConfig) if "help" in option.metadata}
# What each field that names a class may be; `hf_rnn_s2s.register` adds to it.
CHOICES: dict[str, tuple[str, ...]] = {
    name: option.metadata["choices"] for name, option in OPTIONS.items() if "choices" in option.metadata
}
BUILT_IN = dict(CHOICES)  # the same without classes of the user's own
