"""What the folder of an exported model holds beside what every model has, and what its configuration says of it."""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

FORMAT = 5  # goes up when folders of before can no longer be read
FIELD = "runtime"  # of the configuration, where it says that a folder holds graphs
WEIGHTS = "model.safetensors"
# Names of the graphs, each a file with the ending .onnx
ENCODER, TABLE_ROWS, SCORES, GREEDY, BEAMS = "encoder", "table_rows", "step_scores", "greedy", "beams"
OF_SHORTLIST = "_shortlist"  # behind the name of a graph that looks at the tokens of a shortlist only


@dataclass(frozen=True)
class Layout:
    """What the configuration says of the graphs.

    Attributes:
        format: the version of the folder's form.
        precision: a name of `PRECISIONS`.
        package_version: of the package that wrote it.
        output: the tensors of the output layer in the file of weights: numbers, scale, bias; None for one it lacks.
        encoded: names of what the encoder's graph returns, which are inputs of a step.
        graphs: of each graph, by its name, the tensors of the file of weights that it reads.
    """

    format: int
    precision: str
    package_version: str
    output: list[str | None]
    encoded: list[str]
    graphs: dict[str, list[str]]

    def as_dict(self) -> dict[str, Any]:
        """As it is written."""
        return asdict(self)

    @classmethod
    def read(cls, content: Any, name: str) -> Layout:
        """The layout that a configuration has.

        Args:
            content: of the field.
            name: of the folder or the repository, for errors.

        Raises:
            ValueError: if it is none, or of a newer form.
        """
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            version = content.get("package_version") if isinstance(content, dict) else None
            raise ValueError(
                f"{name} was exported by version {version} of hf_rnn_s2s in the form {found}, and this version reads "
                f"the form {FORMAT}. Use the version that wrote it, or export the model again with this one."
            )
        try:
            values = {field.name: content[field.name] for field in fields(cls)}
        except KeyError as error:
            raise ValueError(f"{name}: {FIELD} in its config.json lacks {error}. Export the model again.") from error
        return cls(**values)


class Place(NamedTuple):
    """Where a tensor lies in the file of weights: its first byte, and the number of bytes."""

    offset: int
    length: int


def places_in(file: Path) -> dict[str, Place]:
    """The places of all tensors in a file of safetensors, by their names."""
    with file.open("rb") as opened:
        (size,) = struct.unpack("<Q", opened.read(8))
        content = json.loads(opened.read(size))
    content.pop("__metadata__", None)
    start = 8 + size
    return {
        name: Place(start + first, end - first)
        for name, (first, end) in ((name, entry["data_offsets"]) for name, entry in content.items())
    }
