"""What must be there to export a model, and to run one that was exported."""

from __future__ import annotations

import importlib.util
from typing import Any

from ..decoding.guard import changes_forward
from ..decoding.numbers import require_usable_weights
from ..errors import UsageError
from ..model.encoder_rnn_s2s import TokenEncoder
from ..model.modeling_rnn_s2s import RnnS2SForConditionalGeneration

NOT_EXPORTED = ("pretrained",)  # encoders of other packages, whose masks torch cannot make a graph of
INSTALL = "pip install onnxruntime onnxscript (in a copy of the repository: pip install -e '.[export]')"


def require_exporter() -> None:
    """Raise an ImportError, which says what to install, unless a graph can be made."""
    try:
        import onnx_ir  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"To export a model takes {error.name}, which is not installed: {INSTALL}.", name=error.name
        ) from error


def require_runtime() -> None:
    """Raise an ImportError, which says what to install, unless graphs can be computed."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise ImportError(
            f"To compute graphs takes onnxruntime, which is not installed: {INSTALL}.", name="onnxruntime"
        )


def require_exportable(model: Any) -> None:
    """Check that the graphs can say all that a model computes.

    Raises:
        TypeError: for a model of another package.
        UsageError: if something of it cannot be in a graph; the message names it.
        ValueError: if its weights are no finite numbers.
    """
    if not isinstance(model, RnnS2SForConditionalGeneration):
        raise TypeError(f"{type(model).__name__} is no model of hf_rnn_s2s; pass an RnnS2SForConditionalGeneration.")
    config = model.config
    advice = "Such a model runs on torch: save it with save_pretrained."
    encoder = model.get_encoder()
    if not isinstance(encoder, TokenEncoder) or config.encoder_type in NOT_EXPORTED:
        raise UsageError(f"encoder_type={config.encoder_type!r} cannot be exported. {advice}")
    head = type(model.output_head)
    if head.reads_first or head.needs_source_ids:
        raise UsageError(f"head_type={config.head_type!r} cannot be exported. {advice}")
    require_usable_weights(model)
    if changes_forward(model):
        raise UsageError("The model's forward pass was changed, by hooks or another function. Take them out first.")
