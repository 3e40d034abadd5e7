"""The translation metric against sacreBLEU called directly and against figures counted by hand."""

from __future__ import annotations

import importlib.util
import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sacrebleu

from hf_rnn_s2s.training import metrics
from hf_rnn_s2s.training.metrics import TranslationMetric

ENGLISH = ["the cat sat on the mat .", "it is 3:05 PM, said Tom", "nothing in common"]
ENGLISH_REFERENCES = ["the cat is on the mat .", "It's 3:05 PM, said Tom", "all of it differs here"]
CHINESE = ["每小时120公里", "2024年3月5日星期二"]
CHINESE_REFERENCES = ["每小时120公里", "2024年5月3日星期五"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path))


def score(predictions: list[str], references: list, **options: str) -> dict[str, Any]:
    return finish(TranslationMetric(), predictions=predictions, references=references, **options)


def finish(metric: TranslationMetric, **arguments: Any) -> dict[str, Any]:
    result = metric.compute(**arguments)
    assert result is not None
    return result


def test_bleu_of_one_sentence_counted_by_hand() -> None:
    # 5 tokens against 7: precisions 5/5, 4/4, 3/3, 2/2, so only the brevity penalty exp(1 - 7/5) is left.
    result = score(["a b c d e"], ["a b c d e f g"])
    assert result["bleu"] == pytest.approx(100 * math.exp(1 - 7 / 5))
    assert result["length_ratio"] == pytest.approx(5 / 7)
    assert result["ter"] == pytest.approx(100 * 2 / 7)  # two insertions for seven words
    assert result["exact_match"] == 0.0


def test_bleu_precisions_counted_by_hand() -> None:
    # "a b c d x" for "a b c d e": 4/5 words, 3/4 pairs, 2/3 triples, 1/2 quadruples, equal lengths.
    result = score(["a b c d x"], ["a b c d e"])
    assert result["bleu"] == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert result["ter"] == pytest.approx(20.0)


def test_equal_texts_have_the_best_scores() -> None:
    result = score(ENGLISH, ENGLISH)
    figures = {name: result[name] for name in ("bleu", "chrf", "ter", "exact_match", "length_ratio")}
    assert figures == pytest.approx({"bleu": 100, "chrf": 100, "ter": 0, "exact_match": 1, "length_ratio": 1})


def test_no_score_passes_the_best_one_by_a_rounding() -> None:
    texts = ["a small dog runs on the mat", "the cat sleeps over there now"]
    assert sacrebleu.corpus_bleu(texts, [texts]).score > 100
    assert (score(texts, texts)["bleu"], score(texts, texts)["chrf"]) == (100.0, 100.0)


def test_exact_match_is_a_share_and_any_reference_counts() -> None:
    assert score(["a", "b ", "c", "d"], ["a", "b", "c", "x"])["exact_match"] == 0.5
    assert score(["a", "b"], [["x", "a"], ["y", "z"]])["exact_match"] == 0.5


def test_figures_equal_sacrebleu_called_directly() -> None:
    result = score(ENGLISH, ENGLISH_REFERENCES, target_lang="en")
    assert result["bleu"] == sacrebleu.corpus_bleu(ENGLISH, [ENGLISH_REFERENCES]).score
    assert result["chrf"] == sacrebleu.corpus_chrf(ENGLISH, [ENGLISH_REFERENCES], word_order=2).score
    assert result["ter"] == sacrebleu.corpus_ter(ENGLISH, [ENGLISH_REFERENCES]).score
    version = sacrebleu.__version__
    assert result["bleu_signature"] == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}"
    assert result["chrf_signature"] == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no|version:{version}"
    assert result["ter_signature"] == f"nrefs:1|case:lc|tok:tercom|norm:no|punct:yes|asian:no|version:{version}"


def test_several_references_are_handed_over_by_position() -> None:
    references = [[first, second] for first, second in zip(ENGLISH_REFERENCES, reversed(ENGLISH), strict=True)]
    result = score(ENGLISH, references)
    columns = [ENGLISH_REFERENCES, ENGLISH[::-1]]
    assert result["bleu"] == sacrebleu.corpus_bleu(ENGLISH, columns).score
    assert result["ter"] == sacrebleu.corpus_ter(ENGLISH, columns).score
    assert result["bleu_signature"].startswith("nrefs:2|")
    assert result["exact_match"] == pytest.approx(1 / 3)  # the middle one of three is its own second reference


@pytest.mark.parametrize("target_lang", ["zh", "zh_Hant", "zh-CN", "zho_Hans", "ZH"])
def test_chinese_is_counted_by_characters(target_lang: str) -> None:
    result = score(CHINESE, CHINESE_REFERENCES, target_lang=target_lang)
    assert result["bleu"] == sacrebleu.corpus_bleu(CHINESE, [CHINESE_REFERENCES], tokenize="zh").score
    assert "|tok:zh|" in result["bleu_signature"]
    assert "|norm:yes|punct:yes|asian:yes|" in result["ter_signature"]
    # 每 小 时 120 公 里 and 2024 年 5 月 3 日 星 期 五: 6 + 9 tokens, of which 5, 3 and 五 are substituted.
    assert result["ter"] == pytest.approx(100 * 3 / 15)
    assert result["length_ratio"] == 1.0


