"""Loads a model for a command, with an error of one line where it is not there or of another kind."""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, GenerationConfig, pipeline
from transformers.utils import logging

from ..data.arguments import DataArguments
from ..errors import UsageError
from ..model.configuration_rnn_s2s import RnnS2SConfig
from ..model.remote_code_rnn_s2s import ANY_OTHER_PIPELINE
from ..training.tasks import TASKS
from ..training.tasks.base import Score, Task, Words
from ..training.tasks.translation import Translation

# Arguments of a call of the pipeline, beside the settings of `generate()`
OF_THE_CALL = (
    "coverage_penalty",
    "forbid_phrases",
    "force_phrases",
    "gnmt_length_penalty",
    "minimum_bayes_risk",
    "num_beam_groups",
    "diversity_penalty",
    "replace_unknown",
    "shortlist",
    "squeeze_whitespace",
    "truncation",
)
OF_OPTIONS = (
    "num_return_sequences",
    "return_dict_in_generate",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
)  # of the commands
# Settings that are on or off, which their defaults do not tell; and the words that say which
SWITCHES = {
    "do_sample",
    "early_stopping",
    "minimum_bayes_risk",
    "remove_invalid_values",
    "renormalize_logits",
    "replace_unknown",
    "shortlist",
    "squeeze_whitespace",
    "truncation",
    "use_cache",
}
SWITCHED = ("true", "false", "never", "null", "none")
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
        """Nobody knows how."""
        raise NotImplementedError

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
) -> Loaded:
    """Load a model with its pipeline.

    Args:
        name: a folder, or a name on the Hub.
        verb: the command that asks for it, such as "translate"; None: whatever the model is for.
        device: as torch calls it; None: the first GPU, if there is one.
        dtype: of the weights: "auto" is that of the file.
        trust_remote_code: whether code that lies beside the weights may run, which models of this package do not need.
        of_this_package: whether models of other kinds are refused.

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


def generation_settings(options: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Read settings of `generate()` from a command line, such as `--length-penalty 0.6`.

    Values are read as JSON, and as plain text where they are none. A setting that is on or off needs no value.

    Args:
        options: words of the command line.

    Returns:
        The settings, and the words that belong to none.

    Raises:
        UsageError: for an option that is no setting, or has no value.
    """
    defaults = {name: value for name, value in vars(GenerationConfig()).items() if not name.startswith("_")}
    known = {*defaults, *OF_THE_CALL} - set(OF_OPTIONS)
    settings: dict[str, Any] = {}
    others: list[str] = []
    words = list(options)
    while words:
        word = words.pop(0)
        if word == "--":
            return settings, others + words
        if not word.startswith("--"):
            others.append(word)
            continue
        written, has_value, value = word.removeprefix("--").partition("=")
        name = written.replace("-", "_")
        if name not in known:
            similar = ["--" + one.replace("_", "-") for one in difflib.get_close_matches(name, known, n=3)]
            hint = f"Did you mean {' or '.join(similar)}?" if similar else "See --help, and those of generate()."
            raise UsageError(f"There is no option --{written}. {hint}")
        if has_value:
            settings[name] = _value(value)
        elif name in SWITCHES or isinstance(defaults.get(name), bool):
            settings[name] = _value(words.pop(0)) if words and words[0].lower() in SWITCHED else True
        elif words:
            settings[name] = _value(words.pop(0))
        else:
            raise UsageError(f"The option --{written} needs a value.")
    return settings, others


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)
