"""The architectures of the literature by name: `RnnS2SConfig.from_preset(name)`.

Each preset is a function whose docstring says which paper it follows and where the paper leaves something open. What
it returns are the fields of `RnnS2SConfig` that differ from their defaults, with the sizes of the paper.

The default architecture has no preset of its own: it is the attention of GNMT's second version in a shape that runs
without any loop over steps, with tied embeddings. `gnmt2016` tells how the two differ.
"""

from __future__ import annotations

from typing import Any

from .model.configuration_rnn_s2s import PRESETS

# Papers before 2017 neither share nor tie embeddings.
SEPARATE: dict[str, Any] = {"tie_word_embeddings": False, "share_encoder_decoder_embeddings": False}
# What Luong et al. 2015 took over from Sutskever et al. 2014
FOUR_REVERSED_LAYERS: dict[str, Any] = {
    "encoder_type": "unidirectional",
    "reverse_source": True,
    "bridge": "copy",
    "embedding_size": 1000,
    "hidden_size": 1000,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "first_residual_layer": 0,
}


def sutskever2014() -> dict[str, Any]:
    """Sutskever, Vinyals & Le 2014, Sequence to Sequence Learning with Neural Networks, sections 2 and 3.4.

    Four LSTM layers on each side and no attention: the final state of each encoder layer is the first state of the
    decoder layer of the same number, and all that the decoder sees of the source. The encoder reads the source from
    its last token to the first (section 3.3), the output layer the top layer's state as it is.
    """
    return {
        **SEPARATE,
        "vocab_size": 160_000,
        "decoder_vocab_size": 80_000,
        **FOUR_REVERSED_LAYERS,
        "attention_type": "none",
        "readout": "state",
        "dropout": 0.0,
    }


def bahdanau2015() -> dict[str, Any]:
    """Bahdanau, Cho & Bengio 2015, Neural Machine Translation by Jointly Learning to Align and Translate: RNNsearch.

    As in appendix A: GRUs that reset the state before the product (A.1.1); additive attention (A.1.2), asked with the
    previous state, whose context enters the recurrence; the first state from the backward encoder's state at the first
    token (A.2.2); and a maxout readout of previous state, previous token and context.
    """
    return {
        **SEPARATE,
        "vocab_size": 30_000,
        "decoder_vocab_size": 30_000,
        "cell_type": "reset_first_gru",
        "attention_type": "additive",
        "attention_query": "previous",
        "context_layers": "all",
        "readout": "maxout",
        "bridge": "backward",
        "embedding_size": 620,
        "hidden_size": 1000,
        "encoder_direction_size": 1000,
        "readout_size": 500,
        "decoder_layers": 1,
        "dropout": 0.0,
    }


def luong2015() -> dict[str, Any]:
    """Luong, Pham & Manning 2015, Effective Approaches to Attention-based Neural Machine Translation, section 3.1.

    Global attention: four LSTM layers on each side that hand their states over layer by layer, the source reversed,
    and attention of the top layer with the general score (equation 8). The attentional vector (equation 5) is fed back
    to the next step (section 3.3).
    """
    return {
        **SEPARATE,
        "vocab_size": 50_000,
        "decoder_vocab_size": 50_000,
        **FOUR_REVERSED_LAYERS,
        "attention_layer": "top",
        "input_feeding": True,
    }


def luong2015_local() -> dict[str, Any]:
    """As `luong2015`, with local attention around a predicted position (local-p, section 3.2, equations 9 and 10).

    The window reaches ten positions to either side. As the position is a share of the length without padding, it does
    not depend on the batch; the Gaussian weights are not normalised again.
    """
    return {**luong2015(), "attention_span": "predictive", "attention_window": 10}


