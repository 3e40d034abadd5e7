"""Fills in `model_card.md`: what a trained model is, what it was trained on, and how well it does its task."""

import importlib.metadata
import json
import math
import platform
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id
from transformers import PreTrainedConfig, PreTrainedModel

from ..data.arguments import DataArguments
from ..model.configuration_rnn_s2s import OPTIONS
from ..version import __version__
from .arguments import ModelArguments, RnnS2STrainingArguments
from .languages import language_code, language_name
from .markdown import (
    LONGEST_TEXT,
    code,
    code_cell,
    number,
    one_line,
    plain,
    shorten,
)
from .tasks.base import LOSSES, Languages, MetricInfo, Task

# Of any task with an attention, where there are gold alignments
ALIGNMENT_ERROR = {
    "aer": MetricInfo("Alignment error rate of the attention", 3, greater_is_better=False, on_hub=False)
}
# Papers: what the card calls them, their numbers on arXiv, and whether a model with a configuration follows them
PAPERS: tuple[tuple[str, str, Callable[[PreTrainedConfig], bool]], ...] = (
    ("Sutskever et al. 2014", "1409.3215", lambda config: config.attention_type == "none"),
    ("Bahdanau et al. 2015", "1409.0473", lambda config: config.attention_type != "none"),
    ("Chorowski et al. 2015", "1506.07503", lambda config: config.attention_type == "location"),
    ("Luong et al. 2015", "1508.04025", lambda config: _attends_softly(config)),
    ("Chan et al. 2016", "1508.01211", lambda config: config.encoder_type == "pyramidal"),
    ("Wu et al. 2016", "1609.08144", lambda config: _attends_softly(config)),
    ("See et al. 2017", "1704.04368", lambda config: config.head_type == "copying"),
    ("Wu & Cotterell 2019", "1905.06319", lambda config: config.head_type == "marginal"),
)
# Training arguments in the card
HYPERPARAMETERS = (
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "optim",
    "adam_beta1",
    "adam_beta2",
    "weight_decay",
    "max_grad_norm",
    "ema_decay",
    "per_device_train_batch_size",
    "per_device_train_batch_tokens",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "max_steps",
    "bf16",
    "fp16",
    "train_sampling_strategy",
    "seed",
)
PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "sacrebleu")  # whose versions the card names


def build_model_card(
    template: Path,
    model: PreTrainedModel,
    model_arguments: ModelArguments,
    data_arguments: DataArguments,
    training_arguments: RnnS2STrainingArguments,
    task: Task,
    *,
    split_sizes: Mapping[str, int | None],
    metrics: Mapping[str, Any],
    samples: Iterable[Sequence[str]],
    pictures: Collection[str],
    resumed: bool,
) -> ModelCard:
    """Fill in the template.

    Args:
        template: the Jinja template of the card, `model_card.md`.
        model: the trained model.
        model_arguments: the model arguments of the run.
        data_arguments: its data arguments.
        training_arguments: its training arguments.
        task: what it was trained for.
        split_sizes: number of examples of each split; None for a stream.
        metrics: what is in `all_results.json`; without `predict_` metrics the card says that nothing was measured.
        samples: rows of `(source, reference, hypothesis)`, best from the test split.
        pictures: names of the files to show, of `training_curves.png` and `attention.png`.
        resumed: whether `metrics` cover only the training since the run was resumed.
    """
    folder = Path(training_arguments.output_dir or ".").resolve()
    name = one_line((training_arguments.hub_model_id or folder.name).split("/")[-1])
    rows = list(samples)
    pair, words = task.languages(data_arguments), task.words
    languages = pair[0] or model.config.source_lang, pair[1] or model.config.target_lang
    known = list(dict.fromkeys(map(_language, languages))) if any(languages) else ["not stated"]
    reference = _python_literal(training_arguments.hub_model_id or "path/to/this/folder")
    source = _python_literal(task.example or _example_source(rows))
    card: ModelCard = ModelCard.from_template(
        card_data=_card_data(name, languages, model, model_arguments, data_arguments, task, metrics),
        template_path=str(template),
        model_name=plain(name),
        summary=f"{task.summary(_names(languages))} Trained with hf-rnn-s2s {__version__}, whose code it carries.",
        words=words,
        pipeline_name=task.pipeline_name,
        has_attention=model.config.attention_type != "none",
        papers=_papers(model.config),
        origin=_origin(model_arguments.model_name_or_path),
        languages=" → ".join(known),
        license=plain(model_arguments.license or "not stated; the training data may bind it"),
        parameters=model.num_parameters(),
        architecture=_settings(model.config, OPTIONS),
        model_reference=reference,
        example_source=source,
        steps=task.steps.replace("{model}", reference).replace("{source}", source),
        longest_source=task.longest_source(data_arguments),
        shows_attention=task.shows_attention and model.config.attention_type != "none",
        max_new_tokens=model.generation_config.max_length - 1,
        data_description=describe_data(data_arguments, task),
        split_sizes={split: "a stream" if size is None else f"{size:,}" for split, size in split_sizes.items()},
        training_description=_describe_training(training_arguments, metrics, resumed, data_arguments.streaming),
        hyperparameters=_hyperparameters(training_arguments),
        results=_results(task, metrics),
        num_beams=model.generation_config.num_beams or 1,
        samples=[[plain(shorten(text)) for text in row] for row in rows],
        pictures=pictures,
        device=_device(training_arguments),
        versions=_versions(),
    )
    return card


