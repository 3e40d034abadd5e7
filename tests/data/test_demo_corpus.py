"""The embedded corpus: what it says, that it can be learnt, and that its splits share nothing."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from hf_rnn_s2s.data import demo_corpus
from hf_rnn_s2s.data.demo_corpus import DEMO_KINDS, build_demo_corpus

SMALL: dict[str, Any] = {"size": 60, "validation_size": 20, "test_size": 20}


@pytest.fixture(scope="module")
def corpus() -> dict[str, list[dict[str, str]]]:
    return build_demo_corpus("en", "zh", size=2000, validation_size=200, test_size=200)


def pairs(examples: list[dict[str, str]]) -> set[tuple[str, str]]:
    return {(example["source"], example["target"]) for example in examples}


def digest(corpus: dict[str, list[dict[str, str]]]) -> str:
    return hashlib.sha256(json.dumps(corpus).encode()).hexdigest()


def test_splits_have_the_sizes_asked_for(corpus: dict[str, list[dict[str, str]]]) -> None:
    assert {split: len(examples) for split, examples in corpus.items()} == {
        "train": 2000,
        "validation": 200,
        "test": 200,
    }
    assert all(example.keys() == {"source", "target"} for examples in corpus.values() for example in examples)


@pytest.mark.parametrize("column", ["source", "target"])
def test_no_text_occurs_twice_in_any_split(corpus: dict[str, list[dict[str, str]]], column: str) -> None:
    texts = [example[column] for examples in corpus.values() for example in examples]
    assert len(set(texts)) == len(texts) == 2400


def test_another_process_with_other_string_hashes_makes_the_same_corpus() -> None:
    program = (
        "import hashlib, json\n"
        "from hf_rnn_s2s.data.demo_corpus import build_demo_corpus\n"
        f"corpus = build_demo_corpus('ar', 'ja', seed=3, **{SMALL})\n"
        "print(hashlib.sha256(json.dumps(corpus).encode()).hexdigest())"
    )
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    other = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert other == digest(build_demo_corpus("ar", "ja", seed=3, **SMALL))


def test_seed_changes_the_corpus_and_size_only_the_training_split() -> None:
    base = build_demo_corpus(**SMALL)
    assert pairs(build_demo_corpus(seed=1, **SMALL)["test"]).isdisjoint(pairs(base["test"]))
    larger = build_demo_corpus(**{**SMALL, "size": 90})
    assert larger["test"] == base["test"]
    assert larger["validation"] == base["validation"]
    assert larger["train"][:60] == base["train"]


@pytest.mark.parametrize(
    ("kind", "source_word", "target_word"),
    [
        ("date", ", ", "年"),
        ("appointment", "M", "日"),
        ("opening", " – ", "至"),
        ("period", " – ", "至"),
        ("deadline", "M", "午"),
        ("duration", ", ", ""),
        ("rate", " per ", "每"),
        ("unit_price", " per ", "每"),
        ("booking", " per ", "日 每"),
    ],
)
def test_every_example_of_a_kind_has_its_form(kind: str, source_word: str, target_word: str) -> None:
    for example in build_demo_corpus(kinds=[kind], **SMALL)["train"]:
        assert source_word in example["source"]
        assert target_word in example["target"]


def test_rates_and_durations_have_chinese_words_and_order() -> None:
    """CLDR's own forms: "per hour" comes first in Chinese, and the parts of a duration stand side by side."""
    rates = build_demo_corpus(kinds=["rate"], size=200)["train"]
    speeds = [(re.fullmatch(r"([\d,.]+) kilometers per hour", each["source"]), each["target"]) for each in rates]
    said = [target == f"每小时{match[1]}公里" for match, target in speeds if match]
    assert said
    assert all(said)
    durations = build_demo_corpus(kinds=["duration"], size=200)["train"]
    hours = [(re.fullmatch(r"(\d+) hours?, (\d+) minutes?", each["source"]), each["target"]) for each in durations]
    said = [target == f"{match[1]}小时{match[2]}分钟" for match, target in hours if match]
    assert said
    assert all(said)


def test_weekday_and_half_of_the_day_are_never_dropped_on_one_side() -> None:
    weekdays = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    seen = set()
    for example in build_demo_corpus(kinds=["appointment"], size=300)["train"]:
        said = [name for name in weekdays if name in example["source"]]
        expected = ["星期" + "一二三四五六日"[weekdays.index(name)] for name in said]
        assert re.findall("星期.", example["target"]) == expected
        assert ("PM" in example["source"]) == ("下午" in example["target"])
        assert ("AM" in example["source"]) == ("上午" in example["target"])
        seen.add(tuple(said))
    assert len(seen) == 8  # every weekday, and none