def gnmt2016() -> dict[str, Any]:
    """Wu et al. 2016, Google's Neural Machine Translation System, section 3.

    Eight LSTM layers on each side, of which only the first encoder layer reads in both directions, with residual
    connections from the third one on. The attention is a network with one hidden layer, asked with the bottom
    decoder layer's output of the step before (equation 4); the context joins the input of all layers above. The output
    layer reads the top layer's outputs. Of the decoder's first states the paper says nothing; here they are zeros.

    The default architecture of this package follows the second version, as tensorflow/nmt and NVIDIA have it: it asks
    with the output of the same step. Its readout `tanh(W [h; c])` and its general score are Luong's.
    """
    return {
        **SEPARATE,
        "vocab_size": 32_000,
        "attention_type": "additive",
        "attention_query": "previous",
        "readout": "state",
        "bridge": "zero",
        "embedding_size": 1024,
        "hidden_size": 1024,
        "encoder_direction_size": 1024,
        "encoder_layers": 8,
        "decoder_layers": 8,
        "first_residual_layer": 3,
    }


def rnmt_plus2018() -> dict[str, Any]:
    """Chen et al. 2018, The Best of Both Worlds, section 3: RNMT+.

    Six encoder layers that all read in both directions, and eight decoder layers, of LSTMs with normalised gates and
    residual connections from the third layer on. A projection makes the encoder's outputs as wide as the decoder.
    Attention has four additive heads, asked as in `gnmt2016`; its context goes to all decoder layers and, beside the
    top layer's outputs, to the output layer. The decoder starts from zeros.
    """
    return {
        **SEPARATE,
        "vocab_size": 32_000,
        "encoder_type": "bidirectional_stack",
        "cell_type": "layer_norm_lstm",
        "attention_type": "additive",
        "num_attention_heads": 4,
        "attention_query": "previous",
        "context_layers": "all",
        "readout": "joined",
        "bridge": "zero",
        "embedding_size": 1024,
        "hidden_size": 1024,
        "encoder_direction_size": 1024,
        "encoder_projection_size": 1024,
        "encoder_layers": 6,
        "decoder_layers": 8,
        "first_residual_layer": 3,
        "dropout": 0.3,
        "label_smoothing": 0.1,
    }


def nematus_conditional_gru() -> dict[str, Any]:
    """Sennrich et al. 2017, Nematus: a Toolkit for Neural Machine Translation, section 2.

    A bidirectional GRU encoder, whose mean gives the first state, and a conditional GRU: a transition with the token,
    attention with its state, and a transition with the context. The deep output reads state, context and token. Sizes
    are the defaults of the toolkit, and the vocabulary that of its predecessor, dl4mt-tutorial.
    """
    return {
        **SEPARATE,
        "vocab_size": 30_000,
        "decoder_vocab_size": 30_000,
        "decoder_type": "conditional",
        "cell_type": "gru",
        "attention_type": "additive",
        "attention_hidden_size": 2000,
        "readout": "deep",
        "bridge": "average",
        "embedding_size": 512,
        "hidden_size": 1000,
        "encoder_direction_size": 1000,
        "decoder_layers": 1,
    }


def cosine_add() -> dict[str, Any]:
    """The model of the article that this package set out to implement; it has no sizes of its own.

    The memory `m_j` is mapped, `k_j = W m_j`, and compared with the decoder's state `s_t` by the plain cosine
    `cos(s_t, k_j)`. The sum of the memory, weighted by the softmax of the cosines over `j`, is added to the state, and
    the output layer reads `s_t + c_t`.
    """
    return {
        "tie_word_embeddings": False,
        "attention_type": "plain_cosine",
        "attention_layer": "top",
        "context_fusion": "add",
        "readout": "joined",
        "decoder_layers": 1,
    }


def self_attentive() -> dict[str, Any]:
    """Miculicich Werlen et al. 2018, Self-Attentive Residual Decoder for Neural Machine Translation.

    As `nematus_conditional_gru`, but where that reads the previous token's embedding in the deep output, this reads a
    weighted mean of all tokens so far, `d_t = sum_i a_i y_i` with `a = softmax_i(v · tanh(W y_i + b))`. Besides, the
    encoder's outputs attend to each other: `m_j + sum_k a_jk m_k` with `a_j = softmax_k(m_j · W m_k)`, which is not
    from that paper.
    """
    return {**nematus_conditional_gru(), "encoder_type": "self_attentive", "readout": "self_attentive"}


