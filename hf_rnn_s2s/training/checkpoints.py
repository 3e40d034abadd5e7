"""Checkpoints of a run: what they hold beside what transformers writes, and which one a run resumes from.

A checkpoint is whole if everything that a resumed run needs is there and readable. transformers writes
`trainer_state.json` last; before that the trainer of this package lists all files written until then, so that it can
be noticed if one is missing.
"""

import json
import logging
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..errors import UsageError
from .arguments import RnnS2STrainingArguments
from .run_folder import LOCK_FILE

logger = logging.getLogger(__name__)

CHECKPOINT = re.compile(r"checkpoint-(\d+)")  # name of the folder of a checkpoint, with its step
WRITTEN_LAST = "trainer_state.json"  # the last file that transformers writes into a checkpoint
FILE_LIST = "resume_files.json"  # names of the other files of a checkpoint
STREAM_STATE = "stream_state.json"  # where a run is in the stream that it trains on

# The files that a run needs from a checkpoint that has no list of its files: all of these and one of the weights
NEEDED = ("config.json", "optimizer.pt", "scheduler.pt")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")
TOKENIZER = ("tokenizer_config.json",)
# Suffixes of files that a resumed run does not need
IGNORED_SUFFIXES = {".py", ".md", ".png", ".tsv"}


def find_checkpoint(arguments: RnnS2STrainingArguments) -> str | None:
    """The checkpoint that `resume_from_checkpoint` means, or None if the run begins anew.

    `true` means the last whole one in `output_dir`; anything else is the name of its folder. Checkpoints that are
    skipped are named in a warning. If none is whole, because the run was killed too early, `true` begins anew.

    Raises:
        UsageError: if there is no such checkpoint, or if `output_dir` is a file or holds anything but the run that is
            resumed. Nothing on the disk is changed.
    """
    if problem := folder_problem(arguments):
        raise UsageError(problem)
    folder, wanted = Path(str(arguments.output_dir)), arguments.resume_from_checkpoint
    if not resumes(arguments):
        return None
    if str(wanted).lower() != "true":
        return str(wanted)
    checkpoint = choose_checkpoint(folder)
    if checkpoint is not None:
        return str(checkpoint)
    logger.warning("No checkpoint in %s was written to its end: the run begins anew.", folder)
    return None


