"""Phrases that must or must not be written: against brute force, and on random models of all kinds."""

import copy
import random
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
import torch

from hf_rnn_s2s import RnnS2SForConditionalGeneration, Shortlist, StepGraphs
from hf_rnn_s2s.decoding import fast_search
from hf_rnn_s2s.decoding.constraints import Constraints
from hf_rnn_s2s.decoding.phrases import Ids, Phrase, read_forced

from .. import random_models
from ..random_searches import random_model

START, END, VOCABULARY = 1, 2, 7
TOKENS = torch.tensor([[4, 5, 6, 3, 2], [6, 4, 2, 0, 0], [3, 3, 5, 2, 0]])
MASK = TOKENS.ne(0).long()
Phrases = list[list[int]]


def tiny_model(seed: int = 3) -> RnnS2SForConditionalGeneration:
    return random_models.build(seed, vocab_size=VOCABULARY, initializer_range=1.0, unk_token_id=None)


def all_targets(length: int) -> Iterator[list[int]]:
    others = [token for token in range(VOCABULARY) if token != END]
    for inner in range(length + 1):
        for tokens in product(others, repeat=inner):
            yield [*tokens, *([] if inner == length else [END])]


def contains(tokens: list[int], phrase: list[int]) -> bool:
    return any(tokens[place : place + len(phrase)] == phrase for place in range(len(tokens)))


def leaves_room(target: list[int], phrases: Phrases, length: int) -> bool:
    """Whether after each token the phrases that are missing could be written one after the other."""
    for written in range(len(target)):
        begin = target[:written]
        missing = [phrase for phrase in phrases if not contains(begin, phrase)]
        begun = [
            count
            for phrase in missing
            for count in range(1, len(phrase))
            if begin[written - count :] == phrase[:count]
        ]
        if sum(map(len, missing)) - max(begun, default=0) > length - written:
            return False
    return True


def best_four(row: int, targets: list[list[int]], score: Any) -> list[list[int]]:
    """Of these targets of a source, by the model's own forward pass in float64."""
    model = copy.deepcopy(tiny_model()).double()
    longest = max(map(len, targets))
    written = torch.tensor([[*target, *[END] * (longest - len(target))] for target in targets])
    read = torch.cat([torch.full_like(written[:, :1], START), written[:, :-1]], dim=1)
    sources, masks = (one[row : row + 1].expand(len(targets), -1) for one in (TOKENS, MASK))
    with torch.no_grad():
        logits = model(sources, masks, decoder_input_ids=read, decoder_attention_mask=torch.ones_like(read)).logits
    tokens = logits.log_softmax(-1).gather(2, written.unsqueeze(2)).squeeze(2).tolist()
    totals = [sum(one[: len(target)]) for one, target in zip(tokens, targets, strict=True)]
    ranked = sorted(zip(map(score, totals, map(len, targets)), targets, strict=True), reverse=True)
    return [target for _, target in ranked[:4]]


def stripped(sequence: torch.Tensor, prompt: int = 1) -> list[int]:
    target = sequence.tolist()[prompt:]
    return target[: target.index(END) + 1] if END in target else target


@pytest.mark.parametrize(
    ("phrases", "length"),
    [
        ([[4]], 4),
        ([[5, 3]], 4),
        ([[4], [3]], 4),
        ([[3, 4], [3, 5]], 5),  # begin alike
        ([[3, 4], [4, 6]], 5),  # overlap
        ([[3, 4], [4]], 5),  # one contains the other
        ([[6, 6, 3]], 5),
        ([[[5, 3]], [], [[4], [6]]], 4),  # for each row its own
    ],
    ids=str,
)
@pytest.mark.parametrize("penalty", ["length_penalty", "gnmt_length_penalty"])
def test_with_enough_beams_it_is_brute_force(phrases: Any, length: int, penalty: str) -> None:
    def score(total: float, tokens: int) -> float:
        return total / tokens if penalty == "length_penalty" else total / ((5 + tokens) / 6) ** 0.6

    found = tiny_model().generate(
        TOKENS,
        attention_mask=MASK,
        force_phrases=phrases,
        num_beams=(VOCABULARY - 1) ** (length - 1),
        num_return_sequences=4,
        early_stopping="never",
        max_new_tokens=length,
        **({} if penalty == "length_penalty" else {penalty: 0.6}),
    )
    for row in range(3):
        of_row = phrases[row] if not phrases[0] or isinstance(phrases[0][0], list) else phrases
        right = [one for one in all_targets(length) if all(contains(one, phrase) for phrase in of_row)]
        fitting = [one for one in right if leaves_room(one, of_row, length)]
        assert (len(fitting) < len(right)) == (of_row in ([[3, 4], [4, 6]], [[3, 4], [4]]))
        assert [stripped(one) for one in found.view(3, 4, -1)[row]] == best_four(row, fitting, score)


