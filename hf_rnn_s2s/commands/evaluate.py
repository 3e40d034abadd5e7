"""The command `evaluate`: all metrics of a task, with confidence intervals, and against a second system."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import AutoTokenizer

from ..data.arguments import DataArguments
from ..errors import UsageError, as_usage_error
from ..training.tasks import TASKS
from ..training.tasks.base import Task
from .chunks import Numbered
from .models import LOADING_ERRORS, one_line, read_configuration, task_of
from .records import STANDARD, format_of, open_records, pick_column, text_of

NEEDED = ("datasets", "evaluate", "sacrebleu", "rouge_score", "jiwer")
RESULTS = ("hypothesis", "translation", "summary", "transcript", "result", "prediction", "text")
REFERENCES = ("reference", "target", "summary", "text")


@dataclass
class EvaluateOptions:
    """What the command was told.

    Attributes:
        results: a file with what a system wrote.
        references: files with what is right, as many records each; none: it is a column of the results.
        column, reference_columns: which are read, where a file has several.
        against: a file with what a second system wrote.
        task: what was to be done; None: what the model is for, else translation.
        model: a folder or a name on the Hub, for its task, its language and its symbols; it is not loaded.
        target_lang: the language of the results, which decides how they are tokenized.
        samples: how many times the results are drawn anew.
        as_json: whether to print one JSON object.
    """

    results: str
    references: list[str] = field(default_factory=list)
    column: str | None = None
    reference_columns: list[str] = field(default_factory=list)
    against: str | None = None
    task: str | None = None
    model: str | None = None
    target_lang: str | None = None
    samples: int = 1000
    as_json: bool = False


def evaluate_files(options: EvaluateOptions) -> None:
    """Print the scores.

    Raises:
        UsageError: for files, columns or numbers of records that do not fit together, and for packages that are not
            installed.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f'Scores need {", ".join(missing)}: install this package with its extra "train".')
    paths = [options.results, *options.references, *([options.against] if options.against else [])]
    if paths.count(STANDARD) > 1:
        raise UsageError("Standard input can be one of the files only: name the others.")
    if options.samples < 2:
        raise UsageError(f"--samples {options.samples} must be at least 2.")
    task, target_lang, tokenizer = _task(options)
    results, references = _texts(options)
    other = None if options.against is None else _results(options.against, options.column)
    if other is not None and len(other) != len(results):
        raise UsageError(f"{options.against} has {len(other)} records, and {options.results} {len(results)}.")
    from ..training.resampling import estimate

    metrics = task.resampled(target_lang, tokenizer)
    if not metrics:
        raise UsageError(f"The task {task.name} has no metrics that can be resampled.")
    with as_usage_error():
        estimates, signatures = estimate(metrics, results, references, other, options.samples)
    if options.as_json:
        scores = {
            name: {key: value for key, value in one._asdict().items() if value is not None}
            for name, one in estimates.items()
        }
        print(json.dumps({"records": len(results), "scores": scores, "signatures": signatures}, indent=2))
    else:
        print("\n".join(_table(task, estimates, signatures, len(results), options)))


def _table(
    task: Task, estimates: dict[str, Any], signatures: dict[str, str], count: int, options: EvaluateOptions
) -> list[str]:
    lines = [f"{count:,} records; 95 % intervals and p-values from {options.samples:,} paired bootstrap samples", ""]
    head = f"{'':<24} {'score':>8} {'interval':>18}"
    lines.append(head + (f" {'other':>8} {'p':>7}" if options.against else ""))
    for name, one in estimates.items():
        info = task.metrics[name]
        arrow = "higher" if info.greater_is_better else "lower"
        shown = f"{one.score:.{info.decimals}f}"
        interval = f"{one.mean:.{info.decimals}f} ± {one.interval:.{info.decimals}f}"
        line = f"{info.title + ' (' + arrow + ')':<24} {shown:>8} {interval:>18}"
        if one.other is not None:
            p_value = "same" if one.p_value is None else f"{one.p_value:.4f}"
            line += f" {one.other:>8.{info.decimals}f} {p_value:>7}"
        lines.append(line)
    return [*lines, "", *(f"{task.metrics[name].title}: {signature}" for name, signature in signatures.items())]


def _task(options: EvaluateOptions) -> tuple[Task, str | None, Any]:
    """The task, the language of the results and the tokenizer, as far as they are known."""
    tokenizer, target_lang, task = None, options.target_lang, None
    if options.model is not None:
        config = read_configuration(options.model)
        try:
            tokenizer = AutoTokenizer.from_pretrained(options.model, trust_remote_code=False)
        except LOADING_ERRORS as error:
            raise UsageError(f"The tokenizer of {options.model} cannot be read: {one_line(error)}") from error
        task = task_of(config, None, options.model)
        target_lang = target_lang or getattr(config, "target_lang", None)
    if options.task is not None:
        if options.task not in TASKS:
            raise UsageError(f"There is no task {options.task!r}: there are {', '.join(TASKS)}.")
        task = TASKS[options.task]()
    return task or TASKS[DataArguments.task](), target_lang, tokenizer


def _rows(path: str) -> tuple[list[Numbered], tuple[str, ...]]:
    """All records of a file, and its columns."""
    with open_records(path, format_of(path, None)) as records:
        rows = list(records.rows)
    columns = records.columns if records.columns is not None else tuple(rows[0][1]) if rows else ()
    return rows, columns


def _results(path: str, given: str | None) -> list[str]:
    rows, columns = _rows(path)
    column = pick_column(given, columns, RESULTS, "--column", path)
    return [text_of(row, column, path, number) for number, row in rows]


def _references(rows: list[Numbered], columns: Sequence[str], given: Sequence[str], path: str) -> Iterator[list[str]]:
    """The texts of each column of references."""
    names: Sequence[str | None] = given or [None]
    for name in names:
        column = pick_column(name, columns, REFERENCES, "--reference-columns", path)
        yield [text_of(row, column, path, number) for number, row in rows]


def _texts(options: EvaluateOptions) -> tuple[list[str], list[list[str]]]:
    """The results, and each list of references."""
    rows, columns = _rows(options.results)
    if not rows:
        raise UsageError(f"{options.results} is empty: there is nothing to score.")
    column = pick_column(options.column, columns, RESULTS, "--column", options.results)
    if options.references:
        references = [
            (path, texts)
            for path in options.references
            for texts in _references(*_rows(path), options.reference_columns, path)
        ]
    else:
        rest = [name for name in columns if name != column]
        if not rest:
            raise UsageError(f"{options.results} has results alone: name the references with --reference FILE.")
        own = _references(rows, rest, options.reference_columns, options.results)
        references = [(options.results, texts) for texts in own]
    for path, texts in references:
        if len(texts) != len(rows):
            raise UsageError(
                f"{path} has {len(texts)} records, and {options.results} {len(rows)}: record n of one must belong to "
                "record n of the other."
            )
    return [text_of(row, column, options.results, number) for number, row in rows], [texts for _, texts in references]
