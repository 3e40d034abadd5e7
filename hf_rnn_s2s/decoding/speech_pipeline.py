"""The speech pipeline of the package: the model in evaluation mode, `soxr` for arrays, and help with the memory."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import AutomaticSpeechRecognitionPipeline

from ..audio import read_samples, resample
from ..model import speech_pipeline_rnn_s2s
from ..model.configuration_rnn_s2s import RnnS2SConfig
from ..model.remote_code_rnn_s2s import model_to_share
from .evaluation import EvaluationView
from .limits import require_whole_numbers
from .out_of_memory import naming_the_batch


class RnnSpeechRecognitionPipeline(speech_pipeline_rnn_s2s.RnnSpeechRecognitionPipeline):
    """Transcribes speech: `pipeline("automatic-speech-recognition", model=...)`.

    Example:
        ```python
        >>> transcriber = pipeline("automatic-speech-recognition", model="path/or/name")
        >>> transcriber("recording.wav")
        {'text': 'seven one three'}
        ```
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        require_whole_numbers(kwargs, "batch_size")
        super().__init__(*args, **kwargs)
        self._in_evaluation_mode = EvaluationView()

    def push_to_hub(self, repo_id: str, *, carry_code: bool | None = None, **kwargs: Any) -> str:
        """Upload what `save_pretrained` saves, as every `push_to_hub` of transformers does, tagged with the task."""
        shared = copy.copy(self)
        shared.model = model_to_share(self.model, carry_code)
        tags = kwargs.pop("tags", None) or []
        tags = [*([tags] if isinstance(tags, str) else tags), self.task]
        pushed: Any = super(RnnSpeechRecognitionPipeline, shared)
        return pushed.push_to_hub(repo_id, tags=list(dict.fromkeys(tags)), **kwargs)

    def _resample(self, samples: Tensor, given_rate: int, rate: int) -> Tensor:
        """As files are resampled."""
        return torch.from_numpy(resample(samples.numpy(), given_rate, rate))

    def _read(self, file: str | bytes, rate: int) -> Tensor:
        """As in training, with any version of transformers."""
        if isinstance(file, str) and file.startswith(("http://", "https://")):
            return super()._read(file, rate)
        return torch.from_numpy(read_samples(file, rate))

    def _forward(self, model_inputs: dict[str, Any], **generate_kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        rows, frames = model_inputs["input_features"].shape[:2]
        view = copy.copy(self)
        view.model = self._in_evaluation_mode.of(self.model)
        batch = f"a batch of {rows} recordings of up to {frames} frames"
        with naming_the_batch(batch, "lower batch_size, num_beams or chunk_length_s"):
            return super(RnnSpeechRecognitionPipeline, view)._forward(model_inputs, **generate_kwargs)


class SpeechRecognitionByModel(AutomaticSpeechRecognitionPipeline):
    """What is registered for the task: the pipeline of this package for its models, and transformers' for others."""

    def __new__(cls, model: Any, *args: Any, **kwargs: Any) -> Any:
        """A pipeline of one of the two classes."""
        is_own = getattr(model.config, "model_type", None) == RnnS2SConfig.model_type
        chosen = RnnSpeechRecognitionPipeline if is_own else AutomaticSpeechRecognitionPipeline
        return chosen(model, *args, **kwargs)
