"""The best of many numbers, against `topk` and `argmax` of all of them."""

import pytest
import torch

from hf_rnn_s2s.decoding import top_tokens
from hf_rnn_s2s.decoding.top_tokens import GROUP, best_continuations, best_log_probabilities, best_tokens


@pytest.fixture(autouse=True)
def nothing_is_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_tokens, "FEW", 0)


@pytest.mark.parametrize("vocabulary", [7, GROUP - 1, GROUP, 5 * GROUP, 12 * GROUP + 1, 13 * GROUP - 1, 8003])
@pytest.mark.parametrize("beams", [1, 2, 5])
def test_the_best_continuations_are_the_top_of_all(beams: int, vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(vocabulary + beams)
    for _ in range(20):
        scores = torch.randn(3, beams, vocabulary, generator=generator)
        offsets = 3 * torch.randn(3, beams, generator=generator)
        count = min(2 * beams, vocabulary)
        values, places = (scores + offsets.unsqueeze(2)).flatten(1).topk(count)
        found_values, found_beams, found_tokens = best_continuations(scores, offsets, count)
        assert torch.equal(found_values, values)
        assert torch.equal(found_beams * vocabulary + found_tokens, places)


def test_no_place_behind_the_vocabulary_is_chosen() -> None:
    """Where fewer tokens than wanted have a score at all, others follow, with a score of -inf."""
    vocabulary = 130 * GROUP + 1
    scores = torch.full((2, 4, vocabulary), -torch.inf)
    scores[..., -1] = 0
    offsets = torch.arange(8.0).view(2, 4)
    for find in (best_continuations, best_log_probabilities):
        values, beams, tokens = find(scores, offsets, 8)
        assert tokens.max() < vocabulary
        assert values[:, :4].tolist() == [[3, 2, 1, 0], [7, 6, 5, 4]]
        assert beams[:, :4].tolist() == [[3, 2, 1, 0]] * 2
        assert tokens[:, :4].eq(vocabulary - 1).all()
        assert values[:, 4:].eq(-torch.inf).all()


@pytest.mark.parametrize("block", [1, 3000, 10**6])
@pytest.mark.parametrize("vocabulary", [7, GROUP, 12 * GROUP + 1, 8003])
def test_the_best_log_probabilities_are_the_top_of_all(
    vocabulary: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top_tokens, "BLOCK", block)
    generator = torch.Generator().manual_seed(vocabulary)
    for dtype in (torch.float32, torch.bfloat16):
        logits = (4 * torch.randn(3, 5, vocabulary, generator=generator)).to(dtype)
        offsets = 3 * torch.randn(3, 5, generator=generator)
        expected = (logits.double().log_softmax(2) + offsets.unsqueeze(2)).flatten(1)
        values, beams, tokens = best_log_probabilities(logits, offsets, 5)
        torch.testing.assert_close(values.double(), expected.topk(5).values, rtol=0, atol=1e-5)
        torch.testing.assert_close(expected.gather(1, beams * vocabulary + tokens), values.double(), rtol=0, atol=1e-5)
        places = beams * vocabulary + tokens
        assert all(len(set(row)) == 5 for row in places.tolist())


def test_large_logits_cost_no_digits() -> None:
    logits = 2000 + 30 * torch.randn(3, 5, 12 * GROUP + 1, generator=torch.Generator().manual_seed(0))
    offsets = torch.zeros(3, 5)
    values, _, _ = best_log_probabilities(logits, offsets, 5)
    expected = logits.double().log_softmax(2).flatten(1).topk(5).values
    torch.testing.assert_close(values.double(), expected, rtol=1e-6, atol=1e-6)


def test_scores_that_nothing_may_win_with() -> None:
    scores = torch.full((2, 3, 20 * GROUP + 5), float("-inf"))
    scores[0, 1, 7], scores[0, 2, -1], scores[1, 0, 3] = 1.0, 2.0, -4.0
    values, beams, tokens = best_continuations(scores, torch.zeros(2, 3), 2)
    assert values.tolist() == [[2.0, 1.0], [-4.0, float("-inf")]]
    assert (beams[0].tolist(), tokens[0].tolist()) == ([2, 1], [20 * GROUP + 4, 7])
    assert (beams[1, 0], tokens[1, 0]) == (0, 3)


@pytest.mark.parametrize("vocabulary", [7, GROUP, 5 * GROUP, 12 * GROUP + 1, 8003])
def test_of_equally_good_tokens_the_first(vocabulary: int) -> None:
    logits = torch.randint(0, 3, (50, vocabulary), generator=torch.Generator().manual_seed(0)).float()
    assert torch.equal(best_tokens(logits), logits.argmax(1))
