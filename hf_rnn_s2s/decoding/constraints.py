"""How far a hypothesis has come with the phrases that it must contain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .phrases import Phrase


class Progress(NamedTuple):
    """What a hypothesis has written of the phrases.

    Attributes:
        met: the numbers of the phrases that it contains.
        fresh: those of them that its last token completed. If the next token goes on with the word, they are lost.
        begun: of each phrase, how many of its first tokens the hypothesis ends with; 0 for phrases that are met.
    """

    met: frozenset[int]
    fresh: frozenset[int]
    begun: tuple[int, ...]


class Constraints:
    """The phrases that every translation of one sentence must contain, in any order.

    All phrases are followed at once, so that they may overlap, begin alike, or contain each other. When a token does
    not continue a phrase that has been begun, what counts is the longest beginning that the hypothesis ends with then,
    as in the algorithm of Knuth, Morris & Pratt (1977).

    Args:
        phrases: them; there may be none.

    Attributes:
        total: the number of tokens of all phrases.
    """

    def __init__(self, phrases: Sequence[Phrase]) -> None:
        self._phrases = phrases
        self._tokens = sorted({token for phrase in phrases for token in phrase.ids})
        self._of_phrases = frozenset(self._tokens)
        self._nothing = (0,) * len(phrases)
        self.total = self._length_of(range(len(phrases)))

    def start(self, prompt: Sequence[int]) -> Progress:
        """The progress of a prompt."""
        progress = Progress(frozenset(), frozenset(), self._nothing)
        for length in range(1, len(prompt) + 1):
            progress = self.after(progress, prompt[:length])
        return progress

    def after(self, progress: Progress, tokens: Sequence[int]) -> Progress:
        """The progress with one more token.

        Args:
            progress: that of the hypothesis without its last token.
            tokens: the hypothesis.
        """
        if not self._phrases:
            return progress
        met = progress.met - self._lost(progress, tokens[-1])
        if tokens[-1] not in self._of_phrases:
            return Progress(met, frozenset(), self._nothing)
        fresh = frozenset(
            number
            for number, phrase in enumerate(self._phrases)
            if number not in met and tuple(tokens[-len(phrase.ids) :]) == phrase.ids
        )
        met |= fresh
        begun = (0 if number in met else _begun(tokens, phrase.ids) for number, phrase in enumerate(self._phrases))
        return Progress(met, fresh, tuple(begun))

    def are_met(self, progress: Progress) -> bool:
        """Whether the hypothesis contains all phrases."""
        return len(progress.met) == len(self._phrases)

    def written(self, progress: Progress) -> int:
        """The number of tokens that count: those of the met phrases, and of the one that has come farthest."""
        return self._length_of(progress.met) + max(progress.begun, default=0)

    def missing(self, progress: Progress) -> int:
        """How many tokens are enough to write what is not met.

        That is one phrase after the other, beginning with what saves most. Fewer may do where phrases overlap.
        """
        saved = [
            begun - self._length_of(self._lost(progress, phrase.ids[begun]))
            for phrase, begun in zip(self._phrases, progress.begun, strict=True)
            if begun
        ]
        return self.total - self._length_of(progress.met) - max([0, *saved])

    def next_tokens(self, progress: Progress) -> set[int]:
        """The tokens that begin a phrase which is not met, or continue it."""
        unmet = [number for number in range(len(self._phrases)) if number not in progress.met]
        first = {self._phrases[number].ids[0] for number in unmet}
        return first | {self._phrases[number].ids[progress.begun[number]] for number in unmet}

    def is_free(self, progress: Progress, room: int) -> bool:
        """Whether any token leaves room enough for what is not met.

        Args:
            progress: of the hypothesis.
            room: how many tokens may still be written.
        """
        return self.total - self._length_of(progress.met - progress.fresh) < room

    def restrict(self, scores: Tensor, progress: Progress, tokens: Sequence[int], room: int) -> None:
        """Take the probability of all tokens that do not leave room enough for what is not met.

        Args:
            scores: of the next token, `(vocabulary,)`; they are changed in place.
            progress: of the hypothesis.
            tokens: the hypothesis.
            room: how many tokens may still be written.
        """
        fitting = [one for one in self._tokens if self.missing(self.after(progress, [*tokens, one])) < room]
        kept = scores[fitting]
        if self.total - self._length_of(progress.met) < room:
            for number in progress.fresh:
                scores[list(self._phrases[number].goes_on)] = -torch.inf
        else:
            scores.fill_(-torch.inf)
        scores[fitting] = kept

    def _lost(self, progress: Progress, token: int) -> frozenset[int]:
        """The phrases that are not met any more when this token goes on with their last word."""
        return frozenset(number for number in progress.fresh if token in self._phrases[number].goes_on)

    def _length_of(self, numbers: Sequence[int] | frozenset[int] | range) -> int:
        return sum(len(self._phrases[number].ids) for number in numbers)


def _begun(tokens: Sequence[int], phrase: tuple[int, ...]) -> int:
    """How many of the first tokens of a phrase, but not all, stand at the end of a hypothesis."""
    longest = min(len(phrase) - 1, len(tokens))
    return next((count for count in range(longest, 0, -1) if tuple(tokens[-count:]) == phrase[:count]), 0)
