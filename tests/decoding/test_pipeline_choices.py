"""What the pipeline adds to translations: their scores, the choice among them, and words in place of unknown ones."""

from typing import Any

import pytest
import torch
from sacrebleu.metrics import CHRF
from transformers import PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, RnnTranslationPipeline, train_tokenizer
from hf_rnn_s2s.decoding.bayes_risk import least_risk

TEXTS = ["a small dog", "the cat sleeps here", "", "big"]


@pytest.fixture
def translator(
    tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast
) -> RnnTranslationPipeline:
    return RnnTranslationPipeline(model=tiny_model, tokenizer=tiny_tokenizer, device="cpu")


def test_scores_of_translations_are_those_of_the_model(translator: RnnTranslationPipeline) -> None:
    arguments: dict[str, Any] = {
        "num_beams": 3,
        "num_return_sequences": 2,
        "max_new_tokens": 6,
        "return_tensors": True,
    }
    answers = translator(TEXTS, return_scores=True, return_text=True, **arguments)
    for text, records in zip(TEXTS, answers, strict=True):
        for record in records:
            if not text:
                assert record["translation_score"] == 0
                continue
            ids = record["translation_token_ids"]
            batch = translator.tokenizer([text], return_tensors="pt")
            with torch.no_grad():
                logits = translator.model(batch["input_ids"], decoder_input_ids=ids[None, :-1]).logits[0]
            expected = logits.log_softmax(-1).gather(1, ids[1:, None]).sum().item()
            assert record["translation_score"] == pytest.approx(expected, abs=1e-4)
    assert "translation_score" not in translator("a dog", max_new_tokens=3)[0]


def test_given_translations_are_scored(translator: RnnTranslationPipeline) -> None:
    sources, targets = ["a small dog", "the cat sleeps here", "big"], ["ein Hund", "die", "gro\u00df und rund"]
    records = translator.score(sources, targets, batch_size=2)
    for source, target, record in zip(sources, targets, records, strict=True):
        batch = translator.tokenizer([source], text_target=[target], return_tensors="pt")
        with torch.no_grad():
            loss = translator.model(batch["input_ids"], labels=batch["labels"]).loss.item()
        assert record["score"] == pytest.approx(-loss * batch["labels"].shape[1], abs=1e-3)
        assert record["score"] == pytest.approx(sum(record["token_scores"]))
        assert len(record["tokens"]) == len(record["token_scores"]) == batch["labels"].shape[1]
    with pytest.raises(ValueError, match="score takes a list of sources and a list of as many targets"):
        translator.score(sources, targets[:2])
    with pytest.raises(ValueError, match="score takes a list"):
        translator.score("a", "b")  # type: ignore[arg-type]


def test_the_text_that_agrees_most_is_chosen(translator: RnnTranslationPipeline) -> None:
    texts = ["the cat sat on the mat", "a cat sat on the mat", "the cat sat on a mat today", "dogs"]
    metric = CHRF()
    means = [
        sum(metric.sentence_score(text, [other]).score for place, other in enumerate(texts) if place != number) / 3
        for number, text in enumerate(texts)
    ]
    assert least_risk(texts) == means.index(max(means)) != 3
    assert least_risk(["x y", "a b", "a b"]) == 1
    arguments: dict[str, Any] = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 6}
    every = translator(TEXTS, **arguments)
    chosen = translator(TEXTS, minimum_bayes_risk=True, **arguments)
    for records, one in zip(every, chosen, strict=True):
        candidates = [record["translation_text"] for record in records]
        assert one["translation_text"] == candidates[least_risk(candidates)]
    with pytest.raises(ValueError, match="minimum_bayes_risk chooses among several results: set num_return_sequences"):
        translator(TEXTS, minimum_bayes_risk=True)


def test_words_of_the_source_take_the_place_of_unknown_ones() -> None:
    """The word that is looked at most, and among padded texts the same as alone."""
    tokenizer: Any = train_tokenizer(["the dog sees the cat"], 8, kind="word")
    torch.manual_seed(5)
    config = RnnS2SConfig(vocab_size=len(tokenizer), hidden_size=12, embedding_size=12, initializer_range=1.0)
    model = RnnS2SForConditionalGeneration(config).eval()
    with torch.no_grad():
        model.lm_head.bias[3] += 3  # unknown words are frequent then
        model.lm_head.bias[2] -= 3
    translator = RnnTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")
    texts = ["the Yak sees Zebra", "Gnu the", "a dog named Rex sees"]
    arguments: dict[str, Any] = {"max_new_tokens": 5, "num_beams": 2}
    shown = translator(texts, return_attentions=True, **arguments)
    written = translator(texts, replace_unknown=True, **arguments)
    assert any("<unk>" in one["target_tokens"] for one in shown)
    for text, before, after in zip(texts, shown, written, strict=True):
        words, expected = [*text.split(), ""], []
        for token, weights in zip(before["target_tokens"], before["attention"], strict=True):
            if token == "<unk>":
                expected.append(words[int(weights[:-1].argmax())])  # not the end token, which is no word
            elif token not in ("</s>", "<s>", "<pad>"):
                expected.append(token)
        assert after["translation_text"].split() == expected
        assert "attention" not in after
    assert written[1] == translator(texts[1], replace_unknown=True, **arguments)[0]
    plain = RnnS2SForConditionalGeneration(RnnS2SConfig(vocab_size=len(tokenizer), attention_type="none"))
    with pytest.raises(ValueError, match="replace_unknown=True goes by the attention, but attention_type='none'"):
        RnnTranslationPipeline(model=plain, tokenizer=tokenizer)("a", replace_unknown=True)


def test_warnings_in_place_of_the_log(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They name what is left out, and do not change what is written."""
    tiny_tokenizer.model_max_length = 10
    translator = RnnTranslationPipeline(model=tiny_model, tokenizer=tiny_tokenizer)
    texts = ["a dog", "the big cat sleeps on a red mat", ""]
    expected = translator(texts, max_new_tokens=5)
    assert len(caplog.records) == 1
    caplog.clear()
    told = translator(texts, max_new_tokens=5, return_warnings=True)
    scored = translator.score(texts, texts, return_warnings=True)
    ids = tiny_tokenizer(texts[1], verbose=False)["input_ids"]
    warnings = [one.pop("warnings") for one in told]
    assert warnings == [one["warnings"] for one in scored]
    assert warnings[0] == warnings[2] == []
    [warning] = warnings[1]
    assert f"a text of {len(ids)} tokens is cut to 10, the model_max_length" in warning
    rest = texts[1].removeprefix(tiny_tokenizer.decode(ids[:9])).strip()
    assert rest.startswith(warning.split("What is left out begins with ")[1].strip("'."))
    assert told == expected
    assert caplog.records == []
