"""
Greedy and beam search with the results of transformers' own, faster.

What they leave out is work that cannot change a result: rows that are finished leave the batch, and of a step's logits
only the best few become log-probabilities and candidates (`top_tokens_rnn_s2s`). They give back token ids; whatever
else `generate()` can return comes from the loops of transformers (`generation_rnn_s2s`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from transformers import EosTokenCriteria, GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.generation import MaxLengthCriteria

from .stepping_rnn_s2s import Stepper
from .top_tokens_rnn_s2s import best_continuations, best_tokens

# What transformers adds to a score that must not win.
HOPELESS = -1.0e9
# Moving the rows that stay costs a part of a step, so rows leave when at least this share of them is finished.
LEAVING_SHARE = 1 / 8


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
        logits = stepper.step(new)
        if logits_processor:
            logits = logits_processor(sequences, logits)  # type: ignore[arg-type]
        new = torch.where(finished, pad_token_id, best_tokens(logits)).unsqueeze(1)
        sequences = torch.cat([sequences, new], dim=1)
        finished = finished | stopping_criteria(sequences, None)
        count = int(finished.sum())
        if count == len(finished):
            done.add(finished, sequences)
            return done.sequences()
        if may_leave and count >= LEAVING_SHARE * len(finished):
            done.add(finished, sequences[finished])
            staying = (~finished).nonzero().squeeze(1)
            sequences, new, finished = sequences[staying], new[staying], finished[staying]
            stepper.go_on_from(staying, staying)


def beam_search(
    stepper: Stepper,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    config: GenerationConfig,
    may_leave: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The `num_beams` best beginnings of a translation go on together.

    Which hypotheses are kept, how they are scored and when a sentence is finished is as in transformers 5.

    Args:
        stepper: with one row for each sentence.
        input_ids: how the sentences begin, `(sentences, prompt)`.
        logits_processor: changes the log-probabilities before the choice.
        stopping_criteria: say which sequences are finished.
        config: `num_beams`, `length_penalty`, `early_stopping`, `max_length`, `num_return_sequences`.
        may_leave: as in `greedy_search`.

    Returns:
        Token ids `(sentences * num_return_sequences, prompt + new)`, the best hypotheses of a sentence first, and
        their scores `(sentences * num_return_sequences,)`.
    """
    search = _BeamSearch(stepper, input_ids, logits_processor, stopping_criteria, config, may_leave)
    while not search.step():
        pass
    return search.results()


class _Done:
    """The sequences of rows that have left the batch, and a score for each where there is one."""

    def __init__(self, rows: int, fill: torch.Tensor) -> None:
        self._rows, self._fill = rows, fill
        self._pieces: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]] = []
        self._remaining = torch.arange(rows, device=fill.device)

    def add(self, leaving: torch.Tensor, sequences: torch.Tensor, scores: torch.Tensor | None = None) -> None:
        """
        Args:
            leaving: `(remaining rows,)`, True for those that leave.
            sequences: theirs, `(leaving rows, ..., length)`.
            scores: theirs, `(leaving rows, ...)`.
        """
        self._pieces.append((self._remaining[leaving], sequences, scores))
        self._remaining = self._remaining[~leaving]

    def sequences(self) -> torch.Tensor:
        """All of them, `(rows, ..., length of the longest)`, in the order of the rows."""
        longest = max(sequences.shape[-1] for _, sequences, _ in self._pieces)
        shape = (self._rows, *self._pieces[0][1].shape[1:-1], longest)
        together = self._fill.expand(shape).contiguous()
        for rows, sequences, _ in self._pieces:
            together[rows, ..., : sequences.shape[-1]] = sequences
        return together

    def scores(self) -> torch.Tensor:
        """All of them, `(rows, ...)`, in the order of the rows."""
        rows = torch.cat([rows for rows, _, _ in self._pieces])
        scores = torch.cat([scores for _, _, scores in self._pieces if scores is not None])
        return scores[rows.argsort()]