def test_tokenisation_matters() -> None:
    """Counted in words, a Chinese sentence with one wrong character is one wrong word, and worth nothing."""
    as_words = score(CHINESE, CHINESE_REFERENCES, target_lang="en")
    as_characters = score(CHINESE, CHINESE_REFERENCES, target_lang="zh")
    assert as_words["ter"] == pytest.approx(50.0)  # one "word" of two
    assert as_characters["bleu"] > as_words["bleu"] + 20
    assert as_words["exact_match"] == as_characters["exact_match"] == 0.5
    assert as_words["chrf"] == as_characters["chrf"]


@pytest.mark.parametrize(
    ("target_lang", "package", "module"), [("ja", "sacrebleu[ja]", "MeCab"), ("ko_KR", "sacrebleu[ko]", "mecab_ko")]
)
def test_without_a_word_segmenter_characters_are_counted_with_a_warning(
    target_lang: str, package: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda name: None if name == module else real(name))
    with pytest.warns(UserWarning, match="counted on characters") as caught:
        result = score(["時速百キロ"], ["時速千キロ"], target_lang=target_lang)
    assert package in str(caught[0].message)
    assert "|tok:char|" in result["bleu_signature"]
    assert result["bleu"] == sacrebleu.corpus_bleu(["時速百キロ"], [["時速千キロ"]], tokenize="char").score


def test_the_word_segmenter_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda name: object())
    assert metrics._bleu_tokenizer("ja") == "ja-mecab"
    assert metrics._bleu_tokenizer("ko") == "ko-mecab"
    assert metrics._bleu_tokenizer("de") == "13a"


def test_batches_add_up_to_the_whole() -> None:
    metric = TranslationMetric()
    metric.add_batch(predictions=ENGLISH[:2], references=ENGLISH_REFERENCES[:2])
    metric.add_batch(predictions=[], references=[])
    metric.add_batch(predictions=ENGLISH[2:], references=ENGLISH_REFERENCES[2:])
    assert metric.compute(target_lang="en") == score(ENGLISH, ENGLISH_REFERENCES, target_lang="en")
    # and the metric starts afresh
    assert finish(metric, predictions=["a"], references=["a"])["exact_match"] == 1.0


def test_single_examples_can_be_added() -> None:
    metric = TranslationMetric()
    for text, reference in zip(ENGLISH, ENGLISH_REFERENCES, strict=True):
        metric.add(prediction=text, reference=reference)
    assert metric.compute() == score(ENGLISH, ENGLISH_REFERENCES)


def test_two_metrics_at_once_do_not_mix(tmp_path: Path) -> None:
    first, second = TranslationMetric(keep_in_memory=False), TranslationMetric(keep_in_memory=False)
    first.add_batch(predictions=["a", "b"], references=["a", "b"])
    second.add_batch(predictions=["c"], references=["d"])
    assert finish(second)["exact_match"] == 0.0
    assert finish(first)["exact_match"] == 1.0
    assert not list(tmp_path.rglob("*.arrow"))


def test_in_memory_leaves_no_file(tmp_path: Path) -> None:
    score(ENGLISH, ENGLISH_REFERENCES)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def _score_a_share(arguments: tuple[int, str]) -> dict | None:
    process_id, folder = arguments
    metric = TranslationMetric(
        num_process=2, process_id=process_id, experiment_id="shared", cache_dir=folder, timeout=900
    )
    metric.add_batch(predictions=ENGLISH[process_id::2], references=ENGLISH_REFERENCES[process_id::2])
    return metric.compute(target_lang="en")


def test_two_processes_score_together(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        first, second = pool.map(_score_a_share, [(0, str(tmp_path)), (1, str(tmp_path))])
    assert second is None
    assert first == score(ENGLISH[::2] + ENGLISH[1::2], ENGLISH_REFERENCES[::2] + ENGLISH_REFERENCES[1::2])


def test_several_processes_need_a_name() -> None:
    with pytest.raises(ValueError, match="experiment_id: with num_process=2"):
        TranslationMetric(num_process=2, process_id=0)


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([], [], "predictions: there is none to score"),
        (None, None, "predictions: there is none to score"),
        (["a"], None, "both are needed"),
        (["a", "b"], ["a"], "references: 1 for 2 predictions"),
        (["a", "b"], [["a"], ["b", "c"]], "predictions have 1 or 2 references each"),
        (["a"], [[]], "predictions have 0 references each"),
        (["a", ""], ["", " "], "every one is empty"),
    ],
)
def test_bad_input_is_named(predictions: list[str] | None, references: list | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TranslationMetric().compute(predictions=predictions, references=references)


def test_unknown_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="tokenise"):
        TranslationMetric().compute(predictions=["a"], references=["a"], tokenise="zh")
