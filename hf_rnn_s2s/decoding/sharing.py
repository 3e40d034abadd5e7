"""How models are saved and uploaded: with their code, their card with its pictures, and their shortlist."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

from transformers.utils import logging
from transformers.utils.hub import create_and_tag_model_card

from ..model.base_rnn_s2s import RnnS2SPreTrainedModel
from ..model.configuration_rnn_s2s import BUILT_IN
from ..model.remote_code_rnn_s2s import model_to_share

logger = logging.get_logger(__name__)

CARD = "README.md"  # the name of the model card
SHORTLIST = "shortlist.json"  # the name of the shortlist's file
PICTURE = re.compile(r"[\w.-]+\.(?:png|jpe?g|gif|svg|webp)\b")  # the name of a picture in a card
DRAFT = "This model card has been automatically generated."  # what transformers writes where there is no card
# What save_pretrained passes on to push_to_hub: arguments of that alone, and arguments that both of them read.
FOR_HUB_ONLY = ("repo_id", "commit_message", "commit_description", "private", "revision", "create_pr", "tags")
FOR_HUB_TOO = ("token", "max_shard_size")


class SharedModel(RnnS2SPreTrainedModel):
    """A model that is uploaded with its card.

    If it was loaded from a folder with a card (`README.md`), the card goes up with the pictures it shows, and so does
    the shortlist.
    """

    def save_pretrained(
        self, save_directory: str | os.PathLike, *args: Any, push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """Save as `PreTrainedModel.save_pretrained` does.

        With `push_to_hub`, `push_to_hub` of this class uploads the model, and the folder is the same as without.

        Raises:
            ValueError: if code is to be saved with a model that is, or has, a class from outside this package.
        """
        saved: Any = self
        if self._auto_class is not None:  # by `register_for_auto_class`; this class is not one that is carried
            saved = model_to_share(self, carry_code=True)
            vars(saved)["is_remote_code"] = lambda: False
        _require_code_of_this_package(saved)
        for_hub = {name: kwargs.pop(name) for name in FOR_HUB_ONLY if name in kwargs}
        super(SharedModel, saved).save_pretrained(save_directory, *args, **kwargs)
        if push_to_hub and kwargs.get("is_main_process", True):
            of_both = {name: kwargs[name] for name in FOR_HUB_TOO if name in kwargs}
            repo_id = for_hub.pop("repo_id", None) or Path(save_directory).name
            self.push_to_hub(repo_id, **for_hub, **of_both)

    def _upload_modified_files(self, working_dir: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        # By now the folder has all that will be uploaded, with the card of the repository or an empty draft.
        if self.name_or_path and os.path.isdir(self.name_or_path):
            add_card(Path(self.name_or_path), Path(working_dir))
        return super()._upload_modified_files(working_dir, *args, **kwargs)


def add_card(source: Path, target: Path) -> None:
    """Copy the card of a model's folder, if it has one, with the pictures it shows, into another folder.

    The shortlist is copied, too. The tags of a card that was there are added to the new one, which replaces it, with a
    warning if somebody has written it.
    """
    if not (target / SHORTLIST).exists():  # a pipeline may have saved another one there
        add_shortlist(source, target)
    if not (source / CARD).is_file():
        return
    former: Any = create_and_tag_model_card(str(target / CARD)) if (target / CARD).is_file() else None
    card = create_and_tag_model_card(str(source / CARD), former.data.tags if former else None)
    if former and DRAFT not in former.text and former.text.strip() != card.text.strip():
        logger.warning(
            f"The card of the repository is replaced by {source / CARD}, the one of the model. The former card is in "
            "the history of the repository."
        )
    for name in set(PICTURE.findall(card.text)):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    card.save(target / CARD)


def add_shortlist(source: Path, target: Path) -> None:
    """Copy the shortlist of a model's folder, if it has one, into another folder."""
    if (source / SHORTLIST).is_file() and source.resolve() != target.resolve():
        shutil.copyfile(source / SHORTLIST, target / SHORTLIST)


def _require_code_of_this_package(model: RnnS2SPreTrainedModel) -> None:
    config: Any = model.config
    if config._auto_class is None:
        return
    own = {name: getattr(config, name) for name, choices in BUILT_IN.items() if getattr(config, name) not in choices}
    if type(model).__module__.partition(".")[0] != __name__.partition(".")[0]:
        own["model class"] = type(model).__name__
    if own:
        names = ", ".join(f"{name}={value!r}" for name, value in own.items())
        raise ValueError(
            f"{names} means a class of your own, and the code that goes with a checkpoint is that of "
            "hf_rnn_s2s alone. Save the model without code (model.config.drop_code(), or carry_code=False), "
            "and register the class again where the model is loaded."
        )
