"""Texts on their way into a model: which inputs are texts, how they are cleaned, and how they become token ids."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import GeneratorType
from typing import Any

from torch.utils.data import Dataset
from transformers.utils import logging

logger = logging.get_logger(__name__)

# Two white-space characters or more, or one that is no kind of space: a tab, a line break, a separator of control.
NOT_ONE_SPACE = re.compile(r"\s{2,}|[\t-\r\x1c-\x1f\x85\u2028\u2029]")


def squeeze_whitespace(text: str) -> str:
    r"""
    The text with one space in the place of every run of white space, line breaks and tabs among it, and none at its
    ends.

    A single no-break space, thin space or ideographic space inside a text stays as it is: it means something, such as
    that `10 km` is not to be broken, or that words of a Japanese title are apart.

    Example:

    ```python
    >>> squeeze_whitespace(" A  man\tis\r\nsleeping. ")
    'A man is sleeping.'
    ```
    """
    return NOT_ONE_SPACE.sub(" ", text).strip()


def list_or_iterator(inputs: Any) -> Any:
    """
    Brings every kind of input to one of four: a text, a list, a generator, or a dataset of torch.

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
    """
    Args:
        text: what is to be translated.
        name: what the error calls it, such as "input 3".

    Raises:
        TypeError: if it is no text.
        ValueError: for text that is not valid Unicode.
    """
    if not isinstance(text, str):
        raise TypeError(
            f"The translation pipeline takes text, but {name} is of type {type(text).__name__}: {str(text)[:60]!r}. "
            "For a column of a dataset, pass dataset['column'] or KeyDataset(dataset, 'column')."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} is not valid Unicode: it has half a surrogate pair at character {error.start}. Read the text "
            "with the encoding it was written in, or take such characters out."
        ) from error


def task_prefix(config: Any, task: str) -> str:
    """The text that some models, such as T5, want before every input."""
    task_settings = (getattr(config, "task_specific_params", None) or {}).get(task, {})
    return task_settings.get("prefix") or getattr(config, "prefix", None) or ""


def encode(
    tokenizer: Any, texts: list[str], truncation: bool | str = True, first: int | None = None
) -> list[list[int]]:
    """
    The token ids of each text, cut to the tokenizer's `model_max_length` if it has one. Each text that is cut has a
    warning of its own.

    Args:
        tokenizer: of any kind.
        texts: what is encoded.
        truncation: whether to cut; of the strategies of transformers, which are about pairs, `"do_not_truncate"` means
            no, and the others yes.
        first: the number of the first text among all inputs, for warnings; None where there is one input only.
    """
    ids: list[list[int]] = tokenizer(texts, return_attention_mask=False, verbose=False)["input_ids"]
    limit = tokenizer.model_max_length
    if not truncation or truncation == "do_not_truncate":
        return ids
    for row, text in enumerate(texts):
        if len(ids[row]) > limit:
            logger.warning(
                f"{'A' if first is None else f'Input {first + row}: a'} text of {len(ids[row])} tokens is cut to "
                f"{limit}, the model_max_length of the tokenizer, and only that part is translated: {text[:60]!r}... "
                "Split long texts, into sentences for instance. With truncation=False a text is translated whole, "
                "although the model has not learned to translate so long ones."
            )
            ids[row] = _cut(tokenizer, text, ids[row], limit)
    return ids


def _cut(tokenizer: Any, text: str, ids: list[int], limit: int) -> list[int]:
    """
    The ids of a text that is too long, cut on the tokenizer's `truncation_side` between its special tokens.

    `tokenizer(text, truncation=True)` does the same, but by a switch inside the tokenizer, which reaches what other
    threads encode at that moment.
    """
    of_text = tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    added = len(ids) - len(of_text)
    start = next((first for first in range(added + 1) if ids[first : first + len(of_text)] == of_text), 0)
    before, after = ids[:start], ids[start + len(of_text) :]
    room = max(limit - len(before) - len(after), 0)
    is_left = tokenizer.truncation_side == "left"
    return [*before, *(of_text[len(of_text) - room :] if is_left else of_text[:room]), *after]


__all__ = ["encode", "list_or_iterator", "require_text", "squeeze_whitespace", "task_prefix"]
