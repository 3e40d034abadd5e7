import torch

from hf_rnn_s2s.model.padding_rnn_s2s import PaddedSource, UnpaddedSource


def test_padded_source_layouts() -> None:
    mask = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]).bool()
    ids = torch.tensor([[1, 2, 3, 0], [0, 1, 2, 3], [1, 0, 0, 2], [1, 2, 3, 4]])
    source = PaddedSource(mask)
    assert source.forward_order(ids).tolist() == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 0, 1, 2], [1, 2, 3, 4]]
    assert source.backward_order(ids).tolist() == [[0, 3, 2, 1], [0, 3, 2, 1], [0, 0, 2, 1], [4, 3, 2, 1]]
    assert source.padding.tolist() == [[True] + [False] * 3] * 2 + [[True] * 2 + [False] * 2, [False] * 4]
    assert torch.equal(source.original_order(source.forward_order(ids)), ids)
    assert torch.equal(source.backward_to_forward(source.backward_order(ids)), source.forward_order(ids))


def test_unpadded_source_is_a_padded_one_without_padding() -> None:
    outputs = torch.randn(2, 5, 3)
    plain, padded = UnpaddedSource(), PaddedSource(torch.ones(2, 5, dtype=torch.bool))
    for name in ("forward_order", "backward_order", "backward_to_forward", "original_order"):
        assert torch.equal(getattr(plain, name)(outputs), getattr(padded, name)(outputs))
