"""The attention of speech: which recording is drawn, with which moments and weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from matplotlib.figure import Figure

from hf_rnn_s2s.data.speech import features_of
from hf_rnn_s2s.training.speech_pictures import WIDEST, draw_speech_attention

from ..random_models import build
from ..speech import BINS, processor, tones

STEP = 8  # frames that one position of the memory has heard: two stacked, and twice two joined
MELODIES = [["low"], ["high", "mid"], ["mid", "low", "high"], ["low", "high", "mid", "high"]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The pictures that were saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def draw(path: Path, transcripts: list[str], test: Dataset | None = None) -> Any:
    """The test split, and the model whose attention was drawn."""
    one = processor()
    model = build(
        vocab_size=len(one.tokenizer), encoder_type="pyramidal", num_mel_bins=BINS, stacked_frames=2, encoder_layers=3,
        attention_type="additive", dropout=0.0, task="speech-recognition",
    )  # fmt: skip
    features = [features_of(tones(names), one.feature_extractor) for names in MELODIES]
    split = Dataset.from_dict({"input_features": features, "length": [len(row) for row in features]})
    test = split if test is None else test
    references = [" ".join(names) for names in MELODIES]
    rows = [("", *texts) for texts in zip(references, transcripts, strict=True)]
    draw_speech_attention(path, model, one, rows, test)
    return split, model


def labels(ticks: Any) -> list[str]:
    return [label.get_text() for label in ticks]


def test_it_is_the_longest_recording_whose_transcript_is_right(tmp_path: Path, drawn: list[Figure]) -> None:
    right_of_two = ["low", "high mid", "low", "low high"]
    split, model = draw(tmp_path / "attention.png", right_of_two)
    axes = drawn[0].axes[0]
    assert labels(axes.get_yticklabels()) == ["high", "mid", "</s>"]
    positions = -(-split["length"][1] // STEP)
    assert labels(axes.get_xticklabels()) == [f"{place * STEP * 0.01:.2f}" for place in range(positions)]
    assert axes.get_xlabel() == "source (seconds)"

    target = torch.tensor([processor().tokenizer("high mid")["input_ids"]])
    frames = torch.tensor(np.array(split[1]["input_features"]), dtype=torch.float32)[None]
    with torch.no_grad():
        output = model(input_features=frames, labels=target, output_attentions=True)
    expected = torch.stack(output.cross_attentions)[-1, 0].mean(0)
    np.testing.assert_allclose(axes.images[0].get_array(), expected.numpy(), atol=1e-6)


def test_without_a_right_transcript_it_is_the_longest_and_none_that_is_too_long(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    split, _ = draw(tmp_path / "attention.png", ["mid"] * 4)
    assert len(labels(drawn[0].axes[0].get_xticklabels())) == -(-split["length"][3] // STEP)
    too_long = split.remove_columns("length").add_column("length", [WIDEST * STEP + 1] * 4)
    draw(tmp_path / "none.png", ["mid"] * 4, too_long)
    assert not (tmp_path / "none.png").exists()
