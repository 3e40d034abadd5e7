"""A look at new graphs before anybody relies on them: do they compute what the model does?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..decoding.stepper import Stepper, Until, Wanted
from .examples import SECOND, sources_of
from .format import WEIGHTS, Layout
from .runtime import Runtime
from .sessions import Graphs

# How far scores may be from those of torch, as a share of the largest one
TOLERANCE = {"float32": 1e-3, "int8": 0.2}
STEPS, BEAMS = 5, 2  # of the searches


@torch.no_grad()
def verify(model: Any, folder: Path, layout: Layout) -> None:
    """Compare steps with those of the model, at other sizes than the graphs were made with, and searches with steps.

    Raises:
        ValueError: if they differ, as where a graph is for one length of the source only.
    """
    ids, mask = sources_of(model, SECOND)
    runtime = Runtime(Graphs(folder, folder / WEIGHTS, layout.graphs), layout, model)
    parts = (model.model.decoder, model.output_head, model.lm_head, model.get_encoder()(ids, attention_mask=mask))
    expected = _steps(Stepper(*parts, None, None, len(ids)), ids)
    try:
        encoded = runtime.encode(ids, mask, model.config)
        found = _steps(runtime.stepper(encoded), ids)
        distances = []
        for shortlist in (None, torch.arange(model.config.target_vocab_size)):  # which is the same, by other graphs
            stepper = runtime.stepper(encoded, shortlist, 2 * BEAMS)
            distances += [_scores_of_best(stepper, ids), _scores_of_continuations(stepper, ids)]
    except Exception as error:  # whatever ONNX Runtime raises; it has no class of its own for all
        raise ValueError(
            f"This model cannot be exported: its graphs do not take a source of any length. {error}"
        ) from error
    most = float(expected.abs().max())
    difference = float(torch.stack([(found - expected).abs().max(), *distances]).max())  # NaN, if there is one
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
    stepper.restart()
    until = Until(STEPS, none, torch.tensor(0), len(sources))
    written = stepper.best_tokens(start, torch.zeros(len(sources), dtype=torch.bool), until)
    stepper.restart()
    distances = []
    for read, best in zip(torch.cat([start, written[:, :-1]], dim=1).T, written.T, strict=True):
        scores = stepper.step(read.unsqueeze(1))
        distances.append(scores.amax(1) - scores.gather(1, best.unsqueeze(1)).squeeze(1))
    return torch.stack(distances).max()


def _scores_of_continuations(stepper: Any, sources: Tensor) -> Tensor:
    """How far the scores of beam search are from those of its steps, one after another, at most."""
    tokens, offsets = torch.ones(len(sources), 1, dtype=torch.long), torch.zeros(len(sources), 1)
    no_ids, finished = torch.empty(0, dtype=torch.long), torch.zeros(len(sources), dtype=torch.long)
    wanted = Wanted(2 * BEAMS, BEAMS, STEPS, no_ids, finished, 0)
    stepper.restart()
    steps = stepper.best_continuations(tokens, offsets, wanted)
    stepper.restart()
    distances = []
    for values, beams, best in zip(*steps, strict=True):
        scores = stepper.step(tokens).log_softmax(1).view(*offsets.shape, -1) + offsets.unsqueeze(2)
        chosen = scores.flatten(1).gather(1, beams * scores.shape[2] + best)
        highest = scores.flatten(1).topk(2 * BEAMS).values
        distances += [(chosen - values).abs().max(), (highest - values).abs().max()]
        rows = torch.arange(0, offsets.numel(), offsets.shape[1]).unsqueeze(1) + beams[:, :BEAMS]
        stepper.reorder(rows.flatten())
        tokens, offsets = best[:, :BEAMS].reshape(-1, 1), values[:, :BEAMS]
    return torch.stack(distances).max()
