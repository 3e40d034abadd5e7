"""Which checkpoint a run goes on from, and that it leaves the output folders of other runs alone."""

import re
from pathlib import Path

from .arguments import RnnS2STrainingArguments

CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def find_checkpoint(arguments: RnnS2STrainingArguments) -> str | None:
    """
    The checkpoint that `resume_from_checkpoint` means: with `true` the last one in `output_dir` that was written to
    its end, or the folder it names; None, if the run begins anew.

    Raises:
        ValueError: if there is no such checkpoint, or if `output_dir` is a file or holds anything but the run that
            goes on. Nothing on the disk is changed.
    """
    folder, wanted = Path(str(arguments.output_dir)), arguments.resume_from_checkpoint
    if folder.is_file():
        raise ValueError(f"output_dir {folder} is a file; name a folder.")
    resumes = wanted is not None and wanted.lower() != "false"
    checkpoint = None
    if wanted is not None and wanted.lower() == "true":
        numbered = {path: CHECKPOINT.fullmatch(path.name) for path in folder.glob("*")}
        # Of what transformers writes, the state comes last.
        complete = {
            int(match[1]): path
            for path, match in numbered.items()
            if match and (path / "trainer_state.json").is_file()
        }
        if not complete:
            raise ValueError(
                f"output_dir {folder} has no checkpoint to resume from; leave --resume_from_checkpoint out."
            )
        checkpoint = complete[max(complete)]
    elif wanted is not None and resumes:
        checkpoint = Path(wanted)
        if not (checkpoint / "trainer_state.json").is_file():
            raise ValueError(f"resume_from_checkpoint {checkpoint} is not a checkpoint: it has no trainer_state.json.")
    is_own = checkpoint is not None and checkpoint.resolve().parent == folder.resolve()
    if not is_own and arguments.process_index == 0 and folder.exists() and any(folder.iterdir()):
        raise ValueError(
            f"output_dir {folder} is not empty. If it holds an earlier run, go on with that by "
            "--resume_from_checkpoint true; otherwise choose another --output_dir."
        )
    return None if checkpoint is None else str(checkpoint)


__all__ = ["find_checkpoint"]
