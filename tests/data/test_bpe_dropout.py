"""BPE-dropout: without it nothing changes; with it the pieces differ, the text does not, and the seed decides."""

import itertools
import math
import random
from collections import Counter
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast

from hf_rnn_s2s import train_tokenizer
from hf_rnn_s2s.data.arguments import DataArguments, DataError
from hf_rnn_s2s.data.bpe_dropout import NO_UNIT, UNITS, BpeDropout, BpeDropoutCollator, units_of
from hf_rnn_s2s.data.demo_corpus import build_demo_corpus
from hf_rnn_s2s.data.tokens import tokenize_examples

ODD = ["", " ", "  two  spaces ", "<2de> a dog", "size 7 shoes", "☃ läuft 𝄞", "don't!!! ...", "</s> <s>s> <0x41>"]
ODD += ["x\u00a0y\tz", "e\u0301", "我们在三点见面三点", "\ufdd0 mark", "007 1.50", "a" * 60, "cats>dog<2de>dog"]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    corpus = build_demo_corpus("en", "zh", size=1500)
    return [text for pair in corpus["train"] for text in (pair["source"], pair["target"])]


@pytest.fixture(scope="module")
def tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = train_tokenizer(texts, 900)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<2de>"]})
    tokenizer.add_tokens(["size 7", "dog"])
    return tokenizer


def segmented(tokenizer: Any, texts: list[str], probability: float, seed: str = "0") -> list[list[int]]:
    dropout = BpeDropout(tokenizer.backend_tokenizer, probability)
    rows = zip(tokenizer(texts)["input_ids"], units_of(tokenizer, texts), strict=True)
    return [dropout.segment(ids, units, f"{seed} {number}") for number, (ids, units) in enumerate(rows)]


