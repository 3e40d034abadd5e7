"""Which checkpoint a run goes on from, and that it leaves the output folders of other runs alone."""

import re
from pathlib import Path

from .arguments import RnnS2STrainingArguments

CHECKPOINT = re.compile(r"checkpoint-(\d+)")
WRITTEN_LAST = "trainer_state.json"  # of what transformers writes into a checkpoint


def find_checkpoint(arguments: RnnS2STrainingArguments) -> str | None:
    """
    The checkpoint that `resume_from_checkpoint` means: with `true` the last one in `output_dir` that was written to
    its end, or the folder it names; None, if the run begins anew.

    Raises:
        ValueError: if there is no such checkpoint, or if `output_dir` is a file or holds anything but the run that
            goes on. Nothing on the disk is changed.
    """
    folder, wanted = Path(str(arguments.output_dir)), arguments.resume_from_checkpoint or "false"
    if folder.is_file():
        raise ValueError(f"output_dir {folder} is a file; name a folder.")
    if wanted.lower() == "false":
        checkpoint = None
    else:
        checkpoint = _last_checkpoint(folder) if wanted.lower() == "true" else Path(wanted)
        if not _is_complete(checkpoint):
            raise ValueError(f"resume_from_checkpoint {checkpoint} is not a checkpoint: it has no {WRITTEN_LAST}.")
    is_own = checkpoint is not None and checkpoint.resolve().parent == folder.resolve()
    if not is_own and arguments.process_index == 0 and folder.exists() and any(folder.iterdir()):
        raise ValueError(
            f"output_dir {folder} is not empty. If it holds an earlier run, go on with that by "
            "--resume_from_checkpoint true; otherwise choose another --output_dir."
        )
    return None if checkpoint is None else str(checkpoint)


def _last_checkpoint(folder: Path) -> Path:
    # transformers' get_last_checkpoint also takes one that was not written to its end.
    matches = ((CHECKPOINT.fullmatch(path.name), path) for path in folder.glob("*"))
    complete = {int(match[1]): path for match, path in matches if match and _is_complete(path)}
    if not complete:
        raise ValueError(f"output_dir {folder} has no checkpoint to resume from; leave --resume_from_checkpoint out.")
    return complete[max(complete)]


def _is_complete(checkpoint: Path) -> bool:
    return (checkpoint / WRITTEN_LAST).is_file()


__all__ = ["find_checkpoint"]
