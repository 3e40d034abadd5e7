"""What the tests share: a tokenizer, a configuration and a model small enough for a moment's work, a cache."""

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

# A second thread makes nothing faster that is so small, and waits for others by spinning: on a machine with other work
# to do the tests would take many times longer. The processes that they start take this over.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# With this, a process that was forked from one that has tokenized may wait for threads that it does not have. What
# would hang on the machines of some people hangs everywhere then.
os.environ["TOKENIZERS_PARALLELISM"] = "true"
# Where tests run in the background of a shell, Ctrl-C is ignored, and so it would be in the processes that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import huggingface_hub.constants
import pytest
import torch
import transformers.utils.hub
from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, train_tokenizer
from hf_rnn_s2s.decoding.stepper import Stepper

from .hub_server import HubServer

TINY_TEXTS = [
    "a small dog runs fast",
    "the big cat sleeps on a red mat",
    "one two three four five six seven",
    "ein kleiner Hund läuft schnell",
    "die große Katze schläft auf einer roten Matte",
    "我们在三点见面",
]


@pytest.fixture(autouse=True)
def _messages_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Go where `caplog` sees them."""
    monkeypatch.setattr(logging.getLogger("hf_rnn_s2s"), "propagate", True)


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
def tiny_marian(tiny_tokenizer: PreTrainedTokenizerFast) -> MarianMTModel:
    """An encoder-decoder of transformers' own, random, with much dropout, in evaluation mode."""
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=len(tiny_tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        pad_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=0,
        forced_eos_token_id=None,
        init_std=1.0,
        dropout=0.5,
    )
    config._attn_implementation = "eager"  # the one that can return its attention
    return MarianMTModel(config).eval()


@pytest.fixture
def own_datasets_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache for `datasets`."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


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


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """An empty Hub, which this process takes for the real one. (Other processes are told by HF_ENDPOINT.)"""
    constants = huggingface_hub.constants
    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)  # one for all calls, which keeps its address
        monkeypatch.setenv("HF_TOKEN", "hf_token")
        yield server
