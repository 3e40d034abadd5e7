"""One model that is exported in both precisions, once for all tests of a process."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hf_rnn_s2s import RnnS2SForConditionalGeneration, export_model

from ..random_models import model_that_ends

pytest.importorskip("onnxscript", reason="the extra export is not installed")
pytest.importorskip("onnxruntime", reason="the extra export is not installed")

Load = Callable[[str], RnnS2SForConditionalGeneration]


@pytest.fixture(scope="session")
def model() -> RnnS2SForConditionalGeneration:
    return model_that_ends(attention_type="additive", tie_word_embeddings=False)


@pytest.fixture(scope="session")
def folders(model: RnnS2SForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where it lies, by precision."""
    root = tmp_path_factory.mktemp("exported")
    for precision in ("float32", "int8"):
        export_model(model, root / precision, precision)
    return {precision: root / precision for precision in ("float32", "int8")}


@pytest.fixture
def load(folders: dict[str, Path]) -> Load:
    """Gives the model as it is loaded from its export."""
    return lambda precision: RnnS2SForConditionalGeneration.from_pretrained(folders[precision])
