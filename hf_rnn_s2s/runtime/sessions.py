"""The graphs of an exported model, loaded into ONNX Runtime."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .format import TABLE_ROWS

BLOCK = 2**10  # tokens of the table that are computed together


class Graph:
    """One graph.

    Args:
        file: of the graph.
        weights: the tensors of the file of weights that it reads, by name.
        threads: how many compute an operator together.
    """

    def __init__(self, file: Path, weights: Mapping[str, np.ndarray], threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(tensor) for tensor in weights.values()]
        options.add_external_initializers(list(weights), values)
        options.intra_op_num_threads = threads
        if threads > 1:
            # Threads that spin while they wait for work would keep those of torch from running.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.inputs = [one.name for one in self._session.get_inputs()]
        self.outputs = [one.name for one in self._session.get_outputs()]

    def run(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Compute all outputs of inputs by their names. The inputs' memory is used as it is."""
        # Not `run_with_ort_values`, which adds half the time of a small step in Python.
        return self._session.run(self.outputs, inputs)


class Graphs:
    """The graphs of a folder, each loaded when it is first needed, for as many threads as torch has then.

    Args:
        folder: where they lie.
        weights: the file of their weights.
        reads: the names of the weights that each graph reads.
    """

    def __init__(self, folder: Path, weights: Path, reads: Mapping[str, Sequence[str]]) -> None:
        self.folder, self.weights, self._reads = folder, weights, reads
        self._tensors: dict[str, np.ndarray] | None = None
        self._loaded: dict[tuple[str, int], Graph] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Graph:
        key = name, torch.get_num_threads()
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = self._load(name)
            return self._loaded[key]

    def _load(self, name: str) -> Graph:
        read = {name: self.weight(name) for name in self._reads[name]}
        return Graph(self.folder / f"{name}.onnx", read, torch.get_num_threads())

    def table(self, vocabulary: int) -> np.ndarray:
        """Compute the table of tokens that graphs of a step read, `(vocabulary, gates)`."""
        graph = self._load(TABLE_ROWS)  # once is enough
        blocks = (np.arange(first, min(first + BLOCK, vocabulary)) for first in range(0, vocabulary, BLOCK))
        return np.concatenate([graph.run({"ids": ids})[0] for ids in blocks])

    def weight(self, name: str) -> np.ndarray:
        """A tensor of the file of weights. All graphs share it."""
        if self._tensors is None:
            from safetensors.numpy import load_file

            self._tensors = load_file(self.weights)
        return self._tensors[name]

    def __reduce__(self) -> tuple[Any, ...]:
        return Graphs, (self.folder, self.weights, self._reads)  # a copy, or another process, loads its own
