"""Models in folders for the tests of the page: small, random, and with cards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, train_tokenizer

from ..conftest import TINY_TEXTS
from ..speech import BINS, processor

EXAMPLES = ["the dog runs", "one red cat sleeps on the big mat"]
CARD = """\
# tiny

Translates English to German. Trained with hf-rnn-s2s 0.1.0, whose code it carries.

| Source | Reference | Translation |
|---|---|---|
"""


def save_model(
    folder: Path, *, seed: int = 0, examples: Sequence[str] = EXAMPLES, longest: int = 128, **values: Any
) -> Path:
    """A model that reads text, random and the same for the same seed, with its tokenizer and a card.

    Args:
        folder: where to save it.
        seed: of its weights.
        examples: in its card.
        longest: the most pieces of a text that it reads.
        values: of its configuration.
    """
    tokenizer = train_tokenizer(TINY_TEXTS, vocab_size=100, kind="word")
    tokenizer.model_max_length = longest
    sizes = {"vocab_size": len(tokenizer), "embedding_size": 16, "hidden_size": 16, "initializer_range": 1.0}
    torch.manual_seed(seed)
    model = RnnS2SForConditionalGeneration(RnnS2SConfig(**{**sizes, **values})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "attention" in name:
                parameter *= 2  # or it would look at everything alike
    model.generation_config.update(max_length=13, num_beams=3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    rows = "".join(f"| {example} | ein Text | noch ein Text |\n" for example in examples)
    (folder / "README.md").write_text(CARD + rows, encoding="utf-8")
    return folder


def save_listener(folder: Path) -> Path:
    """A model that listens, random, with its tokenizer and its feature extractor."""
    one = processor()
    torch.manual_seed(0)
    config = RnnS2SConfig(
        vocab_size=len(one.tokenizer),
        encoder_type="pyramidal",
        num_mel_bins=BINS,
        stacked_frames=4,
        encoder_layers=2,
        hidden_size=16,
        embedding_size=16,
        decoder_layers=1,
        initializer_range=0.6,
        task="speech-recognition",
    )
    model = RnnS2SForConditionalGeneration(config).eval()
    model.generation_config.update(max_length=13)
    with torch.no_grad():
        model.lm_head.bias[one.tokenizer.all_special_ids] -= 20.0  # or it might hear nothing
    model.save_pretrained(folder)
    one.save_pretrained(folder)
    return folder