@pytest.mark.parametrize("phrases", [[[4], [5, 3]], [[[4]], [], [[3, 3], [6, END], [5]]]], ids=str)
def test_what_is_forbidden_is_left_out_of_brute_force(phrases: Any) -> None:
    found = tiny_model().generate(
        TOKENS,
        attention_mask=MASK,
        forbid_phrases=phrases,
        num_beams=3 * VOCABULARY**2,
        num_return_sequences=4,
        early_stopping="never",
        max_new_tokens=3,
    )
    for row in range(3):
        of_row = phrases[row] if not phrases[0] or isinstance(phrases[0][0], list) else phrases
        right = [one for one in all_targets(3) if not any(contains([START, *one], phrase) for phrase in of_row)]
        expected = best_four(row, right, lambda total, tokens: total / tokens)
        assert [stripped(one) for one in found.view(3, 4, -1)[row]] == expected


@pytest.mark.parametrize("part", range(4))
def test_every_translation_has_its_phrases_whatever_else_is_in_the_batch(part: int) -> None:
    draw, cases = random.Random(part), 0
    while cases < 12:
        model = random_model(draw)
        vocabulary, end = model.config.vocab_size, model.config.eos_token_id
        ends = end if isinstance(end, list) else [end]
        few = [token for token in range(3, vocabulary) if token not in ends][:4]
        forced = [draw_phrases(draw, few) for _ in range(3)]
        forbidden = [draw_phrases(draw, [*few, *ends])[:2] for _ in range(3)]
        forbidden = [[one for one in row if one not in [[end] for end in ends]] for row in forbidden]
        if contradict(forced, forbidden) or not any(forced):
            continue
        cases += 1
        beams = draw.choice([2, 3, 6])
        longest = max(sum(map(len, row)) for row in forced)
        arguments: dict[str, Any] = {
            "num_beams": beams,
            "num_return_sequences": draw.randint(1, 2),
            "max_new_tokens": longest + 1 + draw.choice([0, 0, 1, 4, 12]),
            "early_stopping": draw.choice([True, False, "never"]),
        }
        is_hard = draw.random() < 0.5  # with forbidden phrases, too
        arguments |= {"forbid_phrases": forbidden} if is_hard else {}
        sources = torch.randint(3, vocabulary, (3, 5))
        try:
            found = model.generate(sources, force_phrases=forced, **arguments)
        except ValueError as error:
            if not is_hard or "The search found" not in str(error):
                raise
            continue
        returned = arguments["num_return_sequences"]
        for number, tokens in enumerate(found[:, 1:].tolist()):
            row = number // returned
            finish = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
            assert all(contains(tokens[:finish], phrase) for phrase in forced[row]), (tokens, forced[row])
            assert not is_hard or not any(contains([1, *tokens[: finish + 1]], phrase) for phrase in forbidden[row])
        for row in range(3):
            of_row = {"forbid_phrases": [forbidden[row]]} if is_hard else {}
            alone = model.generate(
                sources[row : row + 1], force_phrases=[forced[row]], **{**arguments, **of_row}
            ).tolist()
            together = found[row * returned : (row + 1) * returned, : len(alone[0])].tolist()
            assert alone == together


def draw_phrases(draw: random.Random, tokens: list[int]) -> Phrases:
    return [[draw.choice(tokens) for _ in range(draw.randint(1, 3))] for _ in range(draw.randint(0, 3))]


