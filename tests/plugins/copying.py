"""A head that may copy tokens of the source."""

import torch
from torch import nn

from hf_rnn_s2s import RnnS2SConfig, register
from hf_rnn_s2s.model.head_rnn_s2s import VocabularyHead
from hf_rnn_s2s.model.state_rnn_s2s import DecoderOutput, Sources


class CopyingHead(VocabularyHead):
    """
    A token is written from the vocabulary with the probability `p`, and else copied from where the attention looks
    (See et al. 2017, equation 9, without words that the vocabulary lacks). What it returns are log-probabilities.
    """

    needs_attention = True
    needs_source_ids = True

    def __init__(self, config: RnnS2SConfig, memory_size: int) -> None:
        super().__init__(config, memory_size)
        self.gate = nn.Linear(config.embedding_size, 1)

    def forward(self, lm_head: nn.Module, output: DecoderOutput, sources: Sources) -> torch.Tensor:
        written = lm_head(output.last_hidden_state).softmax(dim=-1)
        share = torch.sigmoid(self.gate(output.last_hidden_state))
        weights = output.weights.mean(dim=1)
        rows_per_source = len(weights) // len(sources.ids)
        ids = sources.ids.repeat_interleave(rows_per_source, dim=0).unsqueeze(1).expand_as(weights)
        copied = torch.zeros_like(written).scatter_add(2, ids, weights)
        probabilities = share * written + (1 - share) * copied
        return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()


register("head_type", "own_copying", CopyingHead)
