"""
Two revisions of the package in one process, taking turns batch by batch, for the searches of `benchmarks.revisions`.

The place of the weights in memory counts for more than the code: processes of one revision differ by up to 40 percent
for single sentences, and by several percent for batches. Here both revisions read the same copy of the weights, at the
same time of the process.
"""

from __future__ import annotations

import importlib.util
import json
import random
import sys
import time
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from transformers.utils import logging

from benchmarks.race import Answers

LONGEST = 80  # tokens of a translation


class Pair:
    """
    Args:
        checkouts: of each revision by its name, the folder that the package lies in.
        data: folder with Multi30k.
        work: folder with tokenizer and weights.
    """

    def __init__(self, checkouts: dict[str, str], data: str, work: str) -> None:
        self._packages = {name: _load(f"hf_rnn_s2s_{name}", Path(folder)) for name, folder in checkouts.items()}
        self._work = Path(work)
        self._draw = random.Random(0)
        self._texts = (Path(data) / "test_2016_flickr.en").read_text(encoding="utf-8").split("\n")[:-1]

    def translate(self, sentences: int, beams: int, batch_size: int, precision: str) -> dict[str, dict[str, Any]]:
        """Translates test sentences from text to text.

        Returns by revision the speed in each batch, in sentences per second, and the translations.
        """
        translators = self._translators(precision)
        speeds: dict[str, list[float]] = {name: [] for name in translators}
        texts: dict[str, list[str]] = {name: [] for name in translators}
        for first in range(0, sentences, batch_size):
            batch = self._texts[first : min(first + batch_size, sentences)]
            # Whoever comes second finds the weights in the cache, so chance decides who does.
            for name in self._draw.sample(list(translators), len(translators)):
                start = time.perf_counter()
                records = translators[name](batch, num_beams=beams, batch_size=batch_size)
                speeds[name].append(len(batch) / (time.perf_counter() - start))
                texts[name] += [record["translation_text"] for record in records]
        return {"speeds": speeds, "texts": texts}

    @cache  # noqa: B019 - there is one object, which lives as long as the process
    def _translators(self, precision: str) -> dict[str, Any]:
        translators: dict[str, Any] = {}
        weights: dict[str, torch.Tensor] = {}
        for name, package in self._packages.items():
            model = package.RnnS2SForConditionalGeneration.from_pretrained(self._work)
            model = model.eval().to(getattr(torch, precision))
            weights = weights or model.state_dict()
            model.load_state_dict(weights, assign=True)
            tokenizer = package.RnnS2STokenizer.from_pretrained(self._work)
            translators[name] = package.RnnTranslationPipeline(
                model=model, tokenizer=tokenizer, device="cpu", max_new_tokens=LONGEST
            )
        return translators


def _load(name: str, checkout: Path) -> ModuleType:
    """The package of a checkout under another name, which its relative imports do not see."""
    folder = checkout / "hf_rnn_s2s"
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    spec.loader.exec_module(package)
    return package


def main() -> None:
    """`python -m benchmarks.revision_pair_worker SETTINGS`, with `threads` and the arguments of `Pair`."""
    answers = Answers()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(settings.pop("threads"))
    pair = Pair(**settings)
    answers.give(pair)


if __name__ == "__main__":
    main()
