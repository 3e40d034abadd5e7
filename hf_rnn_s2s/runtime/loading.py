"""How the folder of an exported model becomes a model again."""

from __future__ import annotations

import copy
import importlib.util
import os
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from transformers import GenerationConfig, PreTrainedConfig
from transformers.utils import cached_file, logging

from ..model.configuration_rnn_s2s import RnnS2SConfig
from .format import FIELD, WEIGHTS, Layout
from .runtime import Runtime
from .sessions import Graphs
from .weights import restored

logger = logging.get_logger(__name__)

# Arguments of `from_pretrained` that say where files are
PLACES = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder", "proxies")


def layout_of(name: str | os.PathLike, config: Any, places: dict[str, Any]) -> Layout | None:
    """What the configuration of a folder or a repository says of graphs; None if it has none.

    Args:
        name: of the folder or the repository.
        config: its configuration, if somebody has read it.
        places: of `PLACES`, what was given.

    Raises:
        ValueError: if the graphs are in a form that this version does not read.
    """
    if isinstance(config, PreTrainedConfig):
        content = getattr(config, FIELD, None)
    else:
        try:
            content = PreTrainedConfig.get_config_dict(config or name, **places)[0].get(FIELD)
        except OSError:
            return None  # there is no configuration, which from_pretrained says
    return None if content is None else Layout.read(content, str(name))


def load_exported(
    load: Any, name: str | os.PathLike, layout: Layout, config: Any, places: dict[str, Any], kwargs: dict[str, Any]
) -> Any:
    """A model with the weights of an export, and its graphs as `runtime`.

    Args:
        load: `from_pretrained` of the base class.
        name: of the folder or the repository.
        layout: of the graphs.
        config: the configuration, or None to read it.
        places: of `PLACES`, what was given.
        kwargs: all other arguments of `from_pretrained`.

    Raises:
        OSError: if a file is missing.
    """
    weights = Path(str(cached_file(str(name), WEIGHTS, **places)))
    if not isinstance(config, PreTrainedConfig):
        config, kwargs = RnnS2SConfig.from_pretrained(config or name, return_unused_kwargs=True, **places, **kwargs)
    config = copy.deepcopy(config)
    if hasattr(config, FIELD):
        delattr(config, FIELD)  # what is made of the model from now on has no graphs
    loaded = load(None, config=config, state_dict=restored(load_file(weights)), **kwargs)
    model = loaded[0] if isinstance(loaded, tuple) else loaded
    model.name_or_path = model.config._name_or_path = str(name)
    model.generation_config = GenerationConfig.from_pretrained(str(name), **places)
    if importlib.util.find_spec("onnxruntime") is None:
        logger.warning(
            f"{name} holds graphs for onnxruntime, which is not installed; torch computes instead, slower. "
            "pip install onnxruntime"
        )
        return loaded
    for graph in layout.graphs:
        file = cached_file(str(name), f"{graph}.onnx", **places)
    model.runtime = Runtime(Graphs(Path(str(file)).parent, weights, layout.graphs), layout, model)
    return loaded
