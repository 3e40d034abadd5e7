"""Hard attention with the marginal head: exact sums over all alignments, wherever a model is used.

The equations themselves, one by one, are held by `tests/presets` and by the combinations of `test_modeling_rnn_s2s`.
"""

import random
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from torch.nn import functional

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, register
from hf_rnn_s2s.model import modeling_rnn_s2s as plain
from hf_rnn_s2s.model.attention_rnn_s2s import HardAttention
from hf_rnn_s2s.training.noise import sampled_inputs

from .. import random_models
from ..decoding.test_diverse_beams import reference as diverse_beams
from ..decoding.test_diverse_beams import stripped
from ..random_searches import random_arguments, random_sources

VOCABULARY = 7
SOURCES = torch.tensor([[4, 5, 6, 3, 2], [6, 4, 2, 0, 0], [3, 3, 5, 2, 0]])
MASK = SOURCES.ne(0).long()
LABELS = torch.tensor([[5, 4, 2, -100], [3, -100, 6, 2], [6, 6, 3, 2]])
TARGET = torch.tensor([[1, 4, 6, 3], [1, 5, 5, 2], [1, 3, 4, 5]])

KINDS = ("hard", "hard_monotonic", "hard_first_order", "hard_first_order_monotonic")
every_kind = pytest.mark.parametrize("kind", KINDS)
every_chain = pytest.mark.parametrize("kind", KINDS[1:])


def build(kind: str, seed: int = 1, **values: Any) -> RnnS2SForConditionalGeneration:
    given: dict[str, Any] = {"vocab_size": VOCABULARY, "unk_token_id": None, "attention_window": 2, **values}
    return random_models.build(seed, initializer_range=1.0, head_type="marginal", attention_type=kind, **given)


@every_chain
@torch.no_grad()
def test_the_probability_of_a_target_is_the_sum_over_all_alignments(kind: str) -> None:
    """Each alignment by itself, from what the decoder computes."""
    model, labels = build(kind).double(), TARGET
    scores = model.score(SOURCES, labels, attention_mask=MASK)
    inputs = model.prepare_decoder_input_ids_from_labels(labels)
    read = model.model(SOURCES, attention_mask=MASK, decoder_input_ids=inputs, output_attentions=True)
    moves, written = read.cross_attentions[0].exp(), model.lm_head(read.last_hidden_state).softmax(-1)
    assert moves.shape == (3, 6, 4, 5)
    assert written.shape == (3, 4, 5, VOCABULARY)
    for row in range(3):
        total = 0.0
        for alignment in product(range(5), repeat=4):
            probability, before = 1.0, 5  # the place of the first step
            for step, place in enumerate(alignment):
                probability *= float(moves[row, before, step, place] * written[row, step, place, labels[row, step]])
                before = place
            total += probability
        assert scores.totals[row].exp().item() == pytest.approx(total, rel=1e-12)


@every_kind
@torch.no_grad()
def test_moves_are_probabilities_and_go_where_they_may(kind: str) -> None:
    model = build(kind).double()
    read = model.model(SOURCES, attention_mask=MASK, decoder_input_ids=TARGET, output_attentions=True)
    moves = read.cross_attentions[0].exp()
    torch.testing.assert_close(moves.sum(-1), torch.ones_like(moves.sum(-1)))
    assert moves[1, :, :, 3:].eq(0).all()  # padding
    if kind.endswith("monotonic"):
        assert all(moves[0, before, :, :before].eq(0).all() for before in range(5))
    if "first_order" in kind:
        assert moves[0, 0, :, 3:].eq(0).all()
        assert torch.equal(moves[:, 5], moves[:, 0])  # the first step goes on from the first token
    elif kind == "hard_monotonic":
        assert moves[0, 5].gt(0).all()
    looked = model(SOURCES, attention_mask=MASK, decoder_input_ids=TARGET, output_attentions=True).cross_attentions[0]
    assert looked.shape == (3, 1, 4, 5)
    torch.testing.assert_close(looked.sum(-1), torch.ones_like(looked.sum(-1)))
    assert looked[1, :, :, 3:].eq(0).all()


