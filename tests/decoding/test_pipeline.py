"""The translation pipeline against plain `generate()`, and its attention against a plain forward pass."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import (
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LogitsProcessorList,
    MarianMTModel,
    PreTrainedTokenizerFast,
    StoppingCriteriaList,
    pipelines,
)
from transformers.generation.utils import GenerateEncoderDecoderOutput
from transformers.pipelines.pt_utils import KeyDataset

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, RnnTranslationPipeline, train_tokenizer
from hf_rnn_s2s.model.pipeline_rnn_s2s import DEFAULT_MAX_NEW_TOKENS

pipeline: Any = pipelines.pipeline  # its type hints know the tasks of transformers only
TEXTS = ["the dog runs", "", "one red cat sleeps on the big mat", "  \t", "我们见面"]
BLANK = [1, 3]


@pytest.fixture
def translator(
    tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast
) -> RnnTranslationPipeline:
    return RnnTranslationPipeline(
        model=tiny_model, tokenizer=tiny_tokenizer, task="translation", device="cpu", max_new_tokens=9
    )


def generate_one(translator: RnnTranslationPipeline, text: str, **kwargs: Any) -> list[str]:
    """The translations of one text the long way round."""
    encoded = translator.tokenizer(text, return_tensors="pt")
    sequences = translator.model.generate(**encoded, max_new_tokens=9, **kwargs)
    return translator.tokenizer.batch_decode(sequences, skip_special_tokens=True)


def texts_of(records: list[dict[str, Any]]) -> list[str]:
    return [record["translation_text"] for record in records]


@pytest.mark.parametrize("search", [{}, {"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}])
def test_one_text_gives_what_generate_gives(translator: RnnTranslationPipeline, search: dict[str, int]) -> None:
    result = translator(TEXTS[0], **search)
    assert [list(record) for record in result] == [["translation_text"]] * search.get("num_return_sequences", 1)
    assert texts_of(result) == generate_one(translator, TEXTS[0], **search)
    assert any(texts_of(result))


def test_a_list_gives_one_dictionary_each_or_one_list_each(translator: RnnTranslationPipeline) -> None:
    expected = ["" if number in BLANK else generate_one(translator, text)[0] for number, text in enumerate(TEXTS)]
    assert translator(TEXTS) == [{"translation_text": text} for text in expected]
    search = {"num_beams": 3, "num_return_sequences": 2}
    several = translator(TEXTS, **search)
    assert [len(sequences) for sequences in several] == [2] * len(TEXTS)
    assert texts_of(several[2]) == generate_one(translator, TEXTS[2], **search)
    assert translator([]) == []


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("search", [{}, {"num_beams": 3, "num_return_sequences": 3}])
def test_batches_change_nothing(translator: RnnTranslationPipeline, padding_side: str, search: dict[str, int]) -> None:
    alone = translator(TEXTS, return_tensors=True, return_text=True, **search)
    translator.tokenizer.padding_side = padding_side
    for batch_size in (2, 5, 64):
        together = translator(TEXTS, batch_size=batch_size, return_tensors=True, return_text=True, **search)
        assert repr(together) == repr(alone)


def test_every_kind_of_input_keeps_its_order(translator: RnnTranslationPipeline) -> None:
    expected = translator(TEXTS)
    dataset = Dataset.from_dict({"text": TEXTS})
    assert translator(tuple(TEXTS)) == expected
    assert translator(dataset["text"]) == expected
    one_each = [[record] for record in expected]
    streams: list[Any] = [(text for text in TEXTS), iter(TEXTS), map(str, TEXTS), KeyDataset(dataset, "text")]
    for stream in streams:
        assert list(translator(stream, batch_size=2)) == one_each


def test_a_generator_is_read_as_it_is_translated(translator: RnnTranslationPipeline) -> None:
    read = []

    def endless() -> Iterator[str]:
        while True:
            read.append("the dog")
            yield "the dog"

    stream = iter(translator(endless()))
    first, second = next(stream), next(stream)
    assert first == second == translator("the dog")
    assert len(read) <= 4


def test_blank_text_becomes_empty_text(translator: RnnTranslationPipeline) -> None:
    search = {"num_beams": 3, "num_return_sequences": 3}
    options = {"return_attentions": True, "return_tensors": True, "return_text": True}
    for text in ("", " ", "\n \t"):
        single = translator(text, **search, **options)
        in_a_batch = translator(["the dog", text], batch_size=2, **search, **options)[1]
        for result in (single, in_a_batch):
            assert texts_of(result) == [""] * 3
            for record in result:
                assert record["translation_token_ids"].tolist() == record["target_tokens"] == []
                assert record["attention"].shape == (0, len(record["source_tokens"]))
    assert texts_of(translator(["", " "], batch_size=2)) == ["", ""]
    assert texts_of(translator("", generation_config=GenerationConfig(num_beams=2, num_return_sequences=2))) == [
        "",
        "",
    ]


def test_blank_text_does_not_run_the_model(
    translator: RnnTranslationPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def generate(**kwargs: Any) -> None:
        raise AssertionError("the model was run")

    monkeypatch.setattr(translator.model, "generate", generate)
    assert translator("") == [{"translation_text": ""}]
    with pytest.raises(AssertionError, match="the model was run"):
        translator("the dog")


def test_what_is_returned_can_be_chosen(translator: RnnTranslationPipeline) -> None:
    [record] = translator(TEXTS[0], return_tensors=True)
    assert list(record) == ["translation_token_ids"]
    encoded = translator.tokenizer(TEXTS[0], return_tensors="pt")
    assert torch.equal(record["translation_token_ids"], translator.model.generate(**encoded, max_new_tokens=9)[0])
    [both] = translator(TEXTS[0], return_tensors=True, return_text=True)
    assert list(both) == ["translation_token_ids", "translation_text"]
    assert list(translator(TEXTS[0], return_tensors=False)[0]) == ["translation_text"]
    [attention_only] = translator(TEXTS[0], return_text=False, return_attentions=True)
    assert list(attention_only) == ["source_tokens", "target_tokens", "attention"]
    with pytest.raises(ValueError, match="return_text=False leaves nothing to return"):
        translator(TEXTS[0], return_text=False)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_clean_up_is_off_unless_asked_for(
    tiny_texts: list[str], monkeypatch: pytest.MonkeyPatch, kind: Literal["bpe", "unigram"]
) -> None:
    text = "a . b , it 's"
    tokenizer = train_tokenizer([*tiny_texts, text], vocab_size=300, kind=kind)
    config = RnnS2SConfig(vocab_size=len(tokenizer), embedding_size=16, hidden_size=16)
    translator = RnnTranslationPipeline(
        model=RnnS2SForConditionalGeneration(config), tokenizer=tokenizer, device="cpu"
    )
    written = tokenizer(text, return_tensors="pt")["input_ids"]
    monkeypatch.setattr(translator.model, "generate", lambda **_: GenerateEncoderDecoderOutput(sequences=written))
    assert texts_of(translator("the dog")) == [text]
    assert texts_of(translator("the dog", clean_up_tokenization_spaces=True)) == ["a. b, it's"]


def test_settings_of_the_call_go_over_those_of_the_pipeline_and_of_the_model(
    translator: RnnTranslationPipeline,
) -> None:
    def length(**kwargs: Any) -> int:
        return len(
            translator("the dog", return_tensors=True, suppress_tokens=[2], **kwargs)[0]["translation_token_ids"]
        )

    assert length() == 1 + 9
    assert length(max_new_tokens=4) == 1 + 4
    del translator._forward_params["max_new_tokens"]
    assert length() == 1 + 256
    translator.model.generation_config.max_new_tokens = 5
    assert length() == 1 + 5
    translator.model.generation_config.max_new_tokens = None
    translator.model.generation_config.max_length = 7
    assert length() == 7


def test_a_generation_config_is_used_and_not_changed(translator: RnnTranslationPipeline) -> None:
    del translator._forward_params["max_new_tokens"]
    config = GenerationConfig(num_beams=3, num_return_sequences=2, max_new_tokens=9)
    before = config.to_dict()
    expected = generate_one(translator, "the dog", num_beams=3, num_return_sequences=2)
    assert texts_of(translator("the dog", generation_config=config)) == expected
    assert config.to_dict() == before


def test_sampling_and_generation_arguments_reach_generate(translator: RnnTranslationPipeline) -> None:
    torch.manual_seed(3)
    sampled = translator("the dog", do_sample=True, temperature=2.0, num_return_sequences=4)
    assert len(set(texts_of(sampled))) > 1
    with pytest.raises(ValueError, match="no_such_argument"):
        translator("the dog", no_such_argument=1)


def test_a_stop_sequence_ends_the_translation(translator: RnnTranslationPipeline) -> None:
    whole = translator("the big cat", return_tensors=True)[0]["translation_token_ids"]
    third = translator.tokenizer.decode(whole[3])
    stopped = translator("the big cat", return_tensors=True, stop_sequence=third)[0]["translation_token_ids"]
    assert len(stopped) <= 4 < len(whole)
    assert torch.equal(stopped, whole[: len(stopped)])


def test_truncation_warns_with_the_lengths(
    translator: RnnTranslationPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    text = "one two three four five six seven one two three"
    length = len(translator.tokenizer(text)["input_ids"])
    whole = translator(text)
    assert not caplog.records
    translator.tokenizer.model_max_length = 6
    with caplog.at_level(logging.WARNING):
        cut = translator(text, return_attentions=True)[0]
    assert [f"of {length} tokens is cut to 6" in record.message for record in caplog.records] == [True]
    assert len(cut["source_tokens"]) == 6
    assert cut["source_tokens"][-1] == "</s>"
    caplog.clear()
    assert translator(text, truncation=False) == whole
    assert translator("two") == translator("two", truncation=False)
    assert not caplog.records


@pytest.mark.parametrize("search", [{}, {"num_beams": 4}, {"num_beams": 4, "num_return_sequences": 3}])
@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_attention_is_that_of_a_forward_pass_over_the_translation(
    translator: RnnTranslationPipeline, search: dict[str, int], use_cache: bool, padding_side: str
) -> None:
    texts = [text for text in TEXTS if text.strip()]
    translator.tokenizer.padding_side = padding_side
    options = {"return_attentions": True, "return_tensors": True, "return_text": True, "use_cache": use_cache}
    results = translator(texts, batch_size=3, **options, **search)
    plain = translator(texts, batch_size=3, use_cache=use_cache, **search)
    for text, result, without in zip(texts, results, plain, strict=True):
        records = result if isinstance(result, list) else [result]
        assert texts_of(records) == texts_of(without if isinstance(without, list) else [without])
        for record in records:
            check_attention(translator, text, record)


def check_attention(translator: RnnTranslationPipeline, text: str, record: dict[str, Any]) -> None:
    encoded = translator.tokenizer(text, return_tensors="pt")
    token_ids = record["translation_token_ids"]
    with torch.no_grad():
        outputs = translator.model(**encoded, decoder_input_ids=token_ids[None, :-1], output_attentions=True)
    expected = outputs.cross_attentions[-1][0, 0]
    assert record["source_tokens"] == encoded.tokens()
    assert record["target_tokens"] == translator.tokenizer.convert_ids_to_tokens(token_ids[1:].tolist())
    assert record["attention"].shape == (len(record["target_tokens"]), len(record["source_tokens"]))
    torch.testing.assert_close(record["attention"], expected, atol=1e-5, rtol=0)


def test_attention_reads_the_target_vocabulary(tiny_texts: list[str]) -> None:
    tokenizer = train_tokenizer(tiny_texts[:3], 300, target_texts=tiny_texts[3:], target_vocab_size=280)
    torch.manual_seed(0)
    config = RnnS2SConfig(
        vocab_size=len(tokenizer),
        decoder_vocab_size=len(tokenizer.target_tokenizer),
        embedding_size=16,
        hidden_size=16,
        initializer_range=1.0,
    )
    model = RnnS2SForConditionalGeneration(config).eval()
    translator = RnnTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu", max_new_tokens=9)
    [record] = translator("the dog", return_attentions=True, return_tensors=True, return_text=True)
    target_ids = record["translation_token_ids"][1:].tolist()
    assert record["target_tokens"] == tokenizer.target_tokenizer.convert_ids_to_tokens(target_ids)
    assert record["translation_text"] == tokenizer.target_tokenizer.decode(target_ids, skip_special_tokens=True)


def test_attention_of_a_model_without_any_is_refused(
    tiny_config: RnnS2SConfig, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    config = RnnS2SConfig(**{**tiny_config.to_dict(), "attention_type": "none"})
    translator = RnnTranslationPipeline(
        model=RnnS2SForConditionalGeneration(config), tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=3
    )
    assert isinstance(translator("the dog")[0]["translation_text"], str)
    with pytest.raises(ValueError, match="attention_type='none'"):
        translator("the dog", return_attentions=True)


@pytest.mark.parametrize(
    ("inputs", "name"),
    [
        (None, "the input is of type NoneType"),
        (3, "the input is of type int"),
        (b"text", "the input is of type bytes"),
        ({"text": "a"}, "the input is of type dict"),
        (["a", None], "input 1 is of type NoneType"),
        (["a", ["b", "c"]], "input 1 is of type list"),
        (Dataset.from_dict({"text": ["a"]}), "input 0 is of type dict"),
    ],
)
def test_what_is_not_text_is_refused_before_any_work(
    translator: RnnTranslationPipeline, monkeypatch: pytest.MonkeyPatch, inputs: Any, name: str
) -> None:
    def forward(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("work was done")

    monkeypatch.setattr(translator, "forward", forward)
    with pytest.raises(TypeError, match=name):
        translator(inputs)


def test_a_stream_names_what_is_not_text(translator: RnnTranslationPipeline) -> None:
    with pytest.raises(TypeError, match=r"type dict.*KeyDataset"):
        list(translator(row for row in [{"text": "a"}]))


def test_dropout_is_off_and_training_goes_on(translator: RnnTranslationPipeline) -> None:
    expected = translator(TEXTS)
    translator.model.train()
    assert translator(TEXTS) == expected
    assert translator.model.training
    assert translator.model.model.decoder.training


def test_other_encoder_decoders_translate_too(
    tiny_marian: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    translator = pipeline("translation", model=tiny_marian, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=9)
    assert isinstance(translator, RnnTranslationPipeline)
    assert texts_of(translator("the dog", num_beams=2)) == generate_one(translator, "the dog", num_beams=2)
    [record] = translator("the dog", num_beams=2, return_attentions=True)
    assert record["attention"].shape == (len(record["target_tokens"]), len(record["source_tokens"]))
    torch.testing.assert_close(record["attention"].sum(1), torch.ones(len(record["target_tokens"])))
    translator.model.set_attn_implementation("sdpa")
    with pytest.raises(ValueError, match='no cross-attentions.*attn_implementation="eager"'):
        translator("the dog", return_attentions=True)
    translator.model.set_attn_implementation("eager")
    translator.model.config.task_specific_params = {"translation": {"prefix": "translate: "}}
    [prefixed] = translator("the dog", return_attentions=True)
    assert prefixed["source_tokens"] == tiny_tokenizer("translate: the dog").tokens()


def test_models_that_cannot_translate_are_refused(
    tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    decoder_only = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_positions=8, n_embd=8, n_layer=1, n_head=1))
    with pytest.raises(ValueError, match="GPT2LMHeadModel is none"):
        RnnTranslationPipeline(model=decoder_only, tokenizer=tiny_tokenizer, device="cpu")
    with pytest.raises(ValueError, match="needs a tokenizer"):
        RnnTranslationPipeline(model=tiny_model, device="cpu")
    tiny_tokenizer._build_translation_inputs = None
    with pytest.raises(ValueError, match="many languages"):
        RnnTranslationPipeline(model=tiny_model, tokenizer=tiny_tokenizer, device="cpu")


def test_saving_adds_the_code_and_leaves_the_model_as_it_is(
    translator: RnnTranslationPipeline, tmp_path: Path
) -> None:
    before = translator.model.config.to_dict()
    translator.save_pretrained(tmp_path / "with_code")
    assert (tmp_path / "with_code" / "pipeline_rnn_s2s.py").exists()
    assert {**before, "architectures": None, "dtype": None} == {
        **translator.model.config.to_dict(),
        "architectures": None,
        "dtype": None,
    }
    translator.model.save_pretrained(tmp_path / "without_code")
    assert sorted(path.name for path in (tmp_path / "without_code").iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]


@pytest.mark.parametrize("through_config", [False, True])
def test_other_special_tokens_for_one_call_change_nothing_about_batches(
    translator: RnnTranslationPipeline, through_config: bool
) -> None:
    """With an end token that the model writes early, and a padding token that is an ordinary one."""
    free: Any = translator.model.generate(**translator.tokenizer("the dog", return_tensors="pt"), max_new_tokens=9)
    end = int(free[0, 2])
    pad = next(one for one in range(4, 40) if one != end and one not in free)
    settings: dict[str, Any] = {"eos_token_id": end, "pad_token_id": pad, "max_new_tokens": 9}
    options = {"generation_config": GenerationConfig(**settings)} if through_config else settings
    options |= {"return_tensors": True, "return_text": True, "return_attentions": True}
    texts = ["the dog", "one red cat sleeps", "  "]
    alone = translator(texts, batch_size=1, **options)
    together = translator(texts, batch_size=3, **options)
    assert alone[0]["translation_token_ids"].tolist() == free[0, :3].tolist()
    for one, other in zip(alone, together, strict=True):
        assert one["translation_text"] == other["translation_text"]
        assert one["target_tokens"] == other["target_tokens"]
        assert one["translation_token_ids"].tolist() == other["translation_token_ids"].tolist()
        torch.testing.assert_close(one["attention"], other["attention"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("settings", [{"pad_token_id": None}, {"pad_token_id": 0, "eos_token_id": [2, 0]}])
def test_what_ends_and_what_pads_may_be_the_same_token(
    translator: RnnTranslationPipeline, settings: dict[str, Any]
) -> None:
    ends = {"the dog": 2, "one red cat sleeps": 6}  # the step at which the text is ended

    def end(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        step = input_ids.shape[1]
        wanted = torch.where(is_long[: len(scores)], ends["one red cat sleeps"], ends["the dog"])
        forced = torch.full_like(scores, -torch.inf)
        forced[:, 2] = 0.0
        scores[:, [0, 2]] = -torch.inf
        return torch.where((wanted == step).unsqueeze(1), forced, scores)

    translator.model.generation_config.update(**settings)
    records = []
    for texts in (["the dog"], ["one red cat sleeps"], list(ends)):
        is_long = torch.tensor([text != "the dog" for text in texts])
        options = {"return_tensors": True, "batch_size": len(texts), "logits_processor": LogitsProcessorList([end])}
        records += [record["translation_token_ids"].tolist() for record in translator(texts, **options)]
    assert records[:2] == records[2:]
    assert [len(record) for record in records[:2]] == [3, 7]
    assert all(record[-1] == 2 for record in records)


def test_attention_of_prompt_lookup_is_that_of_plain_greedy(translator: RnnTranslationPipeline) -> None:
    [plain] = translator("one two three four", return_attentions=True)
    [looked_up] = translator("one two three four", return_attentions=True, prompt_lookup_num_tokens=2)
    assert looked_up["target_tokens"] == plain["target_tokens"]
    torch.testing.assert_close(looked_up["attention"], plain["attention"], rtol=0, atol=1e-5)


def test_a_limit_of_another_kind_leaves_the_number_of_tokens_as_it_is(
    tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    translator = RnnTranslationPipeline(model=tiny_model, tokenizer=tiny_tokenizer, device="cpu")
    for options in ({"max_time": 600.0}, {"stopping_criteria": StoppingCriteriaList([])}):
        [record] = translator("the dog", suppress_tokens=[2], return_tensors=True, **options)
        assert len(record["translation_token_ids"]) == 1 + DEFAULT_MAX_NEW_TOKENS


def test_half_a_surrogate_pair_is_named(translator: RnnTranslationPipeline) -> None:
    with pytest.raises(ValueError, match="input 1 is not valid Unicode: .* at character 1"):
        translator(["ok", "a\ud800b"])


def test_numbers_may_be_those_of_numpy(translator: RnnTranslationPipeline) -> None:
    assert translator("the dog", num_beams=np.int64(2)) == translator("the dog", num_beams=2)


@pytest.mark.parametrize("options", [{"num_beams": 0}, {"num_return_sequences": 0}, {"num_beams": 2.5}])
def test_numbers_of_beams_and_sequences_are_checked(
    translator: RnnTranslationPipeline, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(options))}=.* must be a whole number from 1 to"):
        translator("the dog", **options)


def test_a_file_is_no_place_to_save_in(translator: RnnTranslationPipeline, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    with pytest.raises(NotADirectoryError, match="is a file; give the name of a folder"):
        translator.save_pretrained(path)
