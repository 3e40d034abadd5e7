"""What the tests share: a tokenizer, a configuration and a model small enough for a moment's work, a cache."""

import logging
import os

# A second thread makes nothing faster that is so small, and waits for others by spinning: on a machine with other work
# to do the tests would take many times longer. The processes that they start take this over.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, train_tokenizer
from hf_rnn_s2s.stepping_rnn_s2s import Stepper

TINY_TEXTS = [
    "a small dog runs fast",
    "the big cat sleeps on a red mat",
    "one two three four five six seven",
    "ein kleiner Hund läuft schnell",
    "die große Katze schläft auf einer roten Matte",
    "我们在三点见面",
]


@pytest.fixture(scope="session")
def tiny_texts() -> list[str]:
    """Six short sentences in three languages."""
    return list(TINY_TEXTS)


@pytest.fixture
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of at most 300 tokens, new for each test: a tokenizer keeps its padding side and its limits."""
    return train_tokenizer(TINY_TEXTS, vocab_size=300)


@pytest.fixture
def tiny_config(tiny_tokenizer: PreTrainedTokenizerFast) -> RnnS2SConfig:
    """The default architecture, 16 units wide. Its large initial weights make a random model decide firmly."""
    return RnnS2SConfig(vocab_size=len(tiny_tokenizer), embedding_size=16, hidden_size=16, initializer_range=1.0)


@pytest.fixture
def tiny_model(tiny_config: RnnS2SConfig) -> RnnS2SForConditionalGeneration:
    """A random model, always the same one, in evaluation mode."""
    torch.manual_seed(0)
    return RnnS2SForConditionalGeneration(tiny_config).eval()


@pytest.fixture
def own_datasets_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache for `datasets`, and the package's log messages where `caplog` sees them."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(logging.getLogger("hf_rnn_s2s"), "propagate", True)


@pytest.fixture
def rows_per_step(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each step of the package's own searches."""
    counts: list[int] = []
    step = Stepper.step

    def count(self: Stepper, token_ids: torch.Tensor) -> torch.Tensor:
        counts.append(len(token_ids))
        return step(self, token_ids)

    monkeypatch.setattr(Stepper, "step", count)
    return counts
