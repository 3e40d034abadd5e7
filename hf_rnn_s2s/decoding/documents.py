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
    r"\s*(?:(?:>\s*)+|#{1,6}\s+|(?:[-*+•‣⁃◦▪▸►●○■□–—·]|\(?(?P<number>\d{1,3})[.)]|\(?[a-z]\))\s+|[一二三四五六七八九十]{1,3}、|・\s*)?"
)
HAS_TEXT = re.compile(r"[^\W_]")  # a letter or a digit
NARROWEST = 40  # columns: shorter lines are headings, addresses or verses rather than parts of a paragraph
WIDEST = 120  # columns: longer lines were not broken by hand
QUOTES = re.compile(r"^\s*(?:>\s*)*")  # at the beginning of a line of a mail that was answered
BEGINS_TEXT = re.compile(r"[^\W_]|[\"'(\[«»„“‚‘「『《（]")  # a letter, a digit, or what may stand before one
ENDS = "。！？；：…」』》”’）"  # of sentences in Chinese and Japanese
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
    runs = [(run, set(_full_pairs(run))) for run in _runs(lines, listed)]
    # A document with some lines that are broken in the middle of a sentence is one whose lines are broken.
    is_wrapped = sum(_is_broken(*pair) for _, full in runs for pair in full) >= 2
    for run, full in runs:
        joined = ""
        for (line, end), following in itertools.zip_longest(run, (line for line, _ in run[1:])):
            joined = _joined(joined, line) if joined else line
            pair = (line, following or "")
            if pair in full and (is_wrapped or _is_broken(*pair)):
                continue
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
    """Lines that may belong to one paragraph: a blank line or a bullet ends it, but not the quotes of a mail."""
    run: list[tuple[str, str]] = []
    for line, end in lines:
        mark = _mark(line, listed).strip()
        goes_on = bool(run) and (not mark or (mark[0] == ">" and mark == _mark(run[-1][0], listed).strip()))
        if run and not (goes_on and HAS_TEXT.search(line) and HAS_TEXT.search(run[-1][0])):
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


def _full_pairs(run: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Each line that may end only because the first word of the next one had no room, with that next one."""
    width = max(_columns(line) for line, _ in run)
    if not NARROWEST <= width <= WIDEST:
        return
    for (line, _), (following, _) in itertools.pairwise(run):
        text = QUOTES.sub("", following)
        first = text.split(maxsplit=1)[0]
        if _is_wide(first[0]):  # which may be broken behind any character
            first = first[0]
        if BEGINS_TEXT.match(first) and _columns(line.rstrip()) + 1 + _columns(first) > width:
            yield line, following


def _is_broken(line: str, following: str) -> bool:
    """Whether a line ends in the middle of a sentence: the next one begins with a small letter, or nothing ends."""
    last, first = line.rstrip()[-1], QUOTES.sub("", following)[0]
    if _is_wide(last):
        return last not in ENDS and _is_wide(first)
    return first.islower() or last in ",;-\u00ad"


def _columns(text: str) -> int:
    """The width of a text where each character of Chinese and Japanese has two columns."""
    return sum(1 + _is_wide(letter) for letter in text)


def _is_wide(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in "WF"


def _joined(first: str, second: str) -> str:
    """Two lines of a paragraph as one."""
    first, second = first.rstrip(), QUOTES.sub("", second)
    if first.endswith("\u00ad"):  # a soft hyphen, which is there for the line break alone
        return first[:-1] + second
    hyphenated = first.endswith("-") and first[-2:-1].isalpha() and second[:1].islower()
    return first + ("" if hyphenated or (_is_wide(first[-1]) and _is_wide(second[0])) else " ") + second
