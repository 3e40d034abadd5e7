"""Output of a run for human readers: the table of results, `predictions.tsv` and the pictures."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerState

from ..decoding.pipeline import RnnText2TextGenerationPipeline
from ..separators import as_one_field
from .plots import TRANSLATION_METRICS, has_training_curves, plot_attention, plot_training_curves

Row = tuple[str, str, str]  # source, reference and hypothesis
COLUMNS = ("source", "reference", "hypothesis")  # header of the table
WIDEST_PICTURE = 30  # most tokens on an axis that can still be read
LARGEST_PICTURE = 128  # most tokens on an axis that can still be drawn


def results_table(rows: Iterable[Row]) -> str:
    """Format rows of `(source, reference, hypothesis)` as a block of three lines each."""
    blocks = [
        "\n".join(f"{name:>10}  {as_one_field(text)}" for name, text in zip(COLUMNS, row, strict=True)) for row in rows
    ]
    return "\n" + "\n\n".join(blocks) + "\n"


def write_predictions(path: Path, rows: Iterable[Row]) -> None:
    """Write a UTF-8 table with a header and one row per example, in order, tab-separated, nothing quoted.

    A tab or line break inside a text (also a rare one, such as U+2028) would break the row: each is written as one
    space. The scores are computed from the unchanged texts.
    """
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in (COLUMNS, *rows):
            file.write("\t".join(map(as_one_field, row)) + "\n")


def informative_example(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], max_source_length: int | None = None
) -> str | None:
    """The source whose attention is most informative: the longest one, rightly done if one is, that is readable.

    If none fits into a readable picture, the shortest; None if all are empty, were cut to `max_source_length` tokens
    or are too long to draw.
    """
    target_tokenizer = getattr(tokenizer, "target_tokenizer", tokenizer)
    longest = min(max_source_length or LARGEST_PICTURE, LARGEST_PICTURE)
    candidates = []
    for source, reference, hypothesis in rows:
        source_length = len(tokenizer(source, verbose=False)["input_ids"])
        length = len(target_tokenizer(hypothesis, verbose=False)["input_ids"])
        if source.strip() and source_length <= longest and length <= LARGEST_PICTURE:
            size = max(source_length, length)
            fits = size <= WIDEST_PICTURE
            candidates.append(((fits, hypothesis == reference and fits, size if fits else -size), source))
    return max(candidates, key=lambda candidate: candidate[0])[1] if candidates else None


def draw_attention(
    path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: str, **options: Any
) -> None:
    """Write for a text, with these options of the pipeline, and draw the attention weights of each target token."""
    writer = RnnText2TextGenerationPipeline(model=model, tokenizer=tokenizer, device=model.device)
    result = writer(source, return_attentions=True, **options)[0]
    tokens = (result["source_tokens"], result["target_tokens"])
    plot_attention(*tokens, result["attention"]).savefig(path)


def draw_training_curves(
    path: Path,
    state: TrainerState,
    metric_for_best_model: str | None,
    metrics: Iterable[str] = TRANSLATION_METRICS,
) -> None:
    """Draw the curves of losses and metrics, the best checkpoint marked; nothing if too little was logged."""
    if has_training_curves(state.log_history, metrics=metrics):
        figure = plot_training_curves(
            state.log_history, state.best_global_step, metric_for_best_model, metrics=metrics
        )
        figure.savefig(path)
