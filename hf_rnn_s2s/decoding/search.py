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

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from .beam_search import BeamSearch, ExactBeamSearch
from .endings import are_from_config, are_last, end_ids_of
from .finished_rows import FinishedRows, most_finished, rows_to_drop
from .normalization import LengthPenalty
from .search_inputs import SearchInputs
from .stepper import Stepper, Until
from .top_tokens import best_tokens


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
    plain_criteria = are_from_config(stopping_criteria, config)
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
    inputs = SearchInputs(
        stepper, input_ids, logits_processor, stopping_criteria, config, drop_finished, normalization
    )
    if normalization is not None or repeatable:
        search = BeamSearch(inputs)
        search.run()
        if normalization is not None or search.is_certain():
            return search.results()
        stepper.restart()
    search = ExactBeamSearch(inputs._replace(drop_finished=False))
    search.run()
    return search.results()
