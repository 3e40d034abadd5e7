"""
A lexical shortlist: which target tokens a translation may need, told from the tokens of its source.

The output layer compares every target position with the whole vocabulary, although nearly all sentences can be written
with the translations of their own words and with frequent words. A shortlist names these (Jean et al. 2015, section
3.3; L'Hostis et al. 2016), and `generate(shortlist=...)` looks at nothing else: as if the vocabulary were smaller.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers.utils import cached_file

from .sharing import SHORTLIST as FILE_NAME

# Of a corpus with more pairs of a source and a target token than these, sentences are left out evenly.
MOST_TOKEN_PAIRS = 2**25
ROUNDS = 5  # of expectation maximisation


class Shortlist:
    """
    Args:
        candidates: for each source token the target tokens that may translate it.
        always: target tokens that are looked at whatever the source is.

    Raises:
        ValueError: if there are no candidates at all, or for an id below 0.

    Example:

    ```python
    >>> shortlist = Shortlist.from_pairs(source_ids, target_ids, source_vocab_size=8000)
    >>> shortlist.save_pretrained("outputs/my-model")
    >>> translator = pipeline("translation", model="outputs/my-model", shortlist=True)
    ```

    It lies beside the model then, and goes to the Hub with it. Nothing uses it unless it is told to, since it may
    change a translation. `shortlist=` also takes the object itself, and a folder or a name on the Hub.
    """

    def __init__(self, candidates: Sequence[Sequence[int]], always: Sequence[int] = ()) -> None:
        self.candidates = [list(of_one) for of_one in candidates]
        self.always = list(always)
        if not self.candidates or not (any(self.candidates) or self.always):
            raise ValueError(
                "A shortlist without any token leaves nothing to write; give candidates of source tokens."
            )
        if min(itertools.chain(self.always, *self.candidates)) < 0:
            raise ValueError("A shortlist names token ids, which are 0 or above; there is one below among these.")
        rows = [torch.tensor(of_one, dtype=torch.long) for of_one in self.candidates]
        self._table = pad_sequence(rows, batch_first=True, padding_value=-1)
        self._always = torch.tensor(self.always, dtype=torch.long)

    @classmethod
    def from_pairs(
        cls,
        source_ids: Sequence[Sequence[int]],
        target_ids: Sequence[Sequence[int]],
        source_vocab_size: int,
        size: int = 20,
        frequent: int = 100,
    ) -> Shortlist:
        """
        Learns from translated sentences which tokens translate which, with IBM Model 1 (Brown et al. 1993).

        Args:
            source_ids, target_ids: token ids of sentence pairs, such as those the model was trained on.
            source_vocab_size: number of source tokens.
            size: candidates of each source token, at most.
            frequent: so many of the most frequent target tokens are always looked at.

        Raises:
            ValueError: if the two sides differ in length, or are empty, or for an id that no token has.
        """
        if len(source_ids) != len(target_ids) or not source_ids:
            raise ValueError(f"There are {len(source_ids)} sources and {len(target_ids)} targets; give pairs.")
        _check_pairs(source_ids, target_ids, source_vocab_size)
        counts = torch.bincount(torch.tensor([token for target in target_ids for token in target]))
        sources, targets, probabilities = _translation_table(source_ids, target_ids, source_vocab_size)
        # By source token, and within each the most probable target token first
        order = probabilities.argsort(descending=True, stable=True)
        order = order[sources[order].argsort(stable=True)]
        by_source = targets[order].split(torch.bincount(sources, minlength=source_vocab_size + 1).tolist())
        most_frequent = counts.topk(min(frequent, int(counts.count_nonzero()))).indices
        return cls([of_one[:size].tolist() for of_one in by_source[:source_vocab_size]], most_frequent.tolist())

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Shortlist:
        """
        Reads what `save_pretrained` wrote.

        Args:
            pretrained_model_name_or_path: a folder, the file itself, or a name on the Hub.
            kwargs: for the Hub, such as `revision` and `token`.

        Raises:
            OSError: if there is none.
            ValueError: if the file is none.
        """
        path = _find(pretrained_model_name_or_path, **kwargs)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(content["candidates"], content["always"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a shortlist as Shortlist.save_pretrained writes it: {error!r}") from error

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Writes `shortlist.json`, to lie beside the model it belongs to."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"always": self.always, "candidates": self.candidates}, separators=(",", ":"))
        (folder / FILE_NAME).write_text(content, encoding="utf-8")

    def tokens_for(self, source_ids: torch.Tensor, needed: Sequence[int] = ()) -> torch.Tensor:
        """
        The target tokens for a batch of sources together, in ascending order.

        Args:
            source_ids: `(batch, source)`.
            needed: further target tokens, such as the end token.

        Raises:
            ValueError: if a source token is none of those that the shortlist was made for.
        """
        sources = source_ids.unique().cpu()
        if len(sources) and int(sources[-1]) >= len(self._table):
            raise ValueError(
                f"The shortlist was made for {len(self._table)} source tokens, but the source has the id "
                f"{int(sources[-1])}; use the one that belongs to the model."
            )
        tokens = torch.cat([self._table[sources].flatten(), self._always, torch.tensor(needed, dtype=torch.long)])
        tokens = tokens.unique()
        return tokens[tokens >= 0].to(source_ids.device)


def load_shortlist(shortlist: Any, model: Any) -> Shortlist | None:
    """
    What is meant by an argument `shortlist`.

    Args:
        shortlist: a shortlist; a folder or a name on the Hub to read one from; True for the one beside the model; None
            or False for none.
        model: whose shortlist True means.

    Raises:
        OSError: if there is none where it is looked for.
        TypeError: for anything else.
        ValueError: for True with a model that comes from nowhere, or for a file that is no shortlist.
    """
    if shortlist is None or shortlist is False:
        return None
    if shortlist is True:
        if not model.name_or_path:
            raise ValueError(
                "shortlist=True takes the shortlist beside the model, but this model was not loaded from anywhere. "
                "Pass a Shortlist, or the name of a folder that has one."
            )
        return Shortlist.from_pretrained(model.name_or_path, revision=getattr(model.config, "_commit_hash", None))
    if isinstance(shortlist, (str, os.PathLike)):
        return Shortlist.from_pretrained(shortlist)
    if not hasattr(shortlist, "tokens_for"):
        raise TypeError(
            f"shortlist={shortlist!r:.60} is of type {type(shortlist).__name__}; pass a Shortlist, the name of a "
            "folder or a repository that has one, or True for the one beside the model."
        )
    return shortlist


def _find(name: str | os.PathLike, **kwargs: Any) -> Path:
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
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Source tokens, target tokens and the probability of the second given the first, of all that meet in a pair. The id
    behind the last source token stands for no token: it takes what no word of the source says.
    """
    sources, targets, positions = _meetings(source_ids, target_ids, source_vocab_size)
    width = int(targets.max()) + 1
    pairs, which = torch.unique(sources * width + targets, return_inverse=True)
    sources, targets = pairs // width, pairs % width
    probabilities = torch.ones(len(pairs))
    for _ in range(ROUNDS):
        shares = probabilities[which]
        shares /= torch.zeros(int(positions[-1]) + 1).index_add_(0, positions, shares)[positions]
        counts = torch.zeros(len(pairs)).index_add_(0, which, shares)
        totals = torch.zeros(source_vocab_size + 1).index_add_(0, sources, counts)
        probabilities = counts / totals[sources]
    return sources, targets, probabilities


def _meetings(
    source_ids: Sequence[Sequence[int]], target_ids: Sequence[Sequence[int]], source_vocab_size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Every token of a source with every token of its target, and a number for the position of the latter."""
    total = sum((len(source) + 1) * len(target) for source, target in zip(source_ids, target_ids, strict=True))
    every = -(-total // MOST_TOKEN_PAIRS)
    sources, targets, sizes = [], [], []
    for source, target in zip(source_ids[::every], target_ids[::every], strict=True):
        of_source = torch.tensor([*source, source_vocab_size])
        sources.append(of_source.repeat(len(target)))
        targets.append(torch.tensor(target, dtype=torch.long).repeat_interleave(len(of_source)))
        sizes.append(torch.full((len(target),), len(of_source)))
    positions = torch.arange(sum(map(len, sizes))).repeat_interleave(torch.cat(sizes))
    return torch.cat(sources), torch.cat(targets), positions


__all__ = ["Shortlist", "load_shortlist"]
