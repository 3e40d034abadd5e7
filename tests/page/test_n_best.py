"""The n-best list: texts in their order, with scores that can be read."""

import math

import pytest

from hf_rnn_s2s.page.n_best import Candidate, log_probability, n_best_table, probability

from .html_reader import Reader


def test_each_text_has_its_rank_and_its_scores() -> None:
    reader = Reader(n_best_table([Candidate("ein Hund", math.log(0.75)), Candidate("Hund", -9.5)], "translation"))
    assert [header.text for header in reader.all("th")] == ["#", "Translation", "Log-probability", "Probability"]
    assert [cell.text for cell in reader.all("td")] == [
        *("1", "ein Hund", "-0.288", "75.0%"),
        *("2", "Hund", "-9.500", "< 0.1%"),
    ]
    assert reader.all("p") == []


def test_texts_are_no_markup_and_a_note_stands_below() -> None:
    reader = Reader(n_best_table([Candidate("<b>fett</b> & mehr", 0.0)], "<i>", "5 < 6 pieces."))
    assert reader.all("td")[1].text == "<b>fett</b> & mehr"
    assert reader.all("th")[1].text == "<i>"
    assert [line.text for line in reader.all("p")] == ["5 < 6 pieces."]


@pytest.mark.parametrize(("score", "logarithm", "share"), [
    (0.0, "0.000", "100.0%"), (-0.0001, "0.000", "100.0%"), (-0.0006, "-0.001", "99.9%"),
    (math.log(0.001), "-6.908", "0.1%"), (-800.0, "-800.000", "< 0.1%"),
])  # fmt: skip
def test_how_scores_are_written(score: float, logarithm: str, share: str) -> None:
    assert (log_probability(score), probability(score)) == (logarithm, share)
