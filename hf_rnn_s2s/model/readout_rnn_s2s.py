"""How a context joins what a layer reads, and how the top of the decoder becomes what the output layer reads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .configuration_rnn_s2s import RnnS2SConfig
from .state_rnn_s2s import NO_WEIGHT


class ConcatFusion(nn.Module):
    """Puts inputs and context side by side.

    This class is the contract of all fusions.

    Args:
        input_size: width of the inputs.
        context_size: width of the context.
    """

    def __init__(self, input_size: int, context_size: int) -> None:
        super().__init__()

    @staticmethod
    def width(input_size: int, context_size: int) -> int:
        """Width of what `forward` returns."""
        return input_size + context_size

    def forward(self, inputs: Tensor, context: Tensor) -> Tensor:
        """Join `(batch, target, input)` and `(batch, target, context)`."""
        return torch.cat([inputs, context], dim=-1)


class AddFusion(ConcatFusion):
    """Adds the context to the inputs.

    Raises:
        ValueError: if the two have different widths.
    """

    def __init__(self, input_size: int, context_size: int) -> None:
        super().__init__(input_size, context_size)
        if input_size != context_size:
            raise ValueError(
                f"context_fusion='add' adds contexts of {context_size} numbers, as wide as the memory, to states of "
                f"{input_size}. Choose context_fusion='concat'."
            )

    @staticmethod
    def width(input_size: int, context_size: int) -> int:
        return input_size

    def forward(self, inputs: Tensor, context: Tensor) -> Tensor:
        return inputs + context


class GatedFusion(ConcatFusion):
    """Puts inputs and context side by side and multiplies both by gates: `z [x; c]` with `z = sigmoid(W [x; c] + b)`.

    These are context gates (Tu et al. 2017, section 3) for source and target, with a gate for each number, since the
    two may have different widths.
    """

    def __init__(self, input_size: int, context_size: int) -> None:
        super().__init__(input_size, context_size)
        size = self.width(input_size, context_size)
        self.gate = nn.Linear(size, size)

    def forward(self, inputs: Tensor, context: Tensor) -> Tensor:
        joined = super().forward(inputs, context)
        return torch.sigmoid(self.gate(joined)) * joined


# `context_fusion` of the configuration, and the class it names.
CONTEXT_FUSIONS: dict[str, type[ConcatFusion]] = {"concat": ConcatFusion, "add": AddFusion, "gated": GatedFusion}


class Readout(nn.Module):
    """`tanh(W [h; c])`, the attentional vector (Luong et al. 2015, equation 5).

    This class is the contract of all readouts. The decoder holds the `projection` as its `output_projection`.

    Attributes:
        reads_context: whether the context joins the state.
        reads_query: whether it reads the state that the attention was asked with, and not the top layer's outputs.
        reads_token: whether it reads the token's embedding, too.
        size: width of what it returns.
    """

    reads_context = True
    reads_query = False
    reads_token = False

    def __init__(self, config: RnnS2SConfig, input_size: int) -> None:
        super().__init__()
        self.input_size, self.size = input_size, config.readout_size or config.embedding_size

    def projection(self) -> nn.Module:
        """The layer that reads what was joined, `(batch, target, input)`."""
        return nn.Linear(self.input_size, self.size)

    def activate(self, projected: Tensor) -> Tensor:
        """Turn what `projection` returned into `(batch, target, size)`."""
        return torch.tanh(projected)

    def first_state(self, memory: Tensor, rows: int) -> Any:
        """What is remembered before the first token, as in `Attention`: None, or tensors `(rows, ...)`."""
        return None

    def summarize(self, embedded: Tensor, state: Any) -> tuple[Tensor, Any]:
        """What is read of the tokens `(rows, time, embedding)`, and what is remembered of them."""
        return embedded, state


class LinearReadout(Readout):
    """`W [h; c]` (See et al. 2017, equation 4)."""

    def activate(self, projected: Tensor) -> Tensor:
        return projected


class StateReadout(LinearReadout):
    """`h` alone, as it is (Sutskever et al. 2014; Wu et al. 2016)."""

    reads_context = False

    def __init__(self, config: RnnS2SConfig, input_size: int) -> None:
        super().__init__(config, input_size)
        self.size = input_size

    def projection(self) -> nn.Module:
        return nn.Identity()


class JoinedReadout(StateReadout):
    """`[h; c]` as it is, or the two joined in another way (Chen et al. 2018)."""

    reads_context = True


class DeepReadout(Readout):
    """`tanh(W [h; c; y])` with the embedding `y` of the token that was read last (Sennrich et al. 2017, Nematus)."""

    reads_token = True


class MaxoutReadout(Readout):
    """The larger one of each two numbers of `W [s; c; y]` (Bahdanau et al. 2015, appendix A.2.2).

    `s` is the state that the attention was asked with: there, the state before the token was read.
    """

    reads_query = True
    reads_token = True

    def projection(self) -> nn.Module:
        return nn.Linear(self.input_size, 2 * self.size)

    def activate(self, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (-1, 2)).amax(-1)


class SelfAttentiveReadout(DeepReadout):
    """`tanh(W [h; c; d])`, where `d` is a weighted mean of all tokens that were read (Miculicich Werlen et al. 2018).

    The weights are the softmax of `v · tanh(W y + b)` over the embeddings `y` of these tokens. As such a score does
    not depend on the step, the mean and the logarithm of the sum of all weights are all that is remembered.
    """

    def __init__(self, config: RnnS2SConfig, input_size: int) -> None:
        super().__init__(config, input_size)
        self.embedding_size = config.embedding_size
        self.token_projection = nn.Linear(config.embedding_size, config.embedding_size)
        self.score_projection = nn.Linear(config.embedding_size, 1, bias=False)

    def first_state(self, memory: Tensor, rows: int) -> Any:
        """As in `Readout`: the mean `(rows, embedding)`, and the logarithm of the sum `(rows, 1)`."""
        return memory.new_zeros(rows, self.embedding_size), memory.new_full((rows, 1), NO_WEIGHT)

    def summarize(self, embedded: Tensor, state: Any) -> tuple[Tensor, Any]:
        mean, total = state
        scores = self.score_projection(torch.tanh(self.token_projection(embedded))).squeeze(-1)
        totals = torch.cat([total, scores], dim=1).logcumsumexp(dim=1)[:, 1:]
        weights = (scores.unsqueeze(1) - totals.unsqueeze(2)).exp().tril()  # of each token at each step
        means = weights @ embedded + (total - totals).exp().unsqueeze(2) * mean.unsqueeze(1)
        return means, (means[:, -1], totals[:, -1:])


# `readout` of the configuration, and the class it names.
READOUTS: dict[str, type[Readout]] = {
    "attentional": Readout,
    "linear": LinearReadout,
    "state": StateReadout,
    "joined": JoinedReadout,
    "deep": DeepReadout,
    "maxout": MaxoutReadout,
    "self_attentive": SelfAttentiveReadout,
}
