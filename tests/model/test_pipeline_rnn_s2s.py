"""Parts of the pipelines that can be looked at without a model."""

import random
from typing import Any

import pytest
import torch

from hf_rnn_s2s.model.pipeline_rnn_s2s import lengths_of_sequences


def length_of(row: list[int], ends: list[int], pad: int | None, prompt: int) -> int:
    """The length of one sequence, token by token."""
    length = prompt
    for place in range(prompt, len(row)):
        if row[place] in ends:
            return place + 1
        if row[place] != pad:
            length = place + 1
    return length


@pytest.mark.parametrize("given", [{}, {"eos_token_id": 2}, {"eos_token_id": [2, 3]}, {"pad_token_id": 0}])
@pytest.mark.parametrize("more", [{}, {"pad_token_id": 2}, {"pad_token_id": 0, "eos_token_id": (3, 4)}])
@pytest.mark.parametrize("prompt", [1, 2, 4])
def test_lengths_are_those_of_a_plain_loop(given: dict[str, Any], more: dict[str, Any], prompt: int) -> None:
    settings, draw = {**given, **more}, random.Random(0)
    if prompt > 1:
        settings["decoder_input_ids"] = torch.ones(3, prompt, dtype=torch.long)
    ends = settings.get("eos_token_id", [])
    ends = [ends] if isinstance(ends, int) else list(ends)
    pad = settings.get("pad_token_id", ends[0] if ends else None)
    for _ in range(30):
        rows, written = draw.randrange(1, 4), draw.randrange(6)
        sequences = torch.tensor(
            [[[draw.randrange(6) for _ in range(prompt + written)] for _ in range(2)] for _ in range(rows)]
        )
        found = lengths_of_sequences(sequences, settings)
        assert found.dtype is torch.long
        expected = [[length_of(row, ends, pad, prompt) for row in rows] for rows in sequences.tolist()]
        assert found.tolist() == expected
