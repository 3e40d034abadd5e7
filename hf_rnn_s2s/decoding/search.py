"""
Greedy and beam search with the results of transformers' own, faster.

What they leave out is work that cannot change a result: rows that are finished leave the batch, and of a step's logits
only the best few become log-probabilities and candidates (`top_tokens_rnn_s2s`). They give back token ids; whatever
else `generate()` can return comes from the loops of transformers (`generation_rnn_s2s`).

At every step, transformers' beam search compares the finished hypotheses with the unfinished ones, too, which have no
chance. As scores usually are, that changes nothing. It does where a sentence has too few hypotheses in the end, where
a score is no number, and where scores are equal. A search that ends without any of these is certain. Otherwise it is
repeated, and the second one is exact: it compares all that transformers compares.
"""

from __future__ import annotations

import torch
from transformers import EosTokenCriteria, GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.generation import MaxLengthCriteria

from .stepper import Stepper
from .top_tokens import best_continuations, best_log_probabilities, best_of_all, best_tokens

# What transformers adds to a score that must not win.
HOPELESS = -1.0e9
# How large a score is at most, as scores usually are: far from the hopeless ones.
USUAL = 1.0e8


def greedy_search(
    stepper: Stepper,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    pad_token_id: torch.Tensor,
    may_leave: bool,
) -> torch.Tensor:
    """
    The most probable next token, again and again.

    Args:
        stepper: with one row for each source.
        input_ids: how the rows begin, `(rows, prompt)`.
        logits_processor: changes the logits before the choice.
        stopping_criteria: say which rows are finished; one of them waits for the end token.
        pad_token_id: follows in rows that are finished.
        may_leave: whether processors and criteria look at each row by itself, so that finished rows can leave.

    Returns:
        Token ids `(rows, prompt + new)`.
    """
    done = _Done(len(input_ids), pad_token_id)
    sequences = new = input_ids
    finished = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
    while True:
        logits = stepper.step(new).float()
        if logits_processor:
            logits = logits_processor(sequences, logits)  # type: ignore[arg-type]
        new = torch.where(finished, pad_token_id, stepper.ids(best_tokens(logits))).unsqueeze(1)
        sequences = torch.cat([sequences, new], dim=1)
        finished = finished | stopping_criteria(sequences, None)
        count = int(finished.sum())
        if count == len(finished):
            done.add(finished, sequences)
            return done.sequences()
        leaving = _leaving(finished, count) if may_leave else None
        if leaving is not None:
            done.add(leaving, sequences[leaving])
            staying = (~leaving).nonzero().squeeze(1)
            sequences, new, finished = sequences[staying], new[staying], finished[staying]
            stepper.reorder(staying, staying)


