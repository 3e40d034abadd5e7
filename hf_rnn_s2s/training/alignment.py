"""Word alignments: from files, from attention, and how far one is from the other.

An alignment is a set of links `(source word, target word)`, both counted from 0. Words are what stands between spaces.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.arguments import DataError

Links = frozenset[tuple[int, int]]

LINK = re.compile(r"(\d+)([-?p])(\d+)")
# Not what Unicode calls a space: a no-break space keeps a word together.
WORD = re.compile(r"[^ \t\n\v\f\r]+")


class GoldAlignment(NamedTuple):
    """What people say of a sentence pair.

    Attributes:
        sure: links that all agree on.
        possible: links that may be there; the sure ones are among them.
    """

    sure: Links
    possible: Links


class AlignmentScores(NamedTuple):
    """How good predicted links are, each from 0 to 1.

    Attributes:
        error_rate: the alignment error rate; 0 is best.
        precision: the share of the predicted links that are possible; 0 if nothing was predicted.
        recall: the share of the sure links that were predicted; 0 if none is sure.
    """

    error_rate: float
    precision: float
    recall: float


def alignment_error_rate(predicted: Iterable[Links], gold: Iterable[GoldAlignment]) -> AlignmentScores:
    """The alignment error rate (Och & Ney 2003) of a corpus, with precision and recall.

    With the predicted links A, the sure ones S and the possible ones P, each counted over the whole corpus, it is
    `1 - (|A ∩ S| + |A ∩ P|) / (|A| + |S|)`; precision is `|A ∩ P| / |A|`, and recall `|A ∩ S| / |S|`.

    Args:
        predicted: the links of each sentence pair.
        gold: those of as many pairs, in the same order.

    Raises:
        ValueError: if their numbers differ, or there is neither a predicted nor a sure link.
    """
    links = of_gold = in_sure = in_possible = 0
    for found, wanted in zip(predicted, gold, strict=True):
        links, of_gold = links + len(found), of_gold + len(wanted.sure)
        in_sure += len(found & wanted.sure)
        in_possible += len(found & (wanted.possible | wanted.sure))
    if links + of_gold == 0:
        raise ValueError("alignment_error_rate: there is neither a predicted nor a sure link to count.")
    error_rate = 1 - (in_sure + in_possible) / (links + of_gold)
    return AlignmentScores(error_rate, in_possible / max(links, 1), in_sure / max(of_gold, 1))


def parse_alignment(line: str, first_index: int = 0) -> GoldAlignment:
    """Read the links of one sentence pair: `1-2` is sure, `1?2` or `1p2` possible, and spaces stand between them.

    Args:
        line: the links of Pharaoh's format, source word first.
        first_index: the number that the first word has in it, 0 or 1.

    Raises:
        ValueError: for anything else in the line, or a number below `first_index`.
    """
    sure, possible = set(), set()
    for text in line.split():
        parts = LINK.fullmatch(text)
        if parts is None:
            raise ValueError(f"{text!r} is no link; a sure one looks like 1-2, a possible one like 1?2 or 1p2.")
        link = int(parts[1]) - first_index, int(parts[3]) - first_index
        if min(link) < 0:
            raise ValueError(f"{text!r} has a number below {first_index}, which the first word should have.")
        possible.add(link)
        if parts[2] == "-":
            sure.add(link)
    return GoldAlignment(frozenset(sure), frozenset(possible))


def read_alignments(path: Path, first_index: int = 0) -> list[GoldAlignment]:
    """Read a file of alignments, a sentence pair on each line; an empty line is a pair without links.

    Raises:
        DataError: if the file is missing, not UTF-8 or has no sure link; if a line is not as in `parse_alignment`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"alignment_file {path} cannot be read: {error}") from error
    alignments = []
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        try:
            alignments.append(parse_alignment(line, first_index))
        except ValueError as error:
            raise DataError(f"alignment_file {path}, line {number}: {error}") from error
    if not any(alignment.sure for alignment in alignments):
        raise DataError(f"alignment_file {path} has no sure link, such as 1-2, so there is nothing to find.")
    return alignments


def words_of(text: str) -> list[str]:
    """The words of a text, which the numbers of an alignment count: what stands between spaces."""
    return WORD.findall(text)


def words_of_tokens(text: str, offsets: Iterable[tuple[int, int]]) -> list[int | None]:
    """The number of the word that each token belongs to; None for end tokens and single spaces.

    Args:
        text: the text that was tokenized.
        offsets: of each token, its first character and the one behind its last. A token that spans several words
            belongs to the first of them.
    """
    starts = [match.start() for match in WORD.finditer(text)]
    numbers: list[int | None] = []
    for first, last in offsets:
        match = WORD.search(text, first, last)
        numbers.append(None if match is None else bisect_right(starts, match.start()) - 1)
    return numbers


def word_attention(
    attention: Tensor, source_words: Sequence[int | None], target_words: Sequence[int | None]
) -> Tensor:
    """Attention between words, from that between their pieces.

    What a word of the source gets is the sum over its pieces; what a word of the target gives is the mean of its
    pieces (as Clark et al. 2019, What Does BERT Look At?, section 4.1, do for self-attention). Tokens of no word, such
    as end tokens, are left out, so that the weights of a target word sum to at most one.

    Args:
        attention: `(target tokens, source tokens)`.
        source_words: the number of the word of each source token, as `words_of_tokens` gives it.
        target_words: the same of the target.

    Returns:
        `(target words, source words)`, up to the last word that has a token.
    """
    sources, targets = (_membership(words, attention) for words in (source_words, target_words))
    pieces = targets.sum(1, keepdim=True).clamp(min=1)  # a word may have none, where the text was cut
    return (targets / pieces) @ attention @ sources.T


def _membership(words: Sequence[int | None], like: Tensor) -> Tensor:
    """1 where a token belongs to a word, `(words, tokens)`."""
    numbers = torch.tensor([-1 if word is None else word for word in words], device=like.device)
    count = 1 + max((word for word in words if word is not None), default=-1)
    return numbers.eq(torch.arange(count, device=like.device).unsqueeze(1)).to(like.dtype)


def alignments_from_attention(attention: Tensor, threshold: float | None = None) -> Links:
    """The links that an attention matrix `(target, source)` shows.

    Args:
        attention: between words.
        threshold: link all pairs with at least this weight. None links each target word with the source word that it
            looks at most, the first one if several are equal, and with none if all its weights are 0.

    Raises:
        ValueError: for a threshold that is not above 0, with which everything would be linked.
    """
    if threshold is not None and not threshold > 0:
        raise ValueError(f"threshold={threshold} must be above 0, or every pair of words would be a link.")
    if attention.numel() == 0:
        return frozenset()
    if threshold is not None:
        targets, sources = (attention >= threshold).nonzero(as_tuple=True)
    else:
        highest, best = attention.max(dim=1)
        targets = highest.gt(0).nonzero().squeeze(1)
        sources = best[targets]
    return frozenset(zip(sources.tolist(), targets.tolist(), strict=True))
