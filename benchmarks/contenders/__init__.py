"""One file for each toolkit, and one way to ask all of them for the same work."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Contender

# Name of a contender: file, and what its class is called with. Those of other toolkits need these to be installed.
CONTENDERS = {
    "ours": ("ours", {"precision": "bfloat16"}),
    "ours-float32": ("ours", {"precision": "float32"}),
    "ours-shortlist": ("ours", {"precision": "bfloat16", "has_shortlist": True}),
    "marian": ("marian", {"precision": "float32"}),
    "marian-bfloat16": ("marian", {"precision": "bfloat16"}),
    "tutorial": ("tutorial", {"precision": "float32"}),
    "opennmt": ("opennmt", {"precision": "float32", "input_feed": 0}),
    "opennmt-feeding": ("opennmt", {"precision": "float32", "input_feed": 1}),
    "joeynmt": ("joey", {"precision": "float32"}),
    "joeynmt-bfloat16": ("joey", {"precision": "bfloat16"}),
}


def installed(name: str) -> bool:
    """Whether the toolkit of a contender can be imported."""
    return all(
        find_spec(package) for package in {"opennmt": ["onmt"], "joey": ["joeynmt"]}.get(CONTENDERS[name][0], [])
    )


def contender_class(name: str) -> tuple[type[Contender], dict[str, object]]:
    """The class of a contender, and the arguments that make it this one."""
    file, arguments = CONTENDERS[name]
    return import_module(f"{__name__}.{file}").THE_CONTENDER, arguments
