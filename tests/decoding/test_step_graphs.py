"""
Captured steps. Without a GPU the graph is a function that is called again. That checks what matters: everything that a
step reads and writes stands in tensors that stay where they are.
"""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from transformers import LogitsProcessor, LogitsProcessorList

from hf_rnn_s2s import Shortlist, StepGraphs
from hf_rnn_s2s.model.decoder_rnn_s2s import RnnS2SDecoder

from ..random_models import model_that_ends, sources


class Again:
    """In the place of a CUDA graph. What stood in tensors before the capture is overwritten by it, as there."""

    made = 0

    def __init__(self, run: Callable[[], None]) -> None:
        type(self).made += 1
        self._run = run
        for _ in range(4):
            run()

    def replay(self) -> None:
        self._run()


@pytest.fixture
def graphs() -> StepGraphs:
    Again.made = 0
    return StepGraphs(capture=Again)


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"cell_type": "gru"},
        {"attention_type": "none"},
        {"context_fusion": "add"},
        {"attention_type": "hard_monotonic", "head_type": "marginal"},
        {"attention_type": "hard_first_order", "head_type": "marginal"},
    ],
    ids=str,
)
def test_replayed_steps_give_the_same_translations(values: dict[str, Any], num_beams: int, graphs: StepGraphs) -> None:
    model = model_that_ends(**values)
    arguments: dict[str, Any] = {"num_beams": num_beams, "max_new_tokens": 20}
    for batch in (sources(), sources().flip(0), sources()[:5], sources()[:, :3]):
        expected = model.generate(batch, **arguments)
        assert torch.equal(model.generate(batch, step_graphs=graphs, **arguments), expected)
    assert len(graphs) == Again.made == 2  # for 16 rows and for 5; lengths up to 16 share a graph


def test_padded_sources_and_long_ones(graphs: StepGraphs) -> None:
    model = model_that_ends()
    for length in (6, 16, 17):
        ids = torch.randint(3, 40, (4, length), generator=torch.Generator().manual_seed(length))
        mask = (torch.arange(length) < torch.tensor([[length], [3], [1], [5]])).long()
        inputs = {"input_ids": ids * mask, "attention_mask": mask, "num_beams": 2, "max_new_tokens": 12}
        assert torch.equal(model.generate(**inputs, step_graphs=graphs), model.generate(**inputs))
    assert len(graphs) == 2


def test_prompts_and_processors(graphs: StepGraphs) -> None:
    model = model_that_ends()
    prompt = torch.tensor([[1, 7, 9]]).expand(16, -1)
    for extra in ({"decoder_input_ids": prompt}, {"repetition_penalty": 1.5}, {"bad_words_ids": [[7]]}):
        for num_beams in (1, 3):
            arguments: dict[str, Any] = {"num_beams": num_beams, "max_new_tokens": 9, **extra}
            expected = model.generate(sources(), **arguments)
            assert torch.equal(model.generate(sources(), step_graphs=graphs, **arguments), expected)


