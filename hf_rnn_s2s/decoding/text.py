"""Texts on their way into a model: which inputs are texts, and how they become token ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import GeneratorType
from typing import Any

from torch.utils.data import Dataset
from transformers.utils import logging

logger = logging.get_logger(__name__)

SHOWN = 12  # tokens of what is left out
# What can be done about texts that are too long
WAY_OUT = (
    "Split long texts into sentences, as split_sentences=True does. With truncation=False a text is read whole, "
    "although the model has not learned to read so long ones."
)


def list_or_iterator(inputs: Any) -> Any:
    """Bring every kind of input to one of four: a text, a list, a generator, or a dataset of torch.

    Raises:
        TypeError: for an input that is neither text nor a number of texts.
    """
    if isinstance(inputs, (str, list, GeneratorType)):
        return inputs
    if isinstance(inputs, Dataset):
        return [] if hasattr(inputs, "__len__") and not len(inputs) else inputs
    if isinstance(inputs, (bytes, Mapping)) or not isinstance(inputs, Iterable):
        require_text(inputs, "the input")
    return list(inputs) if hasattr(inputs, "__len__") else (text for text in inputs)


def require_text(text: Any, name: str) -> None:
    """Check that an input is text.

    Args:
        text: what is to be translated.
        name: what the error calls it, such as "input 3".

    Raises:
        TypeError: if it is no text.
        ValueError: for text that is not valid Unicode.
    """
    if not isinstance(text, str):
        raise TypeError(
            f"The pipeline takes text, but {name} is of type {type(text).__name__}: {str(text)[:60]!r}. "
            "For a column of a dataset, pass dataset['column'] or KeyDataset(dataset, 'column')."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} is not valid Unicode: it has half a surrogate pair at character {error.start}. Read the text "
            "with the encoding it was written in, or take such characters out."
        ) from error


def encode(
    tokenizer: Any, texts: list[str], truncation: bool | str = True, first: int | None = None
) -> list[list[int]]:
    """The token ids of each text, cut to the tokenizer's `model_max_length` if it has one, with a warning per cut.

    Args:
        tokenizer: of any kind.
        texts: the texts.
        truncation: whether to cut; of the strategies of transformers, which are about pairs, `"do_not_truncate"` means
            no, and the others yes.
        first: the number of the first text among all inputs, for warnings; None where there is one input only.
    """
    ids = encode_whole(tokenizer, texts)
    if truncates(truncation):
        log_warnings(describe_cuts(tokenizer, texts, ids), first)
        ids = cut_to_limit(tokenizer, texts, ids)
    return ids


def encode_whole(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """The token ids of each text, however long it is."""
    ids: list[list[int]] = tokenizer(texts, return_attention_mask=False, verbose=False)["input_ids"]
    return ids


def truncates(truncation: bool | str) -> bool:
    """Whether a value of the argument asks for long texts to be cut."""
    return bool(truncation) and truncation != "do_not_truncate"


def describe_cuts(tokenizer: Any, texts: list[str], ids: list[list[int]]) -> list[list[str]]:
    """What is to be said of each text: something of those that will be cut, and nothing of the others."""
    limit = tokenizer.model_max_length
    return [
        [
            f"a text of {len(row)} tokens is cut to {limit}, the model_max_length of the tokenizer, and only that "
            f"part is read: {text[:60]!r}... What is left out begins with {_left_out(tokenizer, row)!r}."
        ]
        if len(row) > limit
        else []
        for text, row in zip(texts, ids, strict=True)
    ]


def log_warnings(warnings: list[list[str]], first: int | None, way_out: str = WAY_OUT) -> None:
    """Log what is to be said of texts.

    Args:
        warnings: of each text.
        first: the number of the first text among all inputs; None where there is one input only.
        way_out: what can be done about it.
    """
    for number, of_text in enumerate(warnings, start=first or 0):
        for warning in of_text:
            named = warning[0].upper() + warning[1:] if first is None else f"Input {number}: {warning}"
            logger.warning(f"{named} {way_out}".rstrip())


def _left_out(tokenizer: Any, ids: list[int]) -> str:
    """The beginning of what is left out of a text with these ids, where the end of it is cut."""
    return str(tokenizer.decode(ids[tokenizer.model_max_length - 1 :][:SHOWN], skip_special_tokens=True)).strip()


def cut_to_limit(tokenizer: Any, texts: list[str], ids: list[list[int]]) -> list[list[int]]:
    """The token ids of each text, those of long ones cut to `model_max_length`."""
    limit = tokenizer.model_max_length
    return [row if len(row) <= limit else _cut(tokenizer, texts[place], row, limit) for place, row in enumerate(ids)]


def _cut(tokenizer: Any, text: str, ids: list[int], limit: int) -> list[int]:
    """The ids of a text that is too long, cut on the tokenizer's `truncation_side` between its special tokens.

    `tokenizer(text, truncation=True)` does the same, but by a switch inside the tokenizer, which affects what other
    threads encode at that moment.
    """
    of_text = tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    added = len(ids) - len(of_text)
    start = next((first for first in range(added + 1) if ids[first : first + len(of_text)] == of_text), 0)
    before, after = ids[:start], ids[start + len(of_text) :]
    room = max(limit - len(before) - len(after), 0)
    is_left = tokenizer.truncation_side == "left"
    return [*before, *(of_text[len(of_text) - room :] if is_left else of_text[:room]), *after]
