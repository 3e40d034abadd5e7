"""Alignments: what files say, what attention shows, and the error rate against numbers counted by hand."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from hf_rnn_s2s.data.arguments import DataError
from hf_rnn_s2s.model.pipeline_rnn_s2s import squeezed
from hf_rnn_s2s.training.alignment import (
    GoldAlignment,
    alignment_error_rate,
    alignments_from_attention,
    parse_alignment,
    read_alignments,
    word_attention,
    words_of,
    words_of_tokens,
)


def links(*pairs: tuple[int, int]) -> frozenset[tuple[int, int]]:
    return frozenset(pairs)


def test_the_error_rate_is_the_one_counted_by_hand() -> None:
    """The formula of Och & Ney 2003, over two pairs.

    Pair 1: A = {00, 11, 22}, S = {00, 12}, P = S + {11}. |A ∩ S| = 1 (00), |A ∩ P| = 2 (00, 11).
    Pair 2: A = {01}, S = {01, 10}, P = S. |A ∩ S| = 1, |A ∩ P| = 1.
    Sums: |A| = 4, |S| = 4, |A ∩ S| = 2, |A ∩ P| = 3, so 1 - 5 / 8, precision 3 / 4, recall 2 / 4.
    """
    predicted = [links((0, 0), (1, 1), (2, 2)), links((0, 1))]
    gold = [parse_alignment("0-0 1-2 1?1"), parse_alignment("0-1 1-0")]
    scores = alignment_error_rate(predicted, gold)
    assert scores == (pytest.approx(3 / 8), pytest.approx(3 / 4), pytest.approx(2 / 4))


def test_the_ends_of_the_error_rate() -> None:
    gold = [parse_alignment("0-0 1-1 0p1")]
    assert alignment_error_rate([gold[0].sure], gold) == (0, 1, 1)
    assert alignment_error_rate([gold[0].possible], gold) == (0, 1, 1)  # what is possible costs nothing
    assert alignment_error_rate([links((1, 0))], gold) == (1, 0, 0)
    assert alignment_error_rate([links()], gold) == (1, 0, 0)
    # Sure links that somebody forgot to call possible are possible all the same.
    assert alignment_error_rate([links((0, 0))], [GoldAlignment(links((0, 0)), links())]).error_rate == 0
    with pytest.raises(ValueError, match="neither a predicted nor a sure link"):
        alignment_error_rate([links()], [parse_alignment("0?0")])
    with pytest.raises(ValueError, match="argument 2"):
        alignment_error_rate([links()], [])


def test_lines_are_read_in_their_notations() -> None:
    assert parse_alignment("0-0 1-2  2?1 10p0\n") == (links((0, 0), (1, 2)), links((0, 0), (1, 2), (2, 1), (10, 0)))
    assert parse_alignment("1-2 2?1", first_index=1) == (links((0, 1)), links((0, 1), (1, 0)))
    assert parse_alignment("") == (links(), links())


def test_files_have_a_pair_on_each_line(tmp_path: Path) -> None:
    path = tmp_path / "gold.txt"
    path.write_bytes(b"\xef\xbb\xbf0-0 1?1\r\n\r\n1-0\n")
    assert [alignment.possible for alignment in read_alignments(path)] == [
        links((0, 0), (1, 1)),
        links(),
        links((1, 0)),
    ]
    for content, message in (
        (b"0-0\n1:2\n", "line 2: '1:2' is no link; a sure one looks like 1-2"),
        (b"0-0 -1-2\n", "line 1: '-1-2' is no link"),
        (b"0?0\n\n", "has no sure link"),
        (b"\xff", "cannot be read"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_alignments(path)
    path.write_text("1-1\n0-1\n")
    with pytest.raises(DataError, match="line 2: '0-1' has a number below 1"):
        read_alignments(path, first_index=1)
    with pytest.raises(DataError, match=r"missing\.txt cannot be read"):
        read_alignments(tmp_path / "missing.txt")


def test_a_permutation_is_aligned_without_error() -> None:
    torch.manual_seed(0)
    order = torch.randperm(6)
    attention = torch.eye(6)[order]  # target word t looks at source word order[t]
    right = frozenset((int(source), target) for target, source in enumerate(order))
    for found in (alignments_from_attention(attention), alignments_from_attention(attention, threshold=0.5)):
        assert found == right
        assert alignment_error_rate([found], [GoldAlignment(right, right)]) == (0, 1, 1)


def test_a_threshold_links_all_that_reach_it() -> None:
    attention = torch.tensor([[0.5, 0.3, 0.2], [0.0, 0.0, 0.0], [0.4, 0.2, 0.4]])
    assert alignments_from_attention(attention) == links((0, 0), (0, 2))
    assert alignments_from_attention(attention, threshold=0.3) == links((0, 0), (1, 0), (0, 2), (2, 2))
    assert alignments_from_attention(torch.zeros(0, 3)) == alignments_from_attention(torch.zeros(2, 0)) == links()
    with pytest.raises(ValueError, match="threshold=0 must be above 0"):
        alignments_from_attention(attention, threshold=0)


def test_words_sum_over_their_source_pieces_and_take_the_mean_of_their_target_pieces() -> None:
    """By loops over words and pieces."""
    torch.manual_seed(1)
    attention = torch.rand(5, 6, dtype=torch.float64).softmax(1)
    source_words, target_words = [0, 0, 1, None, 3, None], [0, 1, 1, 1, None]  # nothing is left of source word 2
    found = word_attention(attention, source_words, target_words)
    assert found.shape == (2, 4)
    for target in range(2):
        pieces = [place for place, word in enumerate(target_words) if word == target]
        for source in range(4):
            parts = [place for place, word in enumerate(source_words) if word == source]
            expected = sum(float(attention[one, other]) for one in pieces for other in parts) / len(pieces)
            assert found[target, source].item() == pytest.approx(expected, abs=1e-12)
    assert word_attention(attention, [None] * 6, target_words).shape == (2, 0)


@pytest.mark.parametrize(
    "text",
    [
        "the big cat sleeps",
        "don't stop: 10\u00a0km, 2026!!",
        "läuft ☃ schnell\u3000x  y",
        "e\u0301 a",
        "",
        "我们 在三点见面",
    ],
)
def test_tokens_belong_to_the_words_they_spell(text: str, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """The tokens of each word, read alone, are those of the word."""
    for given in dict.fromkeys((text, squeezed(text))):
        encoded: Any = tiny_tokenizer(given, return_offsets_mapping=True)
        numbers = words_of_tokens(given, encoded["offset_mapping"])
        words = re.split("[ \t]+", given) if given else []
        assert words_of(given) == words
        assert numbers[-1] is None
        assert [number for number in dict.fromkeys(numbers) if number is not None] == list(range(len(words)))
        for number, word in enumerate(words):
            ids = [one for one, place in zip(encoded["input_ids"], numbers, strict=True) if place == number]
            assert tiny_tokenizer.decode(ids).strip(" ") == tiny_tokenizer.decode(
                tiny_tokenizer(word)["input_ids"], skip_special_tokens=True
            ).strip(" ")
