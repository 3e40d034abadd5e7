"""What goes to the Hub beside the weights: the model's code, its card with the pictures, and its shortlist."""

from __future__ import annotations

import copy
import os
import re
import shutil
from pathlib import Path
from typing import Any, TypeVar

from transformers import PreTrainedModel
from transformers.utils import PushToHubMixin, logging
from transformers.utils.hub import create_and_tag_model_card

logger = logging.get_logger(__name__)

Model = TypeVar("Model", bound=PreTrainedModel)

CARD = "README.md"
SHORTLIST = "shortlist.json"
PICTURE = re.compile(r"[\w.-]+\.(?:png|jpe?g|gif|svg|webp)\b")
DRAFT = "This model card has been automatically generated."  # what transformers writes where there is no card


def model_to_share(model: Model, carry_code: bool | None = None) -> Model:
    """
    A model with the same weights, for saving: the original stays as it is, and so does its configuration.

    Args:
        model: of any kind. One that is not of this package has no code to carry.
        carry_code: whether the code is saved with it. None means yes, unless `config.drop_code()` was called.
    """
    shared: Any = object.__new__(type(model))
    vars(shared).update(vars(model), config=copy.deepcopy(model.config), model_tags=copy.copy(model.model_tags))
    config = shared.config
    if not hasattr(config, "carry_code"):
        return shared
    if config.drops_code if carry_code is None else not carry_code:
        config.drop_code()
        # A class that came as remote code carries itself, whatever the configuration says.
        vars(shared)["is_remote_code"] = lambda: False
    else:
        config.carry_code()
    return shared


class CardPushingMixin(PushToHubMixin):
    """`push_to_hub` with the card of the folder that the model was loaded from, if there is one."""

    def _card_folder(self) -> str | None:
        """The folder, or the name on the Hub, that the model was loaded from."""
        raise NotImplementedError

    def _upload_modified_files(self, working_dir: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        # By now the folder has all that will be uploaded, with the card of the repository or an empty draft.
        folder = self._card_folder()
        if folder and os.path.isdir(folder):
            add_card(Path(folder), Path(working_dir))
        return super()._upload_modified_files(working_dir, *args, **kwargs)


def add_card(source: Path, target: Path) -> None:
    """
    Puts the card of a model's folder, if it has one, with the pictures that it shows into another folder, and the
    shortlist, too. The tags of a card that was there are added to it; the card itself makes room, with a warning if
    somebody has written it.
    """
    if not (target / SHORTLIST).exists():  # which may be another one, in use
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
    """Puts the shortlist of a model's folder, if it has one, into another folder."""
    if (source / SHORTLIST).is_file() and source.resolve() != target.resolve():
        shutil.copyfile(source / SHORTLIST, target / SHORTLIST)


__all__ = ["CardPushingMixin", "add_card", "add_shortlist", "model_to_share"]
