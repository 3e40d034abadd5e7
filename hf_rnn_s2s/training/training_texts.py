"""The texts that a tokenizer learns from: read once, kept in a file, and yielded in batches."""

import json
import logging
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import IO

logger = logging.getLogger(__name__)

BATCH_SIZE = 1000  # texts passed to the Rust trainer at a time


def spool(name: str, texts: Iterable[str], file: IO[bytes], do_lower_case: bool = False) -> tuple[int, Counter[str]]:
    """Write every text to `file`, in NFC, one JSON string per line; return how many, and all their characters.

    With `do_lower_case` capitals are small letters there. The characters that get a token must be known before
    training starts, and a generator can be read only once.

    Raises:
        TypeError: if `texts` is not an iterable of strings; `name` is what the message calls it.
        ValueError: if a text is not valid Unicode, or there is not one character.
    """
    if isinstance(texts, str):
        raise TypeError(f"{name} is a single string; give an iterable of strings, for one text [{name}].")
    if isinstance(texts, Mapping) or not isinstance(texts, Iterable):
        raise TypeError(f"{name} must be an iterable of strings, such as dataset['text'], not {type(texts).__name__}.")
    characters: Counter[str] = Counter()
    count = 0
    for count, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise TypeError(f"{name} must hold strings only; item {count - 1} (from 0) is {text!r:.50}.")
        text = unicodedata.normalize("NFC", text)
        if do_lower_case:
            text = text.lower()
        try:
            file.write(json.dumps(text, ensure_ascii=False).encode() + b"\n")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{name} must be valid Unicode; item {count - 1} (from 0) has half a surrogate pair "
                f"at character {error.start - 1}."
            ) from error
        characters.update(text)
    if not characters:
        raise ValueError(f"{name} holds no text to learn from: {count} items, not one character.")
    return count, characters


def rare_characters(characters: Counter[str], limit: int, never: str) -> dict[int, str]:
    """Table for `str.translate` that removes all but the `limit` most frequent characters, and `never` in any case.

    The library's own limit breaks ties between equally frequent characters at random. A newline replaces each removed
    character: it is a unit by itself, so no subword is learned across the gap.
    """
    most_frequent = sorted(characters, key=lambda character: (-characters[character], character))
    stand_ins = {" ", "\n"}  # the space begins nearly every word, seen in the text or not
    candidates = [character for character in most_frequent if character not in (*stand_ins, never)]
    kept = candidates[: max(limit - len(stand_ins), 0)]
    rare = characters.keys() - set(kept) - stand_ins
    if rare:
        occurrences = sum(characters[character] for character in rare)
        logger.warning(
            "%d of %d characters, %.3f %% of the text, are spelled in bytes: vocab_size leaves no room for more.",
            len(rare),
            len(characters),
            100 * occurrences / characters.total(),
        )
    return {ord(character): "\n" for character in rare}


def batches(file: IO[bytes], rare: dict[int, str]) -> Iterator[list[str]]:
    """Yield the texts of `file`, with `rare` characters replaced, in batches for the Rust trainer."""
    file.seek(0)
    batch: list[str] = []
    for line in file:
        text = json.loads(line)
        batch.append(text.translate(rare) if rare else text)
        if len(batch) == BATCH_SIZE:
            yield batch
            batch = []
    if batch:
        yield batch
