from __future__ import annotations

import copy
import itertools
import json
import os
import pickle
import random
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, DataCollatorForSeq2Seq, PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SForConditionalGeneration
from hf_rnn_s2s.model.tokenization_rnn_s2s import RnnS2STokenizer
from hf_rnn_s2s.training.tokenizer_training import ENDS_OF_SPECIAL_TOKENS, train_tokenizer

ENGLISH = [
    "A man sleeps in a green room.",
    "The woman is sleeping, and the man reads a book.",
    "Two dogs run in 2024; a dog ran in 2023.",
    'She said: "We are running the green house."',
] * 5
GERMAN = [
    "Ein Mann schläft in einem grünen Zimmer.",
    "Die Frau schläft, und der Mann liest ein Buch.",
    "Zwei Hunde laufen 2024; ein Hund lief 2023.",
    "Sie sagte: „Wir führen das grüne Haus.“",
] * 5
OTHERS = [
    "我们今天在公园里看书。",
    "我们明天在公园里跑步。",
    "今日はラーメンを食べます。",
    "明日はうどんを食べます。",
    "วันนี้อากาศดีมาก",
    "우리는 오늘 공원에서 책을 읽는다.",
] * 5

TEXTS_TO_KEEP = [
    "",
    " ",
    "A man sleeps.",
    "  two leading, two inside  and two trailing  ",
    "tab\there\nnewline\r\nboth \u2028 line separator \u00a0 no-break space \u3000 wide space",
    "\n",
    "\tstarts with a tab",
    "<s>",
    "</s> <pad> <unk> and <s> inside",
    "x</s>",
    "<0x41> is not A, <0x0A> is not a newline",
    "▁ the block ▁▁ is not a space▁",
    "\ufdd0 the mark \ufdd0\ufdd00 is not\ufdd0 7 taken out\ufdd0",
    "family 👩‍👩‍👧‍👦, thumbs 👍🏽, flag 🇨🇳, keycap 1️⃣, heart ❤️",
    "decomposed: cafe\u0301, a\u0323\u0302, \u1112\u1161\u11ab, か\u3099",
    "\u0301 a combining mark at the start",
    "我们今天在公园里看书,2024年3月14日。",
    "iPhone 手机 是 新的",
    "สวัสดีครับ วันนี้",
    "می‌خواهم هندی हिन्दी क्‍ष",
    "fullwidth ＡＢＣ１２３ stays, ligature ﬁ stays",
    "control \x00\x07\x1b\x7f \ufeff \ufffd \U0010ffff",
    "don't, l'homme, T-shirt, 3.14, 1,000,000 €, ½ ²",
    "....!!!???---===",
]


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return train_tokenizer(ENGLISH + GERMAN + OTHERS, 600, request.param)


@pytest.fixture(scope="module")
def two_vocabularies() -> RnnS2STokenizer:
    tokenizer = train_tokenizer(ENGLISH, 400, target_texts=GERMAN, target_vocab_size=450)
    assert isinstance(tokenizer, RnnS2STokenizer)
    return tokenizer


def there_and_back(tokenizer: Any, text: str) -> str:
    return tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)


def run_python(code: str, folder: Path, *, with_package: bool) -> str:
    """Run `code` in a fresh interpreter, in `folder`; without the package, importing it fails as if not installed."""
    hide = "" if with_package else "import sys; sys.modules['hf_rnn_s2s'] = None\n"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", hide + code], capture_output=True, text=True, cwd=folder, env=environment
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


# What a text becomes


@pytest.mark.parametrize("text", TEXTS_TO_KEEP)
def test_decoding_gives_the_text_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert there_and_back(tokenizer, text) == unicodedata.normalize("NFC", text)
    assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"]