def choose_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint in a folder that a run can resume from. A warning names those that are skipped."""
    for checkpoint in _checkpoints(folder):
        problem = problem_with(checkpoint)
        if problem is None:
            return checkpoint
        logger.warning("%s is passed over: %s.", checkpoint, problem)
    return None


def require_whole(checkpoint: Path) -> None:
    """Check that a checkpoint is whole.

    Raises:
        UsageError: if a run cannot resume from this folder.
    """
    if problem := _why_not_whole(checkpoint):
        raise UsageError(problem)


def resumes(arguments: RnnS2STrainingArguments) -> bool:
    """Whether the run is to resume from a checkpoint."""
    return (arguments.resume_from_checkpoint or "false").lower() != "false"


def folder_problem(arguments: RnnS2STrainingArguments) -> str | None:
    """Why a run cannot write into `output_dir`, or resume from `resume_from_checkpoint`; None if it can."""
    folder = Path(str(arguments.output_dir))
    if folder.exists() and not folder.is_dir():
        return f"output_dir {folder} is a file; name a folder."
    if not resumes(arguments):
        return _why_not_empty(folder)
    if arguments.ensemble_size > 1:  # each model of an ensemble has a folder of its own there
        if str(arguments.resume_from_checkpoint).lower() == "true":
            return None if folder.is_dir() else f"output_dir {folder} has no models to go on with."
        return "resume_from_checkpoint names one checkpoint, and an ensemble has several: set it to true."
    if str(arguments.resume_from_checkpoint).lower() == "true":
        return _why_no_checkpoint(folder)
    checkpoint = Path(str(arguments.resume_from_checkpoint))
    if problem := _why_not_whole(checkpoint):
        return problem
    return None if checkpoint.resolve().parent == folder.resolve() else _why_not_empty(folder)


def begin_writing(checkpoint: Path) -> None:
    """Remove the files that mark a checkpoint as whole: while it is overwritten it is not."""
    for name in (WRITTEN_LAST, FILE_LIST):
        (checkpoint / name).unlink(missing_ok=True)


def list_files(checkpoint: Path) -> None:
    """Write the list of a checkpoint's files, once all processes have written theirs."""
    names = sorted(path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*") if path.is_file())
    files = [name for name in names if Path(name).suffix not in IGNORED_SUFFIXES and name != WRITTEN_LAST]
    (checkpoint / FILE_LIST).write_text(json.dumps(files, indent=1) + "\n", encoding="utf-8")


def problem_with(checkpoint: Path) -> str | None:
    """Why a run cannot resume from this folder, in a few words; None if it can."""
    if not checkpoint.is_dir():
        return "there is no such folder"
    if not (checkpoint / WRITTEN_LAST).is_file():
        return f"it has no {WRITTEN_LAST}, which is written last"
    if (checkpoint / FILE_LIST).is_file():
        if problem := _problem_with_file(checkpoint / FILE_LIST):
            return problem
        names: list[str] = json.loads((checkpoint / FILE_LIST).read_text(encoding="utf-8"))
    else:
        names = _usual_files(checkpoint)
    problems = (_problem_with_file(checkpoint / name) for name in [WRITTEN_LAST, *names])
    return next(filter(None, problems), None)


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint in a folder that a run could resume from, without any warning; None if there is none."""
    return next((checkpoint for checkpoint in _checkpoints(folder) if problem_with(checkpoint) is None), None)


def _why_not_whole(checkpoint: Path) -> str | None:
    problem = problem_with(checkpoint)
    return problem and f"resume_from_checkpoint {checkpoint} is not a whole checkpoint: {problem}."


def _usual_files(checkpoint: Path) -> list[str]:
    """The files that are needed from a checkpoint without a list of them, as earlier versions wrote it."""
    kept_elsewhere = any(path.is_dir() for path in checkpoint.iterdir())  # by FSDP or DeepSpeed
    needed = [] if kept_elsewhere else list(NEEDED)
    if not kept_elsewhere and not any((checkpoint / name).is_file() for name in WEIGHTS):
        needed.append(WEIGHTS[0])
    if not list(checkpoint.glob("rng_state*.pth")):
        needed.append("rng_state.pth")
    there = [path.name for path in checkpoint.iterdir() if path.is_file() and path.suffix not in IGNORED_SUFFIXES]
    return [*needed, *TOKENIZER, *there]


def _problem_with_file(path: Path) -> str | None:
    """What is wrong with a file that is missing or was cut short; it is not read whole to find out."""
    if not path.is_file():
        return f"it has no {path.name}"
    try:
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                file.keys()
        elif path.suffix in (".pt", ".pth", ".bin"):
            zipfile.ZipFile(path).close()
    except (ValueError, SafetensorError, zipfile.BadZipFile, OSError) as error:
        return f"{path.name} cannot be read ({error})"
    return None


def _why_no_checkpoint(folder: Path) -> str | None:
    found = _checkpoints(folder)
    # If a run was killed before its first checkpoint was whole, nothing is lost by beginning anew.
    if last_whole_checkpoint(folder) is not None or (found and _holds_only(folder, found)):
        return None
    return (
        f"output_dir {folder} has no {'whole ' if found else ''}checkpoint to resume from; to begin anew, leave "
        "--resume_from_checkpoint out and name another --output_dir, or a folder that is empty."
    )


def _checkpoints(folder: Path) -> list[Path]:
    """The folders of all checkpoints, whole or not, the last one first."""
    matches = [(CHECKPOINT.fullmatch(path.name), path) for path in folder.glob("*")]
    numbered = {int(match[1]): path for match, path in matches if match}
    return [numbered[step] for step in sorted(numbered, reverse=True)]


def _holds_only(folder: Path, checkpoints: Iterable[Path]) -> bool:
    return {path.name for path in folder.iterdir()} <= {LOCK_FILE, *(path.name for path in checkpoints)}


def _why_not_empty(folder: Path) -> str | None:
    if not folder.exists() or _holds_only(folder, []):
        return None
    checkpoints = _checkpoints(folder)
    if checkpoints and _holds_only(folder, checkpoints) and last_whole_checkpoint(folder) is None:
        return (
            f"output_dir {folder} holds what a run left that was killed before its first checkpoint was written "
            f"({checkpoints[0].name}: {problem_with(checkpoints[0])}). Begin that run anew by "
            "--resume_from_checkpoint true, or choose another --output_dir."
        )
    return (
        f"output_dir {folder} is not empty. If it holds an earlier run, go on with that by "
        "--resume_from_checkpoint true; otherwise choose another --output_dir."
    )
