"""How the pipeline puts the texts of a list or of a stream into batches."""

import logging
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast
from transformers.pipelines.pt_utils import KeyDataset

from hf_rnn_s2s import RnnS2SForConditionalGeneration, RnnTranslationPipeline
from hf_rnn_s2s.decoding.reading import DEFAULT_BATCH_TOKENS

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


def padded_tokens(batch: list[int]) -> int:
    return len(batch) * max(batch)


def test_a_long_text_does_not_pad_its_neighbours(translator: RnnTranslationPipeline, batches: list[list[int]]) -> None:
    """As much is computed for 31 texts beside a long one as for both by themselves."""
    texts = [f"the dog number {number}" for number in range(31)]
    long = "one red cat sleeps on the big mat " * 300
    alone = translator(texts) + translator([long])
    needed = sum(map(padded_tokens, batches))
    batches.clear()
    assert translator([*texts, long]) == alone
    assert sum(map(padded_tokens, batches)) == needed
    assert [len(batch) for batch in batches] == [1, 31]
    assert batches[0][0] > DEFAULT_BATCH_TOKENS  # and is translated all the same


@pytest.mark.parametrize("as_stream", [False, True])
def test_batches_are_bounded_by_tokens(
    translator: RnnTranslationPipeline, batches: list[list[int]], as_stream: bool
) -> None:
    texts = [f"a {'small ' * (number % 7)}dog" for number in range(40)]
    expected = [record["translation_text"] for record in translator(texts, batch_size=1)]
    longest = max(max(batch) for batch in batches)
    for limit in (1, longest, 40, 100):
        batches.clear()
        options = {"batch_size": 16, "batch_tokens": limit}
        if as_stream:
            found = [records[0] for records in translator((text for text in texts), **options)]
        else:
            found = translator(texts, **options)
        assert [record["translation_text"] for record in found] == expected
        assert all(padded_tokens(batch) <= max(limit, batch[0]) and len(batch) <= 16 for batch in batches)
        assert sum(padded_tokens(batch) - sum(batch) for batch in batches) <= len(batches) * limit / 4
        assert (max(map(len, batches)) == 1) == (limit == 1)


def test_the_bound_is_that_of_the_pipeline_or_of_the_call(
    translator: RnnTranslationPipeline, batches: list[list[int]], tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    one_each = RnnTranslationPipeline(
        model=translator.model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=6, batch_tokens=1
    )
    one_each(TEXTS[:3])
    one_each(TEXTS[:3], batch_tokens=1000)
    one_each("the dog")
    assert [len(batch) for batch in batches] == [1, 1, 1, 3, 1]


def test_functions_that_may_count_rows_get_batches_of_the_size_they_know(
    translator: RnnTranslationPipeline, batches: list[list[int]]
) -> None:
    def allowed(row: int, target: torch.Tensor) -> list[int]:
        return [20 + row]

    texts = ["one red cat " * 60, "two", "three"]
    records = translator(texts, batch_size=3, batch_tokens=8, return_tensors=True, prefix_allowed_tokens_fn=allowed)
    assert [record["translation_token_ids"][1].item() for record in records] == [20, 21, 22]


@pytest.mark.parametrize("as_stream", [False, True])
def test_texts_that_are_too_long_are_named_and_the_others_go_on(
    translator: RnnTranslationPipeline, caplog: pytest.LogCaptureFixture, as_stream: bool
) -> None:
    texts = ["the dog", "one two three four five six seven", "", "two", "the big cat sleeps on a red mat"]
    expected = translator(texts)
    translator.tokenizer.model_max_length = 12
    options: dict[str, Any] = {"batch_size": 2}
    with caplog.at_level(logging.WARNING):
        found = list(translator((text for text in texts) if as_stream else texts, **options))
    warnings = [record.getMessage() for record in caplog.records]
    assert [warning.split(":")[0] for warning in warnings] == ["Input 1", "Input 4"]
    assert all("cut to 12" in warning and "Split long texts" in warning for warning in warnings)
    short = [0, 2, 3]
    assert [found[row][0] if as_stream else found[row] for row in short] == [expected[row] for row in short]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_dataset_is_read_in_batches(
    translator: RnnTranslationPipeline, batches: list[list[int]], num_workers: int
) -> None:
    dataset = KeyDataset(Dataset.from_dict({"text": TEXTS}), "text")
    expected = [[record] for record in translator(TEXTS, batch_size=1)]
    batches.clear()
    results = translator(dataset, batch_size=4, num_workers=num_workers)
    assert len(results) == len(TEXTS)
    assert list(results) == expected
    assert [len(batch) for batch in batches] == [3, 2]  # without the blank one
    assert list(results) == expected  # once more from the start


def test_a_stream_names_what_is_not_text_by_its_number(translator: RnnTranslationPipeline) -> None:
    stream = iter(translator(text for text in ["one", "two", 3]))
    assert [next(stream), next(stream)] == [translator("one"), translator("two")]
    with pytest.raises(TypeError, match="input 2 is of type int"):
        next(stream)