def pointer_generator2017() -> dict[str, Any]:
    """See, Liu & Manning 2017, Get To The Point: Summarization with Pointer-Generator Networks, section 2.

    A bidirectional LSTM and an LSTM, additive attention that sees its own coverage (equations 10 and 11), two linear
    layers before the softmax (equation 4), and a head that writes or copies (equations 8 and 9). Training adds the
    coverage loss (equation 13); the paper does so for a last short phase only, and before that leaves coverage out.
    Source and target share their embeddings, as in the authors' code. Up to 100 unknown words of a source can be
    copied. The first state is a map of the encoder's last states through tanh, where that code has a rectifier.
    """
    return {
        "tie_word_embeddings": False,
        "vocab_size": 50_000,
        "head_type": "copying",
        "copy_slots": 100,
        "coverage_loss": 1.0,
        "attention_type": "coverage",
        "attention_hidden_size": 512,
        "readout": "linear",
        "readout_size": 256,
        "embedding_size": 128,
        "hidden_size": 256,
        "encoder_direction_size": 256,
        "decoder_layers": 1,
        "dropout": 0.0,
    }


def wu2019_hard() -> dict[str, Any]:
    """Wu & Cotterell 2019, Exact Hard Monotonic Attention for Character-Level Transduction: the model 1-MONO.

    Each target character is written from one position of the source, and its probability is the exact sum over all
    ways in which the positions may have been chosen. From step to step the position moves on by 0 to 5 characters
    (`attention_window`), from the first one at the beginning. `attention_type` has the others: `"hard_first_order"`
    moves in both directions, `"hard_monotonic"` is the paper's 0-MONO, and `"hard"` 0-HARD of Wu, Shapiro & Cotterell
    2018, Hard Non-Monotonic Attention for Character-Level Transduction, whose positions do not depend on each other.

    Two bidirectional LSTM layers read the source. One LSTM layer writes; it begins with zeros and sees the source
    through the attention only. `tanh(W [h; m])` is as wide as `[h; m]`. Sizes, the furthest move and the beginning are
    those of the authors' code (its large models). The vocabulary is that of the data, 2,000 target tokens at most. The
    authors drop parts of state and embeddings; here parts of `m` are dropped, too, as in all readouts.
    """
    return {
        **SEPARATE,
        "vocab_size": 100,
        "encoder_type": "bidirectional_stack",
        "attention_type": "hard_first_order_monotonic",
        "attention_window": 5,
        "head_type": "marginal",
        "readout_size": 1200,
        "bridge": "zero",
        "embedding_size": 200,
        "hidden_size": 400,
        "encoder_direction_size": 400,
        "encoder_layers": 2,
        "decoder_layers": 1,
        "first_residual_layer": 0,
        "dropout": 0.4,
    }


def hybrid() -> dict[str, Any]:
    """Chen et al. 2018, The Best of Both Worlds, section 4: the encoder of a Transformer under the decoder of RNMT+.

    The encoder has six layers of the larger Transformer (Vaswani et al. 2017), normalised before each part. Unlike
    there, embeddings are not scaled, since they begin wide.
    """
    return {
        **rnmt_plus2018(),
        "encoder_type": "transformer",
        "encoder_attention_heads": 16,
        "encoder_ffn_dim": 8192,
        "encoder_direction_size": None,
        "encoder_projection_size": None,
    }


def pretrained_encoder() -> dict[str, Any]:
    """Rothe, Narayan & Severyn 2020, Leveraging Pre-trained Checkpoints, with a recurrent decoder on top.

    Name the encoder, `from_preset("pretrained-encoder", encoder_name="google-bert/bert-base-uncased")`; its weights
    come with `RnnS2SForConditionalGeneration.load_encoder()`, which `train.py` calls. `freeze_encoder=True` leaves
    them as they are. The decoder has the sizes of the default architecture and starts from the mean of the memory.
    """
    return {**SEPARATE, "encoder_type": "pretrained", "bridge": "average"}


def register_presets() -> None:
    """Let `RnnS2SConfig.from_preset` know all of them; underscores in their names become hyphens."""
    presets = (
        sutskever2014,
        bahdanau2015,
        luong2015,
        luong2015_local,
        gnmt2016,
        rnmt_plus2018,
        nematus_conditional_gru,
        cosine_add,
        hybrid,
        self_attentive,
        pretrained_encoder,
        pointer_generator2017,
        wu2019_hard,
    )
    PRESETS.update({preset.__name__.replace("_", "-"): preset for preset in presets})
