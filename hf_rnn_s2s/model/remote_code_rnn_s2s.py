"""How a checkpoint carries its own code, so that it loads on machines where this package is not installed."""

import copy
from typing import TYPE_CHECKING, Any, TypeVar

from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME

if TYPE_CHECKING:
    # Never executed: transformers finds the files to copy by following relative imports in the text, starting from the
    # file of the configuration. From these two, all others are reached.
    from .modeling_rnn_s2s import RnnS2SForConditionalGeneration  # noqa: F401
    from .pipeline_rnn_s2s import RnnText2TextGenerationPipeline  # noqa: F401
    from .speech_pipeline_rnn_s2s import RnnSpeechRecognitionPipeline  # noqa: F401

Model = TypeVar("Model", bound=PreTrainedModel)

# `"file.Class"`, the way transformers names a class beside a checkpoint
AUTO_MAP = {
    "AutoConfig": "configuration_rnn_s2s.RnnS2SConfig",
    "AutoModel": "modeling_rnn_s2s.RnnS2SModel",
    "AutoModelForSeq2SeqLM": "modeling_rnn_s2s.RnnS2SForConditionalGeneration",
    "AutoModelForSpeechSeq2Seq": "modeling_rnn_s2s.RnnS2SForConditionalGeneration",
}
OF_TEXT, OF_SPEECH = "AutoModelForSeq2SeqLM", "AutoModelForSpeechSeq2Seq"
# For a task of the configuration, the name of its pipeline in transformers, its class, and what loads the model
PIPELINES = {
    "translation": ("translation", "pipeline_rnn_s2s.RnnTranslationPipeline", OF_TEXT),
    "summarization": ("summarization", "pipeline_rnn_s2s.RnnSummarizationPipeline", OF_TEXT),
    "speech-recognition": (
        "automatic-speech-recognition",
        "speech_pipeline_rnn_s2s.RnnSpeechRecognitionPipeline",
        OF_SPEECH,
    ),
}
ANY_OTHER_PIPELINE = ("text2text-generation", "pipeline_rnn_s2s.RnnText2TextGenerationPipeline", OF_TEXT)


class CodeCarryingConfig(PreTrainedConfig):
    """A configuration that says whether what is saved with it also carries the Python files of this package.

    It carries none until `carry_code()` is called, or it is loaded from a checkpoint with code. From then on
    `save_pretrained` and `push_to_hub` of the configuration, of its model and of a trainer around it also write the
    `*_rnn_s2s.py` files that the model needs, and name them in `config.json`: `auto_map` for the Auto classes and
    `custom_pipelines` for `pipeline()`. What a model of this package, its pipeline or `RnnS2STrainer` pushes to the
    Hub carries the code in any case, unless `drop_code()` was called.
    """

    drops_code = False  # whether `drop_code()` was called last

    def carry_code(self) -> None:
        """Carry the code from now on. Only this object changes: other models save as they did before."""
        self.drops_code = False
        # transformers copies the file of any config with an `_auto_class`, and every file that is reached from it by
        # relative imports. It normally stands on the class, where it would change what all other models save.
        self._auto_class = "AutoConfig"  # type: ignore[misc]
        self.auto_map = dict(AUTO_MAP)

    def drop_code(self) -> None:
        """Carry no code from now on: what is saved loads only where this package is installed and imported."""
        self.drops_code = True
        self._auto_class = None  # type: ignore[misc]
        for name in ("auto_map", "custom_pipelines"):
            vars(self).pop(name, None)

    def __post_init__(self, **kwargs: Any) -> None:
        """Take the references to code from what `config.json` says beside the fields."""
        kwargs.pop("drops_code", None)  # a file does not decide this
        # The installed package needs no reference to the checkpoint's pipeline: transformers would ask to trust it. A
        # class that came with the checkpoint keeps it.
        if not type(self).__module__.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}."):
            kwargs.pop("custom_pipelines", None)
            if kwargs.pop("auto_map", None):
                self.carry_code()
        super().__post_init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """The content of `config.json`. Transformers names one class there; the others are filled in here."""
        content: dict[str, Any] = super().to_dict()
        content.pop("drops_code", None)
        if content.get("auto_map"):
            content["auto_map"] = {**content["auto_map"], **AUTO_MAP}
            # Only one: with two, `pipeline(model=...)` could not tell which is meant.
            name, pipeline, auto_class = PIPELINES.get(content["task"], ANY_OTHER_PIPELINE)
            content["custom_pipelines"] = {name: {"impl": pipeline, "pt": [auto_class]}}
        return content


def model_to_share(model: Model, carry_code: bool | None = None) -> Model:
    """A model with the same weights and a configuration of its own, for saving.

    Args:
        model: of any kind. One that is not of this package has no code to carry.
        carry_code: whether the code is saved with it. None means yes, unless `config.drop_code()` was called.
    """
    shared: Any = object.__new__(type(model))
    vars(shared).update(vars(model), config=copy.deepcopy(model.config), model_tags=copy.copy(model.model_tags))
    if hasattr(shared.config, "carry_code"):
        carries = not shared.config.drops_code if carry_code is None else carry_code
        (shared.config.carry_code if carries else shared.config.drop_code)()
        if not carries:
            vars(shared)["is_remote_code"] = lambda: False  # else a class that came as code is saved with it
    return shared