@every_kind
def test_the_loss_is_that_of_the_log_probabilities(kind: str) -> None:
    model = build(kind, label_smoothing=0.1, dropout=0.0).train()
    given: dict[str, Any] = {"input_ids": SOURCES, "attention_mask": MASK, "labels": LABELS}
    output = model(**given)
    torch.testing.assert_close(output.logits.exp().sum(-1), torch.ones(3, 4))
    flat = output.logits.flatten(0, 1), LABELS.flatten()
    expected = functional.cross_entropy(*flat, label_smoothing=0.1, reduction="sum")
    torch.testing.assert_close(output.loss, expected / 10)
    torch.testing.assert_close(model(**given, num_items_in_batch=4).loss, expected / 4)
    without = model(**given, return_logits=False)
    assert without.logits is None
    torch.testing.assert_close(without.loss, output.loss, rtol=0, atol=0)
    last = model(**given, logits_to_keep=2)
    torch.testing.assert_close(last.logits, output.logits[:, -2:], rtol=0, atol=0)
    torch.testing.assert_close(last.loss, output.loss, rtol=0, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(**given)
    torch.testing.assert_close(rounded.loss, output.loss, rtol=0.05, atol=0)
    rounded.loss.backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in model.parameters())
    model.config.coverage_loss = 1.0
    assert model(**given).loss > output.loss


@every_kind
def test_gradients_are_finite_where_probabilities_are_not_to_be_told_from_zero(kind: str) -> None:
    model = build(kind)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(30)
    sources = torch.cat([SOURCES, torch.zeros(1, 5, dtype=torch.long)])  # the last row is all padding
    labels = torch.cat([TARGET, TARGET[:1]])
    loss = model(sources, labels=labels).loss
    loss.backward()
    assert loss.isfinite()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in model.parameters())


@every_kind
def test_dropout_keeps_the_sum_of_probabilities(kind: str) -> None:
    model = build(kind, dropout=0.5).train()
    one, other = (model(SOURCES, labels=LABELS).logits for _ in range(2))
    assert not torch.equal(one, other)
    torch.testing.assert_close(one.exp().sum(-1), torch.ones(3, 4))


@every_kind
@pytest.mark.parametrize("use_cache", [True, False])
@torch.no_grad()
def test_padding_of_the_target_is_passed_over(kind: str, use_cache: bool) -> None:
    model = build(kind).double()
    target = torch.tensor([[0, 0, 1, 4, 6], [0, 1, 5, 0, 2], [1, 3, 0, 0, 4]])
    given: dict[str, Any] = {"attention_mask": MASK, "use_cache": use_cache}
    found = model(SOURCES, decoder_input_ids=target, decoder_attention_mask=target.ne(0).long(), **given)
    for row in range(3):
        read = target[row][target[row].ne(0)]
        alone = model(SOURCES[row : row + 1], attention_mask=MASK[row : row + 1], decoder_input_ids=read[None])
        torch.testing.assert_close(found.logits[row][target[row].ne(0)], alone.logits[0], rtol=0, atol=1e-10)
        if use_cache and kind != "hard":
            remembered, expected = found.past_key_values.state.head[row], alone.past_key_values.state.head[0]
            torch.testing.assert_close(remembered, expected, rtol=0, atol=1e-10)


@every_chain
@torch.no_grad()
def test_ids_are_needed_and_asked_for(kind: str) -> None:
    model = build(kind)
    embeds = model.model.decoder.embed_tokens(TARGET)
    with pytest.raises(
        ValueError, match="decoder_inputs_embeds: where a hard attention looks .*pass decoder_input_ids"
    ):
        model(SOURCES, decoder_inputs_embeds=embeds)
    model = build("hard")
    embeds = model.model.decoder.embed_tokens(TARGET)
    expected = model(SOURCES, decoder_input_ids=TARGET).logits
    torch.testing.assert_close(model(SOURCES, decoder_inputs_embeds=embeds).logits, expected)


