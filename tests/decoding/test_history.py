"""The tokens of hypotheses, followed back through the steps of a search."""

from __future__ import annotations

import numpy as np

from hf_rnn_s2s.decoding.history import History

SENTENCES, BEAMS, STEPS = 5, 3, 12


def test_hypotheses_are_those_of_whole_sequences_kept_at_every_step() -> None:
    draw = np.random.default_rng(0)
    history = History(SENTENCES)
    remaining = list(range(SENTENCES))
    sequences = {sentence: [[] for _ in range(BEAMS)] for sentence in remaining}
    hypotheses, expected = [], []
    for step in range(STEPS):
        for sentence in remaining:
            for beam, tokens in enumerate(sequences[sentence]):
                hypotheses.append((sentence, step + 1, beam, 100 + step))
                expected.append([*tokens, 100 + step])
        parents, tokens = (draw.integers(below, size=(len(remaining), BEAMS)) for below in (BEAMS, 50))
        history.append(parents, tokens)
        for row, sentence in enumerate(remaining):
            before = sequences[sentence]
            sequences[sentence] = [
                [*before[parent], token]
                for parent, token in zip(parents[row].tolist(), tokens[row].tolist(), strict=True)
            ]
        if step in (3, 4, 8):
            del remaining[step % 2]
            history.keep(np.array(remaining))
    history.keep(np.array([], dtype=np.int64))  # at the end all are dropped
    assert len(expected) > 100
    assert history.tokens(np.array(hypotheses)) == expected


def test_a_hypothesis_without_tokens_is_empty() -> None:
    history = History(1)
    history.append(np.zeros((1, 2), np.int64), np.ones((1, 2), np.int64))
    assert history.tokens(np.array([(0, 0, 0, 0), (0, 1, 0, 7), (0, 2, 1, 7)])) == [[], [7], [1, 7]]
