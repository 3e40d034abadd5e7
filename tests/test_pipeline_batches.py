"""How the pipeline puts the texts of a list into batches."""

from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SForConditionalGeneration, RnnTranslationPipeline

TEXTS = ["the dog", "one red cat sleeps on the big mat", "a small dog", "", "seven", "the big cat sleeps on a red mat"]


@pytest.fixture
def translator(
    tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast
) -> RnnTranslationPipeline:
    return RnnTranslationPipeline(model=tiny_model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=6)


@pytest.fixture
def batches(translator: RnnTranslationPipeline, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The number of tokens in each row of each batch that the model is given."""
    seen: list[list[int]] = []
    generate = translator.model.generate

    def remember(**kwargs: Any) -> Any:
        seen.append(kwargs["attention_mask"].sum(1).tolist())
        return generate(**kwargs)

    monkeypatch.setattr(translator.model, "generate", remember)
    return seen


def test_like_lengths_share_a_batch_and_results_are_in_order(
    translator: RnnTranslationPipeline, batches: list[list[int]]
) -> None:
    one_by_one = [translator(text)[0] for text in TEXTS]
    batches.clear()
    assert translator(TEXTS, batch_size=2) == one_by_one
    lengths = [length for batch in batches for length in batch]
    assert lengths == sorted(lengths, reverse=True)
    assert [len(batch) for batch in batches] == [2, 2, 1]  # and of the last two texts one is blank


def test_a_prompt_has_a_row_for_each_text_of_a_batch(translator: RnnTranslationPipeline) -> None:
    """So the texts of a batch stay in order, and without a word about its size it is one text."""
    texts = [TEXTS[0], TEXTS[2]]
    prompts = torch.tensor([[1, 10], [1, 20]])
    records = translator(texts, batch_size=2, decoder_input_ids=prompts, return_tensors=True)
    assert [record["translation_token_ids"][:2].tolist() for record in records] == prompts.tolist()
    records = translator(texts, decoder_input_ids=prompts[:1], return_tensors=True)
    assert [record["translation_token_ids"][:2].tolist() for record in records] == [[1, 10], [1, 10]]


def test_without_a_batch_size_a_list_has_batches_all_the_same(
    translator: RnnTranslationPipeline, batches: list[list[int]]
) -> None:
    translator(TEXTS[:3] * 20)
    assert [len(batch) for batch in batches] == [32, 28]
    batches.clear()
    translator(TEXTS[:3], batch_size=1)
    translator(text for text in TEXTS[:3])  # a stream waits for nothing unless it is told to
    assert [len(batch) for batch in batches] == [1] * 3
    for _ in translator(text for text in TEXTS[:3]):
        pass
    assert [len(batch) for batch in batches] == [1] * 6


def test_the_batch_size_of_the_pipeline_itself(
    translator: RnnTranslationPipeline, batches: list[list[int]], tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    own = RnnTranslationPipeline(
        model=translator.model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=6, batch_size=2
    )
    own(TEXTS[:3])
    assert [len(batch) for batch in batches] == [2, 1]


def test_no_batches_without_an_id_for_padding(translator: RnnTranslationPipeline, batches: list[list[int]]) -> None:
    translator.tokenizer.pad_token = None
    translator(TEXTS[:3])
    assert [len(batch) for batch in batches] == [1] * 3


def test_functions_that_may_count_rows_get_them_in_order(
    translator: RnnTranslationPipeline, batches: list[list[int]]
) -> None:
    texts = [TEXTS[number] for number in (0, 1, 2)]

    def allowed(row: int, target: torch.Tensor) -> list[int]:
        return [20 + row]

    records = translator(texts, batch_size=3, return_tensors=True, prefix_allowed_tokens_fn=allowed)
    assert [record["translation_token_ids"][1].item() for record in records] == [20, 21, 22]
    assert batches[0] == [len(translator.tokenizer(text)["input_ids"]) for text in texts]


def test_all_texts_are_encoded_in_one_call(
    translator: RnnTranslationPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    encode = type(translator.tokenizer).__call__

    def count(self: Any, text: Any, **kwargs: Any) -> Any:
        calls.append(text)
        return encode(self, text, **kwargs)

    monkeypatch.setattr(type(translator.tokenizer), "__call__", count)
    translator(TEXTS, batch_size=2)
    assert calls == [TEXTS]
