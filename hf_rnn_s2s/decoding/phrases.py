"""Phrases that a translation must contain or must not contain: how they are given, and what is refused."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from transformers import LogitsProcessor


@dataclass(frozen=True)
class Phrase:
    """Tokens that a translation must contain, one directly after the other.

    Attributes:
        ids: the tokens.
        goes_on: tokens that would go on with the last word of the phrase. Before one of them it does not count.
    """

    ids: tuple[int, ...]
    goes_on: frozenset[int] = field(default=frozenset(), compare=False, repr=False)

    def __str__(self) -> str:
        return str(list(self.ids))


class Forbidden:
    """Something that must not stand in a translation. This class is the contract."""

    def banned(self, tokens: Sequence[int]) -> Iterable[int]:
        """The tokens that would complete it behind these."""
        raise NotImplementedError


@dataclass(frozen=True)
class ForbiddenPhrase(Forbidden):
    """Tokens that must not follow directly after each other.

    Attributes:
        ids: the tokens.
    """

    ids: tuple[int, ...]

    def __str__(self) -> str:
        return str(list(self.ids))

    def banned(self, tokens: Sequence[int]) -> Iterable[int]:
        """As in `Forbidden`."""
        *begin, last = self.ids
        is_begun = not begin or list(tokens[-len(begin) :]) == begin
        return [last] if is_begun else []


One = TypeVar("One")


@dataclass(frozen=True)
class PhrasesOfRows(Generic[One]):
    """The phrases of each source row.

    Attributes:
        name: the argument they came by, for errors.
        lists: one list of phrases for each row, or a single one for all.
        is_shared: whether it is one for all.
    """

    name: str
    lists: list[list[One]]
    is_shared: bool

    def of(self, row: int) -> list[One]:
        """The phrases of a row."""
        return self.lists[0 if self.is_shared else row]

    def select(self, rows: Iterable[int]) -> list[Any]:
        """What `generate()` is to be given for some of the rows: one list of phrases, or one for each row."""
        return self.lists[0] if self.is_shared else [self.lists[row] for row in rows]

    def only(self, rows: Iterable[int]) -> PhrasesOfRows[One]:
        """The phrases of some of the rows."""
        return self if self.is_shared else replace(self, lists=[self.lists[row] for row in rows])

    def require_rows(self, rows: int) -> None:
        """Check that there are lists for so many rows.

        Raises:
            ValueError: if there are others.
        """
        if not self.is_shared and len(self.lists) != rows:
            raise ValueError(
                f"{self.name} has lists of phrases for {len(self.lists)} rows, but the source has {rows}. Give one "
                "list for each row, [] where there is nothing to say, or one list of phrases for all rows."
            )


@dataclass(frozen=True)
class Ids:
    """What ids mean to the model that is called.

    Attributes:
        vocabulary_size: the number of ids.
        end: those that end a translation.
        padding: those that stand behind its end.
    """

    vocabulary_size: int
    end: frozenset[int]
    padding: frozenset[int]


def read_forced(name: str, given: Any, ids: Ids) -> PhrasesOfRows[Phrase]:
    """The phrases that translations must contain.

    Args:
        name: of the argument.
        given: one list of phrases for all rows, or a list of these for each row. A phrase is a list of token ids.
        ids: what they mean.

    Raises:
        TypeError: for what is no list.
        ValueError: for a phrase that is empty, or has an end token, padding, or an id outside the vocabulary.
    """

    def read(place: str, one: Any) -> Phrase:
        phrase = one if isinstance(one, Phrase) else Phrase(_token_ids(place, one, ids))
        # A tokenizer may have tokens for which the model has no room.
        known = frozenset(one for one in phrase.goes_on - ids.end if one < ids.vocabulary_size)
        phrase = Phrase(phrase.ids, known)
        for kind, special in (("end token", ids.end), ("padding token", ids.padding)):
            if special.intersection(phrase.ids):
                raise ValueError(
                    f"{place}, {phrase}, has the {kind}, which stands in no translation but at its end. Leave it out; "
                    "a tokenizer does with add_special_tokens=False."
                )
        return phrase

    lists, is_shared = _lists(name, given)
    return PhrasesOfRows(name, [_read_all(name, row, one, read) for row, one in enumerate(lists)], is_shared)


def read_forbidden(name: str, given: Any, ids: Ids) -> PhrasesOfRows[Forbidden]:
    """The phrases that translations must not contain; all as in `read_forced`, but with an end token among others."""

    def read(place: str, one: Any) -> Forbidden:
        if isinstance(one, Forbidden):
            return one
        phrase = ForbiddenPhrase(_token_ids(place, one, ids))
        if len(phrase.ids) == 1 and ids.end.issuperset(phrase.ids):
            raise ValueError(f"{place} is the end token alone, but a translation has to end. Leave it out.")
        return phrase

    lists, is_shared = _lists(name, given)
    return PhrasesOfRows(name, [_read_all(name, row, one, read) for row, one in enumerate(lists)], is_shared)


def _lists(name: str, given: Any) -> tuple[list[Any], bool]:
    """The lists of phrases, and whether there is one for all rows."""
    if not isinstance(given, (list, tuple)):
        raise TypeError(f"{name} is a {type(given).__name__}; it must be a list of phrases, or one for each row.")
    is_of_rows = bool(given) and all(isinstance(one, (list, tuple)) for one in given)
    is_of_rows = is_of_rows and (
        not any(given) or any(isinstance(phrase, (list, tuple, Phrase, Forbidden)) for one in given for phrase in one)
    )
    return (list(given), False) if is_of_rows else ([given], True)


def _read_all(name: str, row: int, phrases: Any, read: Any) -> list[Any]:
    found = [read(f"{name}: phrase {number} of row {row}", one) for number, one in enumerate(phrases)]
    return list(dict.fromkeys(found))


def _token_ids(place: str, phrase: Any, ids: Ids) -> tuple[int, ...]:
    if not isinstance(phrase, (list, tuple)):
        raise TypeError(f"{place} is {phrase!r}; it must be a list of token ids. Texts are for the pipeline.")
    if not phrase:
        raise ValueError(f"{place} is empty; leave it out.")
    for one in phrase:
        if not isinstance(one, Integral) or isinstance(one, bool):
            raise TypeError(f"{place} has {one!r}, which is no token id: a phrase is a list of whole numbers.")
        if not 0 <= int(one) < ids.vocabulary_size:
            raise ValueError(
                f"{place} has the id {int(one)}, outside the vocabulary of {ids.vocabulary_size} tokens. Encode it "
                "with the target tokenizer of this model."
            )
    return tuple(map(int, phrase))


def require_agreement(forced: PhrasesOfRows[Phrase], forbidden: PhrasesOfRows[Forbidden]) -> None:
    """Check that no phrase to force contains a forbidden one.

    Raises:
        ValueError: if one does.
    """
    for row in range(max(len(forced.lists), len(forbidden.lists))):
        for phrase in forced.of(row):
            for other in forbidden.of(row):
                if first_banned(phrase.ids, [other]) is not None:
                    raise ValueError(
                        f"{forced.name} and {forbidden.name} contradict each other in row {row}: {phrase} contains "
                        f"{other}. Leave one of the two out."
                    )


def require_room(forced: PhrasesOfRows[Phrase], room: int) -> None:
    """Check that the phrases of each row and an end token fit in a translation.

    Args:
        forced: the phrases.
        room: how many tokens may be written.

    Raises:
        ValueError: if they do not.
    """
    for row, phrases in enumerate(forced.lists):
        lengths = [len(phrase.ids) for phrase in phrases]
        if phrases and sum(lengths) + 1 > room:
            which = "the phrase" if len(phrases) == 1 else "the phrases"
            raise ValueError(
                f"{forced.name}: {which} {', '.join(map(str, phrases))} of row {row} and an end token have "
                f"{' + '.join(map(str, [*lengths, 1]))} tokens, but at most {room} may be written. Raise "
                "max_new_tokens (or max_length), or force less; what stands in another phrase need not be forced, too."
            )


def first_banned(tokens: Sequence[int], phrases: Collection[Forbidden], start: int = 0) -> Forbidden | None:
    """The forbidden phrase that is complete first, looking at tokens from `start` on; None if there is none."""
    for place in range(start, len(tokens)):
        for phrase in phrases:
            if tokens[place] in phrase.banned(tokens[:place]):
                return phrase
    return None


class ForbidPhrases(LogitsProcessor):
    """Takes the probability of every token that would complete a forbidden phrase.

    Args:
        phrases: those of each row.
        rows: the number of source rows; the beams of each one stand next to each other.
        is_greedy: whether nothing but the first choice counts.
    """

    def __init__(self, phrases: PhrasesOfRows[Forbidden], rows: int, is_greedy: bool) -> None:
        self._phrases, self._rows, self._is_greedy = phrases, rows, is_greedy

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores `(rows, vocabulary)` behind the tokens `(rows, length)`, a banned token's being -inf.

        Raises:
            ValueError: if greedy search has no token left.
        """
        beams = 1 if self._phrases.is_shared else len(input_ids) // self._rows
        banned: list[tuple[int, int]] = []
        for number, tokens in enumerate(input_ids.tolist()):
            phrases = self._phrases.of(number // beams)
            of_row = {token for phrase in phrases for token in phrase.banned(tokens)}
            banned += [(number, token) for token in of_row if token < scores.shape[1]]
        if not banned:
            return scores
        rows, tokens = torch.tensor(banned, device=scores.device).unbind(1)
        scores = scores.index_put((rows, tokens), scores.new_tensor(-torch.inf))
        if self._is_greedy and (scores.amax(1) == -torch.inf).any():
            raise ValueError(
                f"{self._phrases.name} leaves no token to go on with. Forbid less, or set num_beams above 1."
            )
        return scores


class ForbidPhrasesOfRows(ForbidPhrases):
    """The same with other phrases for each row, so that no row may leave the batch."""


def forbid(phrases: PhrasesOfRows[Forbidden], rows: int, is_greedy: bool) -> ForbidPhrases:
    """The processor for these phrases; the arguments are those of `ForbidPhrases`."""
    kind = ForbidPhrases if phrases.is_shared else ForbidPhrasesOfRows
    return kind(phrases, rows, is_greedy)


def require_none_written(
    sequences: Tensor, phrases: PhrasesOfRows[Forbidden], prompt: int, end_ids: Collection[int], rows: int
) -> None:
    """Check what a search wrote: where nothing is left, it goes on with what is forbidden.

    Args:
        sequences: `(rows * returned, length)`.
        phrases: those of each row.
        prompt: the length of the prompts.
        end_ids: with which a sequence ends.
        rows: the number of source rows.

    Raises:
        ValueError: if a sequence has a forbidden phrase, or nothing was written at all.
    """
    returned = len(sequences) // rows
    for number, tokens in enumerate(sequences.tolist()):
        ends = (place for place in range(prompt, len(tokens)) if tokens[place] in end_ids)
        written = tokens[: next(ends, len(tokens)) + 1]
        phrase = first_banned(written, phrases.of(number // returned), prompt)
        if phrase is not None or len(tokens) == prompt:
            raise ValueError(
                f"{phrases.name}: for row {number // returned} the search found too few translations without "
                f"{phrase or 'these phrases'}. Forbid less, raise num_beams, or lower num_return_sequences."
            )
