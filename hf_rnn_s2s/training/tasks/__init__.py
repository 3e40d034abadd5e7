"""The tasks that a model can be trained for."""

from .base import LOSSES, Task
from .speech_recognition import SpeechRecognition
from .summarization import Summarization
from .transduction import Transduction
from .translation import Translation

# `--task`, and the class it names. A task of your own is a class that derives from `Task`, and a line here.
TASKS: dict[str, type[Task]] = {
    task.name: task for task in (Translation, Summarization, Transduction, SpeechRecognition)
}


def metric_directions() -> dict[str, bool]:
    """What a checkpoint can be chosen by, in any task, and whether more of it is better."""
    of_tasks = [LOSSES, *(task.metrics for task in TASKS.values())]
    return {name: info.greater_is_better for metrics in of_tasks for name, info in metrics.items()}
