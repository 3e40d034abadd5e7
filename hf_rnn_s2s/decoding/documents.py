"""Documents: taken apart into sentences, and put together again with their paragraphs, blank lines and bullets.

Lines that are parts of one paragraph are joined first, and bullets and numbers are set aside; `sentencex` then finds
the sentences of each paragraph.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

LINE_END = re.compile(r"\r\n|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# What stands before the text of a line: spaces, the quotes of mails, hashes of headings, and bullets, numbers and
# letters of lists
MARK = re.compile(
    r"\s*(?:(?:>\s*)+|#{1,6}\s+|(?:[-*+•‣⁃◦▪▸►●○■□–—·]|\(?(?P<number>\d{1,3})[.)]|\(?[a-z]\))\s+|[一二三四五六七八九十]{1,3}、)?"
)
HAS_TEXT = re.compile(r"[^\W_]")  # a letter or a digit
NARROWEST = 40  # columns: shorter lines are headings, addresses or verses rather than parts of a paragraph
# Languages without spaces between sentences
UNSPACED = ("zh", "ja", "yue", "wuu")
# Where a sentence that is too long is split, best places first: behind one of these, and before a space
CLAUSE_MARKS = (";；", ":：", ",，、", "—–")


@dataclass(frozen=True)
class Block:
    """A paragraph, a list item, a heading, or a line without text.

    Attributes:
        mark: what stands before its text, or all of it where it has none.
        sentences: of its text, in order, without spaces around them.
        end: the line break behind it; empty at the end of the document.
    """

    mark: str
    sentences: tuple[str, ...]
    end: str


Segment = Callable[[str], list[str]]  # a paragraph into sentences


def read_document(text: str, segment: Segment) -> list[Block]:
    """Take a document apart.

    Args:
        text: of the document.
        segment: finds the sentences of a paragraph.
    """
    return [
        Block(mark, tuple(_sentences(content, segment)), end) if HAS_TEXT.search(content) else Block(line, (), end)
        for line, mark, content, end in _paragraphs(text)
    ]


def write_document(blocks: Sequence[Block], sentences: Iterator[str], language: str | None) -> str:
    """Put a document together from what became of its sentences.

    Args:
        blocks: of the document that was read.
        sentences: one is taken for each sentence of the blocks, in order.
        language: of these.
    """
    parts = []
    for block in blocks:
        own = list(itertools.islice(sentences, len(block.sentences)))
        parts += [block.mark, joined_sentences(own, language), block.end]
    return "".join(parts)


def joined_sentences(sentences: Sequence[str], language: str | None) -> str:
    """Sentences with a space between them, or with nothing in Chinese and Japanese."""
    gap = "" if base_language(language) in UNSPACED else " "
    return gap.join(filter(None, map(str.strip, sentences)))


def base_language(language: str | None) -> str:
    """The language of a code such as `zh_CN` or `de-AT`, in small letters; empty if none is known."""
    return re.split("[-_]", language or "")[0].lower()


def segmenter(language: str | None) -> Segment:
    """What finds sentences in texts of a language; of an unknown one, by the rules for English.

    Raises:
        ImportError: if `sentencex` is not installed.
    """
    try:
        from sentencex import segment
    except ImportError as error:
        raise ImportError("split_sentences finds sentences with sentencex: pip install sentencex") from error
    code = base_language(language) or "en"
    return lambda text: list(segment(code, text))


def split_long(sentence: str, fits: Callable[[str], bool]) -> list[str]:
    """Split a sentence until each part fits: at the clause mark nearest to the middle, or else at a space there.

    What has neither stays whole.
    """
    if fits(sentence):
        return [sentence]
    place = _best_place(sentence)
    if place is None:
        return [sentence]
    halves = sentence[:place].strip(), sentence[place:].strip()
    return [part for half in halves for part in split_long(half, fits)]


def _best_place(sentence: str) -> int | None:
    """Where to split, so that both parts have text; None if there is no place."""
    middle = len(sentence) / 2
    places = [
        *([found.end() for found in re.finditer(f"[{marks}](?!\\d)", sentence)] for marks in CLAUSE_MARKS),
        [found.start() for found in re.finditer(r"\s+", sentence)],
    ]
    for candidates in places:
        useful = [one for one in candidates if HAS_TEXT.search(sentence[:one]) and HAS_TEXT.search(sentence[one:])]
        # A mark far from the middle leaves a part that is nearly as long as the whole.
        central = [one for one in useful if 0.15 < one / len(sentence) < 0.85]
        if central:
            return min(central, key=lambda one: abs(one - middle))
    return None


def _sentences(paragraph: str, segment: Segment) -> Iterator[str]:
    """The sentences of a paragraph; what has neither letter nor digit belongs to the one before it."""
    waiting = ""
    for part in segment(paragraph):
        if HAS_TEXT.search(part):
            if waiting.strip():
                yield waiting.strip()
            waiting = part
        else:
            waiting += part
    if waiting.strip():
        yield waiting.strip()


def _paragraphs(text: str) -> Iterator[tuple[str, str, str, str]]:
    """Lines, those of a paragraph joined: the whole, its mark, what stands behind that, and the line break."""
    lines = list(_lines(text))
    numbers = {int(found["number"]) for line, _ in lines if (found := MARK.match(line)) and found["number"]}
    # One number by itself need not be that of a list: "3. Oktober" begins a German sentence.
    listed = {number for number in numbers if {number - 1, number + 1} & numbers}
    for run in _runs(lines, listed):
        width = max(_columns(line) for line, _ in run)
        joined, end = "", ""
        for place, (line, this_end) in enumerate(run):
            joined = line if not joined else _joined(joined, line)
            end = this_end
            following = run[place + 1][0] if place + 1 < len(run) else None
            if following is None or not _is_wrapped(line, following, width):
                mark = _mark(joined, listed)
                yield joined, mark, joined[len(mark) :], end
                joined = ""


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Each line, and the break that ends it; the last one may have none."""
    position = 0
    for found in LINE_END.finditer(text):
        yield text[position : found.start()], found.group()
        position = found.end()
    if position < len(text):
        yield text[position:], ""


