"""Several models that write together: trained one after the other with other seeds, or named."""

from __future__ import annotations

import copy
import json
import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoModelForSeq2SeqLM, PreTrainedTokenizerBase

from ..errors import UsageError
from .building import load_tokenizer
from .checkpoints import resumes
from .command_line import Arguments

TOGETHER = "ensemble"  # the folder of what all write together


def load_ensemble(names: Sequence[str] | None, model: Any, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The other models of an ensemble, as an argument of `generate()`; nothing if none are named.

    Args:
        names: folders, or names on the Hub.
        model: the one that they write together with.
        tokenizer: its tokenizer.

    Raises:
        UsageError: if one cannot be loaded, or has another tokenizer; `generate()` checks the rest.
    """
    if not names:
        return {}
    others = []
    for name in names:
        theirs: Any = load_tokenizer("ensemble_models", name)
        for side in ("source", "target"):
            own, other = (getattr(one, f"{side}_tokenizer", one).get_vocab() for one in (tokenizer, theirs))
            if own != other:
                raise UsageError(f"ensemble_models {name} has another {side} vocabulary: its ids mean other tokens.")
        other = AutoModelForSeq2SeqLM.from_pretrained(name)
        others.append(other.to(device=model.device, dtype=model.dtype).eval())
    return {"ensemble": others}


def train_ensemble(arguments: Arguments, run: Callable[[Arguments], None]) -> None:
    """Train as many models as `ensemble_size` says, and let them write together.

    Each has a folder of its own in `output_dir`, `seed-1` and so on. What they write together is in `ensemble`, whose
    `all_results.json` has its scores, and the mean and standard deviation of those of each by itself, which begin with
    `member_`. A run that was interrupted goes on with `--resume_from_checkpoint true`.

    Args:
        arguments: of the run.
        run: trains one model, or lets models write.
    """
    folder = Path(str(arguments.training.output_dir)) / TOGETHER
    members = list(_members(arguments))
    for one in members:
        run(one)
    first, *others = (str(one.training.output_dir) for one in members)
    training = copy.copy(arguments.training)
    training.do_train, training.ensemble_size, training.resume_from_checkpoint = False, 1, None
    training.output_dir = str(folder)
    if resumes(arguments.training) and folder.is_dir():
        shutil.rmtree(folder)  # what an interrupted run has left there is written anew
    model = copy.copy(arguments.model)
    model.model_name_or_path, model.ensemble_models = first, others
    run(arguments._replace(model=_without_architecture(model), training=training))
    _add_members(folder, [Path(str(one.training.output_dir)) for one in members])


def _members(arguments: Arguments) -> Iterator[Arguments]:
    folder = Path(str(arguments.training.output_dir))
    for number in range(arguments.training.ensemble_size):
        training = copy.copy(arguments.training)
        training.seed += number
        training.output_dir = str(folder / f"seed-{training.seed}")
        training.ensemble_size = 1
        if not any(Path(training.output_dir).glob("*")):
            training.resume_from_checkpoint = None  # this one has not begun
        yield arguments._replace(training=training)


def _without_architecture(model: Any) -> Any:
    """The arguments of a model that is loaded: what it was built with is in its configuration."""
    for name in model.architecture():
        setattr(model, name, None)
    model.preset = None
    return model


def _add_members(folder: Path, members: Sequence[Path]) -> None:
    path = folder / "all_results.json"
    together = json.loads(path.read_text(encoding="utf-8"))
    apart = [json.loads((one / "all_results.json").read_text(encoding="utf-8")) for one in members]
    for name, value in list(together.items()):
        values = [one[name] for one in apart if name in one]
        if name.startswith("predict_") and isinstance(value, (int, float)) and len(values) == len(apart):
            together[f"member_{name}_mean"] = statistics.fmean(values)
            together[f"member_{name}_deviation"] = statistics.stdev(values)
    path.write_text(json.dumps(together, indent=4, sort_keys=True), encoding="utf-8")
