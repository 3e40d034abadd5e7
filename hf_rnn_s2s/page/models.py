"""The models of a page: loaded with their pipelines, or refused in one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from ..commands import models
from ..training.tasks.base import Words
from .examples import read_card

SPEECH = "automatic-speech-recognition"


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
    loaded = models.load_model(location, of_this_package=True)
    name = Path(location).resolve().name if os.path.isdir(location) else location
    return PageModel(name, location, loaded.writer, loaded.task.words, read_card(location))
