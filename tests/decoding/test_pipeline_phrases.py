"""Texts that the translations of the pipeline must or must not contain."""

import re
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GenerationConfig, MarianMTModel, PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, RnnTranslationPipeline, train_tokenizer
from hf_rnn_s2s.decoding.phrase_texts import TokenTexts, _byte_of_character

INPUTS = ["a small dog runs fast", "", "one two", "the big cat sleeps on a red mat", "   ", "dog"]
TEXTS = [
    "a small dog runs fast, and dogs run",
    "the big cat sleeps on a red mat in 2024",
    "ein kleiner Hund läuft schnell, Hunde laufen",
    "die große Katze schläft auf einer roten Matte",
    "我们在三点见面",
]


def make_translator(kind: Any = "bpe", seed: int = 0, **sizes: Any) -> RnnTranslationPipeline:
    tokenizer = train_tokenizer(TEXTS, vocab_size=400, kind=kind)
    torch.manual_seed(seed)
    config = RnnS2SConfig(
        vocab_size=len(tokenizer), embedding_size=16, hidden_size=16, **{"initializer_range": 1.0, **sizes}
    )
    model = RnnS2SForConditionalGeneration(config).eval()
    with torch.no_grad():
        model.lm_head.bias[4:260] -= 30 if kind != "word" else 0  # few bytes, or most texts were no Unicode
        model.lm_head.bias[260:272] -= 30 if kind != "word" else 0
    return RnnTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")


LETTER = "[^\\W\u4e00-\u9fff]"  # or digit; Chinese ones have no spaces in between


def has_words(text: str, words: str) -> bool:
    before = f"(?<!{LETTER})" if re.match(LETTER, words) else ""
    behind = f"(?!{LETTER})" if re.search(f"{LETTER}$", words) else ""
    return re.search(before + re.escape(words) + behind, text) is not None


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_whole_words_are_forced_in_every_translation(kind: str) -> None:
    for seed in range(4):
        translator = make_translator(kind, seed)
        words = ["roten", "dog", "2024", "läuft schnell,"]
        found = translator(INPUTS, force_phrases=words, num_beams=6, num_return_sequences=2, max_new_tokens=30)
        for text, records in zip(INPUTS, found, strict=True):
            for record in records:
                written = record["translation_text"]
                assert all(has_words(written, one) for one in words) == bool(text.strip()), written
        # With no room for anything else, they stand at the beginning.
        for one in words:
            tokens = len(TokenTexts(translator.tokenizer).forced(one).ids)
            tight = translator("cat", force_phrases=[one], num_beams=4, max_new_tokens=tokens + 1)
            assert has_words(tight[0]["translation_text"], one)


def test_scripts_without_spaces_are_forced_as_they_are() -> None:
    translator = make_translator()
    found = translator(INPUTS[0], force_phrases=["三点"], num_beams=4, max_new_tokens=14)
    assert "三点" in found[0]["translation_text"]


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_what_is_forbidden_is_not_spelled_in_other_tokens(kind: str, num_beams: int) -> None:
    for seed in range(3):
        translator = make_translator(kind, seed)
        arguments: dict[str, Any] = {"num_beams": num_beams, "max_new_tokens": 20}
        plain = [one["translation_text"] for one in translator(INPUTS, **arguments)]
        letters = sorted({word for text in plain for word in re.findall(r"\w+|[^\w\s]", text)})
        assert letters
        found = [one["translation_text"] for one in translator(INPUTS, forbid_phrases=letters[::2], **arguments)]
        assert found != plain
        for text in found:
            assert not any(has_words(text, one) for one in letters[::2]), (text, letters[::2])


def test_each_input_has_phrases_of_its_own() -> None:
    translator = make_translator()
    forced = [["roten"], ["dog"], [], ["Katze", "mat"], [], ["2024"]]
    forbidden = [[], [], ["a", "e"], ["dog"], [], ["s"]]
    arguments: dict[str, Any] = {"num_beams": 5, "max_new_tokens": 16}
    for batch_size in (1, 2, 32):
        found = translator(INPUTS, force_phrases=forced, forbid_phrases=forbidden, batch_size=batch_size, **arguments)
        for text, words, others, record in zip(INPUTS, forced, forbidden, found, strict=True):
            written = record["translation_text"]
            assert all(has_words(written, one) for one in words) == bool(text.strip() or not words)
            assert not any(has_words(written, one) for one in others)
            assert translator(text, force_phrases=words, forbid_phrases=others, **arguments) == [record]