def _runs(lines: list[tuple[str, str]], listed: Collection[int]) -> Iterator[list[tuple[str, str]]]:
    """Lines that may belong to one paragraph: a blank line or a bullet ends it."""
    run: list[tuple[str, str]] = []
    for line, end in lines:
        begins = not HAS_TEXT.search(line) or bool(_mark(line, listed).strip())
        if run and (begins or not HAS_TEXT.search(run[-1][0])):
            yield run
            run = []
        run.append((line, end))
    if run:
        yield run


def _mark(line: str, listed: Collection[int]) -> str:
    """What stands before the text of a line, given which numbers are those of lists."""
    found = MARK.match(line)
    if found is None:
        return ""
    if found["number"] and int(found["number"]) not in listed:
        return line[: len(line) - len(line.lstrip())]
    return found.group()


def _is_wrapped(line: str, following: str, width: int) -> bool:
    """Whether a line ends only because the first word of the next one had no room in the width of the paragraph."""
    if width < NARROWEST:
        return False
    first = following.split(maxsplit=1)[0]
    if _is_wide(first[0]):  # which may be broken behind any character
        first = first[0]
    return _columns(line.rstrip()) + 1 + _columns(first) > width


def _columns(text: str) -> int:
    """The width of a text where each character of Chinese and Japanese has two columns."""
    return sum(1 + _is_wide(letter) for letter in text)


def _is_wide(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in "WF"


def _joined(first: str, second: str) -> str:
    """Two lines of a paragraph as one."""
    first, second = first.rstrip(), second.lstrip()
    if first.endswith("\u00ad"):  # a soft hyphen, which is there for the line break alone
        return first[:-1] + second
    hyphenated = first.endswith("-") and first[-2:-1].isalpha() and second[:1].islower()
    return first + ("" if hyphenated or (_is_wide(first[-1]) and _is_wide(second[0])) else " ") + second