def beam_search(
    stepper: Stepper,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    config: GenerationConfig,
    may_leave: bool,
    may_repeat: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The `num_beams` best beginnings of a translation go on together.

    Which hypotheses are kept, how they are scored and when a sentence is finished is as in transformers 5. To be sure
    of that, a first search, in which finished sentences leave, looks for doubts: one is enough, such as two scores at
    the end of the beams that are equal in float32, in any sentence at any step. Then the whole batch is searched once
    more, exactly and with no row leaving, which takes two to three times as long in all. Repeating the sentences in
    doubt alone would not do: transformers goes on with all of them until all are done. With a trained model doubts are
    rare; with random weights about one batch of 32 sentences in ten has one.

    Args:
        stepper: with one row for each sentence.
        input_ids: how the sentences begin, `(sentences, prompt)`.
        logits_processor: changes the log-probabilities before the choice.
        stopping_criteria: say which sequences are finished.
        config: `num_beams`, `length_penalty`, `early_stopping`, `max_length`, `num_return_sequences`.
        may_leave: as in `greedy_search`, and that nothing a processor makes of the candidates of a finished sentence
            could come before its hypotheses.
        may_repeat: whether processors and criteria do the same in a second search. If not, the first one is exact.

    Returns:
        Token ids `(sentences * num_return_sequences, prompt + new)`, the best hypotheses of a sentence first, and
        their scores `(sentences * num_return_sequences,)`.
    """
    arguments = stepper, input_ids, logits_processor, stopping_criteria, config
    if may_repeat:
        search = _BeamSearch(*arguments, may_leave=may_leave)
        search.run()
        if search.is_certain():
            return search.results()
        stepper.begin_again()
    search = _BeamSearch(*arguments, exact=True)
    search.run()
    return search.results()


class _Done:
    """The sequences of rows that have left the batch."""

    def __init__(self, rows: int, fill: torch.Tensor) -> None:
        self._rows, self._fill = rows, fill
        self._pieces: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._remaining = torch.arange(rows, device=fill.device)

    def add(self, leaving: torch.Tensor, sequences: torch.Tensor) -> None:
        """Of the rows that remain, `leaving` `(remaining,)` is True for those of the sequences `(leaving, length)`."""
        self._pieces.append((self._remaining[leaving], sequences))
        self._remaining = self._remaining[~leaving]

    def sequences(self) -> torch.Tensor:
        """All of them, `(rows, length of the longest)`, in the order of the rows."""
        longest = max(sequences.shape[1] for _, sequences in self._pieces)
        together = self._fill.expand(self._rows, longest).contiguous()
        for rows, sequences in self._pieces:
            together[rows, : sequences.shape[1]] = sequences
        return together


class _History:
    """
    What every beam wrote at every step, and which beam of the step before it went on from.

    Args:
        sentences: their number. Some may leave; those that stay keep their order.
        device: where everything is.
    """

    def __init__(self, sentences: int, device: torch.device) -> None:
        self._steps: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self._places = torch.arange(sentences, device=device)  # of each sentence among those that are left

    def append(self, parents: torch.Tensor, tokens: torch.Tensor) -> None:
        """One step: both are `(sentences that are left, beams)`."""
        self._steps.append((parents, tokens, self._places))

    def leave(self, remaining: torch.Tensor) -> None:
        """From now on only the sentences with the numbers `(sentences that are left,)` are there."""
        self._places = torch.full_like(self._places, -1)
        self._places[remaining] = torch.arange(len(remaining), device=remaining.device)

    def written(self, sentences: torch.Tensor, lengths: torch.Tensor, beams: torch.Tensor) -> torch.Tensor:
        """
        What beams `(hypotheses,)` of sentences `(hypotheses,)` had written after so many steps `(hypotheses,)`. The
        result is `(hypotheses, steps)`; what stands behind a length means nothing.
        """
        columns = []
        for step in range(len(self._steps) - 1, -1, -1):
            parents, tokens, places = self._steps[step]
            rows = places[sentences].clamp(min=0)  # a sentence that had left had ended before
            columns.append(tokens[rows, beams])
            beams = torch.where(lengths > step, parents[rows, beams], beams)
        return torch.stack(columns[::-1], dim=1) if columns else beams.new_empty(len(beams), 0)


class _BeamSearch:
    """
    One beam search; its attributes change with every step.

    A hypothesis is told by four numbers: how many tokens it has, the beam that all but the last one were written in,
    the last one, and whether it is finished. What was written in a beam is looked up at the end.

    Args:
        exact: whether to compare whatever transformers compares. Then no row leaves.
    """

    def __init__(
        self,
        stepper: Stepper,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        config: GenerationConfig,
        may_leave: bool = False,
        exact: bool = False,
    ) -> None:
        self._stepper, self._processor, self._criteria = stepper, logits_processor, stopping_criteria
        self._config, self._may_leave, self._exact, self._prompts = config, may_leave, exact, input_ids
        sentences, beams, device = len(input_ids), config.num_beams, input_ids.device
        self._end_ids: torch.Tensor | None = config._eos_token_tensor
        self._candidates = max(2, 1 + (0 if self._end_ids is None else len(self._end_ids))) * beams
        if stepper.vocabulary_size * beams < self._candidates:
            raise ValueError(
                f"num_beams={beams} compares {self._candidates} continuations of a sentence, but there are only "
                f"{stepper.vocabulary_size} tokens to go on with. Use fewer beams, or a larger shortlist."
            )
        self._remaining = torch.arange(sentences, device=device)
        self._history = _History(sentences, device)
        self._length = 0  # of what was written
        # The beams of a sentence begin alike. Only the first one may go on, or all of them would write the same.
        self._scores = torch.full((sentences, beams), HOPELESS, device=device)
        self._scores[:, 0] = 0
        self._new = input_ids
        if exact or logits_processor or stepper.vocabulary_size < self._candidates:
            self._new = input_ids.repeat_interleave(beams, dim=0)
            stepper.reorder(self._remaining.repeat_interleave(beams))
        # Sequences are put together step by step only for those who want to read them.
        self._plain_criteria = all(_is_of_config(one, config) for one in stopping_criteria)
        is_read = bool(logits_processor) or not self._plain_criteria
        self._sequences = input_ids.unsqueeze(1).expand(-1, beams, -1) if is_read else None
        # The best hypotheses of each sentence, the best first; where there is none yet, one of no tokens.
        self._best = torch.zeros(sentences, beams, 4, dtype=torch.long, device=device)
        self._best_scores = torch.full((sentences, beams), HOPELESS, device=device)
        self._improvable = torch.ones(sentences, dtype=torch.bool, device=device)
        self._any_full = False  # whether any sentence has all of its hypotheses
        # The best `num_beams` scores and the next one: of the candidates of each step, and of each choice among them
        self._continued_with: list[torch.Tensor] = []
        self._chosen: list[torch.Tensor] = []
        self._is_precise = False  # whether two scores are hardly ever equal by chance
        self._results: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def run(self) -> None:
        """All steps."""
        while not self._step():
            pass

    def is_certain(self) -> bool:
        """Whether an exact search finds the same, as far as can be seen when it is over."""
        _, best, scores = (torch.cat(parts) for parts in zip(*self._results, strict=True))
        sums = scores * best[:, :, 0] ** self._config.length_penalty
        usual = best[:, :, 3].bool() & (scores.abs() < USUAL) & (sums.abs() < USUAL)
        in_order = self._are_in_order(scores[:, :-1], scores[:, 1:])
        clear = self._are_clear(self._continued_with)
        if self._config.early_stopping is True:
            # A hopeless hypothesis that is finished counts, too, when a sentence has enough of them.
            clear &= torch.cat(self._continued_with)[:, -2].min() > -USUAL
        return bool(usual.all() & in_order.all() & clear & self._are_clear(self._chosen))

    def _are_clear(self, best: list[torch.Tensor]) -> torch.Tensor:
        """
        Whether there was no doubt which scores are the best `num_beams`, by these and the next one each time,
        `(sentences, num_beams + 1)`.
        """
        first, last, following = torch.cat(best)[:, [0, -2, -1]].unbind(1)
        in_order = self._are_in_order(last, following)
        return (in_order | (last < -USUAL)).all() & (first < USUAL).all()  # what is no number comes first

    def _are_in_order(self, scores: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        """Where scores are above the following ones. In half precision two are equal every day, and may be so here."""
        return following < scores if self._is_precise else following <= scores

    def _step(self) -> bool:
        """Writes one token in every beam; True when there is nothing more to write."""
        scores, parents, tokens = self._continuations()
        self._length += 1
        self._continued_with.append(scores[:, : self._config.num_beams + 1])
        hits = self._hits(parents, tokens)
        is_last = False
        if hits is not None:
            self._take_over(scores, parents, tokens, hits)
            scores = scores + hits * HOPELESS
            running = self._best_places(scores)
            scores, parents, tokens = (one.gather(1, running) for one in (scores, parents, tokens))
            is_last = bool(hits.all())
        # The candidates are in order: where nothing is finished, the first ones are the best that go on.
        going_on = slice(self._config.num_beams)
        self._scores, parents, tokens = scores[:, going_on], parents[:, going_on], tokens[:, going_on]
        self._history.append(parents, tokens)
        if self._sequences is not None:
            self._sequences = _continued(self._sequences, parents, tokens)
        finished = self._finished_sentences() if self._any_full or self._exact else None
        if is_last or (finished is not None and bool(finished.all())):
            self._leave(torch.ones(len(tokens), dtype=torch.bool, device=tokens.device))
            return True
        self._go_on(parents, tokens, finished)
        return False

    def results(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The best hypotheses of all sentences, `(sentences * returned, length)`, and their scores."""
        sentences, best, scores = (torch.cat(parts) for parts in zip(*self._results, strict=True))
        order, returned = sentences.argsort(), self._config.num_return_sequences
        lengths, beams, last, _ = best[order, :returned].flatten(0, 1).unbind(1)
        written = self._history.written(sentences[order].repeat_interleave(returned), lengths - 1, beams)
        longest = int(lengths.max())
        positions = torch.arange(longest, device=lengths.device)
        from_the_end = lengths.unsqueeze(1) - 1 - positions  # 0 at the last token, below behind it
        fill = written.new_tensor(_fill_id(self._config))
        tokens = torch.where(from_the_end > 0, written[:, :longest], fill)
        tokens = torch.where(from_the_end == 0, last.unsqueeze(1), tokens)
        prompts = self._prompts.repeat_interleave(returned, dim=0)
        return torch.cat([prompts, tokens], dim=1), scores[order, :returned].flatten()

    def _continuations(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Scores, beams and tokens of the best candidates, each `(sentences, candidates)`, the best first."""
        logits = self._stepper.step(self._new)
        self._is_precise = logits.dtype.itemsize >= 4
        sentences = len(self._scores)
        beams = len(logits) // sentences
        offsets, count = self._scores[:, :beams], self._candidates
        if self._exact or self._processor:
            scores = logits.float().log_softmax(1)
            if self._processor and self._sequences is not None:
                scores = self._processor(self._sequences.flatten(0, 1), scores)  # type: ignore[arg-type]
            scores = scores.view(sentences, beams, -1)
            found = best_continuations(scores, offsets, count)
            if self._exact and not self._are_distinct(found[0]):
                found = best_of_all(scores, offsets, count)
        else:
            found = best_log_probabilities(logits.view(sentences, beams, -1), offsets, count)
        values, parents, columns = found
        return values, parents, self._stepper.ids(columns)

    def _hits(self, parents: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor | None:
        """Which candidates `(sentences, candidates)` are finished; None if it is certain that none is."""
        if not self._plain_criteria and self._sequences is not None:
            sequences = _continued(self._sequences, parents, tokens)
            return self._criteria(sequences.flatten(0, 1), None).view(tokens.shape)
        if self._prompts.shape[1] + self._length >= self._config.max_length:
            return torch.ones_like(tokens, dtype=torch.bool)
        if self._end_ids is None:
            return torch.zeros_like(tokens, dtype=torch.bool) if self._exact else None
        hits = torch.isin(tokens, self._end_ids)
        return hits if self._exact or hits.any() else None

    def _take_over(
        self, scores: torch.Tensor, parents: torch.Tensor, tokens: torch.Tensor, hits: torch.Tensor
    ) -> None:
        """
        Takes the finished ones among the best `num_beams` candidates for hypotheses, if they are good enough. Other
        candidates take part with no hope, which in an ordinary search is as if they did not.
        """
        finished = hits.clone()
        finished[:, self._config.num_beams :] = False
        if not (self._exact or finished.any()):
            return
        scores = scores / (self._length**self._config.length_penalty)
        if self._config.early_stopping is True:
            scores = scores + self._full().unsqueeze(1) * HOPELESS
        scores = scores + ~self._improvable.unsqueeze(1) * HOPELESS
        scores = torch.cat([self._best_scores, scores + ~finished * HOPELESS], dim=1)
        lengths = torch.full_like(tokens, self._length)
        told = torch.stack([lengths, parents, tokens, finished.long()], dim=2)
        kept = self._best_places(scores)
        self._best_scores = scores.gather(1, kept)
        self._best = torch.cat([self._best, told], dim=1).gather(1, kept.unsqueeze(2).expand(-1, -1, 4))
        self._any_full = bool(self._full().any())

    def _best_places(self, scores: torch.Tensor) -> torch.Tensor:
        """Of scores `(sentences, scores)` the places `(sentences, num_beams)` of the best, the best first."""
        beams = self._config.num_beams
        if self._exact:  # which of equal scores come first depends on how many are wanted
            return scores.topk(beams).indices
        values, places = scores.topk(beams + 1)
        self._chosen.append(values)
        return places[:, :beams]

    def _full(self) -> torch.Tensor:
        """`(sentences,)`, True where there are `num_beams` finished hypotheses."""
        return self._best[:, :, 3].bool().all(1)

    def _finished_sentences(self) -> torch.Tensor:
        """`(sentences,)`, True where no hypothesis can become one of the best any more."""
        config, length = self._config, self._length
        if config.early_stopping == "never" and config.length_penalty > 0:
            length = config.max_length - self._prompts.shape[1]
        worst = self._best_scores.amin(1, keepdim=True)
        worst = torch.where(self._best[:, :, 3].bool(), worst, HOPELESS)
        self._improvable &= (self._scores[:, :1] / length**config.length_penalty > worst).any(1)
        done, full = ~self._improvable, self._full()
        if self._exact:  # transformers goes on with all sentences until all are done, or all are full
            done, full = done.all(), full.all()
        return done | full if config.early_stopping is True else done

    def _go_on(self, parents: torch.Tensor, tokens: torch.Tensor, finished: torch.Tensor | None) -> None:
        sentences = len(parents)
        beams = len(self._new) // sentences  # of the step before, which at the beginning may have been one
        rows = torch.arange(0, sentences * beams, beams, device=parents.device).unsqueeze(1) + parents
        staying = None
        leaving = _leaving(finished, int(finished.sum())) if finished is not None and self._may_leave else None
        if leaving is not None:
            staying = (~leaving).nonzero().squeeze(1)
            rows, tokens = rows[staying], tokens[staying]
            self._leave(leaving)
        self._stepper.reorder(rows.flatten(), staying)
        self._new = tokens.reshape(-1, 1)

    def _are_distinct(self, scores: torch.Tensor) -> bool:
        """Whether these scores, the best first, are usual, and no two are equal."""
        return bool(self._are_in_order(scores[:, :-1], scores[:, 1:]).all() & (scores.abs() < USUAL).all())

    def _leave(self, leaving: torch.Tensor) -> None:
        self._results.append((self._remaining[leaving], self._best[leaving], self._best_scores[leaving]))
        staying = ~leaving
        self._remaining = self._remaining[staying]
        self._history.leave(self._remaining)
        self._scores, self._improvable = self._scores[staying], self._improvable[staying]
        self._best, self._best_scores = self._best[staying], self._best_scores[staying]
        self._sequences = None if self._sequences is None else self._sequences[staying]


def _is_of_config(criterion: object, config: GenerationConfig) -> bool:
    """Whether a stopping criterion says what the configuration says; the caller's own may say something else."""
    if type(criterion) is MaxLengthCriteria:
        return bool(criterion.max_length == config.max_length)
    end_ids = config._eos_token_tensor
    if type(criterion) is EosTokenCriteria and end_ids is not None:
        return torch.equal(criterion.eos_token_id.to(end_ids.device), end_ids)
    return False


def _leaving(finished: torch.Tensor, count: int) -> torch.Tensor | None:
    """
    Which of the finished rows `(rows,)` leave the batch, `count` being their number; None if it is none.

    Moving the others costs a part of a step, and a batch of a size that was not there before costs more than that,
    since CPUs compile their kernels for it. So batches have few sizes, an eighth apart, and some finished rows stay.
    """
    rows = len(finished)
    going_on = rows - count
    step = max(1, 2 ** (max(going_on - 1, 0).bit_length() - 3))
    filling_up = -going_on % step
    if count <= filling_up:
        return None
    leaving = finished.clone()
    leaving[finished.nonzero().squeeze(1)[:filling_up]] = False
    return leaving


def _continued(sequences: torch.Tensor, beams: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Of `(sentences, beams, length)` those that go on, with one more token `(sentences, chosen)` each."""
    indices = beams.unsqueeze(2).expand(-1, -1, sequences.shape[2])
    return torch.cat([sequences.gather(1, indices), tokens.unsqueeze(2)], dim=2)


def _fill_id(config: GenerationConfig) -> int:
    """What transformers' beam search puts behind the end of a sequence; an id of 0 counts for none there."""
    pad_id, end_ids = config._pad_token_tensor, config._eos_token_tensor
    if end_ids is None:
        return -1
    return int(pad_id or end_ids[0])


__all__ = ["beam_search", "greedy_search"]