def test_a_stream_and_a_pipeline_with_phrases_of_its_own() -> None:
    translator = make_translator()
    arguments: dict[str, Any] = {"force_phrases": ["roten"], "num_beams": 4, "max_new_tokens": 12}
    expected = translator(INPUTS, **arguments)
    assert [one[0] for one in translator((text for text in INPUTS), **arguments)] == expected
    built = RnnTranslationPipeline(model=translator.model, tokenizer=translator.tokenizer, device="cpu", **arguments)
    assert built(INPUTS) == expected
    assert built(INPUTS, force_phrases=[]) == translator(INPUTS, num_beams=4, max_new_tokens=12) != expected


def test_phrases_of_separate_vocabularies_are_those_of_the_target() -> None:
    tokenizer = train_tokenizer(TEXTS[:2], 330, target_texts=TEXTS[2:4], target_vocab_size=340)
    size = len(tokenizer.target_tokenizer)
    torch.manual_seed(0)
    config = RnnS2SConfig(vocab_size=len(tokenizer), decoder_vocab_size=size, hidden_size=16, embedding_size=16)
    model = RnnS2SForConditionalGeneration(config).eval()
    translator = RnnTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")
    found = translator(INPUTS[0], force_phrases=["Hunde"], num_beams=4, max_new_tokens=12)
    assert has_words(found[0]["translation_text"], "Hunde")


def test_a_vocabulary_of_words() -> None:
    translator = make_translator("word")
    arguments: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 6}
    plain = translator(INPUTS[0], **arguments)[0]["translation_text"].split()
    found = translator(INPUTS[0], force_phrases=["roten Matte"], forbid_phrases=plain[:1], **arguments)
    assert has_words(found[0]["translation_text"], "roten Matte")
    assert plain[0] not in found[0]["translation_text"].split()
    with pytest.raises(ValueError, match="force_phrases: the tokenizer has no tokens for 'Zebra'. Choose other words"):
        translator(INPUTS[0], force_phrases=["Zebra"], **arguments)
    with pytest.raises(ValueError, match="forbid_phrases: the tokenizer has no tokens for 'Zebra'"):
        translator(INPUTS[0], forbid_phrases=["Zebra"], **arguments)


