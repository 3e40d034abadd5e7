"""What a command writes for each record: the texts, and on request scores, alignments and attention."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..training.alignment import alignments_from_attention, word_attention, words_of_tokens
from .outputs import Column, naming_the_file, partial_name
from .records import Record

WORDS, TOKENS = "words", "tokens"  # what alignments count


@dataclass(frozen=True)
class Fields:
    """Which fields there are.

    Attributes:
        name: the column of the texts, such as "translation".
        n_best: how many texts each record has.
        scores: whether their log-probabilities are wanted.
        alignments: the units of word alignments, `WORDS` or `TOKENS`; None: there are none.
        as_lists: whether several texts are a list in one column, as in JSON, and not a column each.
    """

    name: str
    n_best: int = 1
    scores: bool = False
    alignments: str | None = None
    as_lists: bool = False

    @property
    def parts(self) -> list[Column]:
        """What there is of each text, with the names for the first one."""
        parts = [Column(self.name)]
        if self.scores:
            parts.append(Column(f"{self.name}_score", is_number=True))
        if self.alignments is not None:
            parts.append(Column(f"{self.name}_alignment"))
        if self.alignments == TOKENS:
            parts.append(Column(f"{self.name}_tokens"))
        return parts

    def columns(self) -> list[Column]:
        """The columns of all fields but the warning, in order."""
        own = [Column("source_tokens")] if self.alignments == TOKENS else []
        if self.as_lists and self.n_best > 1:
            return own + [part._replace(is_list=True) for part in self.parts]
        return own + [
            part._replace(name=_numbered(part.name, self.name, number))
            for number in range(1, self.n_best + 1)
            for part in self.parts
        ]

    def record(self, texts: Sequence[Record], source_tokens: Sequence[str] = ()) -> Record:
        """The fields of one record from those of each of its texts, which have the names of `parts`."""
        record: Record = {"source_tokens": " ".join(map(shown, source_tokens))} if self.alignments == TOKENS else {}
        if self.n_best == 1:
            return record | texts[0]
        for part in self.parts:
            values = [text[part.name] for text in texts]
            if self.as_lists:
                record[part.name] = values
            else:
                names = (_numbered(part.name, self.name, number) for number in range(1, self.n_best + 1))
                record |= dict(zip(names, values, strict=True))
        return record

    def empty(self) -> Record:
        """The fields of a record without text."""
        text = {part.name: None if part.is_number else "" for part in self.parts}
        return self.record([text] * self.n_best)


def shown(token: str) -> str:
    """A token without spaces, so that spaces can stand between tokens."""
    return token.replace(" ", "▁")


def _numbered(part: str, name: str, number: int) -> str:
    """The column of the part of a further text: `translation_2_score` in place of `translation_score`."""
    return part if number == 1 else f"{name}_{number}{part.removeprefix(name)}"


def alignment_of(result: dict[str, Any], text: str, source: str, tokenizers: tuple[Any, Any], units: str) -> str:
    """The word alignment of a result in Pharaoh's format, `0-0 1-2`, source first, both counted from 0.

    Each unit of the result is linked with the one of the source that the model looked at most when it wrote it.

    Args:
        result: of a pipeline that returns attention.
        text: what was written.
        source: what was read.
        tokenizers: of source and target.
        units: `WORDS`, what stands between spaces, or `TOKENS`, as the tokenizers make them.
    """
    attention = result["attention"]
    if units == WORDS:
        sides = zip((source, text), (result["source_tokens"], result["target_tokens"]), tokenizers, strict=True)
        words = [words_of_tokens(side, spans_of_tokens(tokenizer, tokens, side)) for side, tokens, tokenizer in sides]
        attention = word_attention(attention, *words)
    else:
        attention = attention[: len(attention) - 1, : attention.shape[1] - 1]  # without the end tokens
    return " ".join(f"{first}-{second}" for first, second in sorted(alignments_from_attention(attention)))


def spans_of_tokens(tokenizer: Any, tokens: Sequence[str], text: str) -> list[tuple[int, int]]:
    """Where each token of a text begins and ends in it.

    What a model writes need not be how the tokenizer would have cut the same text, so that its offsets do not help:
    here the beginnings of the token ids are decoded, one token longer each time.
    """
    ids = tokenizer.convert_tokens_to_ids(list(tokens))
    spans, end = [], 0
    for count in range(1, len(ids) + 1):
        begin = tokenizer.decode(ids[:count], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        new = max(end, min(len(begin), len(text)))  # half a character, which the next token completes, may count twice
        spans.append((end, new))
        end = new
    return spans


class AttentionFile:
    """A file of attention weights that numpy reads, one record at a time: `numpy.load(path)["attention_0"]`.

    Of record `n`, counted from 0, it has `attention_n`, float32 `(target, source)`, with the pieces
    `source_tokens_n` and `target_tokens_n`. Records without text have none.

    Args:
        archive: the file, opened for writing.
        path: what messages call it.
    """

    def __init__(self, archive: zipfile.ZipFile, path: str) -> None:
        self._archive, self._path = archive, path

    def add(self, number: int, result: dict[str, Any]) -> None:
        """Write the attention of one result of a pipeline."""
        arrays = {
            "attention": result["attention"].float().cpu().numpy(),
            "source_tokens": np.array(result["source_tokens"], dtype=np.str_),
            "target_tokens": np.array(result["target_tokens"], dtype=np.str_),
        }
        with naming_the_file(self._path):
            for name, array in arrays.items():
                with self._archive.open(f"{name}_{number}.npy", "w") as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)


@contextmanager
def open_attentions(path: str | None) -> Iterator[AttentionFile | None]:
    """Open a file for attention weights, which is there when it is complete; None without a path.

    Raises:
        UsageError: if it cannot be written.
    """
    if path is None:
        yield None
        return
    partial = partial_name(path)
    try:
        with naming_the_file(path):
            file = open(partial, "wb")  # noqa: SIM115 - closed below, whatever becomes of the archive in it
        with file:
            archive = zipfile.ZipFile(file, "w", compression=zipfile.ZIP_DEFLATED)
            try:
                yield AttentionFile(archive, path)
                with naming_the_file(path):
                    archive.close()
                    file.flush()
            except BaseException:
                with suppress(OSError, ValueError):  # or it would try so when nobody is there to be told
                    archive.close()
                raise
        with naming_the_file(path):
            os.replace(partial, path)
    finally:
        with suppress(FileNotFoundError):
            os.remove(partial)
