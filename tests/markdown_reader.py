"""Markdown as its readers see it: what is shown, and that nothing of it is markup."""

import itertools

from markdown_it import MarkdownIt
from markdown_it.token import Token

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def shown(inline: Token) -> str:
    """The text of a paragraph, heading or cell, in code spans or not. An error if it has any other markup."""
    parts = []
    for child in inline.children or []:
        assert child.type in ("text", "code_inline"), f"{child.type}: {inline.content!r}"
        parts.append(child.content)
    return "".join(parts)


def blocks(text: str) -> list[tuple[str, Token]]:
    """Each paragraph, heading or cell with the kind of block that it stands in."""
    pairs = itertools.pairwise(PARSER.parse(text))
    return [(opening.type, token) for opening, token in pairs if token.type == "inline"]


def tables(text: str) -> list[list[list[str]]]:
    """Every table as rows of cells, its header first."""
    found: list[list[list[str]]] = []
    tokens = PARSER.parse(text)
    for place, token in enumerate(tokens):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("th_open", "td_open"):
            found[-1][-1].append(shown(tokens[place + 1]))
    return found
