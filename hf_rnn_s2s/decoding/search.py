"""Greedy and beam search with the results of transformers' own, faster.

What they leave out is work that cannot change a result: finished rows are dropped from the batch, and of a step's
logits only the best few become log-probabilities and candidates (`top_tokens`). They return token ids; whatever else
`generate()` can return comes from the loops of transformers (`generation_rnn_s2s`).

At every step, transformers' beam search also compares the finished hypotheses with the unfinished ones, to whose
scores it adds a large negative number. With ordinary scores that changes nothing. It does where a sentence has too few
finished hypotheses in the end, where a score is not a number, and where scores are equal. A search that ends without
any of these is certain. Otherwise it is repeated, and the second one is exact: it compares all that transformers
compares.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from .endings import are_last, candidate_count, end_ids_of, is_from_config, padding_id
from .finished_rows import FinishedRows, most_finished, rows_to_drop
from .history import History
from .normalization import LengthPenalty
from .stepper import Stepper, Until, Wanted
from .top_tokens import best_continuations, best_of_all, best_tokens

# What transformers adds to the score of a candidate that must not win.
NEGATIVE_SCORE = -1.0e9
# Ordinary scores lie between -SCORE_LIMIT and SCORE_LIMIT, far above NEGATIVE_SCORE.
SCORE_LIMIT = 1.0e8
# Of so few sentences a step costs less than to see which of them are finished: that is done after every second one.
FEW, STEPS_OF_FEW = 16, 2


def greedy_search(
    stepper: Stepper,
    input_ids: Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    config: GenerationConfig,
    drop_finished: bool,
) -> Tensor:
    """Write the most probable next token of each row until all rows are finished.

    Args:
        stepper: the decoder, with one row for each source.
        input_ids: the prompts, `(rows, prompt)`.
        logits_processor: changes the logits before the token is chosen.
        stopping_criteria: say which rows are finished; where all are those that `generate()` makes of the
            configuration, it is looked up there instead.
        config: `max_length`, `eos_token_id`, and `pad_token_id`, which is written in rows that are finished.
        drop_finished: whether finished rows may be dropped from the batch: only if processors and criteria treat each
            row independently of the others.

    Returns:
        Token ids `(rows, prompt + new)`.
    """
    pad_token_id: Any = config._pad_token_tensor
    pad_token_id = pad_token_id.to(input_ids.device)
    end_ids = end_ids_of(config, input_ids.device)
    no_ids = input_ids.new_empty(0)
    plain_criteria = all(is_from_config(one, config) for one in stopping_criteria)
    finished_rows = FinishedRows(len(input_ids), pad_token_id)
    sequences = next_ids = input_ids
    finished = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
    while True:
        if logits_processor:
            logits = logits_processor(sequences, stepper.step(next_ids).float())  # type: ignore[arg-type]
            best = stepper.ids(best_tokens(logits))
            written = torch.where(finished, pad_token_id, best).unsqueeze(1)
        else:
            steps = max(1, config.max_length - sequences.shape[1]) if plain_criteria else 1
            most = most_finished(len(finished)) if drop_finished else len(finished) - 1
            until = Until(steps, no_ids if end_ids is None else end_ids, pad_token_id, most)
            written = stepper.best_tokens(next_ids, finished, until)
        sequences, next_ids = torch.cat([sequences, written], dim=1), written[:, -1:]
        if plain_criteria:
            finished = finished | are_last(written, sequences.shape[1], end_ids, config).any(1)
        else:
            finished = finished | stopping_criteria(sequences, None)
        count = int(finished.sum())
        if count == len(finished):
            return finished_rows.with_rest(sequences)
        dropped = rows_to_drop(finished, count) if drop_finished else None
        if dropped is not None:
            finished_rows.add(dropped, sequences[dropped])
            remaining = (~dropped).nonzero().squeeze(1)
            sequences, next_ids, finished = sequences[remaining], next_ids[remaining], finished[remaining]
            count = int(finished.sum())
            stepper.reorder(remaining, remaining)


def beam_search(
    stepper: Stepper,
    input_ids: Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    config: GenerationConfig,
    drop_finished: bool,
    repeatable: bool,
    normalization: LengthPenalty | None = None,
) -> tuple[Tensor, Tensor]:
    """Extend the `num_beams` best unfinished hypotheses of each sentence together.

    Which hypotheses are kept, how they are scored and when a sentence is finished is as in transformers 5. To be sure
    of that, a first search, which drops finished sentences from the batch, checks for ambiguous choices: one is
    enough, such as equal float32 scores of the last beam and the next candidate, in any sentence at any step. Then the
    whole batch is searched once more, exactly and without dropping rows, which takes two to three times as long in
    all. Repeating the ambiguous sentences alone would not do: transformers continues all sentences until all are
    finished. With a trained model ambiguous choices are rare; with random weights about one batch of 32 sentences in
    ten has one.

    Args:
        stepper: the decoder, with one row for each sentence.
        input_ids: the prompts, `(sentences, prompt)`.
        logits_processor: changes the log-probabilities before candidates are chosen.
        stopping_criteria: say which sequences are finished.
        config: `num_beams`, `length_penalty`, `early_stopping`, `max_length`, `num_return_sequences`.
        drop_finished: as in `greedy_search`; besides, no score that a processor gives to the candidates of a finished
            sentence may be better than those of its hypotheses.
        repeatable: whether processors and criteria do the same in a second search. If not, the first one is exact.
        normalization: makes the scores of finished hypotheses in another way than transformers, whose choices need not
            be repeated then; None for its own way.

    Returns:
        Token ids `(sentences * num_return_sequences, prompt + new)`, the best hypotheses of a sentence first, and
        their scores `(sentences * num_return_sequences,)`.

    Raises:
        ValueError: if the vocabulary is too small for the number of candidates of a sentence.
    """
    arguments = stepper, input_ids, logits_processor, stopping_criteria, config
    if normalization is not None:
        search = _BeamSearch(*arguments, drop_finished=drop_finished, normalization=normalization)
        search.run()
        return search.results()
    if repeatable:
        search = _BeamSearch(*arguments, drop_finished=drop_finished)
        search.run()
        if search.is_certain():
            return search.results()
        stepper.restart()
    search = _BeamSearch(*arguments, exact=True)
    search.run()
    return search.results()


class _BeamSearch:
    """One beam search; its attributes change with every step.

    A hypothesis is described by four numbers: how many tokens it has, the beam of all of them but the last one, the
    last one, and whether it is finished. The tokens of a beam are looked up in the history at the end.

    All arguments but the last one are those of `beam_search`.

    Args:
        exact: whether to compare whatever transformers compares. Then no row is dropped.
        normalization: makes the scores of finished hypotheses; None as transformers makes them.
    """

    def __init__(
        self,
        stepper: Stepper,
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        config: GenerationConfig,
        drop_finished: bool = False,
        exact: bool = False,
        normalization: LengthPenalty | None = None,
    ) -> None:
        self._stepper, self._processor, self._criteria = stepper, logits_processor, stopping_criteria
        self._config, self._drop_finished, self._exact, self._prompts = config, drop_finished, exact, input_ids
        self._normalization = LengthPenalty(config.length_penalty) if normalization is None else normalization
        sentences, beams, device = len(input_ids), config.num_beams, input_ids.device
        self._end_ids = end_ids_of(config, device)
        self._candidate_count = candidate_count(config)
        if stepper.vocabulary_size * beams < self._candidate_count:
            raise ValueError(
                f"num_beams={beams} compares {self._candidate_count} continuations of a sentence, but there are only "
                f"{stepper.vocabulary_size} tokens to go on with. Use fewer beams, or a larger shortlist."
            )
        self._remaining = torch.arange(sentences, device=device)
        self._history = History(sentences, device)
        self._length = 0  # of the hypotheses, without the prompt
        # The beams of a sentence begin alike. Only the first one counts, or all of them would be continued alike.
        self._scores = torch.full((sentences, beams), NEGATIVE_SCORE, device=device)
        self._scores[:, 0] = 0
        self._next_ids = input_ids
        if exact or logits_processor or stepper.vocabulary_size < self._candidate_count:
            self._next_ids = input_ids.repeat_interleave(beams, dim=0)
            stepper.reorder(self._remaining.repeat_interleave(beams))
        # Whole sequences are kept at every step only if a processor or a criterion reads them.
        self._plain_criteria = all(is_from_config(one, config) for one in stopping_criteria)
        is_read = bool(logits_processor) or not self._plain_criteria
        self._sequences = input_ids.unsqueeze(1).expand(-1, beams, -1) if is_read else None
        # The best hypotheses of each sentence, the best first; where there is none yet, an empty one. The last
        # dimension holds the four numbers that describe a hypothesis.
        self._hypotheses = torch.zeros(sentences, beams, 4, dtype=torch.long, device=device)
        self._hypothesis_scores = torch.full((sentences, beams), NEGATIVE_SCORE, device=device)
        self._improvable = torch.ones(sentences, dtype=torch.bool, device=device)
        self._any_full = False  # whether any sentence has all of its hypotheses
        # The best `num_beams` scores and the next one, `(sentences, num_beams + 1)`: of the candidates of each step,
        # and of each selection among them
        self._candidate_scores: list[Tensor] = []
        self._selected_scores: list[Tensor] = []
        self._is_precise = False  # whether logits have 32 bits or more: ties by chance are rare then
        self._results: list[tuple[Tensor, Tensor, Tensor]] = []

    def run(self) -> None:
        """Take all steps."""
        while not self._step():
            pass

    def is_certain(self) -> bool:
        """Whether an exact search would find the same, as far as the scores of the finished search show."""
        # Few numbers, compared on the CPU: that takes less time than so many small tensor operations.
        _, best, scores = (torch.cat(parts).tolist() for parts in zip(*self._results, strict=True))
        if not all(map(self._are_ordinary, best, scores)):
            return False
        # A finished hypothesis with NEGATIVE_SCORE counts for early stopping, when a sentence has enough of them.
        is_early = self._config.early_stopping is True
        if is_early and torch.cat(self._candidate_scores)[:, -2].min() <= -SCORE_LIMIT:
            return False
        selections = torch.cat([*self._candidate_scores, *self._selected_scores])
        return self._are_unambiguous(selections.double().cpu().numpy())

    def _are_ordinary(self, hypotheses: list[list[int]], scores: list[float]) -> bool:
        """Whether the hypotheses of a sentence are all finished, and their scores ordinary and in order.

        Args:
            hypotheses: the four numbers that describe each of them.
            scores: of each of them.
        """
        penalty = self._config.length_penalty
        for (length, _, _, is_finished), score in zip(hypotheses, scores, strict=True):
            if not (is_finished and abs(score) < SCORE_LIMIT and abs(score * length**penalty) < SCORE_LIMIT):
                return False
        return all(map(self._is_above, scores, scores[1:]))

    def _are_unambiguous(self, best: np.ndarray) -> bool:
        """Whether it is certain which `num_beams` scores are the best in each selection.

        Args:
            best: for each selection the best `num_beams` scores and the next one, `(selections, num_beams + 1)`.
        """
        first, last, following = best[:, 0], best[:, -2], best[:, -1]
        is_clear = self._is_above(last, following) | (last < -SCORE_LIMIT)
        return bool(is_clear.all() and (first < SCORE_LIMIT).all())  # NaN comes first

    def _is_above(self, score: Any, following: Any) -> Any:
        """Whether a score is above the following one; in half precision, where ties are common, not below it."""
        return following < score if self._is_precise else following <= score

    def _step(self) -> bool:
        """Add one token to every beam, or some in one go; True when the search is over."""
        steps = self._best_candidates()
        # Of the step before the last one: at the first one there may be one beam.
        beams = self._config.num_beams if len(steps[0]) > 1 else len(self._next_ids) // len(self._scores)
        chosen = None
        for scores, parents, tokens in zip(*self._after_plain_steps(*steps), strict=True):
            chosen = self._add(scores, parents, tokens)
            if chosen is None:
                return True
        assert chosen is not None  # there is one step at least
        self._advance(*chosen, beams)
        return False

    def _add(self, scores: Tensor, parents: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """Add one token to every beam, of the candidates of a step, `(sentences, candidates)`.

        Returns the beams that go on and their new tokens, `(sentences, num_beams)`, and which sentences are finished;
        None when the search is over.
        """
        self._length += 1
        self._candidate_scores.append(scores[:, : self._config.num_beams + 1])
        finished = self._finished_candidates(parents, tokens)
        is_last = False
        if finished is not None:
            self._add_finished(scores, parents, tokens, finished)
            indices, scores = self._unfinished(scores, finished)
            scores, parents, tokens = (one.gather(1, indices) for one in (scores, parents, tokens))
            is_last = bool(finished.all())
        # The candidates are in order: where none is finished, the first ones are the best unfinished ones.
        best = slice(self._config.num_beams)
        self._scores, parents, tokens = scores[:, best], parents[:, best], tokens[:, best]
        self._history.append(parents, tokens)
        if self._sequences is not None:
            self._sequences = _extended(self._sequences, parents, tokens)
        done = self._finished_sentences() if self._any_full or self._exact else None
        if is_last or (done is not None and bool(done.all())):
            self._drop(torch.ones(len(tokens), dtype=torch.bool, device=tokens.device))
            return None
        return parents, tokens, done

    def _after_plain_steps(self, *steps: Tensor) -> tuple[Tensor, ...]:
        """The candidates of `(steps, sentences, candidates)` from the first step on at which one ends, or the last."""
        count = len(steps[0]) - 1
        if count == 0 or self._any_full:
            return steps
        if self._end_ids is not None:
            ends = torch.isin(steps[2][:-1], self._end_ids).flatten(1).any(1).tolist()
            count = [*ends, True].index(True)
        beams = self._config.num_beams
        self._length += count
        self._candidate_scores.append(steps[0][:count, :, : beams + 1].flatten(0, 1))
        for parents, tokens in zip(steps[1][:count], steps[2][:count], strict=True):
            self._history.append(parents[:, :beams], tokens[:, :beams])
        return tuple(one[count:] for one in steps)

    def results(self) -> tuple[Tensor, Tensor]:
        """The best hypotheses of all sentences, `(sentences * returned, length)`, and their scores."""
        sentences, best, scores = (torch.cat(parts) for parts in zip(*self._results, strict=True))
        order, returned = sentences.argsort(), self._config.num_return_sequences
        hypotheses = [
            (sentence, length, beam, token)
            for sentence, of_sentence in enumerate(best[order, :returned].tolist())
            for length, beam, token, _ in of_sentence
        ]
        written = self._history.tokens(hypotheses)
        longest, fill = max(map(len, written)), padding_id(self._config)
        padded = [tokens + [fill] * (longest - len(tokens)) for tokens in written]
        prompts = self._prompts.repeat_interleave(returned, dim=0)
        return torch.cat([prompts, prompts.new_tensor(padded)], dim=1), scores[order, :returned].flatten()

    def _best_candidates(self) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, parent beams and tokens of the best candidates, the best first, of one or some steps.

        Each is `(steps, sentences, candidates)`. It is one step where a processor or a criterion looks at each.
        """
        sentences = len(self._scores)
        beams = len(self._next_ids) // sentences
        offsets, count = self._scores[:, :beams], self._candidate_count
        if not (self._exact or self._processor):
            steps = self._config.max_length - self._prompts.shape[1] - self._length if self._plain_criteria else 1
            ends = self._prompts.new_empty(0) if self._end_ids is None else self._end_ids
            most_full = most_finished(sentences) if self._drop_finished else sentences - 1
            if self._any_full and sentences <= FEW:
                steps, most_full = min(steps, STEPS_OF_FEW), sentences
            finished = self._hypotheses[:, :, 3].sum(1)
            wanted = Wanted(count, self._config.num_beams, max(1, steps), ends, finished, most_full)
            found = self._stepper.best_continuations(self._next_ids, offsets, wanted)
            self._is_precise = self._stepper.is_precise
            return found
        logits = self._stepper.step(self._next_ids)
        self._is_precise = logits.dtype.itemsize >= 4
        scores = logits.float().log_softmax(1)
        if self._processor and self._sequences is not None:
            scores = self._processor(self._sequences.flatten(0, 1), scores)  # type: ignore[arg-type]
        scores = scores.view(sentences, beams, -1)
        values, parents, columns = best_continuations(scores, offsets, count)
        if self._exact and not self._are_distinct(values):
            values, parents, columns = best_of_all(scores, offsets, count)
        return values.unsqueeze(0), parents.unsqueeze(0), self._stepper.ids(columns).unsqueeze(0)

    def _finished_candidates(self, parents: Tensor, tokens: Tensor) -> Tensor | None:
        """Which candidates are finished, `(sentences, candidates)`; None if it is certain that none is."""
        if not self._plain_criteria and self._sequences is not None:
            sequences = _extended(self._sequences, parents, tokens)
            return self._criteria(sequences.flatten(0, 1), None).view(tokens.shape)
        finished = are_last(tokens, self._prompts.shape[1] + self._length, self._end_ids, self._config)
        return finished if self._exact or finished.any() else None

    def _add_finished(self, scores: Tensor, parents: Tensor, tokens: Tensor, finished: Tensor) -> None:
        """Add the finished ones among the best `num_beams` candidates to the hypotheses, if they are good enough.

        Other candidates are compared with `NEGATIVE_SCORE` added, which with ordinary scores is as if they were not.
        """
        if self._exact:
            added = finished.clone()
            added[:, self._config.num_beams :] = False
        else:  # of the others none is added, and an exact search alone looks at them
            beams = slice(self._config.num_beams)
            scores, parents, tokens, added = (one[:, beams] for one in (scores, parents, tokens, finished))
            if not added.any():
                return
        scores = self._normalization.normalized(scores, self._length)
        if self._normalization.needs_coverage:
            scores = scores + self._uncovered(parents)
        if self._any_full or self._exact:  # otherwise every sentence takes more
            if self._config.early_stopping is True:
                scores = scores + self._full().unsqueeze(1) * NEGATIVE_SCORE
            scores = scores + ~self._improvable.unsqueeze(1) * NEGATIVE_SCORE
        scores = torch.cat([self._hypothesis_scores, scores + ~added * NEGATIVE_SCORE], dim=1)
        lengths = torch.full_like(tokens, self._length)
        candidates = torch.stack([lengths, parents, tokens, added.long()], dim=2)
        best = self._best_indices(scores)
        self._hypothesis_scores = scores.gather(1, best)
        self._hypotheses = torch.cat([self._hypotheses, candidates], dim=1).gather(
            1, best.unsqueeze(2).expand(-1, -1, 4)
        )
        self._any_full = bool(self._full().any())

    def _uncovered(self, parents: Tensor) -> Tensor | float:
        """What is added to the scores of candidates with these parent beams for what they cover of the source."""
        covered = self._stepper.covered
        if covered is None:
            return 0.0
        of_beams = self._normalization.uncovered(covered)
        of_beams = of_beams.view(len(parents), -1)  # type: ignore[union-attr]
        return of_beams.gather(1, parents)

    def _best_indices(self, scores: Tensor) -> Tensor:
        """Indices of the best of scores `(sentences, scores)`, the best first, `(sentences, num_beams)`."""
        beams = self._config.num_beams
        if self._exact:  # which of equal scores come first depends on how many are wanted
            return scores.topk(beams).indices
        values, indices = scores.topk(beams + 1)
        self._selected_scores.append(values)
        return indices[:, :beams]

    def _unfinished(self, scores: Tensor, finished: Tensor) -> tuple[Tensor, Tensor]:
        """Indices of the best unfinished candidates, `(sentences, num_beams)`, and the scores that say so.

        The candidates stand in order, and so do those that are chosen, as in the graphs of a runtime: these go on with
        them before they are looked at here.
        """
        scores = scores + finished * NEGATIVE_SCORE
        if self._exact:
            return self._best_indices(scores), scores
        count = finished.shape[1]
        places = finished * count + torch.arange(count, device=finished.device)
        indices = places.topk(self._config.num_beams + 1, largest=False).indices
        self._selected_scores.append(scores.gather(1, indices))
        return indices[:, : self._config.num_beams], scores

    def _full(self) -> Tensor:
        """Which sentences have `num_beams` finished hypotheses, `(sentences,)`."""
        return self._hypotheses[:, :, 3].bool().all(1)

    def _finished_sentences(self) -> Tensor:
        """Which sentences are finished, since no beam can improve their hypotheses any more, `(sentences,)`."""
        config, length = self._config, self._length
        if config.early_stopping == "never" and self._normalization.grows_with_length():
            length = config.max_length - self._prompts.shape[1]
        worst = self._hypothesis_scores.amin(1, keepdim=True)
        worst = torch.where(self._hypotheses[:, :, 3].bool(), worst, NEGATIVE_SCORE)
        self._improvable &= (self._normalization.normalized(self._scores[:, :1], length) > worst).any(1)
        done, full = ~self._improvable, self._full()
        if self._exact:  # transformers continues all sentences until all are finished, or all are full
            done, full = done.all(), full.all()
        return done | full if config.early_stopping is True else done

    def _advance(self, parents: Tensor, tokens: Tensor, done: Tensor | None, beams: int) -> None:
        """Reorder the decoder's rows for the next step, after dropping finished sentences if that may be done.

        The first three arguments are what `_add` returned for the last step, which read so many beams of a sentence.
        """
        sentences = len(parents)
        rows = parents
        if sentences > 1:
            rows = torch.arange(0, sentences * beams, beams, device=parents.device).unsqueeze(1) + parents
        remaining = None
        dropped = rows_to_drop(done, int(done.sum())) if done is not None and self._drop_finished else None
        if dropped is not None:
            remaining = (~dropped).nonzero().squeeze(1)
            rows, tokens = rows[remaining], tokens[remaining]
            self._drop(dropped)
        self._stepper.reorder(rows.flatten(), remaining)
        self._next_ids = tokens.reshape(-1, 1)

    def _are_distinct(self, scores: Tensor) -> bool:
        """Whether these scores, the best first, are ordinary ones, and no two are equal."""
        return bool(self._is_above(scores[:, :-1], scores[:, 1:]).all() & (scores.abs() < SCORE_LIMIT).all())

    def _drop(self, dropped: Tensor) -> None:
        """Drop sentences from the batch, and keep their hypotheses for the results."""
        self._results.append((self._remaining[dropped], self._hypotheses[dropped], self._hypothesis_scores[dropped]))
        remaining = ~dropped
        self._remaining = self._remaining[remaining]
        self._history.keep(self._remaining)
        self._scores, self._improvable = self._scores[remaining], self._improvable[remaining]
        self._hypotheses, self._hypothesis_scores = self._hypotheses[remaining], self._hypothesis_scores[remaining]
        self._sequences = None if self._sequences is None else self._sequences[remaining]


def _extended(sequences: Tensor, beams: Tensor, tokens: Tensor) -> Tensor:
    """The sequences `(sentences, beams, length)` of some beams, each with one more token `(sentences, chosen)`."""
    indices = beams.unsqueeze(2).expand(-1, -1, sequences.shape[2])
    return torch.cat([sequences.gather(1, indices), tokens.unsqueeze(2)], dim=2)
