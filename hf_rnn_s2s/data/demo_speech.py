"""The embedded corpus of speech: English phrases of the demo corpus, spoken by eSpeak NG in several voices and speeds.

It is spoken once, in about a minute, and kept in the cache of `datasets`, in a folder whose name is a digest of all
that it follows from: the phrases, their voices and speeds, and the library. The voices and the speed of validation and
test are none of those of training.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

from ..errors import UsageError
from .arguments import DataArguments
from .demo_corpus import build_demo_corpus

logger = logging.getLogger(__name__)

KINDS = ("date", "appointment", "deadline", "duration", "quantity", "price")  # of phrases
DEFAULT_SIZE = 4_000  # phrases to train on
HELD_OUT_SIZE = 300  # phrases of validation and test, each
# Not those that breathe, whose noise is another one at every time
VARIANTS = ("m1", "m2", "m3", "m5", "m6", "m7", "m8", "f1", "f4", "belinda")
VOICES = tuple(f"{accent}+{variant}" for accent in ("en", "en-us") for variant in VARIANTS)
SPEEDS = (135, 150, 165, 185, 205)  # words per minute
HELD_OUT = {"validation": ("en-us+m4", 175), "test": ("en-us+linda", 158)}  # voice and speed


def build_demo_speech(arguments: DataArguments) -> dict[str, list[dict[str, Any]]]:
    """The corpus that a run's arguments ask for: for each split its examples, spoken before if nobody has done so.

    Raises:
        UsageError: if eSpeak NG is not installed.
        ValueError: as `build_demo_corpus`.
    """
    for module, package in (("espeakng_loader", "espeakng-loader"), ("soundfile", "soundfile"), ("soxr", "soxr")):
        if importlib.util.find_spec(module) is None:
            raise UsageError(
                f"The demo of speech needs {package}: pip install {package}, or name recordings of your own with "
                "--train_file."
            )
    order = _order(arguments.demo_size or DEFAULT_SIZE, arguments.examples_seed)
    folder = _spoken(order)
    corpus: dict[str, list[dict[str, Any]]] = {"train": [], "validation": [], "test": []}
    for phrase in order:
        audio = {"path": str(folder / phrase["file"]), "bytes": None}
        corpus[phrase["split"]].append({"source": phrase["file"], "target": phrase["text"], "audio": audio})
    return corpus


def _order(size: int, seed: int) -> list[dict[str, Any]]:
    """Which phrases are spoken, how, and into which files, always in the same order."""
    held_out = {"validation_size": HELD_OUT_SIZE, "test_size": HELD_OUT_SIZE}
    phrases = build_demo_corpus("en", "zh", size=size, seed=seed, kinds=KINDS, **held_out)
    voices, speeds = Random(seed), cycle(SPEEDS)
    order = []
    for split, examples in phrases.items():
        for number, example in enumerate(examples):
            voice, speed = HELD_OUT.get(split) or (voices.choice(VOICES), next(speeds))
            file = f"{split}-{number:05}.flac"
            order.append({"split": split, "file": file, "text": example["source"], "voice": voice, "speed": speed})
    return order


def _spoken(order: list[dict[str, Any]]) -> Path:
    """The folder with the files of an order."""
    import datasets
    import espeakng_loader
    from filelock import FileLock

    library = hashlib.sha256(Path(espeakng_loader.get_library_path()).read_bytes()).hexdigest()
    digest = hashlib.sha256(json.dumps([order, library]).encode()).hexdigest()
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    folder = cache / f"demo-speech-{digest[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):  # of several processes one speaks, and the others wait
        if not folder.is_dir():
            logger.warning("eSpeak NG speaks %d phrases, once; they are kept in %s.", len(order), folder)
            _speak(order, folder)
    return folder


def _speak(order: list[dict[str, Any]], folder: Path) -> None:
    """Speak in a process of its own, into a folder that has its name only when all is there."""
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    try:
        command = [sys.executable, str(Path(__file__).with_name("speak.py")), str(unfinished)]
        paths = os.pathsep.join(path for path in sys.path if path)  # where this process finds its packages
        done = subprocess.run(
            command,
            input=json.dumps(order),
            text=True,
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONPATH": paths},
        )
        if done.returncode:
            raise UsageError(f"eSpeak NG could not speak the demo's phrases:\n{done.stderr.strip()[-1000:]}")
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
