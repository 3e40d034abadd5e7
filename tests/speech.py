"""Recordings of tones, which are cheap to make and to tell apart, and a model that is to hear them."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from transformers import Speech2TextFeatureExtractor, Speech2TextProcessor

from hf_rnn_s2s import train_tokenizer

RATE = 16_000
TONES = {"low": 300.0, "mid": 900.0, "high": 2700.0}
BINS = 12


def tones(names: list[str], rate: int = RATE, seconds: float = 0.25) -> np.ndarray:
    """One tone after the other, with a little silence before each."""
    times = np.arange(int(seconds * rate)) / rate
    parts = [part for name in names for part in (np.zeros(rate // 20), 0.3 * np.sin(2 * np.pi * TONES[name] * times))]
    return np.concatenate(parts).astype(np.float32)


def write_tones(path: Path, names: list[str], rate: int = RATE, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = tones(names, rate)
    subtype = "FLOAT" if path.suffix == ".wav" else None  # nothing is rounded
    soundfile.write(path, np.stack([samples] * channels, axis=1), rate, subtype=subtype)
    return path


def processor(chunk_length: float = 5.0) -> Any:
    extractor = Speech2TextFeatureExtractor(
        feature_size=BINS, num_mel_bins=BINS, sampling_rate=RATE, normalize_vars=False, chunk_length=chunk_length
    )
    return Speech2TextProcessor(extractor, train_tokenizer([" ".join(TONES)], 100, kind="symbol"))
