"""Loads a model for a command, with an error of one line where it is not there or of another kind."""

from __future__ import annotations

import importlib.util
import os
from typing import Any, ClassVar, NamedTuple

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, pipeline
from transformers.utils import logging

from ..data.arguments import DataArguments
from ..errors import UsageError
from ..model.configuration_rnn_s2s import RnnS2SConfig
from ..model.remote_code_rnn_s2s import ANY_OTHER_PIPELINE
from ..training.tasks import TASKS
from ..training.tasks.base import Score, Task, Words
from ..training.tasks.translation import Translation

LONGEST_MESSAGE = 400  # characters of the message of a library
DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")


READS_RECORDINGS = ("soundfile", "soxr")  # the packages that do


# What libraries raise for files that are not what they should be
LOADING_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    ImportError,
    SafetensorError,
)


class AnyTask(Task):
    """A task that is registered nowhere but where its model was trained."""

    name = "any"
    words = Words("Text to text", "writer", "result", "written", "", (), "")
    metrics: ClassVar[dict[str, Any]] = {}

    def score(self, config: Any, tokenizer: Any) -> Score:
        """Refuse: only the script that trained the model knows how.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"Results of the task {config.task!r} are scored by the script that trained the model.")

    def summary(self, languages: tuple[str | None, str | None]) -> str:
        """Nothing is known of it."""
        return ""


class Loaded(NamedTuple):
    """A model that is ready to write.

    Attributes:
        name: the folder, or the name on the Hub.
        writer: its pipeline.
        task: what it is for.
    """

    name: str
    writer: Any
    task: Task

    @property
    def listens(self) -> bool:
        """Whether it reads recordings, and no text."""
        return self.task.layout(DataArguments()).reads_audio


def load_model(
    name: str,
    verb: str | None = None,
    device: str | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    of_this_package: bool = False,
    with_shortlist: bool = True,
) -> Loaded:
    """Load a model with its pipeline.

    Args:
        name: a folder, or a name on the Hub.
        verb: the command that asks for it, such as "translate"; None: whatever the model is for.
        device: as torch calls it; None: the first GPU, if there is one.
        dtype: of the weights: "auto" is that of the file.
        trust_remote_code: whether code that lies beside the weights may run, which models of this package do not need.
        of_this_package: whether models of other kinds are refused.
        with_shortlist: whether the shortlist beside the model is used, if there is one.

    Raises:
        UsageError: in one line, if there is no such model, it cannot be loaded, or it is for something else.
    """
    logging.disable_progress_bar()
    if device is not None:
        _check_device(device)
    if dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype}: there are {', '.join(DTYPES)}.")
    config = read_configuration(name, trust_remote_code)
    if of_this_package and not isinstance(config, RnnS2SConfig):
        kinds = f"{config.model_type!r}, and not {RnnS2SConfig.model_type!r}"
        raise UsageError(f"The model {name} is of the kind {kinds}, the models of hf-rnn-s2s.")
    task = task_of(config, verb, name)
    make: Any = pipeline  # whose declared types leave out the tasks that this package brings back
    try:
        writer = make(
            task.pipeline_name if task.name in TASKS else ANY_OTHER_PIPELINE[0],
            model=name,
            device=device,
            dtype=dtype if dtype == "auto" else getattr(torch, dtype),
            trust_remote_code=trust_remote_code,
            **({} if with_shortlist or not isinstance(config, RnnS2SConfig) else {"shortlist": False}),
        )
    except LOADING_ERRORS as error:
        raise UsageError(f"The model {name} cannot be loaded: {one_line(error)}") from error
    return Loaded(name, writer, task)


def read_configuration(name: str, trust_remote_code: bool = False) -> Any:
    """The configuration of a model.

    Args:
        name: a folder, or a name on the Hub.
        trust_remote_code: as in `load_model`.

    Raises:
        UsageError: in one line, if there is none that can be read.
    """
    if os.path.isfile(name):
        raise UsageError(f"{name} is a file; name the folder of a model, or a model on the Hub.")
    if not name or (os.path.isdir(name) and not os.path.isfile(os.path.join(name, "config.json"))):
        raise UsageError(f"The folder {name} holds no model: it has no config.json.")
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except LOADING_ERRORS as error:
        if os.path.isdir(name) or not isinstance(error, OSError):
            raise UsageError(f"The model {name} cannot be loaded: {one_line(error)}") from error
        raise UsageError(
            f"There is no model {name}: no folder has this name, and the Hub gave none ({one_line(error)})."
        ) from error


def task_of(config: Any, verb: str | None, name: str) -> Task:
    """What a model is for: models of this package say it, others are taken at the word of the command.

    Raises:
        UsageError: if it is for something else than the command does, writes no text for a text, or reads recordings
            and the packages for that are missing.
    """
    if not isinstance(config, RnnS2SConfig):
        if not config.is_encoder_decoder:
            raise UsageError(f"{name} is a {config.model_type} model, and no encoder-decoder, which writes texts.")
        return next((task() for task in TASKS.values() if task.words.verb == verb), Translation())
    if not isinstance(config.task, str):
        raise UsageError(f"The model {name} cannot be loaded: its task must be a name, and not {config.task!r}.")
    task = TASKS.get(config.task, AnyTask)()
    if verb not in (None, task.words.verb):
        raise UsageError(f"{name} is a model for {config.task}: use hf-rnn-s2s {task.words.verb}.")
    missing = [one for one in READS_RECORDINGS if importlib.util.find_spec(one) is None]
    if missing and task.layout(DataArguments()).reads_audio:
        raise UsageError(
            f"The model {name} listens, and recordings are read with {' and '.join(missing)}: install the extra "
            '"speech", as in `pip install "PATH_OR_WHEEL[speech]"`.'
        )
    return task


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for the device
        raise UsageError(f"--device {device} cannot be used: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """The message of an error that some library raised, on one line, and its beginning where it is long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rstrip(".") if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}..."
