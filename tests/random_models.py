"""Small models with random weights, and sources for them: what tests of the model and of searches build by hand."""

from typing import Any

import torch

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration

END = 2  # the id of the end token


def config_of(**values: Any) -> RnnS2SConfig:
    """A configuration with 40 tokens, 12 units wide, and these values."""
    return RnnS2SConfig(**{"vocab_size": 40, "embedding_size": 10, "hidden_size": 12, **values})


def build(seed: int = 0, **values: Any) -> RnnS2SForConditionalGeneration:
    """A model of `config_of(**values)` in evaluation mode, the same one for the same seed."""
    torch.manual_seed(seed)
    return RnnS2SForConditionalGeneration(config_of(**values)).eval()


def model_that_ends(vocabulary: int = 40, **values: Any) -> RnnS2SForConditionalGeneration:
    """Of a random model's sentences, some end early and some late."""
    sizes = {"vocab_size": vocabulary, "embedding_size": 6, "hidden_size": 8, "decoder_layers": 1}
    model = build(seed=3, **sizes, initializer_range=1.0, **values)
    with torch.no_grad():
        model.lm_head.bias[END] += 0.5
    return model


def sources(rows: int = 16) -> torch.Tensor:
    """Always the same sources for `model_that_ends`, `(rows, 6)`."""
    return torch.randint(3, 40, (rows, 6), generator=torch.Generator().manual_seed(3))


def logits_in_chunks(
    model: Any, inputs: dict[str, Any], target: torch.Tensor, mask: torch.Tensor, sizes: list[int]
) -> Any:
    """The logits of a target that is read in pieces of these sizes, each with the cache of the one before."""
    encoded = model.get_encoder()(**inputs)
    cache, chunks, read = None, [], 0
    for size in sizes:
        output = model(
            encoder_outputs=encoded,
            attention_mask=inputs["attention_mask"],
            decoder_input_ids=target[:, read : read + size],
            decoder_attention_mask=mask[:, : read + size],
            past_key_values=cache,
            use_cache=True,
        )
        cache, read = output.past_key_values, read + size
        chunks.append(output.logits)
    return torch.cat(chunks, dim=1)