def byte_level(texts: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer as GPT-2 has, trained by the library alone."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def with_marked_pieces(texts: list[str]) -> PreTrainedTokenizerFast:
    """One whose pieces say whether they begin or end a word, and that knows no bytes."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<unk>"]
    backend.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=600, special_tokens=special, continuing_subword_prefix="##")
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


def test_without_dropout_it_is_the_tokenizer(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> None:
    """Also where the merges of a word are made anew from its characters."""
    for one in (tokenizer, byte_level(texts[::2]), with_marked_pieces(texts[::2])):
        given = [*texts, *ODD]
        ids: Any = one(given)["input_ids"]
        assert segmented(one, given, 0.0) == ids
        assert sum(map(len, segmented(one, given, 1.0))) > 1.3 * sum(map(len, ids))


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9, 1.0])
def test_the_text_stays_the_same(texts: list[str], tokenizer: PreTrainedTokenizerFast, probability: float) -> None:
    for one in (tokenizer, byte_level(texts[::2])):
        given = [*texts[::10], *ODD]
        ids: Any = one(given)["input_ids"]
        others = segmented(one, given, probability)
        assert one.batch_decode(others) == one.batch_decode(ids)
        assert sum(map(len, others)) > sum(map(len, ids))


def test_with_probability_one_words_are_spelled(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> None:
    [ids] = segmented(tokenizer, ["the days<2de> size 7"], 1.0)
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert tokens[:9] == [" ", "t", "h", "e", " ", "d", "a", "y", "s"]
    assert tokens[9] == "<2de>"
    assert tokens[-2:] == ["size\ufdd0 7", "</s>"]  # as it was added, in one piece


def distribution(word: str, merges: list[tuple[str, str]], probability: float) -> dict[tuple[str, ...], float]:
    """How probable each segmentation is in algorithm 1 of Provilkov et al. 2020: all that may be left out, in turn."""
    found: Counter[tuple[str, ...]] = Counter()
    waiting = [(tuple(word), 1.0)]
    while waiting:
        pieces, chance = waiting.pop()
        places = [place for place in range(len(pieces) - 1) if pieces[place : place + 2] in merges]
        for kept in itertools.product([False, True], repeat=len(places)):
            share = math.prod(1 - probability if one else probability for one in kept)
            left = [place for place, one in zip(places, kept, strict=True) if one]
            if not left:
                found[pieces] += chance * share
                continue
            best = min(left, key=lambda place: (merges.index(pieces[place : place + 2]), place))
            joined = (*pieces[:best], pieces[best] + pieces[best + 1], *pieces[best + 2 :])
            waiting.append((joined, chance * share))
    return found


def test_merges_are_left_out_with_the_probability() -> None:
    """Of a word with one merge, and of words where one merge makes way for another."""
    merges = [("a", "b"), ("ab", "c"), ("b", "c"), ("c", "ab"), ("abc", "ab")]
    vocabulary = {token: number for number, token in enumerate(["a", "b", "c", "ab", "abc", "bc", "cab", "abcab"])}
    plain = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocabulary, merges)))
    count, probability = 4000, 0.3
    assert distribution("ab", merges, probability) == {("ab",): 0.7, ("a", "b"): 0.3}
    for word in ("ab", "abc", "abcab"):
        expected = distribution(word, merges, probability)
        assert sum(expected.values()) == pytest.approx(1)
        counted = Counter(tuple(ids) for ids in segmented(plain, [word] * count, probability))
        rates = {tuple(plain.convert_ids_to_tokens(list(ids))): number / count for ids, number in counted.items()}
        assert set(rates) <= set(expected)
        for pieces, share in expected.items():
            deviation = math.sqrt(share * (1 - share) / count)
            assert rates.get(pieces, 0.0) == pytest.approx(share, abs=4 * deviation), pieces


def test_no_token_crosses_a_unit() -> None:
    """Two words without a space between them, which a merge of their neighbours would join."""
    vocabulary = {"a": 0, "b": 1, "ab": 2}
    dropout = BpeDropout(Tokenizer(models.BPE(vocabulary, [("a", "b")])), 0.0)
    assert dropout.segment([0, 1], [0, 0], "0") == [2]
    assert dropout.segment([0, 1], [0, 1], "0") == [0, 1]
    assert dropout.segment([0, 1], [NO_UNIT, NO_UNIT], "0") == [0, 1]
    assert dropout.segment([], [], "0") == []


def test_the_seed_decides(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> None:
    first = segmented(tokenizer, texts[:200], 0.2)
    random.seed(5)
    assert segmented(tokenizer, texts[:200], 0.2) == first
    assert segmented(tokenizer, texts[:200], 0.2, seed="1") != first


def collator(tokenizer: Any, probability: float = 0.3, seed: int = 0, **limits: int) -> BpeDropoutCollator:
    return BpeDropoutCollator(list, tokenizer, probability, seed, dict(limits))


def rows_of(tokenizer: Any, texts: list[str], with_units: bool = True) -> list[dict[str, Any]]:
    pairs = Dataset.from_dict({"source": texts[::2], "target": texts[1::2]})
    return list(tokenize_examples(pairs, tokenizer, DataArguments(), True, with_units))


def test_rows_are_segmented_by_pass_and_seed_whatever_the_batch(
    texts: list[str], tokenizer: PreTrainedTokenizerFast
) -> None:
    rows = rows_of(tokenizer, texts[:80])
    collate = collator(tokenizer)
    first = collate(rows)
    assert all(set(row) == {"input_ids", "labels"} for row in first)
    assert [collate([row])[0] for row in reversed(rows)] == first[::-1]
    collate.begin_pass(1)
    second = collate(rows)
    assert second != first
    collate.begin_pass(0)
    assert collate(rows) == first
    assert collator(tokenizer, seed=1)(rows) != first
    for name in UNITS:
        for before, one, other in zip(rows, first, second, strict=True):
            assert len({tokenizer.decode(row[name]) for row in (before, one, other)}) == 1
    assert rows[0]["input_units"]  # the rows themselves stay as they are


def test_rows_of_evaluations_stay_as_they_are(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> None:
    rows = rows_of(tokenizer, texts[:20], with_units=False)
    assert set(rows[0]) == {"input_ids", "labels"}
    assert collator(tokenizer, 1.0)(rows) == rows
    plain = [{name: row[name] for name in UNITS} for row in rows_of(tokenizer, texts[:20])]
    assert plain == rows


def test_texts_keep_their_limits(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> None:
    rows = rows_of(tokenizer, texts[:80])
    free = collator(tokenizer, 0.5)(rows)
    limit = sorted(len(row["input_ids"]) for row in free)[len(free) // 2]
    held = collator(tokenizer, 0.5, input_ids=limit)(rows)
    for row, one, other in zip(rows, free, held, strict=True):
        assert other["input_ids"] == (one["input_ids"] if len(one["input_ids"]) <= limit else row["input_ids"])
        assert other["labels"] == one["labels"]


def test_each_side_has_its_own_merges(texts: list[str]) -> None:
    tokenizer: Any = train_tokenizer(texts[::2], 700, target_texts=texts[1::2], target_vocab_size=600)
    rows = rows_of(tokenizer, texts[:60])
    assert [{name: row[name] for name in UNITS} for row in rows] == collator(tokenizer, 0.0)(rows)
    for row, other in zip(rows, collator(tokenizer, 0.4)(rows), strict=True):
        for name, side in (("input_ids", tokenizer.source_tokenizer), ("labels", tokenizer.target_tokenizer)):
            assert side.decode(other[name]) == side.decode(row[name])


def test_workers_that_live_on_learn_of_the_pass(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> None:
    rows = rows_of(tokenizer, texts[:40])
    collate = collator(tokenizer)
    loader: Any = torch.utils.data.DataLoader(
        rows,  # type: ignore[arg-type]
        batch_size=5,
        num_workers=2,
        persistent_workers=True,
        collate_fn=collate,
    )
    for number in (0, 1, 0):
        collate.begin_pass(number)
        found = [row for batch in loader for row in batch]
        assert found == collate(rows)


@pytest.mark.parametrize("kind", ["unigram", "word"])
def test_tokenizers_without_merges_are_refused(texts: list[str], kind: Any) -> None:
    tokenizer = train_tokenizer(texts[:200], 500, kind=kind)
    with pytest.raises(DataError, match="bpe_dropout leaves out merges.*of the kind (Unigram|WordLevel)"):
        BpeDropoutCollator(DataCollatorForSeq2Seq(tokenizer), tokenizer, 0.1, 0, {})
