"""Lets a model write a text for each record of a file or a stream: `translate`, `summarize`, `transcribe`, ..."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.arguments import DataArguments
from ..decoding.reading import DEFAULT_BATCH_SIZE, DEFAULT_BATCH_TOKENS
from ..errors import ProcessError, RunError, UsageError, as_usage_error
from ..model.pipeline_rnn_s2s import squeezed
from .chunks import WARNING, Numbered, Write, output_record
from .fields import TOKENS, WORDS, AttentionFile, Fields, alignment_of, open_attentions, shown
from .files import FileOptions, process
from .interruption import Interruption
from .models import Loaded, load_model, one_line
from .records import STANDARD, Record, open_records, pick_column, require_column, text_of

SPEECH_BATCH = 8  # recordings in a batch


@dataclass
class WriteOptions(FileOptions):
    """What a command that writes was told; each attribute is an option of the command line.

    Attributes:
        column: of the input; None: a usual one.
        output_column: of the texts; None: what the task calls its result.
        n_best: how many texts for each record.
        scores: whether their log-probabilities are written.
        alignments: the units of word alignments that are written, `WORDS` or `TOKENS`; None: there are none.
        attentions: a file for the attention weights of each best text.
        document: whether each record is a document of many sentences; a file of lines is one document.
        batch_tokens: as in the pipeline; None: what is usual there.
        processes: as in the pipeline.
        seed: of sampling.
        settings: of `generate()`.
    """

    column: str | None = None
    output_column: str | None = None
    n_best: int = 1
    scores: bool = False
    alignments: str | None = None
    attentions: str | None = None
    batch_tokens: int | None = None
    processes: int | None = None
    seed: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """As in the base class."""
        if self.n_best < 1:
            raise UsageError(f"--n-best {self.n_best} must be at least 1.")
        if self.alignments not in (None, WORDS, TOKENS):
            raise UsageError(f"--alignment-units {self.alignments}: there are {WORDS} and {TOKENS}.")
        if self.attentions is not None and self.resume:
            raise UsageError("--attentions writes one whole file, and cannot be resumed: leave --resume out.")
        if self.attentions is not None and os.path.exists(self.attentions) and not self.overwrite:
            raise UsageError(f"{self.attentions} exists: name another file, or replace it with --overwrite.")
        if self.document and (self.n_best > 1 or self.scores or self.alignments or self.attentions):
            raise UsageError("--document joins many sentences: it has no n-best, scores, alignments and attentions.")
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise UsageError(f"--batch-tokens {self.batch_tokens} must be at least 1.")
        if self.processes is not None and self.processes < 1:
            raise UsageError(f"--processes {self.processes} must be at least 1.")
        if self.chooses and self.n_best == 1:
            raise UsageError("--minimum-bayes-risk chooses among several texts: say among how many, --n-best 8.")
        super().check()

    @property
    def chooses(self) -> bool:
        """Whether one of the n best texts is chosen, so that there is one in the end."""
        return bool(self.settings.get("minimum_bayes_risk"))

    def outputs(self) -> list[str]:
        """As in the base class."""
        return [*super().outputs(), *([self.attentions] if self.attentions else [])]


def write_records(options: WriteOptions, verb: str | None = None) -> None:
    """Write a text for each record of the input, in order, as the records come.

    Args:
        options: of the command.
        verb: the command, such as "translate"; None: whatever the model is for.

    Raises:
        UsageError: for options, files or records that cannot be used; the message says which.
        RunError: if other processes that write cannot go on.
        Interrupted: when the process is told to end. What was written by then are whole records.
    """
    options.check()
    with Interruption() as interruption, ExitStack() as stack:
        loaded = load_model(options.model, verb, options.device, options.dtype, options.trust_remote_code)
        first_kind, kind = options.kinds()
        writer = writer_of(loaded, options, kind)
        records = stack.enter_context(open_records(options.input, first_kind))
        attentions = stack.enter_context(open_attentions(options.attentions))

        def prepare(columns: Sequence[str], kept: list[str] | None) -> Write:
            column = _input_column(loaded, options, columns, records.name)
            return _Job(records.name, column, kept, writer, kind, attentions).write

        process(options, records, writer.fields.columns(), prepare, interruption, options.seed)


class _Job:
    """One input on its way to one output.

    Args:
        name: of the input.
        column: which is read.
        kept: columns of the input that the output has, too; None: all that a record has.
        writer: of the texts.
        kind: the format of the output.
        attentions: where attention goes; None if it is not wanted.
    """

    def __init__(
        self,
        name: str,
        column: str,
        kept: list[str] | None,
        writer: Writer,
        kind: str,
        attentions: AttentionFile | None,
    ) -> None:
        self._name, self._column, self._kept, self._kind = name, column, kept, kind
        self._writer, self._attentions = writer, attentions

    def write(self, rows: list[Numbered], position: int) -> list[Record]:
        """The records of the output for some of the input, the first of which has this position in it."""
        sources = [self._source(row, number) for number, row in rows]
        try:
            with as_usage_error():
                results = self._writer.write(sources)
        except ProcessError as error:
            named = error.renumbered([number for number, _ in rows], "record")
            raise RunError(f"{self._name}: {named}") from error
        for place, result in enumerate(results, start=position):
            if self._attentions is not None and "attention" in result:
                self._attentions.add(place, result)
        return [self._record(row, number, result) for (number, row), result in zip(rows, results, strict=True)]

    def _source(self, row: Record, number: int) -> Any:
        read = text_of if self._writer.reads_text else require_column
        return read(row, self._column, self._name, number)

    def _record(self, row: Record, number: int, result: Record) -> Record:
        name = f"{self._name}, record {number}"
        return output_record(row, self._kept, result["fields"], result.get(WARNING), self._kind, name)


class Writer:
    """Writes the texts of some records: of texts, with scores and whatever else was asked for.

    Args:
        loaded: the model.
        options: of the command.
        fields: which there are.
    """

    reads_text = True

    def __init__(self, loaded: Loaded, options: WriteOptions, fields: Fields) -> None:
        self.fields = fields
        self._pipeline, self._task, self._settings = loaded.writer, loaded.task, options.settings
        self._splits = options.document and loaded.task.splits_documents
        self._call = self._arguments(options)

    def _arguments(self, options: WriteOptions) -> dict[str, Any]:
        """What the pipeline is called with."""
        call: dict[str, Any] = {
            "batch_size": options.batch_size or DEFAULT_BATCH_SIZE,
            "batch_tokens": options.batch_tokens or DEFAULT_BATCH_TOKENS,
            "processes": options.processes,
            "return_warnings": True,
        }
        if self._splits:
            require_segmenter()
            return {**call, "split_sentences": True, **options.settings}
        if options.n_best > 1:
            call["num_return_sequences"] = options.n_best
            beams = self._pipeline.model.generation_config.num_beams or 1
            if not options.settings.get("do_sample"):
                call["num_beams"] = max(beams, options.n_best)
        if options.scores:
            call["return_scores"] = True
        if options.alignments or options.attentions:
            call["return_attentions"] = True
        return {**call, **options.settings}

    def write(self, sources: Sequence[str]) -> list[Record]:
        """For each source its `fields`, perhaps a `warning`, and the parts of an attention.

        Raises:
            ValueError: for settings that the model refuses.
            ProcessError: if other processes that write cannot go on.
        """
        results: list[Record] = [{"fields": self.fields.empty()} for _ in sources]
        # The layout of a document stays, though there may be no text in it.
        rows = [row for row, source in enumerate(sources) if source.strip() or self._splits]
        try:
            written = self._called([sources[row] for row in rows]) if rows else []
        except ProcessError as error:
            raise error.renumbered(rows) from error
        for row, found in zip(rows, written, strict=True):
            results[row] = self._result(sources[row], found if isinstance(found, list) else [found])
        return results

    def _called(self, sources: list[Any]) -> Any:
        """What the pipeline makes of the sources.

        Raises:
            ValueError: for settings that it refuses, whatever it raises for them.
        """
        try:
            return self._pipeline(sources, **self._call)
        except (TypeError, OSError, NotImplementedError) as error:
            if not self._settings:  # then it is no mistake of the user
                raise
            raise UsageError(f"{', '.join(self._settings)}: {one_line(error)}.") from error

    def _result(self, source: str, found: list[Record]) -> Record:
        texts = [self._text(source, one) for one in found]
        fields = self.fields.record(texts, found[0].get("source_tokens", ()))
        return {**found[0], "fields": fields, WARNING: " ".join(found[0]["warnings"]) or None}

    def _text(self, source: str, found: Record) -> Record:
        """The fields of one text of a record, named as `Fields.parts` names them."""
        name, prefix = self.fields.name, self._pipeline.return_name
        text = found[f"{prefix}_text"]
        record = {name: text}
        if self.fields.scores:
            record[f"{name}_score"] = found[f"{prefix}_score"]
        if self.fields.alignments is not None:
            own = self._pipeline.tokenizer
            tokenizers = (getattr(own, "source_tokenizer", own), getattr(own, "target_tokenizer", own))
            units = self.fields.alignments
            read = squeezed(source) if self._settings.get("squeeze_whitespace", True) else source
            record[f"{name}_alignment"] = alignment_of(found, text, read, tokenizers, units)
            if units == TOKENS:
                record[f"{name}_tokens"] = " ".join(map(shown, found["target_tokens"]))
        return record


class SpeechWriter(Writer):
    """Writes what is spoken in recordings, which are paths, or dictionaries with bytes as data sets have them."""

    reads_text = False

    def __init__(self, loaded: Loaded, options: WriteOptions, fields: Fields) -> None:
        unread = {"--n-best": fields.n_best > 1, "--scores": fields.scores, "--alignments": fields.alignments}
        unread |= {"--attentions": options.attentions, "--document": options.document}
        unread |= {"--batch-tokens": options.batch_tokens is not None, "--processes": options.processes is not None}
        for name, is_given in unread.items():
            if is_given:
                raise UsageError(f"{name} is for texts, and not for recordings: leave it out.")
        super().__init__(loaded, options, fields)
        self._folder = None if options.input == STANDARD else Path(options.input).parent

    def _arguments(self, options: WriteOptions) -> dict[str, Any]:
        return {"batch_size": options.batch_size or SPEECH_BATCH, **options.settings}

    def write(self, sources: Sequence[Any]) -> list[Record]:
        """As in the base class; a path is looked for beside the file that names it."""
        recordings = [self._recording(source) for source in sources]
        rows = [row for row, one in enumerate(recordings) if one]
        chosen = [recordings[row] for row in rows]
        results: list[Record] = [{"fields": self.fields.empty()} for _ in sources]
        for row, found in zip(rows, self._heard(chosen), strict=True):
            results[row] = found
        for row, (source, one) in enumerate(zip(sources, recordings, strict=True)):
            if one is None:
                results[row][WARNING] = f"a recording is the path of a file, or its bytes, not {source!r:.60}"
        return results

    def _heard(self, recordings: list[Any]) -> list[Record]:
        """The fields of each recording; of one that cannot be read a warning."""
        try:
            written = self._called(recordings) if recordings else []
        except (ValueError, OSError) as error:
            if isinstance(error, UsageError):
                raise
            if len(recordings) > 1:  # find the one, and go on with the others
                return [found for one in recordings for found in self._heard([one])]
            return [{"fields": self.fields.empty(), WARNING: one_line(error)}]
        return [{"fields": {self.fields.name: found["text"]}} for found in written]

    def _recording(self, source: Any) -> str | bytes | None:
        """The path or the bytes of a recording, empty where there is none; None for anything else."""
        if isinstance(source, dict):
            source = source.get("bytes") or source.get("path")
        if isinstance(source, str) and source.strip() and self._folder is not None and "://" not in source:
            return str(self._folder / source)
        return source.strip() if isinstance(source, str) else source if isinstance(source, bytes) else None


def require_segmenter() -> None:
    """Check that sentences can be found.

    Raises:
        UsageError: if what finds them is not installed.
    """
    if importlib.util.find_spec("sentencex") is None:
        raise UsageError('--document needs sentencex: install this package with its extra "documents".')


def writer_of(loaded: Loaded, options: WriteOptions, kind: str) -> Writer:
    """What writes the texts for a format of the output."""
    fields = Fields(
        name=options.output_column or loaded.task.words.result,
        n_best=1 if options.chooses else options.n_best,
        scores=options.scores,
        alignments=options.alignments,
        as_lists=kind in ("jsonl", "parquet"),
    )
    kind_of_writer = SpeechWriter if loaded.listens else Writer
    return kind_of_writer(loaded, options, fields)


def _input_column(loaded: Loaded, options: WriteOptions, columns: Sequence[str], name: str) -> str:
    language = getattr(loaded.writer.model.config, "source_lang", None)
    usual = [language, *loaded.task.layout(DataArguments()).source.names, "text", "sentence"]
    return pick_column(options.column, columns, [one for one in usual if one], "--column", name)
