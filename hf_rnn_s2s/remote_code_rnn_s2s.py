"""How a checkpoint carries its own code, so that it loads on machines where this package is not installed."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig
from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME


class CodeCarryingConfig(PreTrainedConfig):
    """
    A configuration that says whether what is saved with it also carries the Python files of this package.

    It carries none until `carry_code()` is called. From then on `save_pretrained` and `push_to_hub` of the
    configuration, of its model and of a trainer around it also write the `*_rnn_s2s.py` files that the model needs,
    and name them in `config.json`: `auto_map` for the Auto classes and `custom_pipelines` for `pipeline()`. What was
    loaded from a checkpoint with code goes on carrying it when it is saved again.

    What a model of this package, its pipeline or `RnnS2STrainer` pushes to the Hub carries the code without that,
    unless `drop_code()` was called. (A plain `Trainer` uploads what `save_pretrained` has written.)

    Attributes:
        drops_code: whether `drop_code()` was called last.
    """

    drops_code = False

    def carry_code(self) -> None:
        """Carries the code from now on. Only this object changes: other models save as they did before."""
        self.drops_code = False
        # transformers copies the file of any config with an `_auto_class`, and every file that is reached from it by
        # relative imports. It normally stands on the class, where it would change what all other models save.
        self._auto_class = "AutoConfig"  # type: ignore[misc]
        self.auto_map = _auto_map()

    def drop_code(self) -> None:
        """Carries no code from now on, not even to the Hub and although the checkpoint came with it. What is saved
        then loads only where this package is installed and imported."""
        self.drops_code = True
        self._auto_class = None  # type: ignore[misc]
        for name in ("auto_map", "custom_pipelines"):
            vars(self).pop(name, None)

    def __post_init__(self, **kwargs: Any) -> None:
        """
        Takes the references to code from what `config.json` says beside the fields.

        The installed package is the code, so it drops the reference to the pipeline in the checkpoint: transformers
        would ask to trust remote code that is not needed. A class that came with the checkpoint keeps the reference.
        """
        kwargs.pop("drops_code", None)  # nothing that a file says
        if not type(self).__module__.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}."):
            kwargs.pop("custom_pipelines", None)
            if kwargs.pop("auto_map", None):
                self.carry_code()
        super().__post_init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """The content of `config.json`. Where a class was registered by transformers' own
        `register_for_auto_class`, the references to the other classes and to the pipeline are filled in."""
        content: dict[str, Any] = super().to_dict()
        content.pop("drops_code", None)
        if content.get("auto_map"):
            content["auto_map"] = {**content["auto_map"], **_auto_map()}
            content["custom_pipelines"] = _custom_pipelines()
        return content


# The imports below stand in functions because the files import each other. They are also what transformers reads to
# know which files belong together: from any of them, every other one is reached.


def _auto_map() -> dict[str, str]:
    from .configuration_rnn_s2s import RnnS2SConfig
    from .modeling_rnn_s2s import RnnS2SForConditionalGeneration, RnnS2SModel

    return {
        "AutoConfig": _reference(RnnS2SConfig),
        "AutoModel": _reference(RnnS2SModel),
        "AutoModelForSeq2SeqLM": _reference(RnnS2SForConditionalGeneration),
    }


def _custom_pipelines() -> dict[str, dict[str, Any]]:
    from .pipeline_rnn_s2s import RnnTranslationPipeline

    return {"translation": {"impl": _reference(RnnTranslationPipeline), "pt": ["AutoModelForSeq2SeqLM"]}}


def _reference(the_class: type) -> str:
    """`"file.Class"`, the way transformers names a class beside a checkpoint."""
    return f"{the_class.__module__.rpartition('.')[2]}.{the_class.__name__}"


__all__ = ["CodeCarryingConfig"]
