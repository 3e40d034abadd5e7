"""The command `score`: how probable given targets are, as a whole and token by token."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from ..data.arguments import DataArguments
from ..decoding.reading import DEFAULT_BATCH_SIZE
from ..errors import UsageError, as_usage_error
from ..training.tasks.base import Task
from .chunks import Numbered, Write, output_record
from .fields import shown
from .files import FileOptions, process
from .interruption import Interruption
from .models import Loaded, load_model
from .outputs import Column
from .records import STANDARD, Record, Records, count_lines, format_of, open_records, pick_column, text_of

TARGET = "target"  # the column of targets that come from a file of their own


@dataclass
class ScoreOptions(FileOptions):
    """What the command was told.

    Attributes:
        targets: a file with the targets of the input's texts; None: they are a column of the input.
        source_column, target_column: None: usual ones.
        output_column: what the columns of the output begin with.
        per_token: whether each token and its log-probability are written, too.
    """

    targets: str | None = None
    source_column: str | None = None
    target_column: str | None = None
    output_column: str = "score"
    per_token: bool = False

    def check(self) -> None:
        """As in the base class."""
        if self.targets is not None and STANDARD in (self.targets, self.input):
            raise UsageError("Sources and targets in two files need a name each: standard input is one only.")
        if self.targets is None and self.kinds()[0] == "lines":
            raise UsageError("A file of lines has sources alone: name a file with the targets behind it.")
        super().check()

    def inputs(self) -> list[str]:
        """As in the base class."""
        return [*super().inputs(), *([self.targets] if self.targets else [])]

    def columns(self, kind: str) -> list[Column]:
        """What is written of each pair."""
        name, as_list = self.output_column, kind in ("jsonl", "parquet")
        columns = [Column(name, is_number=True), Column(f"{name}_length", is_number=True)]
        if self.per_token:
            columns.append(Column(f"{name}_tokens", is_list=as_list))
            columns.append(Column(f"{name}_of_tokens", is_number=True, is_list=as_list))
        return columns


def score_records(options: ScoreOptions) -> None:
    """Write the score of each pair of texts.

    Raises:
        UsageError: for options, files or records that cannot be used, such as files of unequal length.
        Interrupted: when the process is told to end.
    """
    options.check()
    with Interruption() as interruption, ExitStack() as stack:
        loaded = load_model(options.model, None, options.device, options.dtype, options.trust_remote_code)
        if loaded.listens:
            raise UsageError(f"{loaded.name} reads recordings; only texts can be scored.")
        first_kind, kind = options.kinds()
        records = stack.enter_context(open_records(options.input, first_kind))
        records = with_targets(records, options, stack)

        def prepare(columns: Sequence[str], kept: list[str] | None) -> Write:
            return _Job(loaded, options, columns, kept, kind, records.name).write

        process(options, records, options.columns(kind), prepare, interruption)


def with_targets(records: Records, options: ScoreOptions, stack: ExitStack) -> Records:
    """The records with the targets of the other file, if there is one, which is closed with the stack.

    Raises:
        UsageError: for files of unequal length.
    """
    if options.targets is None:
        return records
    require_as_many_lines(options)
    targets = open_records(options.targets, format_of(options.targets, None, options.kinds()[0]))
    return side_by_side(records, stack.enter_context(targets), options.target_column)


def require_as_many_lines(options: ScoreOptions) -> None:
    """Check before anything is scored that two files of lines have the same number; of others the reading tells.

    Raises:
        UsageError: if they have not.
    """
    paths = [options.input, str(options.targets)]
    kinds = [options.kinds()[0], format_of(str(options.targets), None, options.kinds()[0])]
    if kinds == ["lines", "lines"]:
        counts = [count_lines(path) for path in paths]
        if None not in counts and counts[0] != counts[1]:
            raise UsageError(
                f"{paths[0]} has {counts[0]} lines and {paths[1]} {counts[1]}: line n of one must belong to line n of "
                "the other."
            )


def side_by_side(sources: Records, targets: Records, column: str | None) -> Records:
    """Records with a column `TARGET` from another file.

    Raises:
        UsageError: while the rows are read, if one of the files ends before the other one.
    """

    def rows() -> Any:
        count = 0
        while True:
            source, target = next(sources.rows, None), next(targets.rows, None)
            if source is None and target is None:
                return
            if source is None or target is None:
                shorter, longer = (sources, targets) if source is None else (targets, sources)
                more = 1 + sum(1 for _ in longer.rows)
                raise UsageError(
                    f"{shorter.name} has {count} records and {longer.name} {count + more}: "
                    "record n of one must belong to record n of the other."
                )
            count += 1
            name = pick_column(column, tuple(target[1]), (TARGET,), "--target-column", targets.name)
            if TARGET in source[1]:
                raise UsageError(f"{sources.name} has a column {TARGET!r} itself, beside those of {targets.name}.")
            yield source[0], {**source[1], TARGET: text_of(target[1], name, targets.name, target[0])}

    columns = None if sources.columns is None else (*sources.columns, TARGET)
    return sources._replace(name=f"{sources.name} and {targets.name}", columns=columns, rows=rows())


def sides_of(config: Any, task: Task, options: ScoreOptions, columns: Sequence[str], name: str) -> tuple[str, str]:
    """The columns of sources and of targets.

    Args:
        config: of the model, which names the languages.
        task: of the model.
        options: of the command.
        columns: of the records.
        name: of the file or files, for errors.

    Raises:
        UsageError: if it is not clear which ones they are.
    """
    layout = task.layout(DataArguments())
    sources = [getattr(config, "source_lang", None), *layout.source.names]
    targets = [getattr(config, "target_lang", None), *layout.target.names, TARGET, task.words.result]
    given = TARGET if options.targets is not None else options.target_column
    target = pick_column(given, columns, [one for one in targets if one], "--target-column", name)
    rest = [column for column in columns if column != target]
    usual = [one for one in sources if one]
    return pick_column(options.source_column, rest, usual, "--source-column", name), target


class _Job:
    """Pairs on their way to their scores."""

    def __init__(
        self,
        loaded: Loaded,
        options: ScoreOptions,
        columns: Sequence[str],
        kept: list[str] | None,
        kind: str,
        name: str,
    ) -> None:
        self._source, self._target = sides_of(loaded.writer.model.config, loaded.task, options, columns, name)
        self._pipeline, self._options, self._kept, self._kind, self._name = loaded.writer, options, kept, kind, name

    def write(self, rows: list[Numbered], position: int) -> list[Record]:
        """The records of the output for some pairs."""
        sides = (self._source, self._target)
        sources, targets = ([text_of(row, side, self._name, number) for number, row in rows] for side in sides)
        with as_usage_error():
            scored = self._pipeline.score(
                sources, targets, self._options.batch_size or DEFAULT_BATCH_SIZE, return_warnings=True
            )
        return [self._record(row, number, one) for (number, row), one in zip(rows, scored, strict=True)]

    def _record(self, row: Record, number: int, scored: dict[str, Any]) -> Record:
        name, as_list = self._options.output_column, self._kind in ("jsonl", "parquet")
        fields: Record = {name: scored["score"], f"{name}_length": len(scored["tokens"])}
        if self._options.per_token:
            tokens, of_tokens = scored["tokens"], scored["token_scores"]
            fields[f"{name}_tokens"] = tokens if as_list else " ".join(map(shown, tokens))
            fields[f"{name}_of_tokens"] = of_tokens if as_list else " ".join(f"{one:.6g}" for one in of_tokens)
        warning = " ".join(scored["warnings"]) or None
        return output_record(row, self._kept, fields, warning, self._kind, f"{self._name}, record {number}")
