"""Options of a model: what describes them, which classes they name, and how a class of one's own joins these."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

from .model.attention_rnn_s2s import ATTENTIONS, NORMALIZERS, SPANS
from .model.bridge_rnn_s2s import BRIDGES
from .model.cells_rnn_s2s import CELLS
from .model.configuration_rnn_s2s import CHOICES, OPTIONS, RnnS2SConfig
from .model.decoder_rnn_s2s import DECODERS
from .model.encoder_rnn_s2s import ENCODERS
from .model.head_rnn_s2s import HEADS
from .model.readout_rnn_s2s import CONTEXT_FUSIONS, READOUTS

# Fields of the configuration that name a class, and the classes by these names.
REGISTRIES: dict[str, dict[str, Any]] = {
    "encoder_type": ENCODERS,
    "decoder_type": DECODERS,
    "head_type": HEADS,
    "cell_type": CELLS,
    "attention_type": ATTENTIONS,
    "attention_span": SPANS,
    "attention_normalizer": NORMALIZERS,
    "context_fusion": CONTEXT_FUSIONS,
    "readout": READOUTS,
    "bridge": BRIDGES,
}


def register(kind: str, name: str, the_class: type) -> None:
    """Make a class of your own a part that a configuration can name.

    Call it before a model with it is built or loaded, in every process.

    Args:
        kind: a field of `RnnS2SConfig` that names a class, such as `"attention_type"`.
        name: the value of the field that means the class.
        the_class: takes the place of those in `REGISTRIES[kind]`, whose contract it keeps. Derive it from one of them.

    Raises:
        ValueError: for another kind, or a name that means another class already.

    Example:
        ```python
        >>> register("attention_type", "coverage", CoverageAttention)
        >>> config = RnnS2SConfig(attention_type="coverage")
        ```
    """
    if kind not in REGISTRIES:
        raise ValueError(f"kind={kind!r} is not known; allowed are {', '.join(REGISTRIES)}.")
    registry = REGISTRIES[kind]
    if registry.get(name, the_class) is not the_class or (name in registry and registry[name] is None):
        raise ValueError(f"{kind}={name!r} means another class already; choose another name.")
    registry[name] = the_class
    CHOICES[kind] = tuple(registry)


def meaning(kind: str, name: str) -> str:
    """What a value of an option means: the first line of what is said of its class; empty where there is none."""
    meant = REGISTRIES.get(kind, {}).get(name)
    if meant is None or inspect.isbuiltin(meant):  # such as torch.softmax, whose docstring begins with its signature
        return ""
    return (inspect.getdoc(meant) or "").partition("\n")[0].removesuffix(".")


def describe_options() -> None:
    """Write all options into the docstring of the configuration, as its arguments."""
    if RnnS2SConfig.__doc__:  # None under python -OO
        place = "    options: each field below, with its own description."
        described = "\n".join(map(_described, OPTIONS.values()))
        RnnS2SConfig.__doc__ = inspect.cleandoc(RnnS2SConfig.__doc__).replace(place, described)


def _described(option: Any) -> str:
    text = f"{option.name}: {option.metadata['help']} By default {option.default!r}."
    if "choices" in option.metadata:
        meanings = {choice: meaning(option.name, choice) for choice in option.metadata["choices"]}
        text += " One of " + "; ".join(f"{name!r}: {what}" if what else repr(name) for name, what in meanings.items())
        text += "."
    return textwrap.fill(text, 119, initial_indent=" " * 4, subsequent_indent=" " * 8)