def contradict(forced: list[Phrases], forbidden: list[Phrases]) -> bool:
    return any(
        contains(phrase, other)
        for row, others in zip(forced, forbidden, strict=True)
        for phrase in row
        for other in others
    )


def test_a_phrase_that_breaks_off_falls_back_to_its_longest_beginning() -> None:
    constraints = Constraints([Phrase((1, 1, 2)), Phrase((1, 3))])
    begun, missing, written = [], [], []
    tokens: list[int] = []
    progress = constraints.start(tokens)
    for token in (1, 1, 1, 2, 1, 4, 1, 3):
        tokens.append(token)
        progress = constraints.after(progress, tokens)
        begun.append(progress.begun)
        missing.append(constraints.missing(progress))
        written.append(constraints.written(progress))
    assert begun == [(1, 1), (2, 1), (2, 1), (0, 0), (0, 1), (0, 0), (0, 1), (0, 0)]
    assert missing == [4, 3, 3, 2, 1, 2, 1, 0]
    assert written == [1, 2, 2, 3, 4, 3, 4, 5]
    assert constraints.are_met(progress)


def test_a_phrase_does_not_count_before_the_rest_of_its_word() -> None:
    constraints = Constraints([Phrase((1, 2), goes_on=frozenset([5])), Phrase((1, 2, 5))])
    progress = constraints.start([1, 2])
    assert progress.met == {0}
    assert constraints.missing(progress) == 3  # and not 1, since with the token 5 the first one is lost
    assert constraints.after(progress, [1, 2, 5]).met == {1}
    assert constraints.after(progress, [1, 2, 6]).met == {0}


def test_an_end_token_does_not_go_on_with_a_word() -> None:
    given = [Phrase((4,), goes_on=frozenset([END, 5]))]
    (phrase,) = read_forced("force_phrases", given, Ids(VOCABULARY, frozenset([END]), frozenset([0]))).of(0)
    assert phrase.goes_on == {5}


@pytest.mark.parametrize("num_beams", [1, 4])
def test_what_is_forbidden_for_all_rows_is_what_transformers_calls_bad_words(num_beams: int) -> None:
    model, sources = random_models.model_that_ends(), random_models.sources()
    words = [[26], [15, 15], [13, 13, 29], [35, 20]]
    arguments: dict[str, Any] = {"num_beams": num_beams, "max_new_tokens": 12}
    expected = model.generate(sources, bad_words_ids=words, **arguments)
    assert torch.equal(model.generate(sources, forbid_phrases=words, **arguments), expected)
    assert torch.equal(model.generate(sources, forbid_phrases=[words] * 16, **arguments), expected)
    assert not torch.equal(model.generate(sources, **arguments), expected)


@pytest.mark.parametrize("num_beams", [1, 4])
def test_a_phrase_is_also_forbidden_across_the_end_of_the_prompt(num_beams: int) -> None:
    model, sources = random_models.model_that_ends(), random_models.sources(1)
    prompt = torch.tensor([[1, 9, 7]])
    arguments: dict[str, Any] = {"num_beams": num_beams, "max_new_tokens": 1, "decoder_input_ids": prompt}
    next_token = model.generate(sources, **arguments)[0, 3].item()
    for phrases in ([[7, next_token]], [[[9, 7, next_token]]]):
        assert model.generate(sources, forbid_phrases=phrases, **arguments)[0, 3].item() != next_token


def test_an_ensemble_writes_them_together() -> None:
    model, other = random_models.model_that_ends(), random_models.build(7, initializer_range=1.0)
    sources = random_models.sources(4)
    arguments: dict[str, Any] = {"num_beams": 4, "max_new_tokens": 9, "coverage_penalty": 0.2}
    forced: dict[str, Any] = {"force_phrases": [[7, 8], [9]], "forbid_phrases": [[26]]}
    alone = model.generate(sources, **arguments, **forced)
    assert torch.equal(model.generate(sources, ensemble=[model], **arguments, **forced), alone)
    together = model.generate(sources, ensemble=[other], **arguments, **forced)
    assert not torch.equal(together, alone)
    for tokens in together.tolist():
        assert contains(tokens, [7, 8])
        assert contains(tokens, [9])
        assert 26 not in tokens


