"""A look at new graphs before anybody relies on them: do they compute what the model does?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..decoding.stepper import Stepper, Until
from .examples import SECOND, encoder_inputs
from .format import WEIGHTS, Layout
from .runtime import Runtime
from .sessions import Graphs

# How far scores may be from those of torch, as a share of the largest one
TOLERANCE = {"float32": 1e-3, "int8": 0.2}
STEPS = 5  # of greedy search


@torch.no_grad()
def verify(model: Any, folder: Path, layout: Layout) -> None:
    """Compare two steps with those of the model, at other sizes than the graphs were made with; and greedy search.

    Raises:
        ValueError: if they differ, as where a graph is for one length of the source only.
    """
    inputs = encoder_inputs(model, SECOND)
    ids, mask = inputs["input_ids"], inputs["mask"]
    runtime = Runtime(Graphs(folder, folder / WEIGHTS, layout.graphs), layout, model)
    parts = (model.model.decoder, model.output_head, model.lm_head, model.get_encoder()(ids, attention_mask=mask))
    expected = _steps(Stepper(*parts, None, None, len(ids)), ids)
    try:
        stepper = runtime.stepper(runtime.encode(ids, mask, model.config), model.config.target_vocab_size)
        found = _steps(stepper, ids)
        stepper.restart()
        best = _scores_of_best(stepper, ids)
    except Exception as error:  # whatever ONNX Runtime raises; it has no class of its own for all
        raise ValueError(
            f"This model cannot be exported: its graphs do not take a source of any length. {error}"
        ) from error
    most = float(expected.abs().max())
    difference = float(torch.stack([(found - expected).abs().max(), best]).max())  # NaN, if there is one
    if not difference <= TOLERANCE[layout.precision] * most:
        raise ValueError(
            f"This model cannot be exported: the scores of its graphs are {difference:.3g} from those of the model, "
            f"which reach {most:.3g}. Such a model runs on torch: save it with save_pretrained."
        )


def _steps(stepper: Any, sources: Tensor) -> Tensor:
    """The scores of the second of two steps, each row of which goes on from another one."""
    tokens = torch.ones(len(sources), 1, dtype=torch.long)
    stepper.step(tokens)
    rows = torch.arange(len(sources)).repeat_interleave(SECOND.rows)
    stepper.reorder(rows)
    return stepper.step(tokens[rows])


def _scores_of_best(stepper: Any, sources: Tensor) -> Tensor:
    """How far the scores of tokens that greedy search writes are below the best ones, at most."""
    start, none = torch.ones(len(sources), 1, dtype=torch.long), torch.empty(0, dtype=torch.long)
    until = Until(STEPS, none, torch.tensor(0), len(sources))
    written = stepper.best_tokens(start, torch.zeros(len(sources), dtype=torch.bool), until)
    stepper.restart()
    distances = []
    for read, best in zip(torch.cat([start, written[:, :-1]], dim=1).T, written.T, strict=True):
        scores = stepper.step(read.unsqueeze(1))
        distances.append(scores.amax(1) - scores.gather(1, best.unsqueeze(1)).squeeze(1))
    return torch.stack(distances).max()
