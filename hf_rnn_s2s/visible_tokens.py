"""How a token is shown to people: its spaces can be seen, and a long one is shortened."""

from __future__ import annotations

# Visible stand-ins for white space
_VISIBLE_SPACES = str.maketrans({" ": "␣", "▁": "␣", "\u00a0": "␣", "\u3000": "␣", "\t": "⇥", "\n": "↵", "\r": "↵"})
LONGEST_LABEL = 20  # characters of the label of a token in a picture


def visible(token: str) -> str:
    """The token with a character to look at in place of each white space."""
    return token.translate(_VISIBLE_SPACES)


def token_label(token: str) -> str:
    """The token with visible spaces, shortened in the middle if it is long."""
    text = visible(token)
    half = LONGEST_LABEL // 2
    return text if len(text) <= LONGEST_LABEL else f"{text[:half]}…{text[1 - half :]}"
