"""Fills in `model_card.md`, so that every trained model says what it is, what it learned from and how well it does."""

import importlib.metadata
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedModel

from .arguments import ModelArguments, RnnS2STrainingArguments
from .data_arguments import DataArguments

# metric of sacreBLEU or ours: what people call it, and how many decimals it has
METRICS = {
    "bleu": ("BLEU", 1),
    "chrf": ("chrF2++", 1),
    "ter": ("TER", 1),
    "exact_match": ("Exact match", 4),
    "loss": ("Loss (nats per target token)", 3),
    "perplexity": ("Perplexity per target token", 2),
}
MODEL_INDEX_METRICS = ("bleu", "chrf", "ter", "exact_match")
ARCHITECTURE = (
    "cell_type",
    "encoder_layers",
    "decoder_layers",
    "hidden_size",
    "embedding_size",
    "attention_type",
    "attention_layer",
    "context_fusion",
    "bridge",
    "dropout",
    "label_smoothing",
    "initializer_range",
    "vocab_size",
    "decoder_vocab_size",
    "share_encoder_decoder_embeddings",
    "tie_word_embeddings",
)
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
    "gradient_accumulation_steps",
    "num_train_epochs",
    "max_steps",
    "bf16",
    "fp16",
    "train_sampling_strategy",
    "seed",
)
PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "sacrebleu")


def build_model_card(
    template: Path,
    model: PreTrainedModel,
    model_arguments: ModelArguments,
    data_arguments: DataArguments,
    training_arguments: RnnS2STrainingArguments,
    *,
    split_sizes: Mapping[str, int | None],
    metrics: Mapping[str, Any],
    samples: Iterable[Sequence[str]],
    pictures: Collection[str],
    resumed: bool,
) -> ModelCard:
    """
    Fills in the template.

    Args:
        template: the Jinja template of the card, `model_card.md`.
        model: the trained model.
        model_arguments, data_arguments, training_arguments: what the run was told.
        split_sizes: number of examples of each split; None where a stream does not tell.
        metrics: what is in `all_results.json`; without `predict_` metrics the card says that nothing was measured.
        samples: rows of `(source, reference, hypothesis)`, best from the test split.
        pictures: names of the files to show, of `training_curves.png` and `attention.png`.
        resumed: whether `metrics` tell only of what was trained since the run was resumed.
    """
    name = training_arguments.hub_model_id or Path(training_arguments.output_dir or ".").name
    rows = list(samples)
    languages = [language for language in language_pair(data_arguments) if language]
    card: ModelCard = ModelCard.from_template(
        card_data=_card_data(name.split("/")[-1], languages, model, model_arguments, data_arguments, metrics),
        template_path=str(template),
        model_name=name.split("/")[-1],
        summary=f"Translates {' to '.join(languages) or 'text'}. "
        f"The model was trained with [hf-rnn-s2s](https://pypi.org/project/hf-rnn-s2s/).",
        has_attention=model.config.attention_type != "none",
        origin=_origin(model_arguments.model_name_or_path),
        languages=" → ".join(f"`{language}`" for language in languages) or "not stated",
        license=model_arguments.license or "not stated; the training data may bind it",
        parameters=model.num_parameters(),
        architecture=_given(model.config, ARCHITECTURE),
        model_reference=_python_text(training_arguments.hub_model_id or "path/to/this/folder"),
        example_source=_python_text(rows[0][0] if rows else "How are you?"),
        max_source_length=data_arguments.max_source_length,
        max_new_tokens=model.generation_config.max_length - 1,
        data_description=describe_data(data_arguments),
        split_sizes={split: "a stream" if size is None else f"{size:,}" for split, size in split_sizes.items()},
        training_description=_describe_training(training_arguments, metrics, resumed),
        hyperparameters=_given(training_arguments, HYPERPARAMETERS),
        results=_results(metrics),
        test_size=split_sizes.get("test"),
        num_beams=model.generation_config.num_beams or 1,
        samples=[[_cell(text) for text in row] for row in rows],
        pictures=pictures,
        versions={package: importlib.metadata.version(package) for package in PACKAGES},
    )
    return card


def language_pair(arguments: DataArguments) -> tuple[str | None, str | None]:
    """Source and target language as the run named them; None where it did not."""
    files = (arguments.train_file, arguments.validation_file, arguments.test_file)
    if arguments.dataset_name or any(files):
        return arguments.source_lang, arguments.target_lang
    source, target = arguments.demo_locales
    return source, target


