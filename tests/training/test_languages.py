"""What languages are called, and when those of a run are not those of its model."""

from __future__ import annotations

import logging

import pytest

from hf_rnn_s2s import RnnS2SConfig
from hf_rnn_s2s.data.arguments import DataArguments
from hf_rnn_s2s.training.languages import (
    Languages,
    language_code,
    language_name,
    language_pair,
    set_languages,
)


@pytest.mark.parametrize(
    ("label", "name", "code"),
    [
        ("en", "English", "en"),
        ("DE", "German", "de"),
        ("deu", "German", "de"),
        ("zh_Hans", "Chinese (Simplified)", "zh"),
        ("zho_Hant", "Chinese (Traditional)", "zh"),
        ("zh-CN", "Chinese (China)", "zh"),
        ("pt_BR", "Portuguese (Brazil)", "pt"),
        ("sr_Cyrl_RS", "Serbian (Cyrillic, Serbia)", "sr"),
        ("es_419", "Spanish (Latin America)", "es"),
        ("yue", "Cantonese", "yue"),
        ("no", "Norwegian", "no"),
    ],
)
def test_codes_have_names(label: str, name: str, code: str) -> None:
    assert (language_name(label), language_code(label)) == (name, code)


@pytest.mark.parametrize(
    "label", ["source", "src", "SRC", "tgt", "trg", "in", "out", "english", "xx", "C", "a b", "", "_"]
)
def test_names_of_columns_and_files_are_no_languages(label: str) -> None:
    assert language_name(label) is None
    assert language_code(label) is None


def test_the_pair_of_a_run() -> None:
    assert language_pair(DataArguments(demo_locales=["en", "zh_Hant"])) == ("en", "zh_Hant")
    assert language_pair(DataArguments(dataset_name="wmt/wmt14", source_lang="de", target_lang="en")) == ("de", "en")
    assert language_pair(DataArguments(train_file="a.tsv", validation_file="b.tsv", source_lang="")) == (None, None)


def settle(own: Languages, given: Languages) -> Languages:
    config = RnnS2SConfig(source_lang=own[0], target_lang=own[1])
    set_languages(config, given, "outputs/some-model")
    return config.source_lang, config.target_lang


@pytest.mark.parametrize(
    ("own", "given", "expected"),
    [
        ((None, None), (None, None), (None, None)),
        ((None, None), ("en", "de"), ("en", "de")),
        (("en", "de"), (None, None), ("en", "de")),
        (("en", None), (None, "de"), ("en", "de")),
        (("en", "de"), ("EN", "de_AT"), ("en", "de")),
        (("eng_Latn", "zho_Hans"), ("en", "zh"), ("eng_Latn", "zho_Hans")),
        (("src", "tgt"), ("en", "de"), ("src", "tgt")),
        (("en", "de"), ("source", "target"), ("en", "de")),
        (("english", "german"), ("text_en", "text_de"), ("english", "german")),
        (("zh_Hans", "zh_Hant"), ("zh-hans", "zh_Hant_TW"), ("zh_Hans", "zh_Hant")),
        (("zh", "zh_Hant"), ("zh_Hans", "zh_Hant"), ("zh", "zh_Hant")),
        (("en", "en"), ("en", "EN"), ("en", "en")),
    ],
)
def test_languages_that_may_be_the_same_are_taken_without_a_word(
    own: Languages,
    given: Languages,
    expected: Languages,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("hf_rnn_s2s"), "propagate", True)
    assert settle(own, given) == expected
    assert not caplog.messages


@pytest.mark.parametrize(
    ("own", "given", "message"),
    [
        (
            ("en", "de"),
            ("de", "en"),
            "The model outputs/some-model translates English 'en' to German 'de', but the data of this run is German "
            "'de' to English 'en'. If that is a slip, swap source_lang and target_lang",
        ),
        (("en_US", "DEU"), ("de-AT", "eng"), "is German (Austria) 'de-AT' to English 'eng'. If that is a slip, swap"),
        (("zh_Hans", "zh_Hant"), ("zh_Hant", "zh_Hans"), "is Chinese (Traditional) 'zh_Hant' to Chinese (Simplified)"),
        (
            ("zh", "zh_Hant"),
            ("zh_Hant", "zh"),
            "is Chinese (Traditional) 'zh_Hant' to Chinese 'zh'. If that is a slip, swap",
        ),
        (
            ("english", "german"),
            ("german", "english"),
            "'english' to 'german', but the data of this run is 'german' to",
        ),
        (
            ("en", "de"),
            ("en", "fr"),
            "is English 'en' to French 'fr'. If that is a slip, mend source_lang and target_lang",
        ),
        (("en", "de"), (None, "fr"), "is a language not stated to French 'fr'."),
        (("zh_Hans", "zh_Hant"), ("zh_Hant", "en"), "mend source_lang and target_lang"),
    ],
)
def test_others_are_named_and_the_run_wins(
    own: Languages,
    given: Languages,
    message: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("hf_rnn_s2s"), "propagate", True)
    assert settle(own, given) == (given[0] or own[0], given[1] or own[1])
    assert len(caplog.messages) == 1
    assert message in caplog.messages[0]
    assert "saved with the languages of its last run" in caplog.messages[0]


def test_a_language_that_no_configuration_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="target_lang='x+' must be None or a language"):
        settle((None, None), ("en", "x" * 101))
