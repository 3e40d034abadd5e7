"""The attention of speech: which moment of a recording the model listens to while it writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from ..data.speech import SpeechCollator
from ..decoding.attentions import mean_of_heads, read_cross_attentions
from ..decoding.evaluation import EvaluationView
from .plots import plot_attention

HOP = 160  # samples from one frame of the feature extractor to the next
WIDEST = 120  # positions of the memory, or tokens, that can still be drawn
Row = tuple[str, str, str]


def draw_speech_attention(path: Path, model: Any, processor: Any, rows: Sequence[Row], test: Dataset) -> None:
    """Draw the attention of one recording of the test split, with seconds along its axis; nothing if all are too long.

    Of the recordings that are short enough it is the longest one whose transcript is right.

    Args:
        path: of the picture.
        model: the trained model.
        processor: has the feature extractor and the tokenizer.
        rows: of name, reference and transcript.
        test: their features.
    """
    step = model.config.stacked_frames * 2 ** (model.config.encoder_layers - 1)
    tokenizer = processor.tokenizer
    candidates = []
    for number, (length, (_, reference, transcript)) in enumerate(zip(test["length"], rows, strict=True)):
        places, tokens = -(-length // step), len(tokenizer(transcript)["input_ids"])
        if places <= WIDEST and tokens <= WIDEST:
            candidates.append((transcript == reference, length, -number))
    if not candidates:
        return
    number = -max(candidates)[2]
    inputs = SpeechCollator()([{"input_features": test[number]["input_features"]}])
    inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
    labels = torch.tensor([tokenizer(rows[number][2])["input_ids"]], device=model.device)
    view = EvaluationView().of(model)
    layers = read_cross_attentions(view, view.prepare_decoder_input_ids_from_labels(labels), **inputs)
    weights = mean_of_heads(tuple(layer[0] for layer in layers))
    seconds = step * HOP / processor.feature_extractor.sampling_rate
    moments = [f"{place * seconds:.2f}" for place in range(weights.shape[1])]
    figure = plot_attention(moments, tokenizer.convert_ids_to_tokens(labels[0].tolist()), weights)
    figure.axes[0].set_xlabel("source (seconds)")
    figure.savefig(path)
