"""Folders with tiny random models, and a way to run a command in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, RnnTranslationPipeline, train_tokenizer
from hf_rnn_s2s_command.main import main

from ..conftest import TINY_TEXTS

TEXTS = [*TINY_TEXTS[:5], "", "  ", "a red cat"]
LONGEST = 50  # tokens of a source


class Outcome(NamedTuple):
    """How a command ended, and what it wrote to its two streams."""

    code: int
    out: str
    error: str


Run = Callable[[Sequence[object]], Outcome]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of translation from English to German, two heads wide, that reads at most `LONGEST` tokens."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tokenizer = train_tokenizer(TINY_TEXTS, vocab_size=300)
    tokenizer.model_max_length = LONGEST
    config = RnnS2SConfig(
        vocab_size=len(tokenizer),
        embedding_size=16,
        hidden_size=16,
        num_attention_heads=2,
        initializer_range=1.0,
        source_lang="en",
        target_lang="de",
    )
    torch.manual_seed(0)
    model = RnnS2SForConditionalGeneration(config).eval()
    model.generation_config.max_new_tokens = 12
    odd = [id for token, id in tokenizer.get_vocab().items() if not tokenizer.decode([id]).strip().isalpha()]
    model.generation_config.suppress_tokens = sorted({*odd} - {tokenizer.eos_token_id})  # bytes, line breaks, ...
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def translator(model_folder: Path) -> RnnTranslationPipeline:
    """The pipeline of the same model."""
    from transformers import pipeline

    return pipeline("translation", model=str(model_folder))


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command with these arguments."""

    def run_command(arguments: Sequence[object]) -> Outcome:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, error = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, out, error)

    return run_command


def written(translator: RnnTranslationPipeline, texts: list[str], **settings: Any) -> list[str]:
    return [one["translation_text"] for one in translator(texts, **settings)]


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "input.txt"
    path.write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    return path


def write_sides(folder: Path, pairs: Sequence[tuple[str, str]]) -> tuple[Path, Path]:
    """Two files of lines, one with the sources and one with the targets."""
    paths = folder / "source.txt", folder / "target.txt"
    for path, texts in zip(paths, zip(*pairs, strict=True), strict=True):
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return paths
