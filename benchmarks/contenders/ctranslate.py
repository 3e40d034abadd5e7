"""CTranslate2, with the weights of MarianMT: what an engineer takes for a small translator on a CPU today."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.streams import END, START, UNKNOWN, Streams
from hf_rnn_s2s import Shortlist

from .base import LONGEST, FastestSetting, Setting
from .marian import Marian

# As `PROGRAM` of `ours`
PROGRAM = """
import sys
import ctranslate2
from tokenizers import Tokenizer
folder, text, beams, threads = sys.argv[1:]
tokenizer, of_target = (Tokenizer.from_file(f"{folder}/{name}.json") for name in ("tokenizer", "target_tokenizer"))
translator = ctranslate2.Translator(folder, device="cpu", inter_threads=1, intra_threads=int(threads))
source = [str(token) for token in tokenizer.encode(text).ids]
(result,) = translator.translate_batch([source], beam_size=int(beams), use_vmap=%s)
print(of_target.decode([int(token) for token in result.hypotheses[0]], skip_special_tokens=True))
"""


class CTranslate(FastestSetting, Marian):
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
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._translators: dict[Setting, Any] = {}
        self._names = [str(token) for token in range(streams.vocabulary)]

    def translate_with(self, setting: Setting, texts: list[str], beams: int, batch_size: int) -> list[str]:
        """CTranslate2 sorts the sentences by length, makes the batches and shares them out by itself."""
        tokenizer = self.streams.tokenizer
        sources = [[self._names[token] for token in ids] for ids in tokenizer(texts)["input_ids"]]
        results = self._translator(setting).translate_batch(
            sources,
            beam_size=beams,
            max_batch_size=batch_size,
            max_decoding_length=LONGEST,
            use_vmap=self.has_map,
        )
        ids = [[int(token) for token in result.hypotheses[0]] for result in results]
        return tokenizer.batch_decode(ids, skip_special_tokens=True)

    def save(self, folder: str) -> list[str]:
        """Saves what translates; a program that loads it and translates a text, and the folder."""
        if self._folder is None:
            self._folder = self._converted()
        shutil.copytree(self._folder.name, folder, dirs_exist_ok=True)
        tokenizer = self.streams.tokenizer
        tokenizer.backend_tokenizer.save(f"{folder}/tokenizer.json")
        tokenizer.target_tokenizer.backend_tokenizer.save(f"{folder}/target_tokenizer.json")
        return [PROGRAM % self.has_map, folder]

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
