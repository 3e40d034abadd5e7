"""The pipeline of speech recognition: files, arrays and long recordings in, text out."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutomaticSpeechRecognitionPipeline
from transformers.audio_utils import load_audio

from .remote_code_rnn_s2s import model_to_share

SILENCE = 1e-4  # of full scale: a recording that is nowhere louder is silent, and has no text
SHORTEST = 400  # samples of one window of the feature extractor
SHORTEST_PIECE = 0.1  # seconds of the shortest `chunk_length_s`
BLOCK_SECONDS = 0.05  # of which the quietest one is where a long recording is cut
DEFAULT_SECONDS = 20.0  # longest piece, where the feature extractor has no `chunk_length`


class RnnSpeechRecognitionPipeline(AutomaticSpeechRecognitionPipeline):
    """Transcribes speech: `pipeline("automatic-speech-recognition", model=...)` gives `{"text": ...}`.

    Files are read by `soundfile` and need no ffmpeg, but transformers 5.23 or later, and `soxr`. A recording that is
    longer than `chunk_length_s` seconds, by default the `chunk_length` of the feature extractor, is cut where it is
    quietest, and the texts of its pieces are joined: no word is heard twice. What is silent has no text. That of the
    package `hf_rnn_s2s` has the same name, and reads files with any version of transformers.
    """

    type = "seq2seq"  # which the base class knows for the models of transformers only

    # Looser types than those of the base class
    model: Any
    tokenizer: Any
    feature_extractor: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.type = "seq2seq"
        for name in ("feature_extractor", "tokenizer"):
            if getattr(self, name) is None:
                raise ValueError(f"Speech recognition needs a {name}: pass {name}= beside model=.")
        found, expected = self.feature_extractor.feature_size, getattr(self.model.config, "num_mel_bins", None)
        if found != expected:
            raise ValueError(
                f"The feature extractor gives {found} features a frame, and the model reads {expected}: use the one "
                "that belongs to the model."
            )

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Transcribe one recording or many.

        Args:
            inputs: a recording, or a list, generator or dataset of them. Each is the path or the address of a file,
                the content of a file as bytes, an array `(samples,)` or `(channels, samples)` at the rate of the
                feature extractor, a dictionary with `raw` or `array`, and its `sampling_rate`, or a decoder of
                torchcodec, as datasets have them.
            args: as in `Pipeline`.
            kwargs: `chunk_length_s`, the longest piece in seconds; `batch_size`; `generate_kwargs`, a dictionary of
                arguments of `generate()`, or these arguments by themselves.

        Returns:
            `{"text": ...}` for each recording.

        Raises:
            TypeError: for an input that is no recording.
            ValueError: for a file that cannot be read, and an array of another shape or with no finite numbers.
        """
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, *args, **kwargs)

    def save_pretrained(
        self, save_directory: str | os.PathLike, carry_code: bool | None = None, **kwargs: Any
    ) -> None:
        """Save model, tokenizer and feature extractor, with the code they need where this package is not installed."""
        if os.path.isfile(save_directory):
            raise NotADirectoryError(f"save_directory={str(save_directory)!r} is a file; give the name of a folder.")
        model_to_share(self.model, carry_code).save_pretrained(save_directory, **kwargs)
        self.tokenizer.save_pretrained(save_directory, **kwargs)
        self.feature_extractor.save_pretrained(save_directory, **kwargs)

    def _sanitize_parameters(self, chunk_length_s: float | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        if kwargs.pop("stride_length_s", None):
            raise ValueError("stride_length_s: pieces are cut where it is quiet, and do not overlap. Leave it out.")
        preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
        if (forward.get("num_return_sequences") or 1) != 1:
            raise ValueError("num_return_sequences: a recording has one text here; call generate() for several.")
        forward["num_return_sequences"] = 1
        if chunk_length_s is not None:
            if not isinstance(chunk_length_s, (int, float)) or not SHORTEST_PIECE <= chunk_length_s < float("inf"):
                raise ValueError(f"chunk_length_s={chunk_length_s!r} must be seconds, at least {SHORTEST_PIECE}.")
            preprocess["chunk_length_s"] = chunk_length_s
        return preprocess, forward, postprocess

    def preprocess(self, inputs: Any, chunk_length_s: float | None = None) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Yield the features of each piece of a recording."""
        rate = self.feature_extractor.sampling_rate
        samples = self._samples(inputs, rate)
        longest = chunk_length_s or getattr(self.feature_extractor, "chunk_length", None) or DEFAULT_SECONDS
        pieces = cut_at_quiet_places(samples, int(longest * rate), max(1, int(BLOCK_SECONDS * rate)))
        for number, piece in enumerate(pieces, start=1):
            is_silent = not len(piece) or float(piece.abs().max()) < SILENCE
            padded = functional.pad(piece, (0, max(0, SHORTEST - len(piece))))
            features = self.feature_extractor(
                padded.numpy(), sampling_rate=rate, return_tensors="pt", padding=True, return_attention_mask=True
            )
            yield {
                "is_last": number == len(pieces),
                "input_features": features["input_features"].to(self.dtype),
                "attention_mask": features["attention_mask"],
                "is_silent": torch.tensor([is_silent]),
            }

    def _samples(self, inputs: Any, rate: int) -> Tensor:
        """The samples of a recording, float32 `(samples,)`, at the given rate."""
        if isinstance(inputs, os.PathLike):
            inputs = os.fspath(inputs)
        if isinstance(inputs, str) and not inputs.startswith(("http://", "https://")) and not os.path.isfile(inputs):
            raise ValueError(f"There is no recording {inputs!r:.200}.")
        if isinstance(inputs, (str, bytes)):
            name = repr(inputs)[:200] if isinstance(inputs, str) else f"The recording of {len(inputs)} bytes"
            try:
                return _mono(self._read(inputs, rate))
            except (OSError, RuntimeError, TypeError, ValueError) as error:
                raise ValueError(f"{name} cannot be read as a recording: {error}") from error
        given_rate = rate
        if hasattr(inputs, "get_all_samples"):
            try:
                decoded = inputs.get_all_samples()
            except (OSError, RuntimeError, ValueError) as error:
                raise ValueError(f"A decoder cannot read its recording: {error}") from error
            inputs = {"array": decoded.data.mean(dim=0), "sampling_rate": decoded.sample_rate}
        if isinstance(inputs, dict):
            array = inputs.get("raw") if inputs.get("raw") is not None else inputs.get("array")
            if array is None or "sampling_rate" not in inputs:
                raise ValueError('A dictionary needs "raw" or "array", samples, and their "sampling_rate".')
            inputs, given_rate = array, inputs["sampling_rate"]
            if isinstance(given_rate, bool) or not isinstance(given_rate, (int, float)) or given_rate < 1:
                raise ValueError(f"sampling_rate={given_rate!r} must be a number of samples per second.")
            given_rate = round(given_rate)
        samples = _mono(inputs)
        return samples if given_rate == rate else self._resample(samples, given_rate, rate)

    def _read(self, file: str | bytes, rate: int) -> Tensor:
        """The samples of a file at the given rate."""
        encoded = base64.b64encode(file).decode() if isinstance(file, bytes) else file
        return torch.from_numpy(load_audio(encoded, rate, backend="soundfile"))

    def _resample(self, samples: Tensor, given_rate: int, rate: int) -> Tensor:
        """The samples at another rate: the frequencies that both can have stay as they are."""
        if not len(samples):
            return samples
        length = -(-len(samples) * rate // given_rate)
        spectrum = torch.fft.rfft(samples)
        return torch.fft.irfft(spectrum[: length // 2 + 1], n=length) * (length / len(samples))

    def _forward(self, model_inputs: dict[str, Any], **generate_kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Generate for the pieces that are not silent; the others have no tokens."""
        is_silent = model_inputs.pop("is_silent").flatten()
        if not is_silent.any():
            return super()._forward(model_inputs, **generate_kwargs)
        is_last, rows = model_inputs["is_last"], (~is_silent).nonzero().squeeze(1)
        tokens = is_silent.new_full((len(is_silent), 1), self.tokenizer.eos_token_id, dtype=torch.long)
        if len(rows):
            heard = {name: value[rows] for name, value in model_inputs.items() if isinstance(value, Tensor)}
            written = super()._forward({"is_last": is_last, **heard}, **generate_kwargs)["tokens"]
            tokens = tokens.to(written.device).repeat(1, written.shape[1])
            tokens[rows.to(written.device)] = written
        return {"is_last": is_last, "tokens": tokens}

    def postprocess(self, model_outputs: list[dict[str, Any]], **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Join the texts of the pieces of a recording."""
        texts = []
        for piece in model_outputs:
            texts += self.tokenizer.batch_decode(piece["tokens"], skip_special_tokens=True)
        return {"text": " ".join(text.strip() for text in texts if text.strip())}


def _mono(samples: Any) -> Tensor:
    """Samples as float32 `(samples,)`, the mean of `(channels, samples)`; of whole numbers, shares of the largest one.

    Raises:
        TypeError: if they are no array.
        ValueError: if they have another shape, or are no finite numbers.
    """
    if not hasattr(samples, "__array__"):
        raise TypeError(
            "A recording is a path, bytes, an array, a dictionary with one or a decoder, and this a "
            f"{type(samples).__name__!r}."
        )
    try:
        tensor = torch.as_tensor(samples.copy() if hasattr(samples, "copy") else samples).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"The recording is an array that torch does not read: {error}") from error
    if tensor.dtype == torch.bool or tensor.is_complex():
        raise ValueError(f"The recording has samples of {tensor.dtype}; they must be real numbers.")
    if not tensor.is_floating_point():
        tensor = tensor.double() / torch.iinfo(tensor.dtype).max
    if tensor.dim() == 2 and tensor.shape[0] <= 2:
        tensor = tensor.mean(dim=0)
    if tensor.dim() != 1:
        shape = tuple(tensor.shape)
        raise ValueError(f"The recording has the shape {shape}; it must be (samples,) or (channels, samples).")
    if not tensor.isfinite().all():
        raise ValueError("The recording has samples that are no finite numbers.")
    return tensor.float().contiguous()


def cut_at_quiet_places(samples: Tensor, longest: int, block: int) -> list[Tensor]:
    """Cut samples into pieces of at most `longest`, each in the middle of the quietest block of its second half."""
    pieces, block = [], min(block, longest)
    while len(samples) > longest:
        energies = samples[: longest // block * block].view(-1, block).square().mean(1)
        first = len(energies) // 2
        quietest = first + int(energies[first:].argmin())
        place = min(longest, quietest * block + (block + 1) // 2)
        pieces.append(samples[:place])
        samples = samples[place:]
    return [*pieces, samples]
