"""CTranslate2, with the weights of MarianMT: what an engineer takes for a small translator on a CPU today."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.streams import END, START, UNKNOWN, Streams
from hf_rnn_s2s import Shortlist

from .base import LONGEST, TRIED, TURNS, Setting, possible_settings
from .marian import Marian


class CTranslate(Marian):
    """
    MarianMT, converted.

    Args:
        streams: as for all.
        precision: of the training, which is MarianMT's.
        quantization: of the weights, as CTranslate2 names it.
        has_map: whether its vocabulary map selects the target tokens that are scored, by those of the source. It is
            made of the same shortlist as ours.
    """

    def __init__(self, streams: Streams, precision: str, quantization: str, has_map: bool = False) -> None:
        super().__init__(streams, precision)
        self.quantization, self.has_map = quantization, has_map
        self._threads = torch.get_num_threads()  # now, since each of its translators sets them for torch, too
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._translators: dict[Setting, Any] = {}
        self._fastest: dict[tuple[int, int], Setting] = {}
        self._names = [str(token) for token in range(streams.vocabulary)]

    def translate_texts(self, texts: list[str], beams: int, batch_size: int) -> list[str]:
        """CTranslate2 sorts the sentences by length, makes the batches and shares them out by itself."""
        tokenizer = self.streams.tokenizer
        sources = [[self._names[token] for token in ids] for ids in tokenizer(texts)["input_ids"]]
        results = self._translate(self.setting(beams, batch_size), sources, beams, batch_size)
        ids = [[int(token) for token in result.hypotheses[0]] for result in results]
        return tokenizer.batch_decode(ids, skip_special_tokens=True)

    def setting(self, beams: int, batch_size: int) -> Setting:
        """Workers and threads of each that are the fastest for a search; the first call finds them."""
        if (beams, batch_size) not in self._fastest:
            texts = self.streams.texts("test_2016_flickr", "en")[: TRIED if batch_size > 1 else TRIED // 8]
            ids = self.streams.tokenizer(texts)["input_ids"]
            sources = [[self._names[token] for token in row] for row in ids]
            seconds: dict[Setting, float] = {}
            for setting in possible_settings(batch_size, self._threads):
                for _ in range(TURNS):
                    start = time.perf_counter()
                    for first in range(0, len(sources), len(sources) if batch_size > 1 else 1):
                        part = sources[first:] if batch_size > 1 else sources[first : first + 1]
                        self._translate(setting, part, beams, batch_size)
                    taken = time.perf_counter() - start
                    seconds[setting] = min(taken, seconds.get(setting, taken))
            self._fastest[beams, batch_size] = min(seconds, key=seconds.__getitem__)
        return self._fastest[beams, batch_size]

    def _translate(self, setting: Setting, sources: list[list[str]], beams: int, batch_size: int) -> list[Any]:
        return self._translator(setting).translate_batch(
            sources,
            beam_size=beams,
            max_batch_size=batch_size,
            max_decoding_length=LONGEST,
            use_vmap=self.has_map,
        )

    def _translator(self, setting: Setting) -> Any:
        import ctranslate2

        if self._folder is None:
            self._folder = self._converted()
        if setting not in self._translators:
            self._translators.clear()  # waiting workers of another setting are not to be in the way
            workers, threads = setting
            self._translators[setting] = ctranslate2.Translator(
                self._folder.name, device="cpu", inter_threads=workers, intra_threads=threads
            )
        return self._translators[setting]

    def _converted(self) -> tempfile.TemporaryDirectory[str]:
        from ctranslate2.converters.transformers import BartLoader

        self.model.eval()
        # What its own loader for Marian sets, which also takes the last token for padding that nothing needs.
        self.model.config.normalize_before = self.model.config.normalize_embedding = False
        spec = BartLoader().get_model_spec(self.model)
        spec.register_source_vocabulary(self._names)
        spec.register_target_vocabulary(self._names)
        spec.config.bos_token = spec.config.decoder_start_token = self._names[START]
        spec.config.eos_token, spec.config.unk_token = self._names[END], self._names[UNKNOWN]
        folder = tempfile.TemporaryDirectory()
        if self.has_map:
            file = Path(folder.name) / "map.txt"
            self._write_map(file)
            spec.register_vocabulary_mapping(str(file))
        spec.validate()
        spec.optimize(quantization=None if self.quantization == "float32" else self.quantization)
        spec.save(folder.name)
        return folder

    def _write_map(self, file: Path) -> None:
        sources, targets = zip(*self.streams.pairs, strict=True)
        shortlist = Shortlist.from_pairs(sources, targets, self.streams.vocabulary)
        always = [*shortlist.always, END]
        lines = ["\t" + " ".join(map(str, always))]  # behind no source token: for every sentence
        lines += [f"{source}\t{' '.join(map(str, some))}" for source, some in enumerate(shortlist.candidates) if some]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")


THE_CONTENDER = CTranslate
