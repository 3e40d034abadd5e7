"""When finished rows are dropped from a batch."""

import pytest
import torch

from hf_rnn_s2s.decoding.finished_rows import FinishedRows, most_finished, rows_to_drop


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


def test_sequences_come_back_in_order_and_padded() -> None:
    rows, pad = [[1, 5], [1, 6, 7, 8], [1, 9, 9], [1, 4, 4, 4]], 0
    kept = FinishedRows(4, torch.tensor(pad))
    kept.add(torch.tensor([True, False, False, False]), torch.tensor([rows[0]]))
    kept.add(torch.tensor([False, True, False]), torch.tensor([rows[2]]))
    found = kept.with_rest(torch.tensor([rows[1], rows[3]]))
    assert found.tolist() == [[*row, *[pad] * (4 - len(row))] for row in rows]
    alone = torch.tensor(rows[:1])
    assert torch.equal(FinishedRows(1, torch.tensor(pad)).with_rest(alone), alone)
