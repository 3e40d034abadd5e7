"""The models of a page: loaded with their pipelines, or refused in one line."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any, NamedTuple

import transformers
from safetensors import SafetensorError
from transformers import PreTrainedConfig

from ..errors import UsageError
from ..model.configuration_rnn_s2s import RnnS2SConfig
from ..model.remote_code_rnn_s2s import ANY_OTHER_PIPELINE, PIPELINES
from ..training.tasks import TASKS
from ..training.tasks.base import Words
from .examples import read_card

# For a task that is registered nowhere but where its model was trained
WORDS_OF_ANY_TASK = Words("Text to text", "writer", "result", "written", "", (), "")
SPEECH = "automatic-speech-recognition"
READS_RECORDINGS = ("soundfile", "soxr")  # the packages that do


class PageModel(NamedTuple):
    """A model that a page writes with.

    Attributes:
        name: what the page calls it.
        location: where it came from, a folder or a name on the Hub.
        pipeline: which has the model and its tokenizer.
        words: how its task is spoken of.
        card: what is written of it; empty without one.
    """

    name: str
    location: str
    pipeline: Any
    words: Words
    card: str

    @property
    def listens(self) -> bool:
        """Whether it reads recordings, and no text."""
        return bool(self.pipeline.task == SPEECH)

    @property
    def has_attention(self) -> bool:
        """Whether there is anything for a heat map."""
        return bool(self.pipeline.model.config.attention_type != "none")


def load_model(location: str | os.PathLike[str]) -> PageModel:
    """Load a model and what belongs to it. Code that it carries is not run: the package is here.

    Args:
        location: a folder, or a name on the Hub.

    Raises:
        UsageError: in one line, if it is not there, is of another kind, or cannot be loaded.
    """
    location = os.fspath(location)
    config = _config(location)
    task = PIPELINES.get(config.task, ANY_OTHER_PIPELINE)[0]
    if task == SPEECH:
        _require_readers_of_recordings(location)
    make_pipeline: Any = transformers.pipeline
    try:
        pipeline = make_pipeline(task, model=location, trust_remote_code=False)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise UsageError(f"The model {location} cannot be loaded: {_first_line(error)}") from error
    name = Path(location).resolve().name if os.path.isdir(location) else location
    words = TASKS[config.task].words if config.task in TASKS else WORDS_OF_ANY_TASK
    return PageModel(name, location, pipeline, words, read_card(location))


def _config(location: str) -> RnnS2SConfig:
    """The configuration of a model of this package.

    Raises:
        UsageError: if there is none.
    """
    if os.path.isfile(location):
        raise UsageError(f"{location} is a file; name the folder of a model, or a model on the Hub.")
    if os.path.isdir(location) and not os.path.isfile(os.path.join(location, "config.json")):
        raise UsageError(f"The folder {location} holds no model: it has no config.json.")
    try:
        content, _ = PreTrainedConfig.get_config_dict(location)
        kind = content.get("model_type")
        if kind != RnnS2SConfig.model_type:
            raise UsageError(
                f"The model {location} is of the kind {kind!r}; the page is for models of hf-rnn-s2s, "
                f"{RnnS2SConfig.model_type!r}."
            )
        return RnnS2SConfig.from_pretrained(location)
    except UsageError:
        raise
    except (OSError, ValueError) as error:
        if os.path.isdir(location):
            raise UsageError(f"The model {location} cannot be loaded: {_first_line(error)}") from error
        raise UsageError(
            f"There is no model {location}: no folder has this name, and the Hub gave none ({_first_line(error)})."
        ) from error


def _require_readers_of_recordings(location: str) -> None:
    missing = [name for name in READS_RECORDINGS if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"The model {location} listens, and recordings are read with {' and '.join(missing)}: "
            'pip install -c constraints.txt -e ".[page,speech]" in a clone of the repository.'
        )


def _first_line(error: Exception) -> str:
    """What an error says first; libraries go on for many lines."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip().rstrip(".")
