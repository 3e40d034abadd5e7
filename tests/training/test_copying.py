"""Words that the vocabulary lacks: from the text to the model, through `generate()`, and back into text."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, DataCollatorForSeq2Seq, pipeline

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, RnnS2SWordTokenizer, train_tokenizer
from hf_rnn_s2s.errors import UsageError
from hf_rnn_s2s.training.arguments import ModelArguments

TEXTS = ["the dog sees the cat", "the cat sees the dog", "a dog runs"]
SOURCE = "the Zebra sees the Yak and Zebra runs"


@pytest.fixture
def tokenizer() -> Any:
    return train_tokenizer(TEXTS, 9, kind="word", copy_slots=2)


def test_the_most_frequent_words_are_kept(tokenizer: RnnS2SWordTokenizer) -> None:
    """Ids 0 to 3 are the special tokens; of equally frequent words the first in the alphabet is kept."""
    assert tokenizer.convert_ids_to_tokens(list(range(9))) == [
        "<pad>",
        "<s>",
        "</s>",
        "<unk>",
        "the",
        "dog",
        "cat",
        "sees",
        "a",
    ]


def test_unknown_words_have_slots_in_their_order(tokenizer: RnnS2SWordTokenizer) -> None:
    assert tokenizer.copied_words(SOURCE) == ["Zebra", "Yak"]
    encoded = tokenizer(SOURCE, text_target="the Yak sees the Zebra and Gnu")
    assert encoded["input_ids"] == [4, 3, 7, 4, 3, 3, 3, 3, 2]
    assert encoded["copy_ids"] == [4, 9, 7, 4, 10, 3, 9, 3, 2]  # there are two slots only
    assert encoded["labels"] == [4, 10, 7, 4, 9, 3, 3, 2]
    assert (
        tokenizer.decode(encoded["labels"], skip_special_tokens=True, source=SOURCE)
        == "the Yak sees the Zebra <unk> <unk>"
    )
    assert tokenizer.decode(encoded["labels"], skip_special_tokens=True) == "the <unk> sees the <unk> <unk> <unk>"
    batch = torch.tensor([[4, 9, 2], [10, 5, 2]])
    assert tokenizer.batch_decode(batch, skip_special_tokens=True, source=[SOURCE, SOURCE]) == ["the Zebra", "Yak dog"]


def test_a_written_unknown_token_is_no_word_to_copy(tokenizer: RnnS2SWordTokenizer) -> None:
    for text in ("the <unk> sees Yak", "the Yak<unk>Ox sees </s> <s>", "<unk>", ""):
        encoded = tokenizer(text, text_target=text)
        assert len(encoded["copy_ids"]) == len(encoded["input_ids"]) == len(encoded["labels"])
        assert "<unk>" not in tokenizer.copied_words(text)
    assert tokenizer("the <unk> sees Yak")["copy_ids"] == [4, 3, 7, 9, 2]
    assert tokenizer.copied_words("the Yak<unk>Ox sees") == ["Yak", "Ox"]


@pytest.mark.parametrize("side", ["right", "left"])
def test_cut_and_padded_rows_stay_aligned(tokenizer: RnnS2SWordTokenizer, side: str) -> None:
    tokenizer.padding_side = tokenizer.truncation_side = side
    rows = tokenizer([SOURCE, "Ox a dog"], padding=True, truncation=True, max_length=5, return_tensors="pt")
    kept = [4, 9, 7, 4, 2] if side == "right" else [3, 9, 3, 2]
    assert rows["copy_ids"][0].tolist()[-len(kept) :] == kept
    assert rows["copy_ids"][1].tolist() == ([9, 8, 5, 2, 0] if side == "right" else [0, 9, 8, 5, 2])
    assert rows["copy_ids"].shape == rows["input_ids"].shape == rows["attention_mask"].shape


def test_a_collator_pads_them_and_the_model_trains(tokenizer: RnnS2SWordTokenizer) -> None:
    features = [dict(tokenizer(one, text_target=one)) for one in (SOURCE, "a Gnu")]
    batch = DataCollatorForSeq2Seq(tokenizer)(features)
    assert batch["copy_ids"].tolist()[1] == [8, 9, 2, 0, 0, 0, 0, 0, 0]
    model = RnnS2SForConditionalGeneration(config_for(tokenizer))
    loss = model(**batch).loss
    loss.backward()
    assert loss.isfinite()


def config_for(tokenizer: RnnS2SWordTokenizer, **values: Any) -> RnnS2SConfig:
    sizes: dict[str, Any] = {"hidden_size": 32, "embedding_size": 24, "attention_hidden_size": 32, "readout_size": 24}
    sizes |= {"encoder_direction_size": 16, "vocab_size": len(tokenizer), "copy_slots": tokenizer.copy_slots}
    return RnnS2SConfig.from_preset("pointer-generator2017", **{**sizes, **values})


def copy_task(count: int, generator: random.Random) -> list[str]:
    """Sentences of known words and of words that no vocabulary has."""
    known = ["the", "dog", "sees", "cat", "a", "runs"]
    return [
        " ".join(
            generator.choice(known) if generator.random() < 0.5 else f"w{generator.randrange(10**6)}" for _ in range(4)
        )
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learned to copy, saved with its code."""
    folder, generator = tmp_path_factory.mktemp("copying"), random.Random(0)
    tokenizer: Any = train_tokenizer(["the dog sees cat a runs"] * 2, 10, kind="word", copy_slots=4)
    torch.manual_seed(0)
    model = RnnS2SForConditionalGeneration(config_for(tokenizer, coverage_loss=0.0)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    collate = DataCollatorForSeq2Seq(tokenizer)
    for _ in range(150):
        texts = copy_task(32, generator)
        loss = model(**collate([dict(tokenizer(one, text_target=one)) for one in texts])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.config.carry_code()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_what_was_learned_is_written_by_the_pipeline(trained: Path) -> None:
    texts = copy_task(40, random.Random(1))
    translator = pipeline("translation", model=str(trained), device="cpu")
    assert isinstance(translator.tokenizer, RnnS2SWordTokenizer)
    for beams in (1, 3):
        answers = [one["translation_text"] for one in translator(texts, num_beams=beams, max_new_tokens=8)]
        right = sum(answer == text for answer, text in zip(answers, texts, strict=True))
        assert right >= 38, answers
        alone = [translator(text, num_beams=beams, max_new_tokens=8)[0]["translation_text"] for text in texts[:4]]
        assert alone == answers[:4]


def test_scores_of_transitions_are_those_of_the_sequence(trained: Path) -> None:
    model = RnnS2SForConditionalGeneration.from_pretrained(trained)
    tokenizer = AutoTokenizer.from_pretrained(trained)
    batch = tokenizer(copy_task(3, random.Random(2)), padding=True, return_tensors="pt")
    out = model.generate(
        **batch, num_beams=2, max_new_tokens=8, return_dict_in_generate=True, output_scores=True, length_penalty=1.0
    )
    scores = model.compute_transition_scores(out.sequences, out.scores, out.beam_indices)
    lengths = (out.beam_indices >= 0).sum(1)
    torch.testing.assert_close(scores.sum(1) / lengths, out.sequences_scores, rtol=0, atol=1e-4)
    logits = model(**batch, decoder_input_ids=out.sequences[:, :-1]).logits.log_softmax(-1)
    chosen = logits.gather(2, out.sequences[:, 1:].unsqueeze(2)).squeeze(2)
    written = torch.arange(chosen.shape[1]) < lengths.unsqueeze(1)
    torch.testing.assert_close(chosen[written], scores[written], rtol=0, atol=1e-4)


def test_the_carried_code_copies_without_the_package(trained: Path, tmp_path: Path) -> None:
    texts = copy_task(3, random.Random(3))
    code = (
        "import json, sys\n"
        "sys.modules['hf_rnn_s2s'] = None\n"
        "from transformers import pipeline\n"
        "folder, texts = json.loads(sys.argv[1])\n"
        "translator = pipeline('translation', model=folder, trust_remote_code=True, device='cpu')\n"
        "together = translator(texts, batch_size=3, max_new_tokens=8)\n"
        "print(json.dumps([one['translation_text'] for one in together + translator(texts, max_new_tokens=8)]))\n"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", code, json.dumps([str(trained), texts])],
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    here = pipeline("translation", model=str(trained), device="cpu")(texts, max_new_tokens=8)
    assert json.loads(outcome.stdout.splitlines()[-1]) == 2 * [one["translation_text"] for one in here]


def test_what_cannot_be_copied_is_refused(tokenizer: RnnS2SWordTokenizer) -> None:
    with pytest.raises(
        UsageError, match="copy_slots=100 are for words that the vocabulary lacks, and tokenizer_kind=bpe"
    ):
        ModelArguments(preset="pointer-generator2017")
    with pytest.raises(UsageError, match="leave decoder_vocab_size out"):
        ModelArguments(preset="pointer-generator2017", tokenizer_kind="word", decoder_vocab_size=300)
    with pytest.raises(
        ValueError, match="head_type='copying' copies from where the attention looks, but attention_ty"
    ):
        RnnS2SConfig(attention_type="none", head_type="copying")
    with pytest.raises(ValueError, match="coverage_loss=1.0 is about the attention, but attention_type='none'"):
        RnnS2SConfig(attention_type="none", coverage_loss=1.0)
    with pytest.raises(ValueError, match="copy_slots=3: head_type='vocabulary' copies nothing"):
        RnnS2SConfig(copy_slots=3)
    with pytest.raises(ValueError, match="copy_slots=2 stand for words that the vocabulary lacks.*unk_token_id=None"):
        config_for(tokenizer, unk_token_id=None)
    separate = RnnS2SForConditionalGeneration(config_for(tokenizer, decoder_vocab_size=8, copy_slots=0))
    with pytest.raises(ValueError, match="head_type='copying' copies from the source, so it needs its target ids"):
        separate(torch.tensor([[4, 5]]), decoder_input_ids=torch.tensor([[1]]))
    model = RnnS2SForConditionalGeneration(config_for(tokenizer))
    with pytest.raises(ValueError, match="copy_ids has the id 11, outside the vocabulary of 11 tokens"):
        model(torch.tensor([[4, 3]]), copy_ids=torch.tensor([[4, 11]]), decoder_input_ids=torch.tensor([[1]]))
    with pytest.raises(ValueError, match="text_pair: a source to copy from is one text"):
        tokenizer("a", "b")
