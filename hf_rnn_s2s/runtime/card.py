"""What the card of an exported model says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from ..decoding.sharing import CARD, add_card
from .format import Layout

TITLE = "## Exported for ONNX Runtime"
WEIGHTS_ARE = {
    "int8": "8 bit integers, with a scale for each row of a matrix",
    "float32": "those of the model, in float32",
}


def write_card(source: Path | None, folder: Path, layout: Layout, task: str) -> None:
    """Write the card of the model that was exported, if it has one in its folder, with a part about the export.

    Args:
        source: the folder that the model was loaded from; None if there is none.
        folder: of the export.
        layout: of its graphs.
        task: the name of the pipeline.
    """
    if source is not None and (source / CARD).is_file() and source.resolve() != folder.resolve():
        add_card(source, folder)
        card = ModelCard.load(folder / CARD)
    else:
        settings = ModelCardData(library_name="transformers", pipeline_tag=task)
        card = ModelCard(f"---\n{settings.to_yaml()}\n---\n\n# A model of hf_rnn_s2s\n")
    data: Any = card.data
    data.tags = list(dict.fromkeys([*(data.tags or []), "onnx", layout.precision]))
    before = card.text.split(TITLE)[0].rstrip()
    card.text = f"{before}\n\n{TITLE}\n\n{_text(layout, task)}"
    card.save(folder / CARD)


def _text(layout: Layout, task: str) -> str:
    return (
        f"The weights are {WEIGHTS_ARE[layout.precision]}. Graphs of the encoder and of a whole step of the decoder, "
        "which read them, lie beside them. Greedy and beam search on a CPU run on these graphs; everything else runs "
        f"on torch, with the same weights. Written by hf_rnn_s2s {layout.package_version}, which it needs, as well as "
        "onnxruntime:\n\n"
        "```python\n"
        "import hf_rnn_s2s\n"
        "from transformers import pipeline\n\n"
        f'model = pipeline("{task}", model="THIS FOLDER OR REPOSITORY")\n'
        "```\n"
    )
