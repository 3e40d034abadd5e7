"""The end of a run in several processes."""

import gc

from transformers import Trainer


def end_together(trainer: Trainer) -> None:
    """End the processes of a run, none before the others.

    When the last owner of a process group goes, torch joins the threads of the group. Where the last owner is the
    wrapper that trains a model in several processes, it keeps Python's lock meanwhile, for which one of these threads
    may be waiting, and the process hangs for good. So the wrapper goes first.

    Args:
        trainer: which neither trains nor evaluates any more.
    """
    trainer.accelerator.wait_for_everyone()
    trainer.model_wrapped = trainer.model  # type: ignore[assignment]
    trainer.accelerator.free_memory()
    gc.collect()
    trainer.accelerator.end_training()
