"""What the steps of a search are given."""

import torch

from hf_rnn_s2s.decoding.stepper import Stepper

from ..random_models import build


def test_no_mask_is_read_where_nothing_is_padded() -> None:
    torch.manual_seed(0)
    model = build(bridge="average").to(torch.bfloat16)
    source = torch.randint(4, 20, (3, 7))
    with torch.no_grad():
        encoded = model.get_encoder()(source)
        for padding in (0, 2):
            mask = torch.ones_like(source)
            mask[0, 7 - padding :] = 0
            stepper = Stepper(model.model.decoder, model.output_head, model.lm_head, encoded, mask, rows=1)
            assert (stepper._sources.mask is None) == (padding == 0)
            # Where the state begins is as in the model itself, to the last bit.
            expected = model.model.decoder.first_state(encoded, model.model.decoder.prepare(encoded, mask))
            for ours, theirs in zip(stepper._state.layers[0], expected.layers[0], strict=True):
                assert torch.equal(ours, theirs)
