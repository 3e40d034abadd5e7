"""Beam search, one step after another: which beams go on, and which sentences are finished.

What is chosen of a step is a handful of numbers for each sentence. They are compared as arrays of numpy on the CPU,
which takes less time than small tensor operations, and on a GPU fewer waits. Whatever has a number for each token of
the vocabulary stays where the model is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .endings import candidate_count, end_ids_of, list_of_end_ids, padding_id
from .finished_rows import most_finished, rows_to_drop
from .history import History
from .hypotheses import NEGATIVE_SCORE, Hypotheses, describe, taken
from .search_inputs import SearchInputs
from .stepper import Wanted
from .top_tokens import best_continuations, best_of_all

# Ordinary scores lie between -SCORE_LIMIT and SCORE_LIMIT, far above NEGATIVE_SCORE.
SCORE_LIMIT = 1.0e8
# Of so few sentences a step costs less than to see which of them are finished: that is done after every second one.
FEW, STEPS_OF_FEW = 16, 2


class BeamSearch:
    """One beam search; its attributes change with every step."""

    begins_with_one_beam = True  # where that is possible: they are alike

    def __init__(self, inputs: SearchInputs) -> None:
        stepper, input_ids, logits_processor, _, config, *_ = inputs
        self._stepper, self._processor, self._criteria = stepper, logits_processor, inputs.stopping_criteria
        self._config, self._drop_finished, self._prompts = config, inputs.drop_finished, input_ids
        self._normalization, self._plain_criteria = inputs.penalty(), inputs.has_plain_criteria()
        self._device = input_ids.device
        sentences, self._beams = len(input_ids), int(config.num_beams)
        self._end_ids, self._ends = end_ids_of(config, self._device), list_of_end_ids(config)
        self._candidate_count = candidate_count(config)
        if stepper.vocabulary_size * self._beams < self._candidate_count:
            raise ValueError(
                f"num_beams={self._beams} compares {self._candidate_count} continuations of a sentence, but there are "
                f"only {stepper.vocabulary_size} tokens to go on with. Use fewer beams, or a larger shortlist."
            )
        self._remaining = np.arange(sentences)
        self._history = History(sentences)
        self._hypotheses = Hypotheses(sentences, self._beams)
        self._length = 0  # of the hypotheses, without the prompt
        # The beams of a sentence begin alike. Only the first one counts, or all of them would be continued alike.
        self._scores = np.full((sentences, self._beams), NEGATIVE_SCORE)
        self._scores[:, 0] = 0
        self._next_ids = input_ids
        if not self.begins_with_one_beam or logits_processor or stepper.vocabulary_size < self._candidate_count:
            self._next_ids = input_ids.repeat_interleave(self._beams, dim=0)
            stepper.reorder(self._tensor(self._remaining.repeat(self._beams)))
        # Whole sequences are kept at every step only if a processor or a criterion reads them.
        is_read = bool(logits_processor) or not self._plain_criteria
        self._sequences = input_ids.unsqueeze(1).expand(-1, self._beams, -1) if is_read else None
        # The best `num_beams` scores and the next one, `(sentences, num_beams + 1)`: of the candidates of each step,
        # and of each selection among them
        self._candidate_scores: list[np.ndarray] = []
        self._selected_scores: list[np.ndarray] = []
        self._is_precise = False  # whether logits have 32 bits or more: ties by chance are rare then
        self._results: list[tuple[np.ndarray, Hypotheses]] = []

    def run(self) -> None:
        """Take all steps."""
        while not self._step():
            pass

    def is_certain(self) -> bool:
        """Whether an exact search would find the same, as far as the scores of the finished search show."""
        if not all(self._are_ordinary(of_sentences) for _, of_sentences in self._results):
            return False
        candidates = np.concatenate(self._candidate_scores)
        # A finished hypothesis with NEGATIVE_SCORE counts for early stopping, when a sentence has enough of them.
        if self._config.early_stopping is True and candidates[:, -2].min() <= -SCORE_LIMIT:
            return False
        return self._are_unambiguous(np.concatenate([candidates, *self._selected_scores]))

    def results(self) -> tuple[Tensor, Tensor]:
        """The best hypotheses of all sentences, `(sentences * returned, length)`, and their scores."""
        sentences = np.concatenate([sentences for sentences, _ in self._results])
        order, returned = sentences.argsort(), self._config.num_return_sequences
        numbers = np.concatenate([best.described for _, best in self._results])[order, :returned, :3].reshape(-1, 3)
        scores = np.concatenate([best.scores for _, best in self._results])[order, :returned].flatten()
        of_sentence = np.arange(len(sentences)).repeat(returned)[:, np.newaxis]
        written = self._history.tokens(np.concatenate([of_sentence, numbers], axis=1))
        longest, fill = max(map(len, written)), padding_id(self._config)
        padded = [tokens + [fill] * (longest - len(tokens)) for tokens in written]
        prompts = self._prompts if returned == 1 else self._prompts.repeat_interleave(returned, dim=0)
        return torch.cat([prompts, prompts.new_tensor(padded)], dim=1), self._tensor(scores)

    def _step(self) -> bool:
        """Add one token to every beam, or some in one go; True when the search is over."""
        steps = [_array(one) for one in self._best_candidates()]
        # Of the step before the last one: at the first one there may be one beam.
        beams = self._beams if len(steps[0]) > 1 else len(self._next_ids) // len(self._scores)
        chosen = None
        for scores, parents, tokens in zip(*steps, strict=True):
            chosen = self._add(scores, parents, tokens)
            if chosen is None:
                return True
        assert chosen is not None  # there is one step at least
        self._advance(*chosen, beams)
        return False

    def _best_candidates(self) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, parent beams and tokens of the best candidates, the best first, of one or some steps.

        Each is `(steps, sentences, candidates)`. It is one step where a processor or a criterion looks at each.
        """
        sentences = len(self._scores)
        offsets = self._tensor(self._scores[:, : len(self._next_ids) // sentences])
        if self._processor:
            return self._of_all_scores(offsets)
        steps = self._config.max_length - self._prompts.shape[1] - self._length if self._plain_criteria else 1
        ends = self._prompts.new_empty(0) if self._end_ids is None else self._end_ids
        most_full = most_finished(sentences) if self._drop_finished else sentences - 1
        if self._hypotheses.any_full and sentences <= FEW:
            steps, most_full = min(steps, STEPS_OF_FEW), sentences
        finished = torch.from_numpy(self._hypotheses.counts())
        wanted = Wanted(self._candidate_count, self._beams, max(1, steps), ends, finished, most_full)
        found = self._stepper.best_continuations(self._next_ids, offsets, wanted)
        self._is_precise = self._stepper.is_precise
        return found

    def _of_all_scores(self, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same from the log-probabilities of all tokens, which a processor may change."""
        logits = self._stepper.step(self._next_ids)
        self._is_precise = logits.dtype.itemsize >= 4
        scores = logits.float().log_softmax(1)
        if self._processor and self._sequences is not None:
            scores = self._processor(self._sequences.flatten(0, 1), scores)  # type: ignore[arg-type]
        values, parents, columns = self._best_of_scores(scores.view(*offsets.shape, -1), offsets)
        return values.unsqueeze(0), parents.unsqueeze(0), self._stepper.ids(columns).unsqueeze(0)

    def _best_of_scores(self, scores: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return best_continuations(scores, offsets, self._candidate_count)

    def _add(
        self, scores: np.ndarray, parents: np.ndarray, tokens: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None] | None:
        """Add one token to every beam, of the candidates of a step, `(sentences, candidates)`.

        Returns the beams that go on and their new tokens, `(sentences, num_beams)`, and which sentences are finished;
        None when the search is over.
        """
        self._length += 1
        self._candidate_scores.append(scores[:, : self._beams + 1])
        finished = self._finished_candidates(parents, tokens)
        # The candidates are in order: where none is finished, the first ones are the best unfinished ones.
        chosen = [one[:, : self._beams] for one in (scores, parents, tokens)]
        sentences = self._sentences_to_look_at(finished)
        if len(sentences):
            of_sentences = [one[sentences] for one in (scores, parents, tokens, finished)]
            self._add_finished(sentences, *of_sentences)
            chosen = [one.copy() for one in chosen]
            for one, part in zip(chosen, self._unfinished(*of_sentences), strict=True):
                one[sentences] = part
        self._scores, parents, tokens = chosen
        self._history.append(parents, tokens)
        if self._sequences is not None:
            self._sequences = _extended(self._sequences, self._tensor(parents), self._tensor(tokens))
        done = self._finished_sentences()
        is_last = len(sentences) > 0 and finished.all()
        if is_last or (done is not None and done.all()):
            self._drop(np.ones(len(tokens), np.bool_))
            return None
        return parents, tokens, done

    def _finished_candidates(self, parents: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Which candidates are finished, `(sentences, candidates)`."""
        if not self._plain_criteria and self._sequences is not None:
            sequences = _extended(self._sequences, self._tensor(parents), self._tensor(tokens))
            return _array(self._criteria(sequences.flatten(0, 1), None)).reshape(tokens.shape)
        if self._prompts.shape[1] + self._length >= self._config.max_length:
            return np.ones(tokens.shape, np.bool_)
        finished = np.zeros(tokens.shape, np.bool_)
        for end_id in self._ends:
            finished |= tokens == end_id
        return finished

    def _sentences_to_look_at(self, finished: np.ndarray) -> np.ndarray:
        """The numbers of the sentences in which the finished candidates make a difference, `(sentences,)`."""
        return finished.any(1).nonzero()[0]

    def _add_finished(
        self, sentences: np.ndarray, scores: np.ndarray, parents: np.ndarray, tokens: np.ndarray, finished: np.ndarray
    ) -> None:
        """Add the finished ones among the best `num_beams` candidates of sentences, if they are good enough.

        Other candidates are compared with `NEGATIVE_SCORE` added, which with ordinary scores is as if they were not.
        """
        kept = self._hypotheses
        added = finished.copy()
        added[:, self._beams :] = False
        scores = self._normalized(scores, self._length)
        if self._normalization.needs_coverage:
            scores = scores + self._uncovered(sentences, parents)
        if self._config.early_stopping is True:
            scores = scores + kept.are_full()[sentences, np.newaxis] * NEGATIVE_SCORE
        scores = scores + ~kept.improvable[sentences, np.newaxis] * NEGATIVE_SCORE
        scores = np.concatenate([kept.scores[sentences], scores + ~added * NEGATIVE_SCORE], axis=1)
        candidates = describe(self._length, parents, tokens, added)
        kept.choose(sentences, self._best_indices(scores), scores, candidates)

    @np.errstate(all="ignore")  # as with tensors, what is no ordinary number is compared and not warned of
    def _normalized(self, scores: np.ndarray, length: int) -> np.ndarray:
        """The scores of hypotheses of so many tokens, computed where the model is: a GPU rounds in another way."""
        if self._device.type == "cpu":
            return self._normalization.normalized(scores, length)
        return _array(self._normalization.normalized(self._tensor(scores), length))

    def _uncovered(self, sentences: np.ndarray, parents: np.ndarray) -> np.ndarray | float:
        """What is added to the scores of candidates with these parent beams for what they cover of the source."""
        covered = self._stepper.covered
        if covered is None:
            return 0.0
        of_beams = _array(torch.as_tensor(self._normalization.uncovered(covered)))
        return taken(of_beams.reshape(len(self._scores), -1)[sentences], parents)

    def _best_indices(self, scores: np.ndarray) -> np.ndarray:
        """Indices of the best of scores `(sentences, scores)`, the best first, `(sentences, num_beams)`."""
        best = (-scores).argsort(axis=1)[:, : self._beams + 1]
        self._selected_scores.append(taken(scores, best))
        return best[:, : self._beams]

    def _unfinished(
        self, scores: np.ndarray, parents: np.ndarray, tokens: np.ndarray, finished: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Scores, parents and tokens of the best unfinished candidates, `(sentences, num_beams)`.

        The candidates stand in order, and so do those that are chosen, as in the graphs of a runtime: these go on with
        them before they are looked at here.
        """
        scores = scores + finished * NEGATIVE_SCORE
        places = finished.argsort(axis=1, kind="stable")[:, : self._beams + 1]
        self._selected_scores.append(taken(scores, places))
        return tuple(taken(one, places[:, : self._beams]) for one in (scores, parents, tokens))

    def _finished_sentences(self) -> np.ndarray | None:
        """Which sentences are finished, since no beam can improve their hypotheses any more, `(sentences,)`.

        None where none is.
        """
        if not self._hypotheses.any_full:
            return None
        self._look_for_improvements()
        return self._done(~self._hypotheses.improvable, self._hypotheses.are_full())

    def _look_for_improvements(self) -> None:
        config, length = self._config, self._length
        if config.early_stopping == "never" and self._normalization.grows_with_length():
            length = config.max_length - self._prompts.shape[1]
        best = self._normalized(self._scores[:, :1], length)
        self._hypotheses.improvable &= (best > self._hypotheses.worst()).any(1)

    def _done(self, best: np.ndarray, full: np.ndarray) -> np.ndarray:
        """Which sentences are finished, of those that have their best hypotheses, and those that have enough."""
        return best | full if self._config.early_stopping is True else best

    def _advance(self, parents: np.ndarray, tokens: np.ndarray, done: np.ndarray | None, beams: int) -> None:
        """Reorder the decoder's rows for the next step, after dropping finished sentences if that may be done.

        The first three arguments are what `_add` returned for the last step, which read so many beams of a sentence.
        """
        rows = parents + np.arange(0, len(parents) * beams, beams)[:, np.newaxis]
        remaining = None
        if done is not None and self._drop_finished:
            dropped = rows_to_drop(torch.from_numpy(done), int(done.sum()))
            if dropped is not None:
                going_on = np.flatnonzero(~dropped.numpy())
                rows, tokens, remaining = rows[going_on], tokens[going_on], self._tensor(going_on)
                self._drop(dropped.numpy())
        self._stepper.reorder(self._tensor(rows.reshape(-1)), remaining)
        self._next_ids = self._tensor(tokens.reshape(-1, 1))

    def _drop(self, dropped: np.ndarray) -> None:
        """Drop sentences from the batch, and keep their hypotheses for the results."""
        self._results.append((self._remaining[dropped], self._hypotheses.of(dropped)))
        remaining = ~dropped
        self._remaining, self._scores = self._remaining[remaining], self._scores[remaining]
        self._history.keep(self._remaining)
        self._hypotheses = self._hypotheses.of(remaining)
        self._sequences = None if self._sequences is None else self._sequences[self._tensor(remaining)]

    @np.errstate(all="ignore")
    def _are_ordinary(self, best: Hypotheses) -> bool:
        """Whether the hypotheses of sentences are all finished, and their scores ordinary and in order."""
        if not best.are_full().all():
            return False
        scores = best.scores.astype(np.float64)
        sums = scores * best.described[:, :, 0].astype(np.float64) ** self._config.length_penalty
        is_ordinary = (abs(scores) < SCORE_LIMIT) & (abs(sums) < SCORE_LIMIT)
        return bool(is_ordinary.all() and self._is_above(scores[:, :-1], scores[:, 1:]).all())

    def _are_unambiguous(self, best: np.ndarray) -> bool:
        """Whether it is certain which `num_beams` scores are the best in each selection.

        Args:
            best: for each selection the best `num_beams` scores and the next one, `(selections, num_beams + 1)`.
        """
        first, last, following = best[:, 0], best[:, -2], best[:, -1]
        is_clear = self._is_above(last, following) | (last < -SCORE_LIMIT)
        return bool(is_clear.all() and (first < SCORE_LIMIT).all())  # NaN comes first, or is above nothing

    def _is_above(self, score: Any, following: Any) -> Any:
        """Whether a score is above the following one; in half precision, where ties are common, not below it."""
        return following < score if self._is_precise else following <= score

    def _tensor(self, array: np.ndarray) -> Tensor:
        """Numbers where the model is."""
        return torch.from_numpy(array).to(self._device)


class ExactBeamSearch(BeamSearch):
    """A search that compares whatever transformers compares. No row is dropped."""

    begins_with_one_beam = False

    def _best_candidates(self) -> tuple[Tensor, Tensor, Tensor]:
        return self._of_all_scores(self._tensor(self._scores))

    def _best_of_scores(self, scores: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = super()._best_of_scores(scores, offsets)
        return found if self._are_distinct(found[0]) else best_of_all(scores, offsets, self._candidate_count)

    def _are_distinct(self, scores: Tensor) -> bool:
        """Whether these scores, the best first, are ordinary ones, and no two are equal."""
        return bool(self._is_above(scores[:, :-1], scores[:, 1:]).all() & (scores.abs() < SCORE_LIMIT).all())

    def _sentences_to_look_at(self, finished: np.ndarray) -> np.ndarray:
        return np.arange(len(finished))

    def _best_indices(self, scores: np.ndarray) -> np.ndarray:
        # Which of equal scores come first depends on how many are wanted, and on the device
        return _array(self._tensor(scores).topk(self._beams).indices)

    def _unfinished(
        self, scores: np.ndarray, parents: np.ndarray, tokens: np.ndarray, finished: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        scores = scores + finished * NEGATIVE_SCORE
        best = self._best_indices(scores)
        return tuple(taken(one, best) for one in (scores, parents, tokens))

    def _finished_sentences(self) -> np.ndarray | None:
        # transformers continues all sentences until all are finished, or all are full
        self._look_for_improvements()
        hypotheses = self._hypotheses
        sentences = np.ones(len(hypotheses.improvable), np.bool_)
        return self._done(sentences & ~hypotheses.improvable.any(), sentences & hypotheses.are_full().all())


def _array(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor, on the CPU."""
    return tensor.cpu().numpy()


def _extended(sequences: Tensor, beams: Tensor, tokens: Tensor) -> Tensor:
    """The sequences `(sentences, beams, length)` of some beams, each with one more token `(sentences, chosen)`."""
    indices = beams.unsqueeze(2).expand(-1, -1, sequences.shape[2])
    return torch.cat([sequences.gather(1, indices), tokens.unsqueeze(2)], dim=2)
