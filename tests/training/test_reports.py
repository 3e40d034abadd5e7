"""Which example is drawn, and that none is drawn which nobody could look at."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast, TrainerState

from hf_rnn_s2s import RnnS2SForConditionalGeneration
from hf_rnn_s2s.training.reports import (
    LARGEST_PICTURE,
    WIDEST_PICTURE,
    draw_attention,
    draw_training_curves,
    informative_example,
)


def words(tokenizer: PreTrainedTokenizerFast, tokens: int) -> str:
    """A text of so many tokens, the end token included."""
    text = "1" * (tokens - 1)  # every digit is a token
    assert len(tokenizer(text)["input_ids"]) == tokens
    return text


def test_the_longest_that_fits_and_is_right_is_drawn(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    short, medium, wide, long = (words(tiny_tokenizer, size) for size in (4, 9, WIDEST_PICTURE, WIDEST_PICTURE + 1))
    rows = [(short, "x", "x"), (medium, "x", "x"), (wide, "x", "y"), (long, "x", "x")]
    assert informative_example(tiny_tokenizer, rows) == medium
    assert informative_example(tiny_tokenizer, rows[2:]) == wide
    assert informative_example(tiny_tokenizer, rows[3:]) == long


@pytest.mark.parametrize("blank", ["", " \t"])
def test_what_cannot_be_drawn_is_left_out(tiny_tokenizer: PreTrainedTokenizerFast, blank: str) -> None:
    huge = words(tiny_tokenizer, LARGEST_PICTURE + 1)
    rows = [(blank, "x", ""), (huge, "x", "x"), ("12", "x", huge)]
    assert informative_example(tiny_tokenizer, rows) is None
    assert informative_example(tiny_tokenizer, [*rows, ("123", "x", "y")]) == "123"


def test_a_source_that_was_cut_is_left_out(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [(words(tiny_tokenizer, 8), "x", "y")]
    assert informative_example(tiny_tokenizer, rows, max_source_length=8) == rows[0][0]
    assert informative_example(tiny_tokenizer, rows, max_source_length=7) is None


def test_the_picture_is_a_file(
    tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tiny_model.generation_config.update(max_length=9)
    draw_attention(tmp_path / "attention.png", tiny_model, tiny_tokenizer, "the dog")
    assert (tmp_path / "attention.png").read_bytes().startswith(b"\x89PNG")


def test_curves_are_a_file_where_there_are_any(tmp_path: Path) -> None:
    state = TrainerState(log_history=[{"step": 1, "loss": 2.0}], best_global_step=None)
    draw_training_curves(tmp_path / "curves.png", state, "loss")
    assert not list(tmp_path.iterdir())
    state.log_history += [{"step": 3, "loss": 1.0}, {"step": 3, "eval_loss": 1.5}]
    state.best_global_step = 3
    draw_training_curves(tmp_path / "curves.png", state, "loss")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