def test_the_name_of_transformers_means_the_same() -> None:
    model, sources = random_models.model_that_ends(), random_models.sources(4)
    arguments: dict[str, Any] = {"num_beams": 4, "max_new_tokens": 9}
    expected = model.generate(sources, force_phrases=[[7, 8]], **arguments)
    assert torch.equal(model.generate(sources, force_words_ids=[[7, 8]], **arguments), expected)
    assert torch.equal(model.generate(sources, force_phrases=((7, 8),), trust_remote_code=True, **arguments), expected)
    model.generation_config.force_words_ids = [[7, 8]]
    assert torch.equal(model.generate(sources, **arguments), expected)


def test_what_a_prompt_has_need_not_be_written_again() -> None:
    model, sources = random_models.model_that_ends(), random_models.sources(1)
    arguments: dict[str, Any] = {"num_beams": 4, "max_new_tokens": 6}
    arguments["decoder_input_ids"] = torch.tensor([[1, 7, 8, 9]])
    expected = model.generate(sources, **arguments)
    assert torch.equal(model.generate(sources, force_phrases=[[7, 8], [8, 9]], **arguments), expected)
    found = model.generate(sources, force_phrases=[[9, 5]], **arguments)
    assert contains(found[0, 3:].tolist(), [9, 5])


@pytest.mark.parametrize("token", ["forced_bos_token_id", "forced_eos_token_id"])
def test_there_is_room_for_a_token_at_an_end(token: str) -> None:
    model, sources = random_models.model_that_ends(), random_models.sources(8)
    forced = {"forced_bos_token_id": 6, "forced_eos_token_id": END}[token]
    arguments: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 6, token: forced}
    for tokens in model.generate(sources, force_phrases=[[7, 8], [9, 5, 5]], **arguments).tolist():
        assert contains(tokens, [7, 8])
        assert contains(tokens, [9, 5, 5])
        assert tokens[1 if token == "forced_bos_token_id" else -1] == forced


def test_what_only_the_search_can_know_is_checked_there() -> None:
    model, sources = random_models.model_that_ends(), random_models.sources(3)
    encoded = model.get_encoder()(sources)
    arguments: dict[str, Any] = {"force_phrases": [[[7, 8]], []], "num_beams": 3}
    with pytest.raises(ValueError, match="force_phrases has lists of phrases for 2 rows, but the source has 3"):
        model.generate(encoder_outputs=encoded, **arguments)
    # The start token is put in front of the prompt.
    arguments = {"force_phrases": [[7, 8]], "num_beams": 3, "max_length": 5}
    prompt = torch.full((3, 2), 9)
    with pytest.raises(ValueError, match=r"\[7, 8\] of row 0 and an end token have 2 \+ 1 tokens, but at most 2 may"):
        model.generate(sources, decoder_input_ids=prompt, **arguments)


def test_no_phrases_change_nothing() -> None:
    model, sources = random_models.model_that_ends(), random_models.sources(2)
    expected = model.generate(sources, num_beams=3, max_new_tokens=9)
    for nothing in ([], [[], []]):
        found = model.generate(sources, num_beams=3, max_new_tokens=9, force_phrases=nothing, forbid_phrases=nothing)
        assert torch.equal(found, expected)
    assert model.generate(sources, max_new_tokens=3, force_phrases=[]).shape[0] == 2


