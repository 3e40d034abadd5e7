"""Reads recordings with `soundfile`, and resamples them with `soxr`."""

from __future__ import annotations

import io
import math

import numpy as np


def read_samples(file: str | bytes, sampling_rate: int) -> np.ndarray:
    """The samples of a recording, float32 `(samples,)`: the mean of its channels, at the given rate in hertz.

    Args:
        file: the path of a file, or its content.
        sampling_rate: samples per second of what is returned.

    Raises:
        OSError, RuntimeError: if it cannot be read, as `soundfile` raises them.
    """
    import soundfile

    samples, rate = soundfile.read(
        io.BytesIO(file) if isinstance(file, bytes) else file, dtype="float32", always_2d=True
    )
    return resample(samples.mean(axis=1), rate, sampling_rate)


def resample(samples: np.ndarray, given_rate: int, sampling_rate: int) -> np.ndarray:
    """Samples `(samples,)` at another rate; there are as many as fill the same time, rounded up."""
    import soxr

    if given_rate == sampling_rate or not len(samples):
        return np.ascontiguousarray(samples, dtype=np.float32)
    length = math.ceil(len(samples) * sampling_rate / given_rate)
    resampled = soxr.resample(samples, given_rate, sampling_rate, quality="HQ")
    resampled = np.pad(resampled, (0, max(0, length - len(resampled))))[:length]
    return np.ascontiguousarray(resampled, dtype=np.float32)
