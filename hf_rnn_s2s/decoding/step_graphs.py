"""
Steps of a search as CUDA graphs.

One step of a search is a few dozen small kernels, and on a GPU starting them takes longer than running them. The
recurrent state has a fixed size, so a step is the same every time but for the numbers: it can be captured once and
replayed. The graphs belong to the caller, who keeps them from one call of `generate()` to the next.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional

from ..model.state_rnn_s2s import DecoderState, Sources, map_tensors
from .packing import Module
from .stepper import Stepper

# Sources are padded to a multiple of this, so that a few graphs serve all lengths.
LENGTH_STEP = 16


class Graph(Protocol):
    """What was captured of a function without arguments."""

    def replay(self) -> None:
        """Does once more what the function did, with what now stands in its tensors."""


class CudaGraph:
    """A function captured as a CUDA graph; it must neither allot tensors that outlive it nor wait for the device."""

    def __init__(self, run: Callable[[], None]) -> None:
        if not torch.cuda.is_available():
            raise ValueError("step_graphs are CUDA graphs, for a model on a GPU of NVIDIA; leave them out here.")
        # Libraries set themselves up on the first calls, which must not be captured, on a stream of their own.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            run()

    def replay(self) -> None:
        """Starts the graph; results are there when the stream gets to them."""
        self._graph.replay()


class StepGraphs:
    """
    Captured steps of one model: `generate(..., step_graphs=StepGraphs())`.

    There is one graph for each number of rows and each length of the sources, in steps of 16 tokens. The first call of
    a kind captures it, later ones replay it. Rows that are finished stay in the batch, since a graph has a fixed size.
    Only one call at a time may use them. Make new ones after anything that changes what a layer computes without
    changing its weights, such as turning an adapter off.

    Args:
        capture: makes a graph of a function.
        most: graphs that are kept; the one that was used longest ago makes room.
    """

    def __init__(self, capture: Callable[[Callable[[], None]], Graph] = CudaGraph, most: int = 16) -> None:
        self._capture, self._most = capture, most
        self._steps: OrderedDict[tuple[Any, ...], _CapturedStep] = OrderedDict()

    def __len__(self) -> int:
        return len(self._steps)

    def captured(self, stepper: GraphStepper, rows: int) -> _CapturedStep:
        """The captured step for so many rows of a stepper, ready to go on from where the stepper is."""
        sources = stepper._sources
        key = (rows, sources.memory.shape, sources.memory.dtype, *(_identity(module) for module in stepper.modules))
        if key not in self._steps:
            with _on_device_of(sources.memory):
                self._steps[key] = _CapturedStep(stepper, rows, sources, self._capture)
        self._steps.move_to_end(key)
        while len(self._steps) > self._most:
            self._steps.popitem(last=False)
        self._steps[key].begin(stepper._state, sources)
        return self._steps[key]


class GraphStepper(Stepper):
    """
    A `Stepper` whose steps are captured, but for the first one, which may read a prompt, and fewer rows than follow.
    All arguments but `graphs` are as there.
    """

    def __init__(self, *args: Any, graphs: StepGraphs, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if torch.is_autocast_enabled(self._sources.memory.device.type):
            raise ValueError("step_graphs does not go with autocast: load the model in the type that you want.")
        self._graphs = graphs
        self._captured: _CapturedStep | None = None
        self._has_begun = False

    def step(self, token_ids: torch.Tensor) -> torch.Tensor:
        if not self._has_begun:
            self._has_begun = True
            return super().step(token_ids)
        if self._captured is None:
            self._captured = self._graphs.captured(self, len(token_ids))
        return self._captured.step(token_ids)

    def begin_again(self) -> None:
        super().begin_again()
        self._captured, self._has_begun = None, False

    def _for_steps(self, module: Module) -> Module:
        # Graphs outlive a search, so they have to read the weights where these change.
        return module

    def _with_a_length(self, sources: Sources) -> Sources:
        return _padded(sources)  # before the first step, so that what is remembered of them is as long

    def reorder(self, rows: torch.Tensor, sources: torch.Tensor | None = None) -> None:
        if self._captured is None:
            super().reorder(rows, sources)
        elif sources is not None or len(rows) != len(self._captured.parents):
            raise ValueError("A captured step has a fixed number of rows.")
        else:
            self._captured.parents.copy_(rows)


class _CapturedStep:
    """Tensors that stay where they are, and the graph that reads and writes them."""

    def __init__(
        self,
        stepper: GraphStepper,
        rows: int,
        sources: Sources,
        capture: Callable[[Callable[[], None]], Graph],
    ) -> None:
        self._modules, self._decoder = stepper.modules, stepper._decoder
        self._head, self._lm_head = stepper._head, stepper._lm_head
        self._sources = sources.map(torch.clone)
        self._state = stepper._state.map(torch.clone)
        device = sources.memory.device
        self._tokens = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self.parents = torch.arange(rows, device=device)
        self._logits = torch.empty(0)  # where the graph has put them
        self._graph = capture(self._run)

    def begin(self, state: DecoderState, sources: Sources) -> None:
        """Takes over the state and the sources of another search."""
        for own, other in zip(self._sources, sources, strict=True):
            if own is not None and other is not None:
                own.copy_(other)
        self._write_state(state)
        self.parents.copy_(torch.arange(len(self.parents), device=self.parents.device))

    def step(self, token_ids: torch.Tensor) -> torch.Tensor:
        """As `Stepper.step`."""
        self._tokens.copy_(token_ids)
        self._graph.replay()
        # In case nobody says otherwise, every row goes on from itself.
        self.parents.copy_(torch.arange(len(self.parents), device=self.parents.device))
        return self._logits.clone()  # others may keep it, or change it

    def _run(self) -> None:
        state = self._state.select(self.parents)
        output, state = self._decoder.read(self._decoder.embed_tokens(self._tokens), state, self._sources)
        self._logits = self._head(self._lm_head, output, self._sources).squeeze(1)
        self._write_state(state)

    def _write_state(self, state: DecoderState) -> None:
        map_tensors(torch.Tensor.copy_, tuple(self._state), tuple(state))


def _on_device_of(tensor: torch.Tensor) -> AbstractContextManager:
    """Streams and graphs are those of the current device, which need not be the one of the model."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _identity(module: nn.Module) -> tuple[Any, ...]:
    """
    What a graph depends on: the layers, what others have hung on them, and where the weights lie. A captured step
    keeps its layers, so that no other ones can get the same ids.
    """
    layers = tuple(
        (id(one), len(one._forward_hooks), len(one._forward_pre_hooks), "forward" in vars(one))
        for one in module.modules()
    )
    return layers, tuple((one.data_ptr(), one.dtype) for one in module.parameters())


def _padded(sources: Sources) -> Sources:
    """With a mask, and padded at the end to a multiple of `LENGTH_STEP` tokens."""
    memory, keys, mask, ids = sources
    missing = -memory.shape[1] % LENGTH_STEP
    mask = memory.new_ones(memory.shape[:2], dtype=torch.bool) if mask is None else mask
    return Sources(
        functional.pad(memory, (0, 0, 0, missing)),
        None if keys is None else functional.pad(keys, (0, 0, 0, missing)),
        functional.pad(mask, (0, missing)),
        None if ids is None else functional.pad(ids, (0, missing)),
    )


__all__ = ["CudaGraph", "GraphStepper", "StepGraphs"]
