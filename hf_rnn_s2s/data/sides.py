"""Finds the source and target columns of a table, and rejects values that are not text."""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from .arguments import DataArguments, DataError

# Name of each column, with its keys (languages) where it holds dictionaries
Columns: TypeAlias = dict[str, list[str] | None]

LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON escapes can spell one, but UTF-8 cannot encode it


def find_sides(columns: Columns, origin: str, arguments: DataArguments) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Where the texts of source and target are, each as `(column,)` or `(column, language)`.

    Raises:
        DataError: if a side has no column, or both have the same.
    """
    source, target = find_side("source", columns, origin, arguments), find_side("target", columns, origin, arguments)
    if source == target:
        raise DataError(f"{origin}: source and target are both {'.'.join(source)!r}; name two.")
    return source, target


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


def find_side(side: str, columns: Columns, origin: str, arguments: DataArguments) -> tuple[str, ...]:
    """Where the text of one side is: `(column,)`, or `(column, language)` in a column of dictionaries.

    Raises:
        DataError: if there is no such column or language.
    """
    column, language = getattr(arguments, f"{side}_column"), getattr(arguments, f"{side}_lang")
    languages = columns.get(column or "translation")
    if languages is not None:
        if language not in languages:
            wrong = f"no {side}_lang {language!r}" if language else f"several languages and no {side}_lang is given"
            raise DataError(f"{origin}, column {column or 'translation'}: {wrong}; there are {', '.join(languages)}.")
        return column or "translation", language
    candidates = [column] if column else [name for name in (language, side) if name]
    for candidate in candidates:
        if candidate in columns:
            return (candidate,)
    raise DataError(
        f"{origin} has no column {' or '.join(map(repr, candidates))} for the {side} text; "
        f"name one with {side}_column. It has {', '.join(columns)}."
    )