def test_locales_without_halves_of_the_day_use_24_hours() -> None:
    for example in build_demo_corpus("en", "de", kinds=["appointment"], **SMALL)["train"]:
        hour = int(example["target"][-5:-3])
        assert ("PM" in example["source"]) == (hour >= 12)
        assert example["source"].split(":")[0].split()[-1] == str((hour - 1) % 12 + 1)


def test_target_lengths_suit_a_small_model(corpus: dict[str, list[dict[str, str]]]) -> None:
    lengths = [len(example["target"]) for example in corpus["train"]]
    assert 10 <= sum(lengths) / len(lengths) <= 25
    assert max(lengths) <= 45


@pytest.mark.parametrize("locale", ["de", "fr", "ja", "ar", "hi", "ko", "ru", "fa", "he", "th", "zh-Hant", "pt_BR"])
def test_any_pair_of_locales_works_both_ways(locale: str) -> None:
    for source, target in (("en", locale), (locale, "zh")):
        corpus = build_demo_corpus(source, target, **SMALL)
        for example in corpus["train"] + corpus["test"]:
            for text in example.values():
                assert text
                # Babel's placeholders for what it does not find in CLDR.
                assert not any(raw in text for raw in ("{", "None", "length-", "duration-", "mass-", "digital-"))


def test_arabic_durations_say_each_part_once() -> None:
    """Babel's list of two items in Arabic's "unit" style would say the second one twice."""
    for example in build_demo_corpus("ar", "en", kinds=["duration"], **SMALL)["train"]:
        said, expected = (re.findall(r"\d+", example[side]) for side in ("source", "target"))
        assert all(said.count(number) <= expected.count(number) for number in said)
        # Arabic has words of its own for one and two of a thing.
        assert {number for number in expected if int(number) > 2} <= set(said)


@pytest.mark.parametrize("locale", ["zh", "ar", "he", "fa", "fr"])
def test_texts_are_as_a_person_types_them(locale: str) -> None:
    for example in build_demo_corpus("en", locale, **SMALL)["train"]:
        for text in example.values():
            assert text == unicodedata.normalize("NFC", text)
            assert not {"\u00a0", "\u202f", "\u2009", "\u200e", "\u200f", "\u061c", "\u3000"} & set(text)
            assert text == " ".join(text.split(" ")).strip()
            assert "  " not in text


def test_unknown_locale_names_the_argument() -> None:
    with pytest.raises(ValueError, match="target_locale: CLDR has no locale 'xx_nowhere'"):
        build_demo_corpus("en", "xx_nowhere")
    with pytest.raises(ValueError, match="source_locale: CLDR has no locale ''"):
        build_demo_corpus("", "zh")


@pytest.mark.parametrize(("source", "target"), [("en", "en"), ("pt-BR", "pt_BR")])
def test_same_locale_is_refused(source: str, target: str) -> None:
    with pytest.raises(ValueError, match=r"target_locale: .* is the same locale"):
        build_demo_corpus(source, target)


def test_locales_that_write_the_same_are_refused() -> None:
    with pytest.raises(ValueError, match="target_locale: 'en_US' writes all phrases as source_locale='en'"):
        build_demo_corpus("en", "en_US", **SMALL)


def test_too_large_a_size_says_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_corpus, "_DURATIONS", {("duration-week", "duration-day"): 6})
    possible = 99 * 6
    with pytest.raises(ValueError, match=r"size: no more than \d+ different phrases .* lower size") as caught:
        build_demo_corpus(size=possible, kinds=["duration"], validation_size=1, test_size=1)
    found = int(str(caught.value).split("no more than ")[1].split()[0])
    assert 0.95 * possible < found <= possible


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size: 0 examples"),
        ({"validation_size": -1}, "validation_size: -1 examples"),
        ({"test_size": 0}, "test_size: 0 examples"),
        ({"kinds": ["date", "poem"]}, "kinds: poem given; choose from date, "),
        ({"kinds": []}, "kinds: none given; choose from date, "),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_demo_corpus(**arguments)


def test_all_kinds_are_drawn() -> None:
    assert len(DEMO_KINDS) == 11
    for kind in DEMO_KINDS:
        assert len(build_demo_corpus(kinds=[kind], **SMALL)["train"]) == 60