def describe_data(arguments: DataArguments, task: Task) -> str:
    """One sentence on where the examples came from. It names local files without their folders."""
    if arguments.dataset_name and not _hub_dataset(arguments):
        return f"A local folder: {code(Path(arguments.dataset_name).name)}."
    if arguments.dataset_name:
        config = arguments.dataset_config_name
        name = f"[{code(arguments.dataset_name)}](https://huggingface.co/datasets/{arguments.dataset_name})"
        return f"The dataset {name}{f', configuration {code(config)}' if config else ''}."
    if arguments.train_file:
        return f"Local files: {code(Path(arguments.train_file).name)}."
    corpus = task.corpus(arguments)
    return "Not stated." if corpus is None else corpus.description


def _card_data(
    name: str,
    languages: Languages,
    model: PreTrainedModel,
    model_arguments: ModelArguments,
    data_arguments: DataArguments,
    task: Task,
    metrics: Mapping[str, Any],
) -> ModelCardData:
    results = _eval_results(data_arguments, task, metrics)
    codes = [language_code(label) for label in languages if label]
    return ModelCardData(
        language=list(dict.fromkeys(filter(None, codes))) or None,
        license=one_line(model_arguments.license) if model_arguments.license else None,
        library_name="transformers",
        pipeline_tag=task.pipeline_name,
        tags=[
            *_task_tags(task),
            "rnn",
            model.config.cell_type,
            *_attention_tag(model),
            "hf-rnn-s2s",
        ],
        datasets=_hub_dataset(data_arguments),
        metrics=_shown(task),
        base_model=_hub_name(model_arguments.model_name_or_path),
        model_name=name if results else None,
        eval_results=results or None,
    )


def _eval_results(arguments: DataArguments, task: Task, metrics: Mapping[str, Any]) -> list[EvalResult]:
    local = arguments.test_file or arguments.train_file or arguments.dataset_name or "hf-rnn-s2s-demo"
    dataset = (_hub_dataset(arguments) or [one_line(Path(local).name)])[0]
    config = arguments.dataset_config_name
    results = []
    for metric in _shown(task):
        if not math.isfinite(metrics.get(f"predict_{metric}", math.nan)):  # the Hub accepts finite numbers only
            continue
        signature = metrics.get(f"predict_{metric}_signature")
        results.append(
            EvalResult(
                task_type=task.pipeline_name,
                task_name=task.words.title,
                dataset_type=dataset,
                dataset_name=dataset,
                dataset_config=one_line(config) if config else None,
                dataset_split="test",
                metric_type=metric,
                metric_name=task.metrics[metric].title,
                metric_value=round(metrics[f"predict_{metric}"], task.metrics[metric].decimals),
                metric_args={"signature": signature} if signature else None,
            )
        )
    return results


def _shown(task: Task) -> list[str]:
    """The metrics that the Hub shows."""
    return [name for name, info in task.metrics.items() if info.on_hub]


def _attends_softly(config: PreTrainedConfig) -> bool:
    return config.attention_type != "none" and config.head_type != "marginal"


def _papers(config: PreTrainedConfig) -> list[str]:
    """Links to the papers that the architecture follows."""
    return [f"[{title}](https://arxiv.org/abs/{number})" for title, number, follows in PAPERS if follows(config)]


def _results(task: Task, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": info.title,
            "value": _rounded(metrics[f"predict_{metric}"], info.decimals),
            "signature": code_cell(metrics.get(f"predict_{metric}_signature", "")),
        }
        for metric, info in {**task.metrics, **ALIGNMENT_ERROR, **LOSSES}.items()
        if f"predict_{metric}" in metrics
    ]


def _rounded(value: float, decimals: int) -> str:
    return f"{value:,.{decimals}f}" if math.isfinite(value) else "not finite"


