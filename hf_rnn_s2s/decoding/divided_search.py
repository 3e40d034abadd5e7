"""Beam search with divided beams: among phrases that must be written, and among groups that avoid each other's words.

This is not the fast search: hypotheses are plain numbers on the host, and Python chooses among them, one sentence
after the other. Without phrases and with one group it writes what ordinary beam search writes.

- *Phrases* (grid beam search, Hokamp & Liu 2017, with the beams divided as in dynamic beam allocation, Post & Vilar
  2018): beside the most probable tokens, each beam is continued with the next token of every phrase that it lacks,
  and with the first one. Candidates are put into banks by the number of tokens of phrases that they have, and the
  banks take turns, the fullest one first, until there are enough beams. A hypothesis ends only with all phrases. Where
  the room that is left is just enough for the phrases that are missing, nothing else is written. So every translation
  that is returned has all phrases.
- *Groups* (diverse beam search, Vijayakumar et al. 2018): the beams of a sentence are cut into groups, each of which
  is a beam search of its own. In each step, one group after the other, the score of a token is lowered by the penalty
  for each beam of an earlier group that chose it (Hamming diversity).
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from .constraints import Constraints, Progress
from .endings import list_of_end_ids, padding_id
from .normalization import LengthPenalty
from .phrases import Phrase
from .search_inputs import SearchInputs
from .stepper import Stepper


class Beam(NamedTuple):
    """An unfinished hypothesis, or the place of one.

    Attributes:
        score: the sum of its log-probabilities and penalties; -inf where there is no hypothesis.
        tokens: the prompt, and what was written.
        progress: what it has of the phrases of its sentence.
    """

    score: float
    tokens: tuple[int, ...]
    progress: Progress


class Candidate(NamedTuple):
    """A beam with one more token.

    Attributes:
        beam: the hypothesis.
        parent: the number of the beam that it continues, within its group.
        total: its score if it is finished.
        finished: whether it is.
        bank: the number of tokens of phrases that it has.
    """

    beam: Beam
    parent: int
    total: float
    finished: bool
    bank: int


class Group:
    """Some beams of a sentence, which are searched together.

    Args:
        beams: the unfinished hypotheses.

    Attributes:
        beams: as given, and after each step the next ones.
        parents: which of the beams before each of them continues.
        finished: scores and tokens of the best finished hypotheses, as many as there are beams, the best first.
        is_done: whether nothing can become better any more.
    """

    def __init__(self, beams: list[Beam]) -> None:
        self.beams, self.parents = beams, list(range(len(beams)))
        self.finished: list[tuple[float, tuple[int, ...]]] = []
        self.is_done = False

    def is_full(self) -> bool:
        """Whether there are as many finished hypotheses as beams."""
        return len(self.finished) == len(self.beams)

    def add(self, candidates: Iterable[Candidate]) -> None:
        """Take the finished ones of some candidates, if they are good enough."""
        added = [(one.total, one.beam.tokens) for one in candidates if one.finished]
        self.finished = sorted([*self.finished, *added], key=lambda one: -one[0])[: len(self.beams)]

    def go_on(self, chosen: Sequence[Candidate], filling: int) -> None:
        """Take the next beams; places that are left are filled with the token `filling`."""
        rest = [Beam(-math.inf, (*one.tokens, filling), one.progress) for one in self.beams[len(chosen) :]]
        self.beams = [*(one.beam for one in chosen), *rest]
        self.parents = [*(one.parent for one in chosen), *range(len(chosen), len(self.beams))]


class Sentence:
    """What is searched for one source.

    Args:
        number: of the source row.
        groups: the beams.
        constraints: the phrases to write.
    """

    def __init__(self, number: int, groups: list[Group], constraints: Constraints) -> None:
        self.number, self.groups, self.constraints = number, groups, constraints

    def is_done(self) -> bool:
        """Whether all groups are done."""
        return all(group.is_done for group in self.groups)

    def ranking(self) -> list[tuple[int, ...]]:
        """The finished hypotheses: the best one of each group, then the second ones, ...; repeated ones come last."""
        rounds = itertools.zip_longest(*(group.finished for group in self.groups))
        ordered = [
            tokens for one in rounds for _, tokens in sorted((some for some in one if some), key=lambda some: -some[0])
        ]
        distinct = list(dict.fromkeys(ordered))
        repeated = [tokens for place, tokens in enumerate(ordered) if tokens in ordered[:place]]
        return distinct + repeated


def divided_beam_search(
    stepper: Stepper,
    input_ids: Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    config: GenerationConfig,
    drop_finished: bool,
    normalization: LengthPenalty | None = None,
    phrases: Sequence[Sequence[Phrase]] | None = None,
) -> Tensor:
    """Search as the docstring of this module says.

    Args:
        stepper: the decoder, with one row for each sentence.
        input_ids: the prompts, `(sentences, prompt)`.
        logits_processor: changes the log-probabilities before candidates are chosen.
        stopping_criteria: say which sequences are finished. With phrases, end tokens and the length must be all.
        config: as in `beam_search`, with `num_beam_groups` and `diversity_penalty`.
        drop_finished: as in `beam_search`.
        normalization: as in `beam_search`.
        phrases: those that the translations of each sentence must contain.

    Returns:
        Token ids `(sentences * num_return_sequences, prompt + new)`. Those of a sentence are the best ones of its
        groups, in the order of their scores, then the second best ones, and so on.

    Raises:
        ValueError: if a sentence has fewer translations than are to be returned, since nothing could follow its beams.
    """
    inputs = SearchInputs(
        stepper, input_ids, logits_processor, stopping_criteria, config, drop_finished, normalization
    )
    search = _DividedSearch(inputs, phrases or ())
    while search.step():
        pass
    return search.results()


class _DividedSearch:
    """One such search; its attributes change with every step.

    Args:
        inputs: what is searched for.
        phrases: as in `divided_beam_search`.
    """

    def __init__(self, inputs: SearchInputs, phrases: Sequence[Sequence[Phrase]]) -> None:
        stepper, input_ids, logits_processor, _, config, *_ = inputs
        self._stepper, self._processor, self._criteria = stepper, logits_processor, inputs.stopping_criteria
        self._config, self._drop_finished, self._prompts = config, inputs.drop_finished, input_ids
        self._normalization, self._plain_criteria = inputs.penalty(), inputs.has_plain_criteria()
        beams: int = config.num_beams
        self._groups: int = config.num_beam_groups or 1
        self._size = beams // self._groups
        self._penalty = float(config.diversity_penalty or 0.0) if self._groups > 1 else 0.0
        self._end_ids = list_of_end_ids(config)
        self._length, self._prompt = 0, input_ids.shape[1]
        self._limit: int = config.max_length - self._prompt
        if config.forced_eos_token_id is not None:
            self._limit -= 1  # the last place is taken
        self._all = [
            self._sentence(number, tuple(prompt), phrases[number] if phrases else ())
            for number, prompt in enumerate(input_ids.tolist())
        ]
        self._sentences = self._all
        stepper.reorder(torch.arange(len(self._all), device=input_ids.device).repeat_interleave(beams))
        self._next_ids = input_ids.repeat_interleave(beams, dim=0)

    def _sentence(self, number: int, prompt: tuple[int, ...], phrases: Sequence[Phrase]) -> Sentence:
        constraints = Constraints(phrases)
        first = Beam(0.0, prompt, constraints.start(prompt))
        # The beams of a group begin alike. Only the first one counts, or all of them would be continued alike.
        others = [first._replace(score=-math.inf)] * (self._size - 1)
        return Sentence(number, [Group([first, *others]) for _ in range(self._groups)], constraints)

    def step(self) -> bool:
        """Add one token to every beam; False when the search is over."""
        log_probabilities = self._log_probabilities()
        self._length += 1
        chosen = torch.zeros_like(log_probabilities[:, 0, 0])  # how often each token was, (sentences, vocabulary)
        covered = self._stepper.covered if self._normalization.needs_coverage else None
        uncovered = None if covered is None else torch.as_tensor(self._normalization.uncovered(covered))
        for number in range(self._groups):
            groups = [sentence.groups[number] for sentence in self._sentences]
            going_on = [not group.is_done for group in groups]
            scores = [[beam.score for beam in group.beams] for group in groups]
            offsets = log_probabilities.new_tensor(scores).unsqueeze(2)
            scored = log_probabilities[:, number] + offsets
            if number:
                scored -= self._penalty * chosen.unsqueeze(1)
            rest = 0.0 if uncovered is None else uncovered.view(-1, self._groups, self._size, 1)[:, number]
            self._extend(groups, scored, rest)
            for row, group, is_going_on in zip(chosen, groups, going_on, strict=True):
                last = [beam.tokens[-1] for beam in group.beams if is_going_on and beam.score > -math.inf]
                row.index_add_(0, row.new_tensor(last, dtype=torch.long), row.new_ones(len(last)))
        return self._advance()

    def results(self) -> Tensor:
        """The best hypotheses of all sentences, `(sentences * returned, length)`."""
        returned: int = self._config.num_return_sequences
        written: list[tuple[int, ...]] = []
        for sentence in self._all:
            ranking = sentence.ranking()
            if len(ranking) < returned:
                raise ValueError(
                    f"The search found {len(ranking)} translations of row {sentence.number}, and {returned} are to be "
                    "returned: its beams came to places where nothing may follow. Raise max_new_tokens or num_beams, "
                    "or leave out what forces or forbids tokens."
                )
            written += ranking[:returned]
        longest, fill = max(map(len, written)), padding_id(self._config)
        return self._prompts.new_tensor([[*tokens, *[fill] * (longest - len(tokens))] for tokens in written])

    def _log_probabilities(self) -> Tensor:
        """Those of the next tokens, `(sentences, groups, beams of a group, vocabulary)`."""
        scores = self._stepper.step(self._next_ids).float().log_softmax(1)
        if self._processor:
            beams = [beam.tokens for _, beam in self._beams()]
            scores = self._processor(self._prompts.new_tensor(beams), scores)  # type: ignore[arg-type]
        for row, (sentence, beam) in enumerate(self._beams()):
            if sentence.constraints.total and beam.score > -math.inf:
                self._restrict(scores[row], sentence.constraints, beam)
        return scores.view(len(self._sentences), self._groups, self._size, -1)

    def _beams(self) -> Iterable[tuple[Sentence, Beam]]:
        """The beams in the order of the decoder's rows."""
        return ((sentence, beam) for sentence in self._sentences for group in sentence.groups for beam in group.beams)

    def _restrict(self, scores: Tensor, constraints: Constraints, beam: Beam) -> None:
        """Take the probability of tokens, `(vocabulary,)`, with which the phrases could not all be written."""
        if not constraints.are_met(beam.progress):
            scores[self._end_ids] = -torch.inf
        room = self._limit - self._length
        if room > 0 and not constraints.is_free(beam.progress, room):
            constraints.restrict(scores, beam.progress, beam.tokens, room)

    def _extend(self, groups: Sequence[Group], scores: Tensor, uncovered: Tensor | float) -> None:
        """Continue the beams of one group of each sentence.

        Args:
            groups: of the sentences.
            scores: of their beams with each next token, `(sentences, beams, vocabulary)`.
            uncovered: is added to what finished hypotheses score, `(sentences, beams, 1)`.
        """
        # Enough for all beams, even if the best tokens of each are those that end it
        ending = len(self._end_ids) if self._plain_criteria else max(self._size, len(self._end_ids))
        values, tokens = scores.topk(min(self._size + ending, scores.shape[2]), dim=2)
        wanted = self._wanted(groups)
        if wanted is not None:
            others = scores.gather(2, wanted.clamp(min=0)).masked_fill(wanted < 0, -torch.inf)
            values, tokens = torch.cat([values, others], dim=2), torch.cat([tokens, wanted], dim=2)
        totals = self._normalization.normalized(values, self._length) + uncovered
        finished = self._finished(groups, tokens)
        columns = (one.tolist() for one in (values, tokens, totals, finished))
        for sentence, group, *columns_of_group in zip(self._sentences, groups, *columns, strict=True):
            if not group.is_done:
                self._choose(group, self._candidates(sentence.constraints, group, *columns_of_group))

    def _wanted(self, groups: Sequence[Group]) -> Tensor | None:
        """The tokens that phrases want next, `(sentences, beams, tokens)`, -1 at padding; None without phrases."""
        wanted = [
            sorted(sentence.constraints.next_tokens(beam.progress))
            for sentence, group in zip(self._sentences, groups, strict=True)
            for beam in group.beams
        ]
        longest = max(map(len, wanted))
        if not longest:
            return None
        padded = [tokens + [-1] * (longest - len(tokens)) for tokens in wanted]
        return self._prompts.new_tensor(padded).view(len(groups), self._size, longest)

    def _finished(self, groups: Sequence[Group], tokens: Tensor) -> Tensor:
        """Which beams are finished with these tokens, `(sentences, beams, tokens)`."""
        if self._plain_criteria:
            if self._prompt + self._length >= self._config.max_length:
                return torch.ones_like(tokens, dtype=torch.bool)
            return torch.isin(tokens, tokens.new_tensor(self._end_ids))
        beams = tokens.new_tensor([[beam.tokens for beam in group.beams] for group in groups])
        beams = beams.unsqueeze(2).expand(-1, -1, tokens.shape[2], -1)
        sequences = torch.cat([beams, tokens.unsqueeze(3)], dim=3)
        return self._criteria(sequences.flatten(0, 2), None).view(tokens.shape)

    def _candidates(
        self,
        constraints: Constraints,
        group: Group,
        values: list[list[float]],
        tokens: list[list[int]],
        totals: list[list[float]],
        finished: list[list[bool]],
    ) -> list[Candidate]:
        """The continuations of the beams of a group, the best first; the lists are `(beams, tokens)`."""
        candidates = []
        for parent, rows in enumerate(zip(values, tokens, totals, finished, strict=True)):
            beam, seen = group.beams[parent], set()
            for value, token, total, is_finished in zip(*rows, strict=True):
                if token in seen or not value > -math.inf:  # nor a value that is no number
                    continue
                seen.add(token)
                written = (*beam.tokens, token)
                progress = constraints.after(beam.progress, written)
                bank = constraints.written(progress)
                candidates.append(Candidate(Beam(value, written, progress), parent, total, is_finished, bank))
        return sorted(candidates, key=lambda one: -one.beam.score)

    def _choose(self, group: Group, candidates: list[Candidate]) -> None:
        """Take the next beams of a group and its finished hypotheses from the candidates, which are in order."""
        config, length = self._config, self._length
        if not (config.early_stopping is True and group.is_full()):
            group.add(_divided(candidates, self._size))
        chosen = _divided([one for one in candidates if not one.finished], self._size)
        group.go_on(chosen, filling=0)
        if config.early_stopping == "never" and self._normalization.grows_with_length():
            length = config.max_length - self._prompt
        # As in transformers, the beams are worth going on with if the best one scores more than the worst hypothesis.
        best = torch.tensor(max(beam.score for beam in group.beams))
        can_improve = not group.is_full() or self._normalization.normalized(best, length) > group.finished[-1][0]
        group.is_done = not chosen or not can_improve or (config.early_stopping is True and group.is_full())

    def _advance(self) -> bool:
        """Reorder the decoder's rows for the next step, without finished sentences if these may be dropped."""
        beams = self._groups * self._size
        going_on = [place for place, sentence in enumerate(self._sentences) if not sentence.is_done()]
        if not going_on:
            return False
        remaining = None
        if self._drop_finished and len(going_on) < len(self._sentences):
            remaining = self._prompts.new_tensor(going_on)
        places = range(len(self._sentences)) if remaining is None else going_on
        rows = [
            place * beams + number * self._size + parent
            for place in places
            for number, group in enumerate(self._sentences[place].groups)
            for parent in group.parents
        ]
        self._stepper.reorder(self._prompts.new_tensor(rows), remaining)
        self._sentences = [self._sentences[place] for place in places]
        for group in itertools.chain.from_iterable(sentence.groups for sentence in self._sentences):
            if len(group.beams[0].tokens) < self._prompt + self._length:  # it was done before this step
                group.go_on([], filling=0)
        self._next_ids = self._prompts.new_tensor([[beam.tokens[-1]] for _, beam in self._beams()])
        return True


def _divided(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """Of each bank the best candidate, the fullest bank first, then the second best ones, until there are enough."""
    banks: dict[int, list[Candidate]] = defaultdict(list)
    for one in candidates:
        banks[one.bank].append(one)
    turns = itertools.zip_longest(*(banks[bank] for bank in sorted(banks, reverse=True)))
    chosen = itertools.islice((one for turn in turns for one in turn if one is not None), count)
    return sorted(chosen, key=lambda one: -one.beam.score)