@every_kind
@pytest.mark.parametrize("how", ["prompt_lookup", "assistant"])
def test_assisted_decoding_gives_what_greedy_gives(kind: str, how: str) -> None:
    model = build(kind)
    options: dict[str, Any] = {"max_new_tokens": 20, "min_new_tokens": 20, "output_attentions": True}
    options |= {"return_dict_in_generate": True}
    helper: dict[str, Any] = {"assistant_model": build(kind, 3)} if how == "assistant" else {}
    helper = helper or {"prompt_lookup_num_tokens": 3}
    for row in range(3):
        source = SOURCES[row : row + 1, : int(MASK[row].sum())]
        expected, found = model.generate(source, **options), model.generate(source, **helper, **options)
        assert torch.equal(found.sequences, expected.sequences)
        pairs = list(zip(found.cross_attentions, expected.cross_attentions, strict=True))
        for ours, plain_one in pairs[:1] + pairs[2:]:  # of all models, transformers takes the first one for the second
            torch.testing.assert_close(ours, plain_one, rtol=0, atol=1e-5)


@every_kind
def test_the_fast_search_is_that_of_transformers(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any arguments, prompts and padding."""
    for seed in range(12):
        model = build(kind, seed, vocab_size=9)
        sources = random_sources(random.Random(seed), 9)
        arguments = random_arguments(random.Random(seed), 9, is_wild=False)
        found = model.generate(**sources, **arguments)
        with monkeypatch.context() as patch:
            patch.setattr(RnnS2SForConditionalGeneration, "generate", plain.RnnS2SForConditionalGeneration.generate)
            assert torch.equal(model.generate(**sources, **arguments), found), (seed, arguments)


@every_chain
def test_divided_beams_and_ensembles_remember_where_they_looked(kind: str) -> None:
    model = build(kind)
    given: dict[str, Any] = {"input_ids": SOURCES, "attention_mask": MASK, "max_new_tokens": 5}
    beams = {"num_beams": 4, "num_return_sequences": 4}
    expected = model.generate(**given, **beams)
    assert torch.equal(model.generate(**given, **beams, ensemble=[model]), expected)
    diverse = model.generate(**given, **beams, num_beam_groups=2, diversity_penalty=0.4).view(3, 4, -1)
    for row in range(3):
        source = SOURCES[row, : int(MASK[row].sum())]
        best = [target for _, target in diverse_beams(model, source, 4, 2, 0.4, 5)]
        distinct = [one for place, one in enumerate(best) if one not in best[:place]]
        assert [stripped(one) for one in diverse[row]][: len(distinct)] == distinct
    forced = model.generate(**given, num_beams=8, force_phrases=[[5, 3]])
    for row, sequence in enumerate(forced.tolist()):
        assert (5, 3) in pairwise(sequence)
        alone = {"input_ids": SOURCES[row : row + 1, : int(MASK[row].sum())], "max_new_tokens": 5}
        [single] = model.generate(**alone, num_beams=8, force_phrases=[[5, 3]]).tolist()
        assert sequence[: len(single)] == single


@every_kind
@torch.no_grad()
def test_coverage_adds_up_where_it_looked(kind: str) -> None:
    model = build(kind)
    given: dict[str, Any] = {"input_ids": SOURCES, "attention_mask": MASK, "num_beams": 4, "max_new_tokens": 4}
    found = model.generate(**given, num_return_sequences=4, coverage_penalty=0.2, min_new_tokens=4)
    scores = []
    sources, mask = SOURCES.repeat_interleave(4, 0), MASK.repeat_interleave(4, 0)
    output = model(sources, attention_mask=mask, decoder_input_ids=found[:, :-1], output_attentions=True)
    totals = output.logits.log_softmax(-1).gather(2, found[:, 1:].unsqueeze(2)).sum((1, 2))
    covered = output.cross_attentions[0].sum((1, 2)).masked_fill(mask.eq(0), 1.0)
    scores = totals + 0.2 * covered.clamp(max=1.0).log().sum(1)
    assert (scores.view(3, 4).diff(dim=1) <= 1e-5).all()  # the best first


@every_kind
def test_generation_goes_on_from_a_returned_cache(kind: str) -> None:
    model = build(kind)
    length = {"max_new_tokens": 10, "min_new_tokens": 10}
    whole = model.generate(SOURCES, attention_mask=MASK, **length)
    first = model.generate(
        SOURCES, attention_mask=MASK, max_new_tokens=4, min_new_tokens=4, return_dict_in_generate=True
    )
    cache = first.past_key_values
    rest = model.generate(
        SOURCES,
        attention_mask=MASK,
        decoder_input_ids=first.sequences,
        past_key_values=cache,
        max_new_tokens=6,
        min_new_tokens=6,
    )
    assert torch.equal(rest, whole)
    assert (cache.state.head is None) == (kind == "hard")


@every_chain
def test_scheduled_sampling_reads_the_models_own_predictions(kind: str) -> None:
    model = build(kind, dropout=0.5).train()
    inputs = {"input_ids": SOURCES, "attention_mask": MASK}
    own = sampled_inputs(model, inputs, TARGET, 0.0)
    settings: dict[str, Any] = {"max_new_tokens": 3, "min_new_tokens": 3, "eos_token_id": None, "num_beams": 1}
    assert torch.equal(own, model.eval().generate(**inputs, **settings))


class EvenMoves(HardAttention):
    """Equal probabilities for the same place and the next one."""

    is_chain = True

    def _scores(self, query: torch.Tensor, keys: torch.Tensor, sources: Any) -> torch.Tensor:
        return torch.zeros_like(super()._scores(query, keys, sources))

    def _allowed(self, distances: torch.Tensor) -> torch.Tensor:
        return distances.ge(0) & distances.le(1)


@torch.no_grad()
def test_a_hard_attention_of_ones_own() -> None:
    register("attention_type", "even_moves", EvenMoves)
    model = build("even_moves")
    looked = model(SOURCES[:1], decoder_input_ids=TARGET[:1], output_attentions=True).cross_attentions[0][0, 0]
    torch.testing.assert_close(looked[0], torch.tensor([0.5, 0.5, 0.0, 0.0, 0.0]))
    assert model.generate(SOURCES, num_beams=2, max_new_tokens=4).shape[0] == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"head_type": "vocabulary"},
            "attention_type='hard' looks at one source position, and head_type='vocabulary'",
        ),
        ({"head_type": "copying"}, "head_type='copying' does not sum over all of them. Set head_type='marginal'"),
        ({"attention_type": "general"}, "head_type='marginal' sums over .*attention_type='general'. Set .*'hard'"),
        ({"attention_type": "none"}, "head_type='marginal' sums over .*attention_type='none'"),
        ({"vocab_size": 2001}, "vocab_size=2001: head_type='marginal' .* 2,000 of them at most, such as characters"),
        ({"decoder_vocab_size": 8000}, "decoder_vocab_size=8000: .* Set a smaller decoder_vocab_size"),
        ({"readout": "maxout"}, "readout='maxout' is no sum .* Choose readout='attentional'"),
        ({"readout": "joined", "tie_word_embeddings": False}, "readout='joined' is no sum"),
        ({"input_feeding": True}, "input_feeding=True is about contexts, but attention_type='hard' has none"),
        ({"context_fusion": "gated"}, "context_fusion='gated' is about contexts"),
        ({"decoder_type": "conditional"}, "decoder_type='conditional' is about contexts"),
        ({"context_layers": "all", "attention_query": "previous"}, "context_layers='all' is about contexts"),
        ({"attention_normalizer": "sparsemax"}, "attention_normalizer='sparsemax' is about weights"),
        ({"attention_dropout": 0.1}, "attention_dropout=0.1 is about weights"),
        ({"attention_span": "predictive"}, "attention_span='predictive': attention_type='hard' looks where it wants"),
        ({"num_attention_heads": 4}, "num_attention_heads=4: attention_type='hard' has one head"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"vocab_size": 40, "attention_type": "hard", "head_type": "marginal"}
    assert RnnS2SConfig(**given)
    with pytest.raises(ValueError, match=message):
        RnnS2SConfig(**{**given, **values})