def test_decoding_gives_random_texts_back(tokenizer: PreTrainedTokenizerFast) -> None:
    generator = random.Random(0)
    pieces = [
        *" \t\n▁<>/s1.é\u0301👩\u200d日本aÄ\u3099か가\u1100\u1161\r\u2028",
        "<s>",
        "</s>",
        "<0x41>",
        "Hund",
        " man",
    ]
    texts = ["".join(generator.choices(pieces, k=generator.randrange(15))) for _ in range(2000)]
    expected = [unicodedata.normalize("NFC", text) for text in texts]
    assert tokenizer.batch_decode(tokenizer(texts)["input_ids"], skip_special_tokens=True) == expected


def test_every_character_comes_back(tokenizer: PreTrainedTokenizerFast) -> None:
    characters = [chr(code) for code in (*range(0xD800), *range(0xE000, 0x11000)) if unicodedata.name(chr(code), "")]
    decoded = tokenizer.batch_decode(tokenizer(characters)["input_ids"], skip_special_tokens=True)
    assert decoded == [unicodedata.normalize("NFC", character) for character in characters]


def test_special_tokens_and_end_of_sentence(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3]) == ["<pad>", "<s>", "</s>", "<unk>"]
    ids = (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
    assert ids == (0, 1, 2, 3)
    encoding = tokenizer("A man")
    assert sorted(encoding) == ["attention_mask", "input_ids"]
    assert encoding["input_ids"].count(2) == 1
    assert encoding["input_ids"][-1] == 2
    assert tokenizer("")["input_ids"] == [2]
    assert tokenizer("A man", add_special_tokens=False)["input_ids"] == encoding["input_ids"][:-1]
    assert tokenizer("A man", "A dog")["input_ids"] == encoding["input_ids"] + tokenizer("A dog")["input_ids"]


def test_control_tokens_in_a_text_are_text(tokenizer: PreTrainedTokenizerFast) -> None:
    pieces = ["<s>", "</s>", "<pad>", "<unk>", "s>", "pad>", "unk>", "s", "<", " ", "a7"]
    texts = ["".join(chosen) for length in range(4) for chosen in itertools.product(pieces, repeat=length)]
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert not {0, 1, 2, 3} & set(itertools.chain(*encoded))
    assert tokenizer.batch_decode(encoded, skip_special_tokens=True) == texts


def test_control_tokens_are_written_by_id(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = [tokenizer.bos_token_id, *tokenizer("<s> A man")["input_ids"]]
    assert tokenizer.decode(ids) == "<s> <s> A man</s>"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<s> A man"


def test_control_tokens_in_the_training_text_are_never_learned() -> None:
    for kind in ("bpe", "unigram"):
        tokenizer = train_tokenizer(["<s> a </s> <0x41> ▁b"] * 100, 400, kind)
        assert there_and_back(tokenizer, "<s></s><0x41>▁") == "<s></s><0x41>▁"


def test_no_token_crosses_a_word_boundary(tokenizer: PreTrainedTokenizerFast) -> None:
    byte_tokens = {f"<0x{byte:02X}>" for byte in range(256)}
    not_learned = byte_tokens.union(tokenizer.all_special_tokens, ENDS_OF_SPECIAL_TOKENS)
    for token in set(tokenizer.get_vocab()) - not_learned:
        assert " " not in token[1:], token
        kinds = {unicodedata.category(character)[0] for character in token.removeprefix(" ")}
        assert len(kinds - {"M", "L"}) <= 1, token
        assert not (kinds & {"P", "S", "N", "Z", "C"} and kinds & {"L"}), token


def test_words_carry_their_space_and_punctuation_stands_apart() -> None:
    tokenizer = train_tokenizer(ENGLISH, 1000)
    assert tokenizer.tokenize("The man reads, the woman runs.")[:4] == [" The", " man", " reads", ","]
    assert tokenizer.tokenize("man") == [" man"]
    assert tokenizer.tokenize(" man") == [" ", " man"]
    assert tokenizer.tokenize('man "read')[:3] == [" man", ' "', "r"]
    assert tokenizer.tokenize("man...,") == [" man", ".", ".", ".", ","]


def test_scripts_without_spaces_get_no_empty_token_and_learn_words() -> None:
    tokenizer = train_tokenizer(OTHERS, 1000)
    tokens = tokenizer.tokenize("我们今天食べます")
    assert "".join(tokens) == "我们今天食べます"
    assert tokens[0].startswith("我们")
    assert len(tokens) < len("我们今天食べます")


def test_digits_are_single_tokens_unless_whole() -> None:
    texts = ["in 2024 and 2024"] * 20
    assert train_tokenizer(texts, 400).tokenize("2024 in") == ["2", "0", "2", "4", " in"]
    assert train_tokenizer(texts, 400, digits="whole").tokenize("2024 in") == ["2024", " in"]


def test_frequent_characters_are_tokens_and_rare_ones_are_bytes(caplog: pytest.LogCaptureFixture) -> None:
    texts = ["日日日日日日", "本本本本本本", "Ω"]
    tokenizer = train_tokenizer(texts, 272 + 8)  # room for 4 characters: space, newline stand-in, and two
    assert tokenizer.tokenize("日本") == ["日", "本"]
    assert tokenizer.tokenize("日Ω") == ["日", "<0xCE>", "<0xA9>"]
    assert "1 of 3 characters, 7.692 % of the text, are spelled in bytes" in caplog.text


# How training behaves


def test_vocabulary_is_never_larger_than_asked_for() -> None:
    for kind in ("bpe", "unigram"):
        for vocab_size in (274, 275, 290, 340):
            tokenizer = train_tokenizer(ENGLISH + OTHERS, vocab_size, kind)
            assert len(tokenizer) <= vocab_size
            assert max(tokenizer.get_vocab().values()) == len(tokenizer) - 1
            assert there_and_back(tokenizer, "A man 今天!") == "A man 今天!"


def test_a_mark_in_the_training_text_takes_no_room() -> None:
    for kind in ("bpe", "unigram"):
        tokenizer = train_tokenizer(["a\ufdd0\ufdd0 b"] * 20, 274, kind)
        assert len(tokenizer) <= 274
        assert there_and_back(tokenizer, "\ufdd0 a\ufdd0") == "\ufdd0 a\ufdd0"


def test_bpe_training_is_deterministic_across_processes(tmp_path: Path) -> None:
    code = (
        "from hf_rnn_s2s import train_tokenizer\n"
        f"print(train_tokenizer({ENGLISH + OTHERS!r}, 330).backend_tokenizer.to_str())"
    )
    here = train_tokenizer(ENGLISH + OTHERS, 330).backend_tokenizer.to_str()
    assert run_python(code, tmp_path, with_package=True).rstrip("\n") == here


def test_generator_is_read_once_and_equals_a_list() -> None:
    read = 0

    def generate() -> Iterator[str]:
        nonlocal read
        for _ in range(150):  # more than one batch
            for text in ENGLISH:
                read += 1
                yield text

    from_generator = train_tokenizer(generate(), 400)
    assert read == 150 * len(ENGLISH)
    assert from_generator.get_vocab() == train_tokenizer(ENGLISH * 150, 400).get_vocab()


def test_model_max_length() -> None:
    assert train_tokenizer(ENGLISH, 300, model_max_length=7).model_max_length == 7
    assert train_tokenizer(ENGLISH, 300).model_max_length > 10**20
    truncated = train_tokenizer(ENGLISH, 300, model_max_length=7)(ENGLISH[0], truncation=True)["input_ids"]
    assert len(truncated) == 7
    assert truncated[-1] == 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"texts": []}, ValueError, "texts holds no text to learn from: 0 items"),
        ({"texts": ["", ""]}, ValueError, "2 items, not one character"),
        ({"texts": "one string"}, TypeError, "texts is a single string"),
        ({"texts": None}, TypeError, "texts must be an iterable of strings.*not NoneType"),
        ({"texts": {"en": "a"}}, TypeError, "texts must be an iterable of strings.*not dict"),
        ({"model_max_length": 1}, ValueError, "model_max_length=1 leaves no room"),
        ({"model_max_length": "x"}, TypeError, "model_max_length must be a whole number, not 'x'"),
        ({"texts": ["a", 7]}, TypeError, r"item 1 \(from 0\) is 7"),
        ({"texts": ["a", None]}, TypeError, r"texts must hold strings only; item 1 \(from 0\) is None"),
        ({"texts": ["a\ud800"]}, ValueError, r"texts must be valid Unicode; item 0 .* at character 1"),
        ({"vocab_size": 273}, ValueError, "vocab_size=273 is too small.*smallest that works is 274"),
        ({"vocab_size": "8000"}, TypeError, "vocab_size must be a whole number, not '8000'"),
        (
            {"kind": "wordpiece"},
            ValueError,
            "kind must be one of 'bpe', 'unigram', 'char', 'symbol', 'word', not 'wordpiece'",
        ),
        ({"digits": "pairs"}, ValueError, "digits must be one of 'single', 'whole', not 'pairs'"),
        ({"target_vocab_size": 300}, ValueError, "target_vocab_size needs target_texts"),
        ({"target_texts": ["a"], "target_vocab_size": 3}, ValueError, "target_vocab_size=3 is too small"),
        ({"target_texts": "text"}, TypeError, "target_texts is a single string"),
        ({"target_texts": []}, ValueError, "target_texts holds no text"),
    ],
)
def test_bad_input(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        train_tokenizer(**{"texts": ENGLISH, "vocab_size": 300, **arguments})


# Saving and loading


def test_saved_tokenizer_loads_without_this_package(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path / "saved")
    settings = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert settings["tokenizer_class"] in ("TokenizersBackend", "PreTrainedTokenizerFast")
    assert "auto_map" not in settings
    assert not list((tmp_path / "saved").glob("*.py"))

    (tmp_path / "texts.json").write_text(json.dumps(TEXTS_TO_KEEP), encoding="utf-8")
    code = """
import json
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("saved")
texts = json.load(open("texts.json", encoding="utf-8"))
encoded = tokenizer(texts, text_target=texts)
decoded = tokenizer.batch_decode(encoded["input_ids"], skip_special_tokens=True)
print(json.dumps({"encoded": dict(encoded), "decoded": decoded}))
"""
    fresh = json.loads(run_python(code, tmp_path, with_package=False))
    assert fresh["encoded"] == dict(tokenizer(TEXTS_TO_KEEP, text_target=TEXTS_TO_KEEP))
    assert fresh["decoded"] == [unicodedata.normalize("NFC", text) for text in TEXTS_TO_KEEP]


def test_saving_what_was_loaded_changes_nothing(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path / "first")
    AutoTokenizer.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    again = AutoTokenizer.from_pretrained(tmp_path / "second")
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    assert again.model_max_length == tokenizer.model_max_length
    assert there_and_back(again, "<s> a  ▁ , b .") == "<s> a  ▁ , b ."


def test_one_vocabulary_serves_both_sides(tokenizer: PreTrainedTokenizerFast) -> None:
    assert type(tokenizer) is PreTrainedTokenizerFast
    both = tokenizer("A man", text_target="Ein Mann")
    assert both["labels"] == tokenizer("Ein Mann")["input_ids"]


# Two vocabularies


def test_targets_are_encoded_and_decoded_with_the_target_vocabulary(two_vocabularies: RnnS2STokenizer) -> None:
    source = train_tokenizer(ENGLISH, 400)
    target = train_tokenizer(GERMAN, 450)
    assert len(two_vocabularies) == len(source)
    assert len(two_vocabularies.target_tokenizer) == len(target) != len(source)

    encoded = two_vocabularies(ENGLISH[0], text_target=GERMAN[0])
    assert encoded["input_ids"] == source(ENGLISH[0])["input_ids"]
    assert encoded["labels"] == target(GERMAN[0])["input_ids"] != source(GERMAN[0])["input_ids"]
    assert two_vocabularies(text_target=GERMAN[0])["input_ids"] == encoded["labels"]
    assert two_vocabularies(ENGLISH[0])["input_ids"] == encoded["input_ids"]

    labels = encoded["labels"]
    assert two_vocabularies.decode(labels, skip_special_tokens=True) == GERMAN[0]
    assert two_vocabularies.decode(labels) == f"{GERMAN[0]}</s>"
    assert two_vocabularies.batch_decode([labels, labels], skip_special_tokens=True) == [GERMAN[0]] * 2
    assert two_vocabularies.batch_decode(torch.tensor([labels]), skip_special_tokens=True) == [GERMAN[0]]
    assert two_vocabularies.convert_ids_to_tokens(encoded["input_ids"]) == source.tokenize(
        ENGLISH[0], add_special_tokens=True
    )


def test_each_side_decodes_its_own_ids(two_vocabularies: RnnS2STokenizer) -> None:
    encoded = two_vocabularies(ENGLISH, text_target=GERMAN)
    source, target = two_vocabularies.source_tokenizer, two_vocabularies.target_tokenizer
    assert type(source) is PreTrainedTokenizerFast
    assert source.batch_decode(encoded["input_ids"], skip_special_tokens=True) == ENGLISH
    assert source.decode(encoded["input_ids"][0]) == f"{ENGLISH[0]}</s>"
    assert target.batch_decode(encoded["labels"], skip_special_tokens=True) == GERMAN
    assert source(ENGLISH)["input_ids"] == encoded["input_ids"]
    assert source(text_target=ENGLISH[0])["input_ids"] == encoded["input_ids"][0]
    assert len(source) == len(two_vocabularies)


def test_the_source_side_is_no_copy(two_vocabularies: RnnS2STokenizer) -> None:
    for tokenizer in (copy.deepcopy(two_vocabularies), pickle.loads(pickle.dumps(two_vocabularies))):
        source = tokenizer.source_tokenizer
        tokenizer.add_special_tokens({"extra_special_tokens": ["<2de>"]})
        tokenizer.model_max_length = 4
        assert source.convert_tokens_to_ids("<2de>") == len(source) - 1 == len(two_vocabularies)
        assert source.all_special_tokens[-1] == "<2de>"
        assert len(source(ENGLISH[0], truncation=True)["input_ids"]) == 4
        source.add_tokens(["<es>"])
        assert len(tokenizer) == len(two_vocabularies) + 2
        assert tokenizer.target_tokenizer.model_max_length == 4
        assert "<2de>" not in tokenizer.target_tokenizer.get_vocab()
    assert "<2de>" not in two_vocabularies.get_vocab()


def test_lengths_of_both_sides(two_vocabularies: RnnS2STokenizer) -> None:
    encoded = two_vocabularies(
        ENGLISH[:2], text_target=GERMAN[:2], truncation=True, max_length=5, max_target_length=3, return_tensors="pt"
    )
    assert encoded["input_ids"].shape == (2, 5)
    assert encoded["labels"].shape == (2, 3)
    assert encoded["labels"][:, -1].tolist() == [2, 2]
    same_limit = two_vocabularies(ENGLISH[0], text_target=GERMAN[0], truncation=True, max_length=5)
    assert len(same_limit["labels"]) == 5


def test_collator_pads_both_sides(two_vocabularies: RnnS2STokenizer) -> None:
    features = [dict(two_vocabularies(s, text_target=t)) for s, t in zip(ENGLISH[:3], GERMAN[:3], strict=True)]
    batch = DataCollatorForSeq2Seq(two_vocabularies)(features)
    for row, feature in enumerate(features):
        length = len(feature["labels"])
        assert batch["labels"][row, :length].tolist() == feature["labels"]
        assert set(batch["labels"][row, length:].tolist()) <= {-100}
        assert batch["attention_mask"][row].sum() == len(feature["input_ids"])


@pytest.mark.parametrize("with_package", [True, False])
def test_two_vocabularies_load_in_a_fresh_process(
    two_vocabularies: RnnS2STokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_package: bool
) -> None:
    if not with_package:
        monkeypatch.setattr(RnnS2STokenizer, "_auto_class", "AutoTokenizer")  # as register_for_auto_class() does
    two_vocabularies.save_pretrained(tmp_path / "saved")
    load = "AutoTokenizer.from_pretrained('saved', trust_remote_code=True)"
    if with_package:
        load = "hf_rnn_s2s.model.tokenization_rnn_s2s.RnnS2STokenizer.from_pretrained('saved')"
    code = f"""
import json
from transformers import AutoTokenizer
{"import hf_rnn_s2s.model.tokenization_rnn_s2s" if with_package else ""}
tokenizer = {load}
tokenizer.save_pretrained("again")
encoded = tokenizer({ENGLISH!r}, text_target={GERMAN!r})
print(json.dumps([dict(encoded), tokenizer.batch_decode(encoded["labels"], skip_special_tokens=True)]))
"""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    encoded, decoded = json.loads(run_python(code, tmp_path, with_package=with_package))
    assert encoded == dict(two_vocabularies(ENGLISH, text_target=GERMAN))
    assert decoded == GERMAN
    for name in ("tokenizer.json", "target_tokenizer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "saved" / name).read_bytes()


def test_auto_tokenizer_finds_the_registered_class(two_vocabularies: RnnS2STokenizer, tmp_path: Path) -> None:
    two_vocabularies.save_pretrained(tmp_path / "saved")
    code = f"""
from transformers import AutoConfig, AutoTokenizer
from hf_rnn_s2s.model.configuration_rnn_s2s import RnnS2SConfig
from hf_rnn_s2s.model.tokenization_rnn_s2s import RnnS2STokenizer
AutoTokenizer.register(RnnS2SConfig, tokenizer_class=RnnS2STokenizer, exist_ok=True)
tokenizer = AutoTokenizer.from_pretrained("saved")
print(type(tokenizer).__name__, tokenizer.decode(tokenizer(text_target={GERMAN[0]!r})["input_ids"]))
"""
    assert run_python(code, tmp_path, with_package=True) == f"RnnS2STokenizer {GERMAN[0]}</s>\n"


def test_missing_target_vocabulary_is_named(two_vocabularies: RnnS2STokenizer, tmp_path: Path) -> None:
    two_vocabularies.save_pretrained(tmp_path)
    (tmp_path / "target_tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"the folder has no target_tokenizer\.json"):
        RnnS2STokenizer.from_pretrained(tmp_path)


def test_disagreeing_special_tokens_are_refused(two_vocabularies: RnnS2STokenizer) -> None:
    other_order = Tokenizer(WordLevel({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}, unk_token="<unk>"))
    with pytest.raises(ValueError, match="pad_token has id 0 in the source vocabulary and 1 in the target's"):
        RnnS2STokenizer(
            tokenizer_object=two_vocabularies.backend_tokenizer,
            target_tokenizer_object=other_order,
            **two_vocabularies.special_tokens_map,
        )


def test_settings_reach_both_sides_whenever_they_change(two_vocabularies: RnnS2STokenizer) -> None:
    texts = {"text": "the dog runs home", "text_target": "der Hund läuft nach Hause"}
    two_vocabularies.model_max_length = 3
    encoded = two_vocabularies(**texts, truncation=True)
    assert (len(encoded["input_ids"]), len(encoded["labels"])) == (3, 3)
    two_vocabularies.padding_side = "left"
    padded = two_vocabularies(["a", "a a"], text_target=["b", "b b b"], padding=True)
    assert padded["input_ids"][0][0] == padded["labels"][0][0] == two_vocabularies.pad_token_id
    two_vocabularies.split_special_tokens = True
    assert two_vocabularies.target_tokenizer.split_special_tokens
    two_vocabularies.target_tokenizer.padding_side = "right"  # one side by itself stays possible
    assert two_vocabularies.padding_side == "left"


def test_a_folder_without_any_tokenizer_is_named(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    tiny_model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"found no tokenizer: the folder has neither .*tokenizer.save_pretrained"):
        AutoTokenizer.from_pretrained(tmp_path)


def test_training_anew_names_the_function_for_it(two_vocabularies: RnnS2STokenizer) -> None:
    with pytest.raises(TypeError, match="train_tokenizer.*target_texts"):
        two_vocabularies.train_new_from_iterator([["a"]], vocab_size=300)
