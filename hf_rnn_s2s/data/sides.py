"""Finds the columns of a table that a task reads, makes examples of rows, and rejects values that are not text."""

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from .arguments import DataArguments, DataError
from .audio import name_of, recording_of

# Name of each column, with its keys (languages) where it holds dictionaries
Columns: TypeAlias = dict[str, list[str] | None]
# Where a value is: `(column,)`, or `(column, language)` in a column of dictionaries
Place: TypeAlias = tuple[str, ...]

LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON escapes can spell one, but UTF-8 cannot encode it
FEATURE_SEPARATOR = ";"  # between the features of a row, such as V;IND;PST


class Side(NamedTuple):
    """How the column of one side is found.

    Attributes:
        name: what messages call it, such as `source`.
        option: the argument that names the column.
        column: what that argument says; None where it says nothing.
        names: columns that are looked for then, in this order.
        language: the key of a column of dictionaries, such as `translation`.
        language_option: the argument that names the language; None where there are no languages.
    """

    name: str
    option: str
    column: str | None
    names: tuple[str, ...]
    language: str | None = None
    language_option: str | None = None


class Layout(NamedTuple):
    """Which columns a task reads.

    Attributes:
        source: of what is read.
        target: of what is written.
        references: columns with further references. Each value is a text, a list of texts, or null.
        features: a column of features, such as `V;PST`, which are put before the source as symbols: `<V><PST>walk`.
        reads_audio: whether the source is a recording, and not a text.
    """

    source: Side
    target: Side
    references: tuple[str, ...] = ()
    features: str | None = None
    reads_audio: bool = False

    def of_split(self, split: str) -> "Layout":
        """The layout of one split: that of training has no further references."""
        return self._replace(references=()) if split == "train" else self

    def find(self, columns: Columns, origin: str, folder: str | None = None) -> "Found":
        """The places of all that is read in a table with these columns, which lies in this folder, if in any.

        Raises:
            DataError: if there is no column for a side, or one that an argument names, or if both sides have the same.
        """
        source, target = find_side(self.source, columns, origin), find_side(self.target, columns, origin)
        if source == target:
            raise DataError(f"{origin}: source and target are both {'.'.join(source)!r}; name two.")
        for option, names in (("reference_columns", self.references), ("feature_column", [self.features])):
            for name in filter(None, names):
                if name not in columns:
                    raise DataError(f"{origin} has no column {name!r} ({option}). It has {', '.join(columns)}.")
        return Found(source, target, self.references, self.features, self.reads_audio, folder)


class Found(NamedTuple):
    """Where what is read stands in one table; see `Layout`."""

    source: Place
    target: Place
    references: tuple[str, ...] = ()
    features: str | None = None
    reads_audio: bool = False
    folder: str | None = None

    @property
    def columns(self) -> list[str]:
        """The names of all columns that are read, each once."""
        names = [self.source[0], self.target[0], *self.references, *filter(None, [self.features])]
        return list(dict.fromkeys(names))

    def example(self, row: Mapping[str, Any], origin: str, number: int) -> dict[str, Any]:
        """The texts `source` and `target` of a row, and `references`, if there are columns of them, the target first.

        Of a recording, `audio` is where it is, and `source` its name.

        Raises:
            DataError: if a value is not text, or there is no recording; the message names the row.
        """
        if self.reads_audio:
            folder = None if self.folder is None else Path(self.folder)
            audio = recording_of(row.get(self.source[0]), origin, number, self.source[0], folder)
            return {"source": name_of(audio, number), "audio": audio, **self._target(row, origin, number)}
        source = require_text(_value(row, self.source), origin, number, self.source)
        if self.features is not None:
            given = require_text(row.get(self.features), origin, number, (self.features,))
            source = with_features(source, given, f"{origin}, row {number}")
        return {"source": source, **self._target(row, origin, number)}

    def _target(self, row: Mapping[str, Any], origin: str, number: int) -> dict[str, Any]:
        """The target of a row, with the references if there are columns of them."""
        target = require_text(_value(row, self.target), origin, number, self.target)
        if not self.references:
            return {"target": target}
        references = [target]
        for column in self.references:
            value = row.get(column)
            texts = value if isinstance(value, list) else [] if value is None else [value]
            references += [require_text(text, origin, number, (column,)) for text in texts]
        return {"target": target, "references": list(filter(str.strip, references)) or [target]}


def pair_layout(arguments: DataArguments) -> Layout:
    """The columns of a source and a target, which may be named after languages."""

    def side(name: str) -> Side:
        language = getattr(arguments, f"{name}_lang")
        names = tuple(one for one in (language, name) if one)
        column, option = getattr(arguments, f"{name}_column"), f"{name}_column"
        return Side(f"{name} text", option, column, names, language, f"{name}_lang")

    return Layout(side("source"), side("target"), tuple(arguments.reference_columns or ()))


def with_features(text: str, features: str, place: str) -> str:
    """The text behind its features: `walk` with `V;PST` becomes `<V><PST>walk`. Empty features are left out.

    Raises:
        DataError: if it could not be told where the features end; the message names the place.
    """
    names = [" ".join(unicodedata.normalize("NFC", name).split()) for name in features.split(FEATURE_SEPARATOR)]
    if "<" in features or ">" in features or text.lstrip().startswith("<"):
        raise DataError(
            f"{place}: features are written <V><PST>walk, so that none may have < or >, and no word begin with <: "
            f"{features!r:.50}, {text!r:.50}."
        )
    return "".join(f"<{name}>" for name in names if name) + text.lstrip()


def columns_of(row: Mapping[str, Any]) -> Columns:
    """The columns of a row."""
    return {name: list(value) if isinstance(value, Mapping) else None for name, value in row.items()}


def require_text(text: Any, origin: str, row: int, path: tuple[str, ...]) -> str:
    """Return the text.

    Raises:
        DataError: if it is not valid text; the message names its place.
    """
    if isinstance(text, str) and not LONE_SURROGATE.search(text):
        return text
    if isinstance(text, str):
        wrong = f"is not valid Unicode, with half a surrogate pair: {text!r:.50}"
    else:
        wrong = "is missing (null)" if text is None else f"is not text but {text!r:.50}"
    raise DataError(f"{origin}, row {row}: {'.'.join(path)!r} {wrong}. Mend the row or take it out.")


def find_side(side: Side, columns: Columns, origin: str) -> Place:
    """Where the text of one side is.

    Raises:
        DataError: if there is no such column or language.
    """
    column, language, of_languages = side.column, side.language, side.language_option
    languages = columns.get(column or "translation") if of_languages else None
    if languages is not None:
        if language not in languages:
            wrong = f"several languages and no {of_languages} is given"
            wrong = f"no {of_languages} {language!r}" if language else wrong
            raise DataError(f"{origin}, column {column or 'translation'}: {wrong}; there are {', '.join(languages)}.")
        return column or "translation", str(language)
    candidates = [column] if column else side.names
    for candidate in candidates:
        if candidate in columns:
            return (candidate,)
    raise DataError(
        f"{origin} has no column {' or '.join(map(repr, candidates))} for the {side.name}; "
        f"name one with {side.option}. It has {', '.join(columns)}."
    )


def _value(row: Mapping[str, Any], place: Place) -> Any:
    value: Any = row
    for name in place:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
