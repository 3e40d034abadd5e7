"""Random models, sources and arguments of `generate()`: what a search meets, and what it is not made for, together."""

import random
from typing import Any

import torch
from transformers import (
    EosTokenCriteria,
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    WatermarkingConfig,
)

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration

from .random_models import END


class Adds(LogitsProcessor):
    """Adds a number to some scores, after some tokens."""

    def __init__(self, number: float, every: int) -> None:
        self.number, self.every = number, every

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        chosen = (torch.arange(scores.shape[1]) % self.every == 0) & (input_ids[:, -1:] % 2 == 0)
        return torch.where(chosen, scores + self.number, scores)


class BansAnother(LogitsProcessor):
    """Bans another token at each call, so that it matters how often it was called."""

    calls = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return scores.index_fill(1, torch.tensor([self.calls % scores.shape[1]]), -torch.inf)


class ByContent(StoppingCriteria):
    """Ends one in so many sequences."""

    def __init__(self, one_in: int) -> None:
        self.one_in = one_in

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return (input_ids * torch.arange(3, 3 + input_ids.shape[1])).sum(1) % self.one_in == 0


class AtThirdCall(StoppingCriteria):
    calls = 0

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self.calls += 1
        return torch.full((len(input_ids),), self.calls >= 3)


def random_model(draw: random.Random, kind: str = "plain") -> RnnS2SForConditionalGeneration:
    """
    Of any architecture. Its end token is more or less probable, so that hypotheses end early or late or never.

    Args:
        draw: random numbers.
        kind: `"plain"`; `"banned"` has output biases of -inf; with `"tied"`, many tokens are equally probable.
    """
    torch.manual_seed(draw.randrange(2**31))
    config = RnnS2SConfig(
        vocab_size=draw.choice([8, 13, 40, 67, 131]),
        embedding_size=6,
        hidden_size=8,
        decoder_layers=draw.choice([1, 2]),
        cell_type=draw.choice(["lstm", "gru"]),
        attention_type=draw.choice(["none", "dot", "general", "additive", "cosine"]),
        attention_layer=draw.choice(["bottom", "top"]),
        context_fusion=draw.choice(["concat", "add"]),
        initializer_range=1.0,
        eos_token_id=draw.choice([END, END, [END, 5]]),
    )
    model = RnnS2SForConditionalGeneration(config).eval()
    with torch.no_grad():
        bias = model.lm_head.bias
        bias.normal_(std=0.5)
        bias[END] += draw.choice([-1.0, 1.0, 2.0, 4.0])
        if kind == "banned":
            bias[torch.rand(bias.shape) < draw.choice([0.2, 0.5, 0.9])] = -torch.inf
            bias[3] = 0
        if kind == "tied":
            model.lm_head.weight.zero_()
            bias.copy_(torch.randint(0, draw.choice([1, 2, 5]), bias.shape))
    return model


def random_arguments(draw: random.Random, vocabulary: int, is_wild: bool) -> dict[str, Any]:
    """Of `generate()`: as people have them, or any of all. Processors and criteria are new at every call."""
    beams = draw.choice([1, 2, 3, 4, 6])
    arguments: dict[str, Any] = {"num_beams": beams, "max_new_tokens": draw.choice([1, 3, 5, 12, 20])}
    if beams > 1:
        arguments["num_return_sequences"] = draw.randint(1, beams)
        arguments["length_penalty"] = draw.choice([1.0, 0.0, 0.6, 2.0, -0.5] + [-6.0, 8.0] * is_wild)
        arguments["early_stopping"] = draw.choice([False, True, "never"])
    processors = _of_generation_config(draw, vocabulary) + (_of_the_callers_own(draw) if is_wild else [])
    for one in draw.sample(processors, draw.choice([0, 1, 2, 3, 5, 9] if is_wild else [0, 0, 1, 2])):
        arguments |= one
    for name in ("min_new_tokens", "min_length"):
        if arguments.get(name, 0) > arguments["max_new_tokens"]:
            del arguments[name]
    if is_wild and "exponential_decay_length_penalty" not in arguments and draw.random() < 0.1:
        arguments |= {"eos_token_id": None, "pad_token_id": 0}
    return arguments


