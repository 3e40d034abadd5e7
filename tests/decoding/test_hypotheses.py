"""The hypotheses that are kept are the best of all that there were."""

import numpy as np

from hf_rnn_s2s.decoding.hypotheses import NEGATIVE_SCORE, Hypotheses, describe, taken

SENTENCES, KEPT, CANDIDATES, STEPS = 6, 3, 4, 7


def test_the_best_of_all_steps_are_kept_in_their_order() -> None:
    draw = np.random.default_rng(0)
    hypotheses = Hypotheses(SENTENCES, KEPT)
    expected: list[list[tuple[float, list[int]]]] = [[] for _ in range(SENTENCES)]
    for length in range(1, STEPS):
        sentences = np.flatnonzero(draw.random(SENTENCES) < 0.7)
        shape = len(sentences), CANDIDATES
        parents, tokens = draw.integers(KEPT, size=shape), draw.integers(50, size=shape)
        finished, scores = draw.random(shape) < 0.3, draw.standard_normal(shape).astype(np.float32)
        for row, place in np.argwhere(finished):
            numbers = [length, int(parents[row, place]), int(tokens[row, place]), 1]
            expected[sentences[row]].append((float(scores[row, place]), numbers))
        both = np.concatenate([hypotheses.scores[sentences], scores + ~finished * NEGATIVE_SCORE], axis=1)
        best = (-both).argsort(axis=1)[:, :KEPT]
        hypotheses.choose(sentences, best, both, describe(length, parents, tokens, finished))
        for sentence, found in enumerate(expected):
            found.sort(reverse=True)
            count = min(KEPT, len(found))
            assert hypotheses.counts()[sentence] == count
            assert hypotheses.scores[sentence, :count].tolist() == [score for score, _ in found[:count]]
            assert hypotheses.described[sentence, :count].tolist() == [numbers for _, numbers in found[:count]]
        assert hypotheses.are_full().tolist() == [len(found) >= KEPT for found in expected]
        assert hypotheses.any_full == any(len(found) >= KEPT for found in expected)
    assert 0 < hypotheses.are_full().sum() < SENTENCES


def test_a_beam_has_to_be_better_than_the_worst_or_there_is_room() -> None:
    hypotheses = Hypotheses(2, 2)
    scores = np.array([[NEGATIVE_SCORE, NEGATIVE_SCORE, -1, -2]], np.float32)
    finished = np.array([[True, True]])
    hypotheses.choose(np.array([1]), np.array([[2, 3]]), scores, describe(5, finished * 0, finished * 7, finished))
    assert hypotheses.worst().tolist() == [[NEGATIVE_SCORE] * 2, [-2, -2]]
    assert hypotheses.of(np.array([False, True])).described.tolist() == [[[5, 0, 7, 1], [5, 0, 7, 1]]]


def test_values_are_taken_of_each_row() -> None:
    values = np.arange(12).reshape(2, 3, 2)
    assert taken(values, np.array([[2, 0], [1, 1]])).tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]
