"""Error rates against counts by hand and against a plain edit distance."""

import random
import unicodedata
from typing import Any

import pytest

from hf_rnn_s2s.training.error_rates import Edits, SpeechMetric, TransductionMetric, edits_between, spoken


def compute(predictions: list[str], references: list[Any], **options: Any) -> dict[str, Any]:
    result = TransductionMetric().compute(predictions=predictions, references=references, **options)
    assert result is not None
    return result


def distance(one: list[str], other: list[str]) -> int:
    """The edit distance, by the table of Wagner & Fischer."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, start=1):
        row, before = [i], row
        for j, right in enumerate(other, start=1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (left != right)))
    return row[-1]


def test_by_hand() -> None:
    assert compute(["k a t", "d o g", "m"], ["k a t", "d ɔ g", "m a p"]) == {
        "wer": pytest.approx(200 / 3),
        "ser": pytest.approx(300 / 9),
    }


def test_against_a_plain_edit_distance() -> None:
    generator = random.Random(0)
    draw = [[generator.choice(["a", "b", "tʃ", " "]) for _ in range(generator.randrange(7))] for _ in range(400)]
    for written, expected in zip(draw[:200], draw[200:], strict=True):
        assert edits_between(written, expected) == Edits(distance(written, expected), len(expected))


def test_any_reference_counts_and_the_nearest_one_for_symbols() -> None:
    references = [["t o m e i t o", "t o m a t o"], ["x"]]
    assert compute(["t o m a t o", "x"], references) == {"wer": 0, "ser": 0}
    assert compute(["t o m a d o", "x"], references) == {"wer": 50, "ser": pytest.approx(100 / 7)}


def test_characters() -> None:
    assert compute(["go ed"], ["went ed"], split=list)["ser"] == pytest.approx(100 * 4 / 7)


def test_other_forms_of_the_same_text_are_right() -> None:
    text = "é  각"
    assert compute([unicodedata.normalize("NFD", text)], ["é 각 "])["wer"] == 0


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([], [], "predictions: there is none to score"),
        (["a"], [[]], "references: a prediction has none"),
        (["a"], [""], "references: every one is empty"),
    ],
)
def test_bad_input(predictions: list[str], references: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute(predictions, references)


def test_an_empty_reference_among_others_counts_what_was_written() -> None:
    assert compute(["a b", "c"], ["", "c"]) == {"wer": 50, "ser": 200}


def test_what_can_be_heard_of_a_text() -> None:
    assert spoken("'Hello,' he said: don’t. Rock 'n' roll!") == "hello he said don't rock n roll"
    assert spoken("8:05 PM – 3.5 km") == "8 05 pm 3 5 km"


def test_speech_by_hand() -> None:
    """One word of five is wrong, and of 22 characters two; the other transcript is right but for case."""
    result = SpeechMetric().compute(
        predictions=["One tow three.", "four five"], references=["one two three", "FOUR five"]
    )
    assert result == {"wer": 20, "cer": pytest.approx(100 * 2 / 22), "exact_match": 0.5}
