"""When finished rows are dropped from a batch."""

import pytest
import torch

from hf_rnn_s2s.decoding.finished_rows import most_finished, rows_to_drop


@pytest.mark.parametrize("rows", range(1, 100))
def test_a_search_may_go_on_until_rows_are_to_be_dropped(rows: int) -> None:
    for count in range(1, rows):
        finished = torch.arange(rows) < count
        dropped = rows_to_drop(finished, count)
        if count <= most_finished(rows):
            assert dropped is None
        if count == most_finished(rows) + 1:
            assert dropped is not None
        if dropped is not None:
            assert 0 < int(dropped.sum()) <= count
            assert not (dropped & ~finished).any()
