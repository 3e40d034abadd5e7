"""Steps of a search as CUDA graphs.

One step of a search is a few dozen small kernels, and on a GPU starting them takes longer than running them. The
recurrent state has a fixed size, so every step runs the same kernels on other numbers: it can be captured once and
replayed. The graphs belong to the caller, who keeps them from one call of `generate()` to the next.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..model.state_rnn_s2s import DecoderState, Sources, map_tensors
from .packing import Module
from .stepper import Stepper, read_with

# Source lengths are padded to a multiple of this, so that a few graphs serve all lengths.
PAD_TO_MULTIPLE_OF = 16


class Graph(Protocol):
    """A captured function without arguments."""

    def replay(self) -> None:
        """Run what was captured once more, on what its tensors hold now."""


class CudaGraph:
    """A function captured as a CUDA graph.

    Args:
        run: the function. It must neither allocate tensors that outlive it nor wait for the device.

    Raises:
        ValueError: without a GPU of NVIDIA.
    """

    def __init__(self, run: Callable[[], None]) -> None:
        if not torch.cuda.is_available():
            raise ValueError("step_graphs are CUDA graphs, for a model on a GPU of NVIDIA; leave them out here.")
        # The first calls, in which libraries initialize, must not be captured; they run on a stream of their own.
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
        """Launch the graph, without waiting for it; its results are ready in the order of the stream."""
        self._graph.replay()


class StepGraphs:
    """Captured steps of one model: `generate(..., step_graphs=StepGraphs())`.

    There is one graph for each number of rows and each length of the sources, in steps of 16 tokens. The first call
    with a size captures it, later ones replay it. Finished rows stay in the batch, since a graph has a fixed size.
    Only one call at a time may use them. Make new ones after anything that changes what a layer computes without
    changing its weights, such as turning an adapter off.

    Args:
        capture: makes a graph of a function.
        most: number of graphs that are kept; above it, the least recently used one is removed.
    """

    def __init__(self, capture: Callable[[Callable[[], None]], Graph] = CudaGraph, most: int = 16) -> None:
        self._capture, self._most = capture, most
        self._steps: OrderedDict[tuple[Any, ...], _CapturedStep] = OrderedDict()

    def __len__(self) -> int:
        return len(self._steps)

    def captured(self, stepper: GraphStepper, rows: int) -> _CapturedStep:
        """The captured step for this number of rows, with the stepper's state and sources copied into it."""
        sources = stepper._sources
        key = (rows, sources.memory.shape, sources.memory.dtype, *(_cache_key(module) for module in stepper.modules))
        if key not in self._steps:
            with _on_device_of(sources.memory):
                self._steps[key] = _CapturedStep(stepper, rows, sources, self._capture)
        self._steps.move_to_end(key)
        while len(self._steps) > self._most:
            self._steps.popitem(last=False)
        self._steps[key].load(stepper._state, sources)
        return self._steps[key]


class GraphStepper(Stepper):
    """A `Stepper` whose steps are captured, except the first one.

    The first step may read a prompt, and fewer rows than the steps that follow.

    Args:
        graphs: keeps the captured steps. All other arguments are those of `Stepper`.
    """

    def __init__(self, *args: Any, graphs: StepGraphs, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if torch.is_autocast_enabled(self._sources.memory.device.type):
            raise ValueError("step_graphs does not go with autocast: load the model in the type that you want.")
        self._graphs = graphs
        self._captured: _CapturedStep | None = None
        self._has_started = False

    def step(self, token_ids: Tensor) -> Tensor:
        """As `Stepper.step`; replays a captured step from the second one on."""
        if not self._has_started:
            self._has_started = True
            return super().step(token_ids)
        if self._captured is None:
            self._captured = self._graphs.captured(self, len(token_ids))
        return self._captured.step(token_ids)

    def restart(self) -> None:
        """As `Stepper.restart`."""
        super().restart()
        self._captured, self._has_started = None, False

    def _prepare_module(self, module: Module) -> Module:
        # Graphs outlive a search, so they have to read the weights themselves, not packed copies, as these may change.
        return module

    def _prepare_sources(self, sources: Sources) -> Sources:
        return _pad(sources)  # before the first step, so that the state, too, is made for the padded length

    def reorder(self, rows: Tensor, sources: Tensor | None = None) -> None:
        """As `Stepper.reorder`.

        Raises:
            ValueError: for another number of rows than the captured step has, or if sources would be dropped.
        """
        if self._captured is None:
            super().reorder(rows, sources)
        elif sources is not None or len(rows) != len(self._captured.parents):
            raise ValueError("A captured step has a fixed number of rows.")
        else:
            self._captured.parents.copy_(rows)


class _CapturedStep:
    """Tensors with a fixed place in memory, and the graph that reads and writes them."""

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
        self._logits = torch.empty(0)  # replaced by the tensor that the graph writes
        self._graph = capture(self._run)

    def load(self, state: DecoderState, sources: Sources) -> None:
        """Copy the state and the sources of a search into the tensors of the graph."""
        for own, other in zip(self._sources, sources, strict=True):
            if own is not None and other is not None:
                own.copy_(other)
        self._write_state(state)
        self.parents.copy_(torch.arange(len(self.parents), device=self.parents.device))

    def step(self, token_ids: Tensor) -> Tensor:
        """As `Stepper.step`."""
        self._tokens.copy_(token_ids)
        self._graph.replay()
        # Unless `reorder` is called, every row continues itself.
        self.parents.copy_(torch.arange(len(self.parents), device=self.parents.device))
        return self._logits.clone()  # the caller may keep or change them

    def _run(self) -> None:
        state = self._state.select(self.parents)
        embedded = self._decoder.embed_tokens(self._decoder.known_ids(self._tokens))
        read = self._decoder.read_at_once(embedded, state, self._sources)
        output, state = read_with(self._head, self._lm_head, self._tokens, *read)
        self._logits = self._head(self._lm_head, output, self._sources).squeeze(1)
        self._write_state(state)

    def _write_state(self, state: DecoderState) -> None:
        map_tensors(Tensor.copy_, tuple(self._state), tuple(state))


def _on_device_of(tensor: Tensor) -> AbstractContextManager:
    """Make a tensor's device the current one, to which streams and graphs belong; the model may be on another."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _cache_key(module: nn.Module) -> tuple[Any, ...]:
    """What a graph depends on: the layers, the hooks on them, and where their weights are in memory.

    A captured step keeps its layers, so that no other ones can get the same ids.
    """
    layers = tuple(
        (id(one), len(one._forward_hooks), len(one._forward_pre_hooks), "forward" in vars(one))
        for one in module.modules()
    )
    return layers, tuple((one.data_ptr(), one.dtype) for one in module.parameters())


def _pad(sources: Sources) -> Sources:
    """The sources with a mask, padded at the end to a multiple of `PAD_TO_MULTIPLE_OF` tokens."""
    memory, keys, mask, ids = sources
    missing = -memory.shape[1] % PAD_TO_MULTIPLE_OF
    mask = memory.new_ones(memory.shape[:2], dtype=torch.bool) if mask is None else mask
    return Sources(
        functional.pad(memory, (0, 0, 0, missing)),
        None if keys is None else functional.pad(keys, (0, 0, 0, missing)),
        functional.pad(mask, (0, missing)),
        None if ids is None else functional.pad(ids, (0, missing)),
    )
