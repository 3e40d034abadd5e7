"""The steps of a search, each computed by one call of the runtime."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..decoding.stepper import Until, Wanted
from ..decoding.top_tokens import best_log_probabilities
from .choice import GROUP, group_size
from .examples import OUTPUT
from .format import BEAMS, GREEDY, OF_SHORTLIST, SCORES
from .search_loop import LIMIT
from .sessions import Graph, Graphs
from .token_table import TABLE

STATE = "state_"  # how the names of a state's tensors begin
SOURCES = ("memory", "keys", "mask")


class ShortOutput:
    """The output layer for the tokens of a shortlist.

    Args:
        tokens: their ids, `(shortlist,)`.
        numbers, scale, bias: of the whole layer, `(vocabulary, in)` and `(vocabulary,)`; no scale for float32.
        candidates: that are wanted of a sentence, at most.

    Attributes:
        inputs: of a graph, by name: filled up with tokens that are never chosen, to whole groups and enough of them.
        groups: the number of groups.
    """

    def __init__(
        self, tokens: Tensor, numbers: np.ndarray, scale: np.ndarray | None, bias: np.ndarray, candidates: int
    ) -> None:
        self.tokens = tokens
        ids = tokens.numpy()
        self.groups = max(-(-len(ids) // GROUP), candidates)
        count, width = len(ids), self.groups * GROUP
        of_tokens = np.zeros((numbers.shape[1], width), numbers.dtype)
        of_tokens[:, :count] = numbers[ids].T
        scales = np.ones(width, np.float32)
        if scale is not None:
            scales[:count] = scale[ids]
        biases = np.full(width, -np.inf, np.float32)
        biases[:count] = bias[ids]
        numbers_of_tokens = np.zeros(width, np.int64)
        numbers_of_tokens[:count] = ids
        tensors: list[np.ndarray] = [of_tokens, scales, biases, numbers_of_tokens]
        self.inputs = dict(zip(OUTPUT, tensors, strict=True))


class RuntimeStepper:
    """As `Stepper` of `decoding.stepper`, whose methods it has.

    Args:
        graphs: of the exported model.
        given: what the encoder's graph returned, the mask, and the table of tokens, if there is one; by name.
        vocabulary: number of tokens in the target vocabulary.
        shortlist: the only tokens that may be written; None for all.
    """

    covered = None
    is_precise = True

    def __init__(
        self,
        graphs: Graphs,
        given: dict[str, np.ndarray],
        vocabulary: int,
        shortlist: ShortOutput | None = None,
    ) -> None:
        self._graphs, self._first, self._shortlist, self._vocabulary = graphs, given, shortlist, vocabulary
        self._table = {name: value for name, value in given.items() if name == TABLE}
        self.vocabulary_size = vocabulary if shortlist is None else len(shortlist.tokens)
        self._groups = vocabulary // group_size(vocabulary) if shortlist is None else shortlist.groups
        self.restart()

    def restart(self) -> None:
        """Go back to before the first step."""
        self._state = {name: value for name, value in self._first.items() if name.startswith(STATE)}
        self._sources = {name: value for name, value in self._first.items() if name in SOURCES}
        self._parents: np.ndarray | None = None  # each row goes on from itself

    def step(self, token_ids: Tensor) -> Tensor:
        """Read tokens `(rows, time)`, and return the logits `(rows, vocabulary)` of the next one."""
        for tokens in token_ids.unbind(1):
            (scores,) = self._step(self._graphs[SCORES], tokens)
        logits = torch.from_numpy(scores)
        if self._shortlist is not None:
            logits = logits[:, self._shortlist.tokens]
        return logits

    def best_tokens(self, token_ids: Tensor, finished: Tensor, until: Until) -> Tensor:
        """Read tokens `(rows, time)`, and return those that are written behind them, `(rows, written)`.

        As in `Stepper`, but as many as may be written before rows are to be dropped.
        """
        self._read_prompt(token_ids)
        if self._parents is not None:
            self._state = {name: value[self._parents] for name, value in self._state.items()}
            self._parents = None
        inputs = {
            LIMIT: np.asarray(until.steps),
            "tokens": token_ids[:, -1].numpy(),
            "finished": finished.numpy(),
            "ends": self._ends(until.end_ids),
            "padding": until.padding.numpy(),
            "most_finished": np.asarray(until.most_finished),
        }
        (written,) = self._run(self._graph(GREEDY), inputs)
        return torch.from_numpy(written).T

    def best_continuations(self, token_ids: Tensor, offsets: Tensor, wanted: Wanted) -> tuple[Tensor, Tensor, Tensor]:
        """Read tokens `(rows, time)`, and return the best continuations of each sentence.

        As in `Stepper`, but of as many steps as may be taken until more sentences are full than `wanted` allows.
        """
        if wanted.candidates > self._groups:
            logits = self.step(token_ids).view(*offsets.shape, -1)
            values, beams, columns = best_log_probabilities(logits, offsets, wanted.candidates)
            return values.unsqueeze(0), beams.unsqueeze(0), self.ids(columns).unsqueeze(0)
        self._read_prompt(token_ids)
        more = {
            LIMIT: np.asarray(wanted.steps),
            "offsets": offsets.contiguous().numpy(),
            "finished": wanted.finished.numpy(),
            "candidates": np.arange(wanted.candidates),
            "kept": np.empty(wanted.beams, np.float32),
            "ends": self._ends(wanted.end_ids),
            "most_full": np.asarray(wanted.most_full),
        }
        values, beams, best = map(torch.from_numpy, self._step(self._graph(BEAMS), token_ids[:, -1], more))
        return values, beams, best

    def ids(self, columns: Tensor) -> Tensor:
        """The token ids of columns of the logits."""
        return columns if self._shortlist is None else self._shortlist.tokens[columns]

    def reorder(self, rows: Tensor, sources: Tensor | None = None) -> None:
        """Give row `i` the state of row `rows[i]`; `sources` are indices of those that are still needed."""
        self._parents = rows.numpy()
        if sources is not None:
            kept = sources.numpy()
            self._sources = {name: value[kept] for name, value in self._sources.items()}

    def _ends(self, end_ids: Tensor) -> np.ndarray:
        """Which tokens of the vocabulary are among these, `(vocabulary,)`."""
        ids = end_ids.numpy()
        ends = np.zeros(self._vocabulary, np.bool_)
        ends[ids[(ids >= 0) & (ids < self._vocabulary)]] = True  # others are never written
        return ends

    def _read_prompt(self, token_ids: Tensor) -> None:
        """Read all tokens `(rows, time)` but the last one."""
        if token_ids.shape[1] > 1:
            for tokens in token_ids[:, :-1].unbind(1):
                self._step(self._graphs[SCORES], tokens)

    def _graph(self, name: str) -> Graph:
        return self._graphs[name if self._shortlist is None else name + OF_SHORTLIST]

    def _step(self, graph: Graph, tokens: Tensor, more: dict[str, np.ndarray] | None = None) -> list[np.ndarray]:
        """Take a step with tokens `(rows,)`; what is chosen comes back, and the state is kept."""
        parents = np.arange(tokens.shape[0]) if self._parents is None else self._parents
        self._parents = None
        return self._run(graph, {"tokens": tokens.numpy(), "parents": parents, **(more or {})})

    def _run(self, graph: Graph, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Run a graph from the state on, and keep the one it returns; what else it returns comes back."""
        inputs |= {**self._state, **self._sources, **self._table}
        if self._shortlist is not None and OUTPUT[0] in graph.inputs:
            inputs |= {name: value for name, value in self._shortlist.inputs.items() if name in graph.inputs}
        outputs = graph.run(inputs)
        chosen = len(outputs) - len(self._state)
        self._state = dict(zip(self._state, outputs[chosen:], strict=True))
        return outputs[:chosen]
