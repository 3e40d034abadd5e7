"""Texts in files where nothing is quoted: what would end a line or a field becomes a space."""

import re

# Everything that some program takes for the end of a line or of a field
SEPARATORS = re.compile("\r\n|[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")


def as_one_field(text: str) -> str:
    """The text on one line, without tabs."""
    return SEPARATORS.sub(" ", text)
