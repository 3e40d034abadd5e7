"""Attention by layer and head: from a translation and from a given one, against the model's own cross-attentions."""

from typing import Any

import pytest
import torch
from transformers import MarianMTModel, PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, RnnTranslationPipeline, train_tokenizer

HEADS = {"hidden_size": 16, "embedding_size": 16, "num_attention_heads": 4, "initializer_range": 1.0}
WORDS = ["the dog sees one cat", "a cat and two dogs", "dogs"]


@pytest.fixture
def words() -> Any:
    """A tokenizer that reads what it wrote as the same tokens again."""
    return train_tokenizer(WORDS, 30, kind="word")


def build(tokenizer: Any, **values: Any) -> RnnTranslationPipeline:
    torch.manual_seed(0)
    config = RnnS2SConfig(vocab_size=len(tokenizer), **{**HEADS, **values})
    model = RnnS2SForConditionalGeneration(config).double()
    return RnnTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")


def expected(translator: RnnTranslationPipeline, text: str, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The model's own weights `(heads, target, source)`, where it reads these ids after the start token."""
    batch = translator.tokenizer(text, return_tensors="pt")
    read = torch.cat([torch.tensor([translator.model.config.decoder_start_token_id]), ids[:-1]])
    sources = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        outputs = translator.model.eval()(**sources, decoder_input_ids=read[None], output_attentions=True)
    return tuple(layer[0] for layer in outputs.cross_attentions)


def require_equal(found: tuple[torch.Tensor, ...], wanted: tuple[torch.Tensor, ...], tolerance: float = 1e-12) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("search", [{}, {"num_beams": 3, "num_return_sequences": 2}], ids=str)
@pytest.mark.parametrize("values", [{}, {"input_feeding": True}, {"num_attention_heads": 1}], ids=str)
def test_heads_of_translations_are_those_of_the_model(
    tiny_tokenizer: PreTrainedTokenizerFast, values: dict[str, Any], search: dict[str, Any], padding_side: str
) -> None:
    tiny_tokenizer.padding_side = padding_side
    translator = build(tiny_tokenizer, **values)
    texts = ["the dog", "", "one red cat sleeps on the big mat"]
    options: dict[str, Any] = {"return_tensors": True, "max_new_tokens": 7, **search}
    answers = translator(texts, batch_size=3, return_attentions="heads", **options)
    for text, answer in zip(texts, answers, strict=True):
        for record in answer if isinstance(answer, list) else [answer]:
            [layer] = record["cross_attentions"]
            heads = translator.model.config.num_attention_heads
            assert layer.shape == (heads, len(record["target_tokens"]), len(record["source_tokens"]))
            if not text:
                assert layer.shape[1] == 0
                continue
            require_equal((layer,), expected(translator, text, record["translation_token_ids"][1:]))
            torch.testing.assert_close(layer.sum(-1), torch.ones_like(layer[..., 0]))
            torch.testing.assert_close(layer.mean(0).float(), record["attention"], rtol=0, atol=1e-6)
    assert "cross_attentions" not in translator("the dog", return_attentions=True, **options)[0]
    assert len(translator("", return_attentions="heads", **options)[0]["cross_attentions"]) == 1


def test_a_pipeline_that_shows_heads_by_default_shows_them_beside_other_wishes(words: Any) -> None:
    translator = build(words)
    built = RnnTranslationPipeline(model=translator.model, tokenizer=words, device="cpu", return_attentions="heads")
    [plain] = built("the dog", max_new_tokens=4)
    [other] = built("the dog", max_new_tokens=4, replace_unknown=True, num_beams=2)
    assert list(plain) == ["translation_text", "source_tokens", "target_tokens", "attention", "cross_attentions"]
    assert list(other) == list(plain)
    assert "attention" not in built("the dog", max_new_tokens=4, return_attentions=False)[0]
    with pytest.raises(ValueError, match="return_attentions='head': give True, False, or \"heads\""):
        built("the dog", return_attentions="head")


def test_a_prompt_has_no_rows(words: Any) -> None:
    translator = build(words)
    prompt = torch.tensor([[1, 5, 6]])
    options: dict[str, Any] = {"decoder_input_ids": prompt, "max_new_tokens": 4, "return_tensors": True}
    [record] = translator("the dog", return_attentions="heads", **options)
    ids = record["translation_token_ids"]
    [wanted] = expected(translator, "the dog", ids[1:])
    require_equal(record["cross_attentions"], (wanted[:, 2:],))
    assert record["cross_attentions"][0].shape[1] == len(record["target_tokens"]) == len(ids) - 3


def test_given_translations_have_the_weights_of_the_model(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    translator = build(tiny_tokenizer)
    sources, targets = ["a small dog", "the cat sleeps here", "big"], ["ein Hund", "die", "groß und rund"]
    alone = [translator.attention([source], [target])[0] for source, target in zip(sources, targets, strict=True)]
    records = translator.attention(sources, targets, batch_size=3)
    for source, target, record, one in zip(sources, targets, records, alone, strict=True):
        labels = tiny_tokenizer(text_target=target)["input_ids"]
        assert record["source_tokens"] == tiny_tokenizer(source).tokens()
        assert record["target_tokens"] == tiny_tokenizer.convert_ids_to_tokens(labels)
        require_equal(record["cross_attentions"], expected(translator, source, torch.tensor(labels)))
        require_equal(record["cross_attentions"], one["cross_attentions"])
        torch.testing.assert_close(record["attention"], record["cross_attentions"][-1].mean(0))
    assert translator.attention([], []) == translator.score([], []) == []


def test_reading_what_was_written_gives_the_weights_of_the_writing(words: Any) -> None:
    translator = build(words)
    settings: dict[str, Any] = {"suppress_tokens": [0, 1, 3], "forced_eos_token_id": 2, "max_new_tokens": 6}
    for search in ({}, {"num_beams": 3}):
        written = translator(WORDS, return_attentions="heads", return_text=True, **settings, **search)
        read = translator.attention(WORDS, [record["translation_text"] for record in written])
        for one, other in zip(written, read, strict=True):
            assert one["target_tokens"] == other["target_tokens"]
            assert one["source_tokens"] == other["source_tokens"]
            require_equal(one["cross_attentions"], other["cross_attentions"])
            torch.testing.assert_close(one["attention"].double(), other["attention"], rtol=0, atol=1e-6)


def test_every_layer_of_a_transformer_is_there(
    tiny_marian: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    translator = RnnTranslationPipeline(model=tiny_marian.double(), tokenizer=tiny_tokenizer, device="cpu")
    [record] = translator("the dog", return_attentions="heads", return_tensors=True, max_new_tokens=5)
    assert len(record["cross_attentions"]) == 2
    require_equal(record["cross_attentions"], expected(translator, "the dog", record["translation_token_ids"][1:]))
    [read] = translator.attention(["the dog"], ["ein Hund"])
    labels = torch.tensor(tiny_tokenizer(text_target="ein Hund")["input_ids"])
    require_equal(read["cross_attentions"], expected(translator, "the dog", labels))
    tiny_marian.set_attn_implementation("sdpa")
    with pytest.raises(ValueError, match='no cross-attentions.*attn_implementation="eager"'):
        translator.attention(["the dog"], ["ein Hund"])


def test_two_vocabularies_and_bfloat16(tiny_texts: list[str]) -> None:
    tokenizer: Any = train_tokenizer(tiny_texts[:3], 300, target_texts=tiny_texts[3:], target_vocab_size=280)
    translator = build(tokenizer, decoder_vocab_size=len(tokenizer.target_tokenizer))
    translator.model.bfloat16()
    [record] = translator.attention(["the dog"], ["ein Hund"])
    labels = tokenizer.target_tokenizer("ein Hund")["input_ids"]
    assert record["target_tokens"] == tokenizer.target_tokenizer.convert_ids_to_tokens(labels)
    assert record["cross_attentions"][0].dtype == record["attention"].dtype == torch.float32


def test_what_cannot_be_shown_is_refused(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    translator = build(tiny_tokenizer)
    with pytest.raises(ValueError, match="attention takes a list of sources and a list of as many targets"):
        translator.attention(["a"], [])
    with pytest.raises(TypeError, match="text 1 is of type NoneType"):
        translator.attention(["a"], [None])  # type: ignore[list-item]
    without = build(tiny_tokenizer, attention_type="none", num_attention_heads=1)
    for ask in (lambda: without.attention(["a"], ["b"]), lambda: without("a", return_attentions="heads")):
        with pytest.raises(ValueError, match="attention_type='none'"):
            ask()
