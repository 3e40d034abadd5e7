"""A decoder that is fed what it computed at the step before."""

import torch

from hf_rnn_s2s import register
from hf_rnn_s2s.model.decoder_rnn_s2s import RnnS2SDecoder
from hf_rnn_s2s.model.encoder_rnn_s2s import RnnS2SEncoderOutput
from hf_rnn_s2s.model.state_rnn_s2s import DecoderOutput, DecoderState, Sources


class FeedingDecoder(RnnS2SDecoder):
    """
    The query is the top layer's state of the step before (Bahdanau et al. 2015, equation 6), and the bottom layer
    reads the token, the context and the attentional vector of the step before (Luong et al. 2015, section 3.3).
    """

    needs_steps = True  # type: ignore[assignment]

    def input_sizes(self) -> list[int]:
        config = self.config
        bottom = 2 * config.embedding_size + self.memory_size
        return [bottom, *[config.hidden_size] * (config.decoder_layers - 1)]

    def first_state(self, encoder_outputs: RnnS2SEncoderOutput, sources: Sources) -> DecoderState:
        state = super().first_state(encoder_outputs, sources)
        return state._replace(fed_back=sources.memory.new_zeros(state.rows, self.config.embedding_size))

    def read_at_once(
        self, embedded: torch.Tensor, state: DecoderState, sources: Sources
    ) -> tuple[DecoderOutput, DecoderState]:
        query = state.layers[-1][0].unsqueeze(1)
        context, weights, remembered = self.attend(query, sources, state.attention)
        outputs = torch.cat([self.embedding_dropout(embedded), context, state.fed_back.unsqueeze(1)], dim=-1)
        states = []
        for layer, layer_state in zip(self.layers, state.layers, strict=True):
            outputs, layer_state = layer(outputs, layer_state)
            states.append(layer_state)
        attentional = torch.tanh(self.output_projection(self.fusions["readout"](outputs, context)))
        return DecoderOutput(attentional, weights), DecoderState(tuple(states), remembered, attentional.squeeze(1))


register("decoder_type", "feeding", FeedingDecoder)