def _of_generation_config(draw: random.Random, vocabulary: int) -> list[dict[str, Any]]:
    few = range(5, vocabulary - 1)  # leaves the special tokens, 3, 4 and the last one
    return [
        {"repetition_penalty": draw.choice([1.3, 5.0, 0.5])},
        {"no_repeat_ngram_size": draw.choice([1, 2, 3])},
        {"min_new_tokens": draw.choice([2, 5])},
        {"min_length": draw.choice([3, 6])},
        {"bad_words_ids": draw.choice([[[7], [4, 5]], [[token] for token in few]])},
        {"suppress_tokens": draw.choice([[5, 6], list(few)])},
        {"begin_suppress_tokens": draw.choice([[6], list(few)])},
        {"forced_bos_token_id": draw.choice([4, END])},
        {"forced_eos_token_id": draw.choice([END, [END, 5]])},
        {"exponential_decay_length_penalty": draw.choice([(1, 1.2), (2, 3.0), (0, 1.01)])},
        {"sequence_bias": draw.choice([[[[3], 1.5], [[4, 6], 2.0]], [[[3], -50.0]], [[[4, 3], 40.0]]])},
        {"renormalize_logits": True},
        {"remove_invalid_values": True},
        {"encoder_repetition_penalty": draw.choice([1.2, 0.5])},
        {"encoder_no_repeat_ngram_size": draw.choice([1, 2])},
        {"prefix_allowed_tokens_fn": lambda row, _: [token for token in range(vocabulary) if token % 3 != row % 3]},
        {"prefix_allowed_tokens_fn": lambda _, target: [int(target[-1] * 2 + 1) % vocabulary, END]},
    ]


def _of_the_callers_own(draw: random.Random) -> list[dict[str, Any]]:
    processors: list[LogitsProcessor] = [
        TopKLogitsWarper(draw.choice([1, 2, 4])),
        TopPLogitsWarper(draw.choice([0.3, 0.9])),
        MinPLogitsWarper(0.2),
        TemperatureLogitsWarper(0.3),
        Adds(draw.choice([1e3, 1e10, -1e10, torch.nan, torch.inf, -torch.inf]), draw.choice([1, 2, 5])),
        BansAnother(),
    ]
    criteria = [ByContent(1), ByContent(2), ByContent(5), AtThirdCall(), EosTokenCriteria(torch.arange(3, 5))]
    return [
        {"logits_processor": LogitsProcessorList(draw.sample(processors, draw.choice([1, 2])))},
        {"stopping_criteria": StoppingCriteriaList(draw.sample(criteria, draw.choice([1, 2])))},
        {"stopping_criteria": StoppingCriteriaList([ByContent(draw.choice([2, 3, 7]))])},
        {"watermarking_config": WatermarkingConfig(bias=draw.choice([2.0, 20.0]), greenlist_ratio=0.4)},
        {"max_time": 1e-9},
    ]


def random_sources(draw: random.Random, vocabulary: int) -> dict[str, torch.Tensor]:
    """Sources, padded, and sometimes how the target begins."""
    rows, longest = draw.choice([1, 2, 5, 9]), draw.randint(1, 8)
    ids = torch.randint(3, vocabulary, (rows, longest))
    lengths = torch.tensor([draw.randint(1, longest) for _ in range(rows)])
    mask = (torch.arange(longest) < lengths.unsqueeze(1)).long()
    inputs = {"input_ids": ids * mask, "attention_mask": mask}
    if draw.random() < 0.2:
        inputs["decoder_input_ids"] = torch.randint(3, vocabulary, (rows, draw.randint(1, 3)))
    return inputs
