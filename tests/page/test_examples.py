"""What the page takes from a card is what the training wrote into it."""

import logging
from pathlib import Path

import pytest

from hf_rnn_s2s import RnnS2SForConditionalGeneration
from hf_rnn_s2s.page.examples import examples_of, read_card, summary_of
from hf_rnn_s2s.training.markdown import LONGEST_TEXT

from ..hub_server import Commit, HubServer, Repository
from ..training.test_model_card import make_card

SOURCES = [
    r"a | b \| c",
    "- 5 * 3 # of $x_1$ <b>&amp;</b> [a](b) `c` ~d~ {e} \\",
    "3.5 kilograms",
    "-",
    "我们在三点见面",
]


def test_examples_are_the_sources_of_the_samples(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    samples = [(source, "x | y", "z") for source in SOURCES]
    make_card(tiny_model, tmp_path, samples=[*samples, samples[2], ("word " * LONGEST_TEXT, "x", "y"), ("", "x", "")])
    card = read_card(str(tmp_path))
    assert examples_of(card) == SOURCES  # each once, and none that the card shows in part
    assert summary_of(card) == "Translates English to German."


def test_a_card_without_samples_has_no_examples(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    make_card(tiny_model, tmp_path, samples=[])
    assert examples_of(read_card(str(tmp_path))) == []


@pytest.mark.parametrize(
    "card", ["", "# Title\n\nText.\n", "| a | b |\n|---|---|\n| c | d |\n", "| Source |\n|---|\n| c |"]
)
def test_another_card_has_none(card: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    assert read_card(str(tmp_path)) == card
    assert (examples_of(card), summary_of(card)) == ([], "")


def test_a_model_without_a_card_has_none(tmp_path: Path) -> None:
    assert read_card(str(tmp_path)) == ""


def test_the_card_of_a_model_of_the_hub(hub: HubServer, caplog: pytest.LogCaptureFixture) -> None:
    hub.repositories["org/name"] = Repository("org/name", [Commit({"README.md": "# Title\n\n一".encode()})])
    hub.repositories["org/bare"] = Repository("org/bare")
    assert read_card("org/name") == "# Title\n\n一"
    with caplog.at_level(logging.WARNING):
        assert read_card("org/bare") == ""
    assert "The page has no examples: the card of org/bare cannot be fetched" in caplog.text