def test_diverse_translations() -> None:
    translator = make_translator()
    groups: dict[str, Any] = {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 50.0}
    (records,) = translator([INPUTS[0]], num_return_sequences=3, max_new_tokens=6, **groups)
    assert len({record["translation_text"] for record in records}) == 3
    (chosen,) = translator([INPUTS[0]], num_return_sequences=3, max_new_tokens=6, minimum_bayes_risk=True, **groups)
    assert chosen in records


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"force_phrases": "dog"}, "force_phrases is a str; it must be a list of texts, or one for each input"),
        ({"force_phrases": ["dog", 5]}, "force_phrases: phrase 1 of row 0 is of type int"),
        ({"force_phrases": [["dog"], "cat"]}, "force_phrases: phrase 0 of row 0 is of type list"),
        ({"forbid_phrases": ["dog", "  "]}, "forbid_phrases: phrase 1 of row 0 is blank; leave it out"),
        ({"force_phrases": [["dog"]] * 2}, "force_phrases has lists of phrases for 2 rows, but the source has 6"),
        ({"force_phrases": ["dog"], "num_beams": 1}, "force_phrases takes beam search"),
        (
            {"force_phrases": [[], [], [], [], [], ["dog", "the big cat"]], "max_new_tokens": 4},
            "force_phrases: the phrases .* of row 5 and an end token have .* tokens, but at most 4 may be written",
        ),
        (
            {"force_phrases": ["a red mat"], "forbid_phrases": ["red"]},
            "force_phrases and forbid_phrases contradict each other in row 0: .* contains 'red'",
        ),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_before_anything_is_translated(
    arguments: dict[str, Any], message: str, rows_per_step: list[int]
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make_translator()(INPUTS, batch_size=1, **{"num_beams": 3, **arguments})
    assert not rows_per_step


def test_who_cannot_do_it_says_so(tiny_marian: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    translator = RnnTranslationPipeline(model=tiny_marian, tokenizer=tiny_tokenizer, device="cpu")
    with pytest.raises(ValueError, match="force_phrases needs a model of this package and a fast tokenizer"):
        translator(INPUTS, force_phrases=["dog"], num_beams=3)
    with pytest.raises(ValueError, match="force_phrases with a list for each input needs a list of inputs"):
        make_translator()((text for text in INPUTS), force_phrases=[["dog"]], num_beams=3)


def byte_level() -> PreTrainedTokenizerFast:
    """A tokenizer each of whose characters stands for a byte, as those of GPT-2 and its kin."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=special)
    backend.train_from_iterator(TEXTS, trainer)
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


@pytest.mark.parametrize("word", ["Straße", "grün", "dog", "三点"])
def test_words_of_bytes_are_forbidden_in_every_spelling(word: str) -> None:
    tokenizer: Any = byte_level()
    forbidden = TokenTexts(tokenizer).forbidden(word)
    table = {byte: character for character, byte in _byte_of_character().items()}
    single = tokenizer.convert_tokens_to_ids([table[byte] for byte in f" {word}".encode()])
    for ids in (tokenizer(f" {word}")["input_ids"], tokenizer(word)["input_ids"], single):
        assert tokenizer.decode(ids).strip() == word
        assert ids[-1] in set(forbidden.banned(ids[:-1]))
        assert single[0] not in set(forbidden.banned(ids[:-1]))  # a space


def test_what_is_forbidden_is_what_the_tokenizer_makes_of_it() -> None:
    tokenizer: Any = train_tokenizer([text.lower() for text in TEXTS], vocab_size=400)
    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), backend.normalizer])
    forbidden = TokenTexts(tokenizer).forbidden("Hund")
    ids = tokenizer("ein hund", add_special_tokens=False)["input_ids"]
    assert ids[-1] in set(forbidden.banned(ids[:-1]))


def test_more_tokens_than_the_model_has_room_for() -> None:
    translator = make_translator()
    plain = translator(INPUTS, num_beams=4, max_new_tokens=8)
    translator.tokenizer.add_tokens(["doghouse", " dog dog"])
    assert translator(INPUTS, num_beams=4, max_new_tokens=8) == plain
    for length in range(4, 9):
        found = translator(INPUTS[0], num_beams=4, max_new_tokens=length, force_phrases=["dog"])
        assert has_words(found[0]["translation_text"], "dog")
        found = translator(INPUTS[0], num_beams=4, max_new_tokens=length, forbid_phrases=["dog"])
        assert not has_words(found[0]["translation_text"], "dog")


def test_an_unknown_word_is_a_word_of_its_own() -> None:
    """In a vocabulary of words: behind a forced one it does not go on with it, and it stands between others."""
    translator = make_translator("word", copy_slots=0)
    texts = TokenTexts(translator.tokenizer)
    dog, cat = (texts.forced(one).ids[0] for one in ("dog", "cat"))
    unknown, copied = translator.tokenizer.unk_token_id, len(translator.tokenizer)
    assert not texts.forced("dog").goes_on
    forbidden = texts.forbidden("dog cat")
    assert cat in set(forbidden.banned([dog]))
    for other in (unknown, copied):
        assert cat not in set(forbidden.banned([dog, other]))


def test_phrases_may_stand_in_a_generation_config() -> None:
    model: Any = make_translator().model
    ids = torch.tensor([[5, 6, 2]])
    for settings in ({"force_phrases": [[40, 41]]}, {"gnmt_length_penalty": 0.7, "coverage_penalty": 0.3}):
        expected = model.generate(ids, num_beams=4, max_new_tokens=8, **settings)
        config = GenerationConfig(num_beams=4, max_new_tokens=8, **settings)
        assert torch.equal(model.generate(ids, generation_config=config), expected)
    config.num_beams = 1  # as length_penalty, penalties of beam search mean nothing then
    assert torch.equal(model.generate(ids, generation_config=config), model.generate(ids, max_new_tokens=8))
