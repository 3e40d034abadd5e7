"""
Runs an `app.py` as `python app.py` does, where nothing is installed that only training and tests need, and writes into
a file which package it took, and which other machines it asked for anything.

    python watched_process.py APP FILE
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

NOT_INSTALLED = (
    "datasets", "evaluate", "accelerate", "sacrebleu", "rouge_score", "jiwer", "babel", "matplotlib", "soundfile",
    "soxr", "espeakng_loader", "noto_cjk_sans_otc", "onnx", "onnxruntime", "peft", "markdown_it", "playwright",
    "pytest",
)  # fmt: skip
HERE = ("127.0.0.1", "localhost", "::1", "0.0.0.0")

app, told = map(Path, sys.argv[1:])


def tell(line: str) -> None:
    with told.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo" and arguments[0] not in (None, *HERE):
        tell(f"asked where {arguments[0]} is")
    if event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] not in HERE:
        tell(f"connected to {arguments[1]}")


sys.addaudithook(watch)
sys.path[0] = str(app.parent)
sys.modules.update(dict.fromkeys(NOT_INSTALLED))  # type: ignore[arg-type] # None means that there is no such module
import hf_rnn_s2s  # noqa: E402

tell(str(Path(hf_rnn_s2s.__file__).parent))
runpy.run_path(str(app), run_name="__main__")
