"""A lexical shortlist: the target tokens that a translation may need, selected by the tokens of its source.

The output layer scores the whole vocabulary at every target position, although nearly all sentences can be written
with the translations of their own words and with frequent words. A shortlist has these (Jean et al. 2015, section
3.3; L'Hostis et al. 2016), and `generate(shortlist=...)` scores nothing else: as if the vocabulary were smaller.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.utils import cached_file, logging

from ..model.configuration_rnn_s2s import RnnS2SConfig
from .sharing import SHORTLIST as FILE_NAME

logger = logging.get_logger(__name__)

# Pairs of a source and a target token, at most: of a larger corpus, sentences at regular intervals are used.
MOST_TOKEN_PAIRS = 2**25
# Iterations of expectation maximisation
ROUNDS = 5


class Shortlist:
    """The target tokens that may translate each source token, and those that any translation may need.

    Args:
        candidates: for each source token the target tokens that may translate it.
        always: target tokens that are scored whatever the source is.

    Raises:
        ValueError: if there are no candidates at all, or for an id below 0.

    Example:
        ```python
        >>> shortlist = Shortlist.from_pairs(source_ids, target_ids, source_vocab_size=8000)
        >>> shortlist.save_pretrained("outputs/my-model")
        >>> translator = pipeline("translation", model="outputs/my-model")  # uses it
        ```

    A shortlist is saved beside the model, and goes to the Hub with it. A pipeline uses the one beside its model unless
    it is told `shortlist=False`; `generate()` uses one only on request. `shortlist=` also takes the object itself, and
    a folder or a name on the Hub.

    Attributes:
        is_optional: whether nobody has asked for it, so that a call that cannot use it leaves it out without a word.
    """

    is_optional = False

    def __init__(self, candidates: Sequence[Sequence[int]], always: Sequence[int] = ()) -> None:
        self.candidates = [list(tokens) for tokens in candidates]
        self.always = list(always)
        if not self.candidates or not (any(self.candidates) or self.always):
            raise ValueError(
                "A shortlist without any token leaves nothing to write; give candidates of source tokens."
            )
        if min(itertools.chain(self.always, *self.candidates)) < 0:
            raise ValueError("A shortlist names token ids, which are 0 or above; there is one below among these.")
        longest = max(map(len, self.candidates))
        table = [[*tokens, *[-1] * (longest - len(tokens))] for tokens in self.candidates]
        self._table = np.array(table, dtype=np.int64).reshape(len(table), longest)
        # With one more place at the end, for the -1 of rows that are not so long
        self._is_always = np.zeros(max([self._table.max(initial=0), *self.always]) + 2, dtype=bool)
        self._is_always[self.always] = True

    @classmethod
    def from_pairs(
        cls,
        source_ids: Sequence[Sequence[int]],
        target_ids: Sequence[Sequence[int]],
        source_vocab_size: int,
        size: int = 20,
        frequent: int = 100,
    ) -> Shortlist:
        """Learn from translated sentences which tokens translate which, with IBM Model 1 (Brown et al. 1993).

        Args:
            source_ids: token ids of the sources of sentence pairs, such as those the model was trained on.
            target_ids: token ids of their targets.
            source_vocab_size: size of the source vocabulary.
            size: maximum number of candidates of each source token.
            frequent: number of the most frequent target tokens, which are always scored.

        Raises:
            ValueError: if the two sides differ in length, or are empty, or for an id that no token has.
        """
        if len(source_ids) != len(target_ids) or not source_ids:
            raise ValueError(f"There are {len(source_ids)} sources and {len(target_ids)} targets; give pairs.")
        _check_pairs(source_ids, target_ids, source_vocab_size)
        counts = torch.bincount(torch.tensor([token for target in target_ids for token in target]))
        sources, targets, probabilities = _translation_table(source_ids, target_ids, source_vocab_size)
        # Sorted by source token, and for each of them the most probable target token first
        order = probabilities.argsort(descending=True, stable=True)
        order = order[sources[order].argsort(stable=True)]
        by_source = targets[order].split(torch.bincount(sources, minlength=source_vocab_size + 1).tolist())
        most_frequent = counts.topk(min(frequent, int(counts.count_nonzero()))).indices
        return cls([tokens[:size].tolist() for tokens in by_source[:source_vocab_size]], most_frequent.tolist())

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Shortlist:
        """Read a shortlist that `save_pretrained` wrote.

        Args:
            pretrained_model_name_or_path: a folder, the file itself, or a name on the Hub.
            kwargs: for the Hub, such as `revision` and `token`.

        Raises:
            OSError: if there is no such file.
            ValueError: if the file is not a shortlist.
        """
        path = _find_file(pretrained_model_name_or_path, **kwargs)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(content["candidates"], content["always"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a shortlist as Shortlist.save_pretrained writes it: {error!r}") from error

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write `shortlist.json` to a folder, that of the model it belongs to."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"always": self.always, "candidates": self.candidates}, separators=(",", ":"))
        (folder / FILE_NAME).write_text(content, encoding="utf-8")

    def fits(self, config: RnnS2SConfig) -> bool:
        """Whether a model with this configuration has no source tokens beyond these, and all of the target tokens."""
        largest = max(itertools.chain(self.always, *self.candidates))
        return len(self.candidates) >= config.vocab_size and largest < config.target_vocab_size

    def tokens_for(self, source_ids: Tensor, needed: Sequence[int] = ()) -> Tensor:
        """The target tokens for all sources of a batch together, `(shortlist,)`, in ascending order.

        Args:
            source_ids: token ids `(batch, source)`.
            needed: further target tokens, such as the end token.

        Raises:
            ValueError: if a source id is outside the vocabulary that the shortlist was made for.
        """
        # With numpy, which takes a fifth of torch's time for the few numbers of one sentence.
        sources = np.unique(source_ids.cpu().numpy())
        if len(sources) and sources[-1] >= len(self._table):
            raise ValueError(
                f"The shortlist was made for {len(self._table)} source tokens, but the source has the id "
                f"{sources[-1]}; use the one that belongs to the model."
            )
        is_chosen = np.zeros(max([len(self._is_always), *(token + 2 for token in needed)]), dtype=bool)
        is_chosen[: len(self._is_always)] = self._is_always
        is_chosen[self._table[sources]] = True
        is_chosen[np.asarray(needed, dtype=np.int64)] = True
        return torch.from_numpy(np.flatnonzero(is_chosen[:-1])).to(source_ids.device)


def load_shortlist(shortlist: Any, model: Any) -> Shortlist | None:
    """The shortlist that an argument `shortlist` of `generate()` stands for.

    Args:
        shortlist: a shortlist; a folder or a name on the Hub to read one from; True for the one beside the model; None
            or False for none.
        model: the one whose shortlist is read for True.

    Raises:
        OSError: if there is none at the given place.
        TypeError: for anything else.
        ValueError: for True with a model that was not loaded from anywhere, or for a file that is not a shortlist.
    """
    if shortlist is None or shortlist is False:
        return None
    if shortlist is True:
        if not model.name_or_path:
            raise ValueError(
                "shortlist=True takes the shortlist beside the model, but this model was not loaded from anywhere. "
                "Pass a Shortlist, or the name of a folder that has one."
            )
        return Shortlist.from_pretrained(getattr(model, "shortlist_file", None) or model.name_or_path)
    if isinstance(shortlist, (str, os.PathLike)):
        return Shortlist.from_pretrained(shortlist)
    if not hasattr(shortlist, "tokens_for"):
        raise TypeError(
            f"shortlist={shortlist!r:.60} is of type {type(shortlist).__name__}; pass a Shortlist, the name of a "
            "folder or a repository that has one, or True for the one beside the model."
        )
    return shortlist


def is_optional(shortlist: Any) -> bool:
    """Whether nobody has asked for a shortlist, which may be of any class."""
    return bool(getattr(shortlist, "is_optional", False))


def shortlist_beside(model: Any) -> Shortlist | None:
    """The shortlist that lies beside a model where that was loaded from, as an optional one.

    None if there is none, or, with a warning, if it is for another vocabulary.

    Raises:
        ValueError: if the file is not a shortlist.
    """
    file = getattr(model, "shortlist_file", None)
    if file is None and model.name_or_path:  # empty for a model that was not loaded from anywhere
        file = Path(model.name_or_path) / FILE_NAME
    if file is None or not Path(file).is_file():
        return None
    found = Shortlist.from_pretrained(file)
    if not found.fits(model.config):
        logger.warning(f"{file} is not used: it was made for another vocabulary. Make it anew, or remove it.")
        return None
    found.is_optional = True
    return found


def shortlist_on_hub(name: Any, places: dict[str, Any]) -> Path | None:
    """The file of the shortlist of a model on the Hub, which is downloaded; None if there is none.

    Args:
        name: of the model; of a folder there is nothing to download.
        places: what `from_pretrained` was given to find files, such as `revision` and `token`.
    """
    if os.path.isdir(name):
        return None
    try:
        return Path(str(cached_file(str(name), FILE_NAME, **places)))
    except OSError as error:  # also where the Hub cannot be asked
        logger.info(f"There is no {FILE_NAME} to be had of {name}: {error}")
        return None


def _find_file(name: str | os.PathLike, **kwargs: Any) -> Path:
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        if (path / FILE_NAME).is_file():
            return path / FILE_NAME
        raise FileNotFoundError(
            f"There is no {FILE_NAME} in the folder {path}. Make one with Shortlist.from_pairs(...), and put it there "
            "with its save_pretrained, or leave shortlist out."
        )
    # A name on the Hub is `name` or `owner/name`.
    if path.is_absolute() or not 0 < len(path.parts) < 3 or path.parts[0] in ("..", "~"):
        raise FileNotFoundError(f"There is no folder {path} to read a shortlist from.")
    try:
        return Path(str(cached_file(str(name), FILE_NAME, **kwargs)))
    except OSError as error:
        raise OSError(
            f"There is no folder {path} to read a shortlist from, and of a repository with that name on the Hub there "
            f"is no {FILE_NAME} to be had: {error}"
        ) from error


def _check_pairs(
    source_ids: Sequence[Sequence[int]], target_ids: Sequence[Sequence[int]], source_vocab_size: int
) -> None:
    sources, targets = (list(itertools.chain.from_iterable(side)) for side in (source_ids, target_ids))
    if not sources or not targets:
        raise ValueError("The sources or the targets are all empty; give pairs of texts with tokens.")
    if min(sources) < 0 or max(sources) >= source_vocab_size:
        raise ValueError(
            f"source_ids has ids from {min(sources)} to {max(sources)}, but source_vocab_size is {source_vocab_size}."
        )
    if min(targets) < 0:
        raise ValueError(f"target_ids has the id {min(targets)}; leave padding out.")


def _translation_table(
    source_ids: Sequence[Sequence[int]], target_ids: Sequence[Sequence[int]], source_vocab_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Estimate translation probabilities with IBM Model 1.

    Returns:
        Source tokens, target tokens and the probability of the second given the first, of all pairs of tokens that
        occur in a pair of sentences. The id behind the last source token is the null word: target tokens that no token
        of the source translates to are aligned with it.
    """
    sources, targets, positions = _cooccurrences(source_ids, target_ids, source_vocab_size)
    width = int(targets.max()) + 1
    pairs, pair_ids = torch.unique(sources * width + targets, return_inverse=True)
    sources, targets = pairs // width, pairs % width
    probabilities = torch.ones(len(pairs))
    for _ in range(ROUNDS):
        posteriors = probabilities[pair_ids]
        posteriors /= torch.zeros(int(positions[-1]) + 1).index_add_(0, positions, posteriors)[positions]
        counts = torch.zeros(len(pairs)).index_add_(0, pair_ids, posteriors)
        totals = torch.zeros(source_vocab_size + 1).index_add_(0, sources, counts)
        probabilities = counts / totals[sources]
    return sources, targets, probabilities


def _cooccurrences(
    source_ids: Sequence[Sequence[int]], target_ids: Sequence[Sequence[int]], source_vocab_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Every token of a source, each with every token of its target, and a number for the position of the latter."""
    total = sum((len(source) + 1) * len(target) for source, target in zip(source_ids, target_ids, strict=True))
    stride = -(-total // MOST_TOKEN_PAIRS)
    sources, targets, sizes = [], [], []
    for source, target in zip(source_ids[::stride], target_ids[::stride], strict=True):
        with_null = torch.tensor([*source, source_vocab_size])
        sources.append(with_null.repeat(len(target)))
        targets.append(torch.tensor(target, dtype=torch.long).repeat_interleave(len(with_null)))
        sizes.append(torch.full((len(target),), len(with_null)))
    positions = torch.arange(sum(map(len, sizes))).repeat_interleave(torch.cat(sizes))
    return torch.cat(sources), torch.cat(targets), positions