def test_a_shortlist_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    model, sources = random_models.model_that_ends(), random_models.sources(2)
    fast_search.logger.warning_once.cache_clear()
    shortlist = Shortlist([[5]] * 40, always=[2, 20])
    arguments: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 6, "force_phrases": [[30]]}
    found = model.generate(sources, shortlist=shortlist, **arguments)
    assert torch.equal(found, model.generate(sources, **arguments))
    assert "shortlist: this call looks at the whole vocabulary" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"force_phrases": [[4]], "num_beams": 1}, "force_phrases takes beam search.*set num_beams above"),
        ({"force_words_ids": [[4]], "num_beams": 1}, "force_words_ids takes beam search"),
        ({"force_words_ids": [[[4], [5]]]}, "force_words_ids has three levels, .*force_phrases with one such list"),
        ({"force_words_ids": [[4]], "force_phrases": [[4]]}, "force_words_ids and force_phrases say the same"),
        ({"constraints": [object()]}, "constraints: Constraint objects are of transformers 4. Pass .*force_phrases="),
        ({"force_phrases": [[4], []]}, "force_phrases: phrase 1 of row 0 is empty"),
        ({"force_phrases": [[]]}, "force_phrases has lists of phrases for 1 rows, but the source has 3"),
        ({"force_phrases": [[4, 7]]}, "phrase 0 of row 0 has the id 7, outside the vocabulary of 7 tokens"),
        ({"forbid_phrases": [[[4]], [[-1]], []]}, "forbid_phrases: phrase 0 of row 1 has the id -1, outside"),
        ({"force_phrases": [[4, END]]}, r"phrase 0 of row 0, \[4, 2\], has the end token"),
        ({"force_phrases": [[0]]}, "has the padding token"),
        ({"forbid_phrases": [[END]]}, "forbid_phrases: phrase 0 of row 0 is the end token alone"),
        ({"force_phrases": [[[4]], []]}, "force_phrases has lists of phrases for 2 rows, but the source has 3"),
        ({"force_phrases": "ab"}, "force_phrases is a str; it must be a list of phrases"),
        ({"forbid_phrases": {4: 5}}, "forbid_phrases is a dict; it must be a list"),
        ({"force_phrases": [4, 5]}, "phrase 0 of row 0 is 4; it must be a list of token ids"),
        ({"force_phrases": ["Hund"]}, "is 'Hund'; it must be a list of token ids. Texts are for the pipeline"),
        ({"force_phrases": [[4.0]]}, "has 4.0, which is no token id"),
        (
            {"force_phrases": [[3, 4, 5, 6]], "max_new_tokens": 4},
            r"force_phrases: the phrase \[3, 4, 5, 6\] of row 0 and an end token have 4 \+ 1 tokens, but at most 4",
        ),
        (
            {"force_phrases": [[], [[3, 4], [5]], []], "max_length": 4},
            r"the phrases \[3, 4\], \[5\] of row 1 and an end token have 2 \+ 1 \+ 1 tokens, but at most 3",
        ),
        ({"force_phrases": [[3] * 20]}, "but at most 20 may be written. Raise max_new_tokens"),
        (
            {"force_phrases": [[3, 4, 5]], "forbid_phrases": [[[6]], [[4, 5]], []]},
            r"force_phrases and forbid_phrases contradict each other in row 1: \[3, 4, 5\] contains \[4, 5\]",
        ),
        ({"force_phrases": [[4]], "max_time": 3.0}, "max_time may end a translation before it has all of force_phr"),
        ({"force_phrases": [[4]], "do_sample": True}, "force_phrases: only greedy and beam search that return"),
        ({"forbid_phrases": [[4]], "use_cache": False}, "forbid_phrases: only greedy and beam search that return"),
        ({"force_phrases": [[4]], "step_graphs": StepGraphs()}, "step_graphs do not know force_phrases"),
        (
            {"force_phrases": [[4], [5]], "forbid_phrases": [[one, two] for one in (4, 5) for two in range(7)]},
            "The search found 0 translations of row 0, and 1 are to be returned.*leave out what forces or forbids",
        ),
        (
            {"forbid_phrases": [[token] for token in range(7) if token != END] + [[1, END]]},
            "forbid_phrases: for row 0 the search found too few translations without",
        ),
        (
            {"forbid_phrases": [[1, token] for token in range(7)], "num_beams": 1},
            "forbid_phrases leaves no token to go on with. Forbid less, or set num_beams above 1",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # objects have their address in their text
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        tiny_model().generate(TOKENS, attention_mask=MASK, **{"num_beams": 3, **arguments})