def _describe_training(
    arguments: RnnS2STrainingArguments, metrics: Mapping[str, Any], resumed: bool, is_stream: bool
) -> str:
    optimizer = getattr(arguments.optim, "value", arguments.optim)
    # On a stream the Trainer counts no epochs, only steps.
    length = f"{arguments.max_steps:,} steps" if is_stream else f"{metrics['epoch']:.1f} epochs"
    return (
        f"Trained on the cross-entropy of target tokens, with `{optimizer}`, for {length}. "
        f"{'What came after the run was last resumed' if resumed else 'This'} took "
        f"{_duration(metrics['train_runtime'])}, evaluations included, with "
        f"{metrics['target_tokens_per_second']:,.0f} target tokens per second.{_describe_selection(arguments)}"
    )


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _describe_selection(arguments: RnnS2STrainingArguments) -> str:
    """Which of its checkpoints the model is, or the mean of which."""
    if arguments.average_checkpoints is not None:
        return f" Its weights are the mean of the last {arguments.average_checkpoints} checkpoints."
    if not arguments.load_best_model_at_end:
        return ""
    metric = str(arguments.metric_for_best_model).removeprefix("eval_")
    end = "highest" if arguments.greater_is_better else "lowest"
    return f" Of its checkpoints this is the one with the {end} `{metric}` on the validation split."


def _hyperparameters(arguments: RnnS2STrainingArguments) -> dict[str, Any]:
    """The hyperparameters that had an effect: of two for the length or the batch size, one overrides the other."""
    given = _settings(arguments, HYPERPARAMETERS)
    given.pop("num_train_epochs" if arguments.max_steps > 0 else "max_steps")
    if arguments.per_device_train_batch_tokens is not None:
        given.pop("per_device_train_batch_size")
    return given


def _device(arguments: RnnS2STrainingArguments) -> str:
    """The device of one process, and how many processes there were."""
    if arguments.device.type == "cuda":
        device = f"one {plain(torch.cuda.get_device_name(arguments.device))}"
    else:
        threads = torch.get_num_threads()
        on_cpu = f"a CPU ({code(platform.machine())}) with {threads} {'thread' if threads == 1 else 'threads'}"
        device = on_cpu if arguments.device.type == "cpu" else arguments.device.type
    processes = arguments.world_size
    return device if processes == 1 else f"{processes} processes, each with {device}"


def _versions() -> dict[str, str]:
    installed = {package: importlib.metadata.version(package) for package in PACKAGES}
    return {"hf-rnn-s2s": __version__, "Python": platform.python_version(), **installed}


def _names(languages: Languages) -> tuple[str | None, str | None]:
    source, target = (label and plain(language_name(label) or label) for label in languages)
    return source, target


def _language(label: str | None) -> str:
    """The name of a language and its code; a label that is not a code stays as it is."""
    if not label:
        return "not stated"
    name = language_name(label)
    return f"{plain(name)} {code(label)}" if name else code(label)


def _example_source(rows: Sequence[Sequence[str]]) -> str:
    """A source to try the model with: the first that is short enough for a line of code, else the first, cut."""
    sources = [row[0] for row in rows if row[0].strip()]
    short = [source for source in sources if len(source) <= LONGEST_TEXT]
    return (short or [shorten(source) for source in sources] or ["How are you?"])[0]


def _attention_tag(model: PreTrainedModel) -> list[str]:
    return [] if model.config.attention_type == "none" else ["attention"]


def _task_tags(task: Task) -> list[str]:
    return list(dict.fromkeys([task.name, task.pipeline_name]))


def _hub_dataset(arguments: DataArguments) -> list[str] | None:
    """The name of the data set if it is on the Hub; paths of local folders are private."""
    name = _hub_name(arguments.dataset_name)
    return None if name is None else [name]


def _hub_name(name_or_path: str | None) -> str | None:
    if name_or_path is None or Path(name_or_path).exists():
        return None
    try:
        validate_repo_id(name_or_path)
    except HFValidationError:
        return None
    return name_or_path


def _origin(name_or_path: str | None) -> str:
    if name_or_path is None:
        return "random weights"
    name = _hub_name(name_or_path)
    return f"[{code(name)}](https://huggingface.co/{name})" if name else "the model of an earlier run"


def _python_literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # JSON and Python write a text the same way


def _settings(settings: Any, names: Iterable[str]) -> dict[str, Any]:
    """The settings that are not None, members of enumerations replaced by their values."""
    values = {name: getattr(settings, name) for name in names}
    return {name: number(getattr(value, "value", value)) for name, value in values.items() if value is not None}
