"""What goes to the Hub beside weights and code: the model's card with its pictures, and the shortlist."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from transformers.utils import logging
from transformers.utils.hub import create_and_tag_model_card

logger = logging.get_logger(__name__)

CARD = "README.md"  # the name of the model card
SHORTLIST = "shortlist.json"  # the name of the shortlist's file
PICTURE = re.compile(r"[\w.-]+\.(?:png|jpe?g|gif|svg|webp)\b")  # the name of a picture in a card
DRAFT = "This model card has been automatically generated."  # what transformers writes where there is no card


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


__all__ = ["SHORTLIST", "add_card", "add_shortlist"]
