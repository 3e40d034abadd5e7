"""Texts that a translation must or must not contain, as phrases of tokens.

What is forced is written as the tokenizer writes it inside a sentence, with the space in front of the first word,
which decoding takes off again at the beginning of a translation. Its last word must end there: a phrase does not count
where the next token goes on with the word.

What is forbidden must not come about by other tokens, which spell the same text: a model that may not write " dog"
would write " d" and "og". So texts are compared, in their bytes, since some tokens are bytes.
"""

from __future__ import annotations

import functools
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

from ..model.pipeline_rnn_s2s import squeezed
from .phrases import Forbidden, Phrase, PhrasesOfRows
from .text import require_text

BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
# Names in Unicode of characters of scripts that put no space between words begin so.
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
LONGEST_CHARACTER = 4  # in bytes of UTF-8
OTHER_WORD = b" \0"  # a word that is no token
INSIDE = "a"  # a word, behind which a text stands inside a sentence


class TokenTexts:
    """What each token of a target vocabulary adds to a text.

    Args:
        tokenizer: of the target, a fast one.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self.size = tokenizer, len(tokenizer)
        decoder = tokenizer.backend_tokenizer.decoder
        special = set(tokenizer.all_special_ids)
        names = tokenizer.convert_ids_to_tokens(range(self.size))
        added = _bytes_of_characters if _is_byte_level(tokenizer) else functools.partial(_added, decoder=decoder)
        self._added = [b"" if number in special or name is None else added(name) for number, name in enumerate(names)]
        if decoder is None and tokenizer.unk_token_id is not None:
            self._added[tokenizer.unk_token_id] = OTHER_WORD  # which is seen in a text, as copied words are
        self._forbidden: dict[str, ForbiddenText] = {}  # to find its tokens takes a look at all
        # Behind a special token, of which nothing is seen, a word could go on, too. An end token ends it.
        of_words = (number for number, text in enumerate(self._added) if is_of_word(_text(text)[:1]))
        self._goes_on = frozenset(of_words) | (special - {tokenizer.eos_token_id})
        if decoder is None:  # tokens are whole words
            self._goes_on = frozenset()

    def forced(self, text: str) -> Phrase:
        """The phrase for a text that is to be written as whole words.

        Raises:
            ValueError: if the tokenizer has no tokens for it.
        """
        ids = self._encode(text)
        self._require_known("force_phrases", text, ids)
        if is_of_word(text[0]) and not self._added[ids[0]].startswith(b" "):  # digits are tokens without a space
            inside, before = self._encode(f"{INSIDE} {text}"), self._encode(INSIDE)
            ids = inside[len(before) :] if inside[: len(before)] == before else ids
        return Phrase(tuple(ids), self._goes_on if is_of_word(text[-1]) else frozenset())

    def forbidden(self, text: str) -> Forbidden:
        """The phrase for a text that must not be written as whole words.

        Raises:
            ValueError: if the tokenizer has no tokens for it.
        """
        if text not in self._forbidden:
            self._require_known("forbid_phrases", text, self._encode(text))
            # As its tokens spell it: a tokenizer may have another normal form, or know no capitals.
            spelled = self.written(self._encode(text)).decode(errors="replace").strip(" ")
            self._forbidden[text] = ForbiddenText(spelled or text, self)
        return self._forbidden[text]

    def are_of(self, tokenizer: Any) -> bool:
        """Whether they are those of a tokenizer, as it is now."""
        return tokenizer is self._tokenizer and len(tokenizer) == self.size

    def written(self, tokens: Sequence[int], least: float = math.inf) -> bytes:
        """The last bytes that tokens spell, at least so many if there are as many."""
        parts: list[bytes] = []
        length = 0
        for token in reversed(tokens):
            if length >= least:
                break
            parts.append(self._added[token] if token < self.size else OTHER_WORD)
            length += len(parts[-1])
        return b"".join(reversed(parts))

    def items(self) -> Iterable[tuple[int, bytes]]:
        """All tokens that add something, and what they add."""
        return ((number, added) for number, added in enumerate(self._added) if added)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _require_known(self, name: str, text: str, ids: list[int]) -> None:
        if not ids or self._tokenizer.unk_token_id in ids:
            raise ValueError(f"{name}: the tokenizer has no tokens for {text!r}. Choose other words, or leave it out.")


@dataclass(frozen=True)
class ForbiddenText(Forbidden):
    """A text that must not be written, whatever the tokens are that spell it.

    If it begins with a word, it is looked for where words begin. A token that ends with it is banned although the next
    one could go on with the word: greedy search could not take it back.

    Attributes:
        text: the text, as the tokenizer normalizes it.
        texts: what the tokens add to a text.
    """

    text: str
    texts: TokenTexts = field(compare=False, repr=False)

    def __str__(self) -> str:
        return repr(self.text)

    def banned(self, tokens: Sequence[int]) -> Iterable[int]:
        """As in `Forbidden`."""
        whole = self.text.encode()
        written = self.texts.written(tokens, len(whole) + LONGEST_CHARACTER)
        found = set(self._containing)
        for begun in range(len(whole)):
            if written.endswith(whole[:begun]) and self._may_begin(written[: len(written) - begun]):
                found.update(self._completing[begun])
        return found

    @functools.cached_property
    def _containing(self) -> list[int]:
        """The tokens that have all of it behind something else."""
        whole = self.text.encode()
        return [
            token
            for token, added in self.texts.items()
            if any(
                added.startswith(whole, place)
                and self._may_begin(added[:place])
                and self._may_end(added[place + len(whole) :])
                for place in range(1, len(added) - len(whole) + 1)
            )
        ]

    @functools.cached_property
    def _completing(self) -> list[list[int]]:
        """The tokens that complete it, by how many of its bytes are written."""
        whole = self.text.encode()
        return [
            [
                token
                for token, added in self.texts.items()
                if added.startswith(whole[begun:]) and self._may_end(added[len(whole) - begun :])
            ]
            for begun in range(len(whole))
        ]

    def _may_begin(self, before: bytes) -> bool:
        return not (is_of_word(self.text[0]) and is_of_word(_text(before)[-1:]))

    def _may_end(self, behind: bytes) -> bool:
        return not (is_of_word(self.text[-1]) and is_of_word(_text(behind)[:1]))


def read_texts(name: str, given: Any) -> PhrasesOfRows[str]:
    """The texts that an argument of the pipeline has: one list for all inputs, or one for each.

    Raises:
        TypeError: for what is no list of texts.
        ValueError: for a text that is blank, or not valid Unicode.
    """
    if not isinstance(given, (list, tuple)):
        raise TypeError(f"{name} is a {type(given).__name__}; it must be a list of texts, or one for each input.")
    is_of_rows = bool(given) and all(isinstance(one, (list, tuple)) for one in given)
    lists = [list(one) for one in given] if is_of_rows else [list(given)]
    for row, texts in enumerate(lists):
        for number, text in enumerate(texts):
            require_text(text, f"{name}: phrase {number} of row {row}")
            texts[number] = squeezed(text)
            if not texts[number]:
                raise ValueError(f"{name}: phrase {number} of row {row} is blank; leave it out.")
    return PhrasesOfRows(name, lists, not is_of_rows)


def encoded_phrases(texts: TokenTexts, given: PhrasesOfRows[str]) -> PhrasesOfRows[Any]:
    """The phrases for texts; those of `force_phrases` are to be written, and others are forbidden.

    Raises:
        ValueError: if the tokenizer has no tokens for one.
    """
    encode = texts.forced if given.name == "force_phrases" else texts.forbidden
    return PhrasesOfRows(given.name, [[encode(text) for text in row] for row in given.lists], given.is_shared)


def is_of_word(character: str) -> bool:
    """Whether a character is part of a word that white space sets apart; the empty string is not.

    A part of a character that is spelled in bytes is taken for one.
    """
    if not character:
        return False
    is_any = character.isalnum() or unicodedata.category(character).startswith("M") or character == "\ufffd"
    return is_any and not unicodedata.name(character, "").startswith(UNSPACED)


def _is_byte_level(tokenizer: Any) -> bool:
    """Whether each character of a token stands for a byte."""
    decoder = json.loads(tokenizer.backend_tokenizer.to_str())["decoder"] or {}
    return any(one.get("type") == "ByteLevel" for one in [decoder, *decoder.get("decoders", [])])


def _bytes_of_characters(name: str) -> bytes:
    """What a token of such a tokenizer adds to a text; an added token stands for its own characters."""
    table = _byte_of_character()
    if all(character in table for character in name):
        return bytes(table[character] for character in name)
    return name.encode()


@functools.cache
def _byte_of_character() -> dict[str, int]:
    """The byte that each character stands for in byte-level tokens."""
    return {character: byte for byte, character in bytes_to_unicode().items()}


def _added(name: str, decoder: Any) -> bytes:
    """What a token adds to a text behind a word; without a decoder, tokens are words."""
    text: str = f" {name}" if decoder is None else decoder.decode(["x", name])[1:]
    byte = BYTE_TOKEN.fullmatch(name)
    return text.encode() if byte is None or name in text else bytes([int(byte[1], 16)])


def _text(some: bytes) -> str:
    return some.decode(errors="replace")
