"""Checks of a run's arguments that need nothing to be loaded."""

from collections.abc import Iterator
from pathlib import Path

from huggingface_hub.utils import HFValidationError, validate_repo_id
from transformers.integrations import get_reporting_integration_callbacks

from ..data.arguments import DataError
from ..data.heads import file_problems
from ..runtime.requirements import require_exporter, require_runtime
from .alignment import read_alignments
from .checkpoints import folder_problem, resumes
from .command_line import Arguments, Check
from .tasks import metric_directions
from .tasks.base import LOSSES


def wrong_names(arguments: Arguments) -> Iterator[str]:
    """Names of models that are neither folders nor valid names on the Hub."""
    named = [(option, getattr(arguments.model, option)) for option in ("model_name_or_path", "tokenizer_name")]
    named += [("ensemble_models", name) for name in arguments.model.ensemble_models or []]
    for option, name in named:
        if name is not None and not Path(name).is_dir():
            try:
                validate_repo_id(name)
            except HFValidationError:
                yield f"{option} {name}: there is no such folder; give that of a saved model, or a name on the Hub."


def wrong_files(arguments: Arguments) -> Iterator[str]:
    """Data files that are missing, or have no columns for the two sides."""
    yield from file_problems(arguments.data, arguments.task.layout(arguments.data))


def wrong_work(arguments: Arguments) -> Iterator[str]:
    """Runs that have nothing to do, or whose length is not known."""
    model, data, training, _ = arguments
    files = data.dataset_name or data.train_file or data.validation_file or data.test_file
    if not training.do_train:
        if model.model_name_or_path is None:
            yield "do_train=false: name the model that is to be evaluated, with --model_name_or_path."
        for name, is_given in (("resume_from_checkpoint", resumes(training)), ("push_to_hub", training.push_to_hub)):
            if is_given:
                yield f"{name} goes with training, but do_train=false; leave it out."
        return
    if files and not data.dataset_name and not data.train_file:
        given = ", ".join(name for name in ("validation_file", "test_file") if getattr(data, name))
        yield f"There is nothing to train on, only {given}; name a train_file."
    if data.streaming and training.max_steps <= 0:
        yield "A streamed dataset does not tell its size: say how long to train, with --max_steps."
    budget, longest = training.per_device_train_batch_tokens, (data.max_source_length, data.max_target_length)
    if data.streaming and budget is not None and any(length is None or length > budget for length in longest):
        yield (
            f"per_device_train_batch_tokens={budget}, but pairs of a stream may have up to "
            f"max_source_length={longest[0]} and max_target_length={longest[1]} tokens: lower these, or raise that."
        )


def wrong_export(arguments: Arguments) -> Iterator[str]:
    """An export for which packages are missing."""
    if arguments.training.export:
        try:
            require_exporter()
            require_runtime()
        except ImportError as error:
            yield f"export: {error}"


def wrong_task(arguments: Arguments) -> Iterator[str]:
    """What the task objects to, and a checkpoint that would be chosen by the metric of another task."""
    model, data, training, task = arguments
    yield from task.problems(model, data, training)
    chosen = (training.metric_for_best_model or "loss").removeprefix("eval_")
    if chosen in metric_directions() and chosen not in {**LOSSES, **task.metrics}:
        yield f"metric_for_best_model={chosen} is no metric of {task.name}; it has {', '.join(task.metrics)} and loss."


def wrong_ensemble(arguments: Arguments) -> Iterator[str]:
    """Ensembles that have nothing to do, or would be trained by several processes."""
    model, _, training, _ = arguments
    if training.ensemble_size > 1:
        if not (training.do_train and training.do_predict):
            yield f"ensemble_size={training.ensemble_size} trains models and scores them: set do_train and do_predict."
        if training.world_size > 1:
            yield "ensemble_size trains one model after the other, in one process: start one."
        if training.push_to_hub:
            yield "push_to_hub pushes one model: leave it out with ensemble_size, and push the models that you choose."
    if model.ensemble_models is not None and training.do_train:
        yield "ensemble_models write in an evaluation: set do_train=false, or ensemble_size to train several models."


def wrong_segmentation(arguments: Arguments) -> Iterator[str]:
    """BPE-dropout for a new tokenizer that is not of byte pairs."""
    model, _, training, _ = arguments
    is_new = model.tokenizer_name is None and model.model_name_or_path is None
    if training.do_train and training.bpe_dropout and is_new and model.tokenizer_kind != "bpe":
        yield (
            f"bpe_dropout leaves out merges of byte-pair encoding, and tokenizer_kind={model.tokenizer_kind} has "
            "none: set tokenizer_kind=bpe, or leave bpe_dropout out."
        )


def wrong_alignments(arguments: Arguments) -> Iterator[str]:
    """A file of alignments that cannot be read, or that nothing would be compared with."""
    model, data, training, _ = arguments
    if data.alignment_file is None:
        return
    try:
        read_alignments(Path(data.alignment_file), data.alignment_first_index)
    except DataError as error:
        yield str(error)
    if not training.do_predict:
        yield "alignment_file is compared with the attention on the test split, but do_predict=false."
    if (data.train_file or data.validation_file) and not data.test_file:
        yield "alignment_file is about the test split; name a test_file."
    if model.model_name_or_path is None and model.architecture().get("attention_type") == "none":
        yield "alignment_file is compared with the attention, but attention_type=none."


def wrong_reports(arguments: Arguments) -> Iterator[str]:
    """Reporting services that transformers does not know, or whose library is not installed."""
    try:
        for reporter in get_reporting_integration_callbacks(arguments.training.report_to):
            reporter()
    except (ValueError, ImportError, RuntimeError) as error:
        yield f"report_to: {error}"


def wrong_folder(arguments: Arguments) -> Iterator[str]:
    """An output folder that holds something else, or has no checkpoint to resume from."""
    if problem := folder_problem(arguments.training):
        yield problem


# All checks, in the order in which their findings are reported
CHECKS: tuple[Check, ...] = (
    wrong_names,
    wrong_files,
    wrong_work,
    wrong_export,
    wrong_task,
    wrong_ensemble,
    wrong_segmentation,
    wrong_alignments,
    wrong_reports,
    wrong_folder,
)
