"""One file for each toolkit, and one way to ask all of them for the same work."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Contender

# Name of a contender: file, and what its class is called with. Those of other toolkits need these to be installed.
CONTENDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ours": ("ours", {"precision": "bfloat16"}),
    "ours-float32": ("ours", {"precision": "float32"}),
    "ours-shortlist": ("ours", {"precision": "bfloat16", "saving": "shortlist"}),
    "ours-int8": ("ours", {"precision": "float32", "saving": "int8"}),
    "ours-int8-shortlist": ("ours", {"precision": "float32", "saving": "int8-shortlist"}),
    "marian": ("marian", {"precision": "float32"}),
    "marian-bfloat16": ("marian", {"precision": "bfloat16"}),
    "ctranslate2": ("ctranslate", {"precision": "float32", "quantization": "float32"}),
    "ctranslate2-int8": ("ctranslate", {"precision": "float32", "quantization": "int8"}),
    "ctranslate2-int8-map": ("ctranslate", {"precision": "float32", "quantization": "int8", "has_map": True}),
    "tutorial": ("tutorial", {"precision": "float32"}),
    "opennmt": ("opennmt", {"precision": "float32", "input_feed": 0}),
    "opennmt-feeding": ("opennmt", {"precision": "float32", "input_feed": 1}),
    "joeynmt": ("joey", {"precision": "float32"}),
    "joeynmt-bfloat16": ("joey", {"precision": "bfloat16"}),
    "joeynmt-buckets": ("joey", {"precision": "bfloat16", "has_buckets": True}),
}


def installed(name: str) -> bool:
    """Whether what a contender needs can be imported."""
    file, arguments = CONTENDERS[name]
    packages = {"opennmt": ["onmt"], "joey": ["joeynmt"], "ctranslate": ["ctranslate2"]}.get(file, [])
    if "int8" in arguments.get("saving", ""):
        packages = ["onnxscript", "onnxruntime"]
    return all(find_spec(package) for package in packages)


def racers(way: str) -> list[str]:
    """Names of those that differ in `"training"`, or in `"translating"`."""
    if way == "training":
        only_translate = {"saving", "quantization"}
        return [name for name, (_, arguments) in CONTENDERS.items() if not arguments.keys() & only_translate]
    # The tutorial has no beam search; and how batches are made for training makes no difference here.
    return [
        name for name, (_, arguments) in CONTENDERS.items() if name != "tutorial" and "has_buckets" not in arguments
    ]


def contender_class(name: str) -> tuple[type[Contender], dict[str, Any]]:
    """The class of a contender, and the arguments that make it this one."""
    file, arguments = CONTENDERS[name]
    return import_module(f"{__name__}.{file}").THE_CONTENDER, arguments