def describe_data(arguments: DataArguments) -> str:
    """One sentence on where the examples came from. Of local files only the names are told, not the folders."""
    if arguments.dataset_name and not _hub_dataset(arguments):
        return f"A local folder: `{Path(arguments.dataset_name).name}`."
    if arguments.dataset_name:
        config = f", configuration `{arguments.dataset_config_name}`" if arguments.dataset_config_name else ""
        return f"The dataset [`{arguments.dataset_name}`](https://huggingface.co/datasets/{arguments.dataset_name}){config}."
    if arguments.train_file:
        return f"Local files: `{Path(arguments.train_file).name}`."
    locales = " and ".join(f"`{locale}`" for locale in arguments.demo_locales)
    return (
        "The demo corpus of hf-rnn-s2s: phrases with dates, times, durations, quantities and prices, written by rule "
        f"from [Unicode CLDR](https://cldr.unicode.org) data for the locales {locales}."
    )


def _card_data(
    name: str,
    languages: list[str],
    model: PreTrainedModel,
    model_arguments: ModelArguments,
    data_arguments: DataArguments,
    metrics: Mapping[str, Any],
) -> ModelCardData:
    results = _eval_results(data_arguments, metrics)
    codes = [re.split("[-_]", language)[0].lower() for language in languages]
    return ModelCardData(
        language=list(dict.fromkeys(codes)) or None,
        license=model_arguments.license,
        library_name="transformers",
        pipeline_tag="translation",
        tags=["translation", "rnn", model.config.cell_type, *_attention_tag(model), "hf-rnn-s2s"],
        datasets=_hub_dataset(data_arguments),
        metrics=["bleu", "chrf", "ter", "exact_match"],
        base_model=_hub_name(model_arguments.model_name_or_path),
        model_name=name if results else None,
        eval_results=results or None,
    )


def _eval_results(arguments: DataArguments, metrics: Mapping[str, Any]) -> list[EvalResult]:
    local = arguments.test_file or arguments.train_file or arguments.dataset_name or "hf-rnn-s2s-demo"
    dataset = (_hub_dataset(arguments) or [Path(local).name])[0]
    results = []
    for metric in MODEL_INDEX_METRICS:
        if f"predict_{metric}" not in metrics:
            continue
        signature = metrics.get(f"predict_{metric}_signature")
        results.append(
            EvalResult(
                task_type="translation",
                task_name="Translation",
                dataset_type=dataset,
                dataset_name=dataset,
                dataset_config=arguments.dataset_config_name,
                dataset_split="test",
                metric_type=metric,
                metric_name=METRICS[metric][0],
                metric_value=round(metrics[f"predict_{metric}"], METRICS[metric][1]),
                metric_args={"signature": signature} if signature else None,
            )
        )
    return results


def _results(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "value": f"{metrics[f'predict_{metric}']:.{decimals}f}",
            "signature": _cell(metrics.get(f"predict_{metric}_signature", "")),
        }
        for metric, (name, decimals) in METRICS.items()
        if f"predict_{metric}" in metrics
    ]


def _describe_training(arguments: RnnS2STrainingArguments, metrics: Mapping[str, Any], resumed: bool) -> str:
    optimizer = getattr(arguments.optim, "value", arguments.optim)
    return (
        f"Trained on the cross-entropy of target tokens, with `{optimizer}`, for {metrics['epoch']:.1f} epochs. "
        f"{'What came after the run was last resumed' if resumed else 'This'} took "
        f"{metrics['train_runtime'] / 60:.1f} minutes, evaluations included, with "
        f"{metrics['target_tokens_per_second']:,.0f} target tokens per second."
    )


def _attention_tag(model: PreTrainedModel) -> list[str]:
    return [] if model.config.attention_type == "none" else ["attention"]


def _hub_dataset(arguments: DataArguments) -> list[str] | None:
    """The data set, if it is one of the Hub: of local folders nobody else needs to know the path."""
    name = arguments.dataset_name
    return None if name is None or Path(name).exists() else [name]


def _hub_name(name_or_path: str | None) -> str | None:
    return None if name_or_path is None or Path(name_or_path).exists() else name_or_path


def _origin(name_or_path: str | None) -> str:
    if name_or_path is None:
        return "random weights"
    return f"`{_hub_name(name_or_path)}`" if _hub_name(name_or_path) else "the model of an earlier run"


def _cell(text: str) -> str:
    """A text as it may stand in a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def _python_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # JSON writes a text as Python does


def _given(settings: Any, names: Iterable[str]) -> dict[str, Any]:
    """The settings that have a value; of a member of an enumeration, that is its value."""
    values = {name: getattr(settings, name) for name in names}
    return {name: getattr(value, "value", value) for name, value in values.items() if value is not None}


__all__ = ["build_model_card", "describe_data", "language_pair"]
