"""Texts on their way into a model: which inputs are texts, and how they become token ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import GeneratorType
from typing import Any

from torch.utils.data import Dataset
from transformers.utils import logging

logger = logging.get_logger(__name__)


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
        warn_of_cuts(tokenizer, texts, ids, first)
        ids = cut_to_limit(tokenizer, texts, ids)
    return ids


def encode_whole(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """The token ids of each text, however long it is."""
    ids: list[list[int]] = tokenizer(texts, return_attention_mask=False, verbose=False)["input_ids"]
    return ids


def truncates(truncation: bool | str) -> bool:
    """Whether a value of the argument asks for long texts to be cut."""
    return bool(truncation) and truncation != "do_not_truncate"


def warn_of_cuts(tokenizer: Any, texts: list[str], ids: list[list[int]], first: int | None) -> None:
    """Name the texts that are too long; `first` is as in `encode`."""
    limit = tokenizer.model_max_length
    for row, text in enumerate(texts):
        if len(ids[row]) > limit:
            logger.warning(
                f"{'A' if first is None else f'Input {first + row}: a'} text of {len(ids[row])} tokens is cut to "
                f"{limit}, the model_max_length of the tokenizer, and only that part is translated: {text[:60]!r}... "
                "Split long texts, into sentences for instance. With truncation=False a text is translated whole, "
                "although the model has not learned to translate so long ones."
            )


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