@dataclass
class _Hypotheses:
    """
    The best finished hypotheses of each sentence, the best first.

    Attributes:
        sequences: `(sentences, beams, length)`.
        scores: `(sentences, beams)`, the log-probability by a power of the length.
        lengths: `(sentences, beams)`, of the sequences without what fills them up.
        finished: `(sentences, beams)`, False where there is no hypothesis yet.
    """

    sequences: torch.Tensor
    scores: torch.Tensor
    lengths: torch.Tensor
    finished: torch.Tensor

    def merge(self, others: _Hypotheses, fill: torch.Tensor) -> None:
        """Takes over what is better than what is here. The others' sequences are as long or longer."""
        missing = others.sequences.shape[2] - self.sequences.shape[2]
        padding = fill.expand(*self.sequences.shape[:2], missing)
        self.sequences = torch.cat([self.sequences, padding], dim=2)
        kept = torch.cat([self.scores, others.scores], dim=1).topk(self.scores.shape[1]).indices
        for field in fields(self):
            both = torch.cat([getattr(self, field.name), getattr(others, field.name)], dim=1)
            setattr(self, field.name, _of_beams(both, kept))

    def select(self, sentences: torch.Tensor) -> None:
        """Keeps some sentences, by their indices or by True and False."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[sentences])


class _BeamSearch:
    """One beam search; its attributes change with every step."""

    def __init__(
        self,
        stepper: Stepper,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        config: GenerationConfig,
        may_leave: bool,
    ) -> None:
        self._stepper, self._processor, self._criteria = stepper, logits_processor, stopping_criteria
        self._config, self._may_leave, self._prompt = config, may_leave, input_ids.shape[1]
        sentences, beams = len(input_ids), config.num_beams
        self._end_ids = config._eos_token_tensor
        self._candidates = max(2, 1 + (0 if self._end_ids is None else len(self._end_ids))) * beams
        self._fill = input_ids.new_tensor(_fill_id(config))
        self._done = _Done(sentences, self._fill)
        # The beams of a sentence begin alike. Only the first one may go on, or all of them would write the same.
        self._sequences = input_ids.unsqueeze(1).expand(-1, beams, -1)
        self._scores = torch.full((sentences, beams), HOPELESS, device=input_ids.device)
        self._scores[:, 0] = 0
        self._new = input_ids
        if logits_processor or stepper.vocabulary_size < self._candidates:
            self._new = input_ids.repeat_interleave(beams, dim=0)
            stepper.go_on_from(torch.arange(sentences, device=input_ids.device).repeat_interleave(beams))
        self._best = _Hypotheses(
            sequences=self._sequences,
            scores=torch.full_like(self._scores, HOPELESS),
            lengths=torch.full_like(self._scores, self._prompt, dtype=torch.long),
            finished=torch.zeros_like(self._scores, dtype=torch.bool),
        )
        self._improvable = torch.ones(sentences, dtype=torch.bool, device=input_ids.device)
        self._scratch = input_ids.new_empty(0, 0, dtype=torch.float32)

    def step(self) -> bool:
        """Writes one token in every beam; True when there is nothing more to write."""
        scores, beams, tokens = self._continuations()
        sequences = torch.cat([_of_beams(self._sequences, beams), tokens.unsqueeze(2)], dim=2)
        hits = self._hits(sequences)
        self._take_over(sequences, scores, hits)
        scores = scores + hits * HOPELESS
        running = scores.topk(self._config.num_beams).indices
        self._sequences, self._scores = _of_beams(sequences, running), scores.gather(1, running)
        finished = self._finished_sentences()
        if bool(finished.all() | hits.all()):
            self._leave(torch.ones_like(finished))
            return True
        self._go_on(beams.gather(1, running), finished)
        return False

    def results(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The best hypotheses of all sentences, `(sentences * returned, length)`, and their scores."""
        return self._done.sequences().flatten(0, 1), self._done.scores().flatten(0, 1)

    def _continuations(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = self._stepper.step(self._new)
        sentences = len(self._scores)
        beams = len(logits) // sentences
        if self._processor:
            running = self._sequences.flatten(0, 1)
            table = self._processor(running, logits.log_softmax(1))  # type: ignore[arg-type]
            offsets = self._scores
        else:
            table = logits
            offsets = self._scores[:, :beams] - self._log_sums(logits).view(sentences, beams)
        return best_continuations(table.view(sentences, beams, -1), offsets, self._candidates)

    def _log_sums(self, logits: torch.Tensor) -> torch.Tensor:
        """The logarithm of the sum of exponentials in each row of `(rows, vocabulary)`."""
        if logits.device.type != "cpu":
            return logits.logsumexp(1)
        # On a CPU the fused softmax takes half the time, and the highest probability tells the sum.
        if len(self._scratch) < len(logits):
            self._scratch = torch.empty_like(logits)
        probabilities = torch.softmax(logits, dim=1, out=self._scratch[: len(logits)])
        return logits.amax(1) - probabilities.amax(1).log()

    def _hits(self, sequences: torch.Tensor) -> torch.Tensor:
        """Which candidates `(sentences, candidates, length)` are finished."""
        if any(type(criterion) not in (EosTokenCriteria, MaxLengthCriteria) for criterion in self._criteria):
            return self._criteria(sequences.flatten(0, 1), None).view(sequences.shape[:2])
        hits = torch.zeros(sequences.shape[:2], dtype=torch.bool, device=sequences.device)
        if sequences.shape[2] >= self._config.max_length:
            return ~hits
        return hits if self._end_ids is None else torch.isin(sequences[:, :, -1], self._end_ids)

    def _take_over(self, sequences: torch.Tensor, scores: torch.Tensor, hits: torch.Tensor) -> None:
        """Takes the finished ones among the best `num_beams` candidates for hypotheses, if they are good enough."""
        finished = hits.clone()
        finished[:, self._config.num_beams :] = False
        if not finished.any():
            return
        length = sequences.shape[2]
        scores = scores / ((length - self._prompt) ** self._config.length_penalty)
        closed = ~self._improvable
        if self._config.early_stopping is True:
            closed = closed | self._best.finished.all(1)
        scores = scores + (~finished | closed.unsqueeze(1)) * HOPELESS
        lengths = torch.full_like(hits, length, dtype=torch.long)
        self._best.merge(_Hypotheses(sequences, scores, lengths, finished), self._fill)

    def _finished_sentences(self) -> torch.Tensor:
        """`(sentences,)`, True where no hypothesis can become one of the best any more."""
        config, best = self._config, self._best
        length = self._sequences.shape[2] - self._prompt
        if config.early_stopping == "never" and config.length_penalty > 0:
            length = config.max_length - self._prompt
        full = best.finished.all(1)
        worst = torch.where(full, best.scores.amin(1), HOPELESS)
        self._improvable &= self._scores[:, 0] / length**config.length_penalty > worst
        return ~self._improvable | full if config.early_stopping is True else ~self._improvable

    def _go_on(self, parents: torch.Tensor, finished: torch.Tensor) -> None:
        sentences = len(finished)
        beams = len(self._new) // sentences  # of the step before, which at the beginning may have been one
        rows = torch.arange(sentences, device=parents.device).unsqueeze(1) * beams + parents
        staying = None
        if self._may_leave and int(finished.sum()) >= max(1, LEAVING_SHARE * sentences):
            self._leave(finished)
            staying = (~finished).nonzero().squeeze(1)
            rows = rows[staying]
        self._stepper.go_on_from(rows.flatten(), staying)
        self._new = self._sequences[:, :, -1].reshape(-1, 1)

    def _leave(self, leaving: torch.Tensor) -> None:
        best, returned = self._best, slice(self._config.num_return_sequences)
        longest = int(best.lengths[leaving, returned].max())
        self._done.add(leaving, best.sequences[leaving, returned, :longest], best.scores[leaving, returned])
        best.select(~leaving)
        self._sequences, self._scores = self._sequences[~leaving], self._scores[~leaving]
        self._improvable = self._improvable[~leaving]


def _of_beams(tensor: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Of `(sentences, beams, ...)` those with the indices `(sentences, chosen)`."""
    if tensor.dim() == 2:
        return tensor.gather(1, indices)
    return tensor.gather(1, indices.unsqueeze(2).expand(-1, -1, tensor.shape[2]))


def _fill_id(config: GenerationConfig) -> int:
    """What transformers' beam search puts behind the end of a sequence; an id of 0 counts for none there."""
    pad_id, end_ids = config._pad_token_tensor, config._eos_token_tensor
    if end_ids is None:
        return -1
    return int(pad_id or end_ids[0])


__all__ = ["beam_search", "greedy_search"]
