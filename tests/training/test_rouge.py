"""ROUGE against counts by hand, and against `rouge-score` itself on ASCII text."""

import random
from typing import Any

import pytest
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from hf_rnn_s2s.training.rouge import RougeMetric, UnicodeTokenizer


def compute(predictions: list[str], references: list[Any]) -> dict[str, Any]:
    result = RougeMetric().compute(predictions=predictions, references=references)
    assert result is not None
    return result


def test_by_hand() -> None:
    """Two of three words, one of two pairs, and a common subsequence of two: F1 of 2/3 with 2/4 and so on."""
    result = compute(["the red cat sat"], ["the cat slept"])
    assert result["rouge1"] == pytest.approx(100 * 2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3))
    assert result["rouge2"] == 0
    assert result["rougeL"] == result["rouge1"]
    assert result["length_ratio"] == 4 / 3


def test_it_stems_and_ignores_case_and_punctuation() -> None:
    assert compute(["Meetings, MOVED!"], ["meeting move"])["rouge2"] == 100


def test_equal_to_rouge_score_on_ascii() -> None:
    generator = random.Random(0)
    alphabet = "aabbcde  ..,-_'19XY\n\t"
    texts = ["".join(generator.choice(alphabet) for _ in range(generator.randrange(40))) for _ in range(400)]
    theirs, ours = DefaultTokenizer(use_stemmer=True), UnicodeTokenizer()
    assert [ours.tokenize(text) for text in texts] == [theirs.tokenize(text) for text in texts]
    pairs = list(zip(texts[:200], texts[200:], strict=True))
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    scores = [scorer.score(reference, prediction) for prediction, reference in pairs]
    result = compute([one for one, _ in pairs], [other for _, other in pairs])
    for kind in ("rouge1", "rouge2", "rougeL"):
        assert result[kind] == pytest.approx(100 * sum(score[kind].fmeasure for score in scores) / len(scores))


@pytest.mark.parametrize("text", ["我们在三点见面", "Встреча в три", "बैठक तीन बजे", "ประชุมบ่ายสาม", "réunion à trois"])
def test_a_text_of_any_script_equals_itself(text: str) -> None:
    assert compute([text], [text])["rouge2"] == 100


def test_scripts_without_spaces_are_compared_by_character() -> None:
    assert UnicodeTokenizer().tokenize("三点 room12，见面") == ["三", "点", "room12", "见", "面"]
    assert compute(["我们见面"], ["我们再见"])["rouge1"] == 75


def test_of_several_references_the_best_counts_and_rows_may_have_any_number() -> None:
    result = compute(["a b", "c d"], [["x", "a b"], ["c d"]])
    assert (result["rouge1"], result["rouge2"]) == (100, 100)
    assert compute(["a b"], [["a", "a b c"]])["rouge2"] == pytest.approx(100 * 2 / 3)


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([], [], "predictions: there is none to score"),
        (["a"], [[]], "references: a prediction has none"),
        (["a"], [" "], "references: every one is empty"),
        (["a", "b"], ["a"], "references: 1 for 2 predictions"),
    ],
)
def test_bad_input(predictions: list[str], references: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute(predictions, references)