def test_no_step_runs_outside_of_a_graph_but_the_first(graphs: StepGraphs, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_that_ends()
    model.generate(sources(), num_beams=3, max_new_tokens=20, step_graphs=graphs)
    calls = []
    read = RnnS2SDecoder.read_at_once
    replay = Again.replay

    def counted(self: Any, *args: Any) -> Any:
        calls.append("read")
        return read(self, *args)

    def replayed(self: Any) -> None:
        calls.append("replay")
        replay(self)

    monkeypatch.setattr(RnnS2SDecoder, "read_at_once", counted)
    monkeypatch.setattr(Again, "replay", replayed)
    model.generate(sources(), num_beams=3, max_new_tokens=20, step_graphs=graphs)
    assert calls[:3] == ["read", "replay", "read"]
    assert calls.count("read") == calls.count("replay") + 1


def test_changed_weights_are_used_and_other_models_have_their_own(graphs: StepGraphs) -> None:
    model, other = model_that_ends(), model_that_ends(vocabulary=60)
    model.generate(sources(), max_new_tokens=5, step_graphs=graphs)
    with torch.no_grad():
        model.lm_head.weight.neg_()
    expected = model.generate(sources(), max_new_tokens=5)
    assert torch.equal(model.generate(sources(), max_new_tokens=5, step_graphs=graphs), expected)
    assert torch.equal(
        other.generate(sources(), max_new_tokens=5, step_graphs=graphs), other.generate(sources(), max_new_tokens=5)
    )
    assert len(graphs) == 2


def test_the_graph_used_longest_ago_makes_room() -> None:
    graphs = StepGraphs(capture=Again, most=2)
    model = model_that_ends()
    Again.made = 0
    for rows in (1, 2, 1, 3, 1, 2):
        model.generate(sources(rows), max_new_tokens=4, step_graphs=graphs)
        assert len(graphs) <= 2
    assert Again.made == 4  # 1, 2, 3, and 2 once more


def test_what_cannot_be_captured_is_refused(graphs: StepGraphs) -> None:
    model = model_that_ends()
    with pytest.raises(ValueError, match="which a shortlist changes every time; leave one out"):
        model.generate(sources(), step_graphs=graphs, shortlist=Shortlist([[7]] * 40))
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(ValueError, match="step_graphs does not go with autocast"),
    ):
        model.generate(sources(), step_graphs=graphs)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="for a model on a GPU of NVIDIA; leave them out here"):
            model.generate(sources(), step_graphs=StepGraphs(), max_new_tokens=4)


def test_weights_that_moved_and_layers_that_changed_are_captured_anew(graphs: StepGraphs) -> None:
    model = model_that_ends()
    changes: list[Callable[[], Any]] = [
        lambda: None,
        lambda: model.double().float(),
        lambda: model.model.decoder.dropout.register_forward_hook(lambda *args: None),
        lambda: setattr(model, "lm_head", torch.nn.Sequential(model.lm_head)),
        lambda: setattr(model.lm_head, "weight", model.lm_head[0].weight),
    ]
    for number, change in enumerate(changes):
        change()
        expected = model.generate(sources(), max_new_tokens=4)
        assert torch.equal(model.generate(sources(), max_new_tokens=4, step_graphs=graphs), expected)
        assert Again.made == min(number, 3) + 1


def test_logits_that_somebody_keeps_do_not_change(graphs: StepGraphs) -> None:
    kept: list[list[torch.Tensor]] = [[], []]

    class Keeping(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            kept[-1].append(scores)
            return scores

    arguments = {"max_new_tokens": 5, "logits_processor": LogitsProcessorList([Keeping()])}
    model_that_ends().generate(sources(), **arguments)
    kept.reverse()
    model_that_ends().generate(sources(), step_graphs=graphs, **arguments)
    assert len(kept[0]) == len(kept[1]) == 5
    for one, other in zip(*kept, strict=True):
        torch.testing.assert_close(one, other)


def test_graphs_without_use_are_named(graphs: StepGraphs, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("transformers").propagate = True
    transformers.utils.logging.warning_once.cache_clear()
    model_that_ends().generate(sources(), step_graphs=graphs, do_sample=True, max_new_tokens=2)
    assert "step_graphs: this call does not use them" in caplog.text
    assert not len(graphs)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("num_beams", [1, 4])
def test_cuda_graphs(num_beams: int) -> None:
    model, graphs = model_that_ends().cuda(), StepGraphs()
    for batch in (sources().cuda(), sources().flip(0).cuda()):
        expected = model.generate(batch, num_beams=num_beams, max_new_tokens=20)
        generated = model.generate(batch, num_beams=num_beams, max_new_tokens=20, step_graphs=graphs)
        assert torch.equal(generated, expected)
    assert len(graphs) == 1
