"""What the look at new graphs finds; here with the steps of torch in their place."""

from typing import Any

import pytest
import torch

from hf_rnn_s2s.decoding.stepper import Stepper, Wanted
from hf_rnn_s2s.runtime.verification import _scores_of_best, _scores_of_continuations

from ..random_models import model_that_ends, sources


@pytest.fixture
def stepper() -> Stepper:
    """Of a model, which takes one step where the graphs take many."""
    model = model_that_ends(attention_type="additive")
    encoded = model.get_encoder()(sources())
    return Stepper(model.model.decoder, model.output_head, model.lm_head, encoded, None, None, 2)


@torch.no_grad()
def test_steps_that_are_right(stepper: Stepper) -> None:
    for look in (_scores_of_best, _scores_of_continuations):
        assert float(look(stepper, sources())) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("wrong", ["values", "beams", "tokens"])
def test_a_beam_search_that_is_wrong(stepper: Stepper, wrong: str) -> None:
    """At its second step, which goes on from what the first one chose."""
    right = stepper.best_continuations

    def continuations(tokens: torch.Tensor, offsets: torch.Tensor, wanted: Wanted) -> Any:
        first = right(tokens, offsets, wanted)
        rows = torch.arange(len(offsets)).unsqueeze(1) + first[1][0][:, :2]
        stepper.reorder(rows.flatten())
        second = right(first[2][0][:, :2].reshape(-1, 1), first[0][0][:, :2], wanted)
        values, beams, best = (torch.cat(parts) for parts in zip(first, second, strict=True))
        if wrong == "values":
            values[1] += 0.3
        elif wrong == "beams":
            beams[1] = 1 - beams[1]
        else:
            best[1] = best[1].roll(1, dims=1)
        return values, beams, best

    stepper.best_continuations = continuations  # type: ignore[method-assign]
    assert float(_scores_of_continuations(stepper, sources())) > 0.01


@torch.no_grad()
def test_a_greedy_search_that_is_wrong(stepper: Stepper) -> None:
    right = stepper.best_tokens
    stepper.best_tokens = lambda *given: right(*given) - 1  # type: ignore[method-assign]
    assert float(_scores_of_best(stepper, sources())) > 0.01
