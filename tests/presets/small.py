"""Every preset in a size that plain loops get through, with random weights."""

from typing import Any

import torch
from transformers import BertConfig

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration

START, END, VOCABULARY, LENGTH = 1, 2, 7, 3
TOKENS = torch.tensor([[4, 5, 6, 3, 2], [6, 4, 2, 0, 0], [3, 3, 5, 2, 0]])
TARGETS = torch.tensor([[START, 4, 6, 3], [START, 5, 5, 2], [START, 3, 4, 5]])

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "decoder_vocab_size": None,
    "embedding_size": 6,
    "hidden_size": 8,
    "dropout": 0.0,
    "label_smoothing": 0.0,
    "unk_token_id": None,
    "initializer_range": 1.0,
}
# What is as wide as it is by the preset, or as deep, and would be slow
OF_PRESETS: dict[str, dict[str, Any]] = {
    "sutskever2014": {"encoder_layers": 3, "decoder_layers": 3},
    "bahdanau2015": {"encoder_direction_size": 5, "readout_size": 4},
    "luong2015": {"encoder_layers": 2, "decoder_layers": 2},
    "luong2015-local": {"encoder_layers": 2, "decoder_layers": 2, "attention_window": 2},
    "gnmt2016": {"encoder_direction_size": 5, "encoder_layers": 4, "decoder_layers": 4},
    "rnmt-plus2018": {
        "encoder_direction_size": 5,
        "encoder_projection_size": 12,
        "encoder_layers": 3,
        "decoder_layers": 4,
    },
    "nematus-conditional-gru": {"encoder_direction_size": 5, "attention_hidden_size": 9},
    "cosine-add": {},
    "hybrid": {
        "embedding_size": 8,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 10,
        "encoder_layers": 2,
        "decoder_layers": 4,
    },
    "self-attentive": {"encoder_direction_size": 5, "attention_hidden_size": 9},
    "pretrained-encoder": {},
    "pointer-generator2017": {
        "encoder_direction_size": 5,
        "attention_hidden_size": 9,
        "readout_size": 4,
        "copy_slots": 2,
        "unk_token_id": 3,
        "coverage_loss": 0.0,
    },
    "wu2019-hard": {"encoder_direction_size": 5, "readout_size": 4, "attention_window": 2},
}
# Other models of the same papers, by names of their own: the preset, and what differs from it
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "wu2019-hard-zeroth-order": ("wu2019-hard", {"attention_type": "hard"}),
    "wu2019-hard-monotonic": ("wu2019-hard", {"attention_type": "hard_monotonic"}),
    "wu2019-hard-first-order": ("wu2019-hard", {"attention_type": "hard_first_order"}),
}
ALL = [*OF_PRESETS, *VARIANTS]


BERT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 6,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 9,
    "max_position_embeddings": 9,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.5,
}


def build(name: str, **values: Any) -> RnnS2SForConditionalGeneration:
    """The same model for the same name, in evaluation mode."""
    torch.manual_seed(4)
    if name == "pretrained-encoder":
        values = {"encoder_config": BertConfig(**BERT), **values}
    preset, different = VARIANTS.get(name, (name, {}))
    config = RnnS2SConfig.from_preset(preset, **{**SIZES, **OF_PRESETS[preset], **different, **values})
    model = RnnS2SForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # those that begin at zero, too
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


# For a model that copies, every unknown word of a row is another one.
COPIED = torch.tensor([[4, 5, 6, VOCABULARY, 2], [6, 4, 2, 0, 0], [VOCABULARY, VOCABULARY + 1, 5, 2, 0]])


def inputs(name: str) -> dict[str, torch.Tensor]:
    given = {"input_ids": TOKENS, "attention_mask": TOKENS.ne(0).long()}
    return {**given, "copy_ids": COPIED} if name == "pointer-generator2017" else given


def source_of(row: int) -> list[int]:
    """One source without padding."""
    return TOKENS[row][TOKENS[row].ne(0)].tolist()
