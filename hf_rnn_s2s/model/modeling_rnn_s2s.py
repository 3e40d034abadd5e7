"""The models: encoder and decoder together, with and without an output layer over the target vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import Seq2SeqLMOutput, Seq2SeqModelOutput
from transformers.utils.generic import can_return_tuple

from .base_rnn_s2s import RnnS2SPreTrainedModel
from .cache_rnn_s2s import RnnS2SCache
from .configuration_rnn_s2s import RnnS2SConfig
from .decoder_rnn_s2s import DECODERS
from .encoder_rnn_s2s import ENCODERS, RnnS2SEncoderOutput, ids_to_copy, whole_encoder_outputs
from .generation_rnn_s2s import RnnS2SGenerationMixin
from .head_rnn_s2s import HEADS, IGNORED_LABEL, coverage_loss
from .inputs_rnn_s2s import check_ids
from .speech_rnn_s2s import PyramidalEncoder  # noqa: F401 - it is among the encoders then
from .state_rnn_s2s import DecoderOutput, Sources
from .transformers_rnn_s2s import TransformerEncoder  # noqa: F401 - as above


class RnnS2SModel(RnnS2SPreTrainedModel):
    """Encoder and decoder without an output layer."""

    # A checkpoint may have an output layer, which this model does without.
    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]

    def __init__(self, config: RnnS2SConfig) -> None:
        super().__init__(config)
        encoder: Any = ENCODERS[config.encoder_type](config)
        self.encoder = encoder
        self.decoder = DECODERS[config.decoder_type](config, encoder.memory_size, encoder.state_size)
        self.main_input_name = encoder.main_input_name
        if self.decoder.bridge.reads_state and not encoder.state_size:
            raise ValueError(
                f"bridge={config.bridge!r} reads the encoder's final states, but encoder_type={config.encoder_type!r} "
                "has none. Choose bridge='zero', or a bridge that reads the memory."
            )
        self.post_init()

    @property
    def _tied_weights_keys(self) -> dict[str, str]:  # type: ignore[override]
        if not self.shares_embeddings:
            return {}
        return {"decoder.embed_tokens.weight": "encoder.embed_tokens.weight"}

    @property
    def shares_embeddings(self) -> bool:
        """Whether source and target have one embedding matrix, which takes an encoder that reads tokens."""
        return bool(self.config.share_encoder_decoder_embeddings) and hasattr(self.encoder, "embed_tokens")

    def get_input_embeddings(self) -> nn.Module:
        """The source embeddings, which may be the target's too; the target's where the source has no tokens."""
        if hasattr(self.encoder, "embed_tokens"):
            return self.encoder.embed_tokens
        reads_tokens = self.main_input_name == "input_ids"
        return self.encoder.get_input_embeddings() if reads_tokens else self.decoder.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the source embeddings, and with them the target's if the two share one matrix.

        Raises:
            ValueError: if they are not as wide as those before.
        """
        before = self.get_input_embeddings()
        width = getattr(before, "embedding_dim", self.config.embedding_size)
        found = getattr(value, "embedding_dim", width)
        if found != width:
            raise ValueError(f"The new embeddings have {found} numbers each, but embedding_size is {width}.")
        if hasattr(self.encoder, "embed_tokens"):
            self.encoder.embed_tokens = cast(nn.Embedding, value)
        elif before is not self.decoder.embed_tokens:
            self.encoder.set_input_embeddings(value)
        if self.shares_embeddings or before is self.decoder.embed_tokens:
            self.decoder.embed_tokens = cast(nn.Embedding, value)

    def resize_decoder_token_embeddings(self, new_num_tokens: int) -> nn.Embedding:
        """Resize a separate target vocabulary; `resize_token_embeddings` then resizes the source only.

        Raises:
            ValueError: if source and target share their embeddings, or for a number below 1.
        """
        if self.config.share_encoder_decoder_embeddings:
            raise ValueError(
                "Source and target share their embeddings: call resize_token_embeddings, which changes both sides."
            )
        if isinstance(new_num_tokens, bool) or not isinstance(new_num_tokens, int) or new_num_tokens < 1:
            raise ValueError(f"new_num_tokens={new_num_tokens!r} must be a whole number of at least 1.")
        self.decoder.embed_tokens = self._get_resized_embeddings(self.decoder.embed_tokens, new_num_tokens)
        self.config.decoder_vocab_size = new_num_tokens
        return self.decoder.embed_tokens

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: torch.LongTensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: RnnS2SEncoderOutput | Sequence[Any] | None = None,
        past_key_values: RnnS2SCache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        decoder_inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        input_features: torch.FloatTensor | None = None,
        copy_ids: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> Seq2SeqModelOutput:
        """Encode a source, and decode a target given the source.

        Args:
            input_ids: source `(batch, source)`.
            attention_mask: `(batch, source)`, 1 at tokens; padding may stand anywhere.
            decoder_input_ids: target so far `(batch, target)`.
            decoder_attention_mask: `(batch, target)`, 1 at tokens.
            encoder_outputs: what the encoder returned earlier, instead of the source.
            past_key_values: the cache an earlier call returned; then only new target tokens are passed.
            inputs_embeds: `(batch, source, embedding)` instead of `input_ids`.
            decoder_inputs_embeds: `(batch, target, embedding)` instead of `decoder_input_ids`.
            use_cache: whether to return a cache; None means as configured.
            output_attentions: whether to return `cross_attentions`, one tensor `(batch, 1, target, source)`, or none
                without attention, and `decoder_attentions`, which is empty: no layer attends to the target.
            output_hidden_states: whether to return the outputs of every layer.
            input_features: source `(batch, frames, features)`, for an encoder that reads features; its mask is
                `(batch, frames)`.
            copy_ids: `(batch, source)`, the target ids of what a head may copy from the source. Words that the target
                vocabulary lacks have ids from its size on, the same one for the same word of a row. Without it, the
                source's ids are taken where source and target share a vocabulary.
            kwargs: `return_dict=False` returns a tuple; anything else is ignored.

        Returns:
            The decoder's last hidden state `(batch, target, embedding)` and what was asked for.

        Raises:
            TypeError: if the cache is of another kind, or an input of a dtype that the model does not read.
            ValueError: if inputs are missing, or do not fit each other, the model or the vocabulary.
        """
        config = self.config
        output_attentions = config.output_attentions if output_attentions is None else output_attentions
        output_hidden_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        encoded = whole_encoder_outputs(encoder_outputs, self.config.cell_type)
        if encoded is None:
            given: Any = {"input_ids": input_ids, "inputs_embeds": inputs_embeds, "input_features": input_features}
            settings = {"output_hidden_states": output_hidden_states, "copy_ids": copy_ids}
            encoded = self._encode(given, attention_mask=attention_mask, **settings)
            memory_mask = None  # the encoder's output has the mask
        else:
            memory_mask = self.memory_mask(attention_mask)
        target = decoder_input_ids if decoder_inputs_embeds is None else decoder_inputs_embeds
        if past_key_values is not None and target is not None:
            self.check_cache(past_key_values, encoded, target.shape[0])
        decoded = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_outputs=encoded,
            encoder_attention_mask=memory_mask,
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            use_cache=self.config.use_cache if use_cache is None else use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=decoded.last_hidden_state,
            past_key_values=decoded.past_key_values,
            decoder_hidden_states=decoded.hidden_states,
            decoder_attentions=decoded.attentions,
            cross_attentions=decoded.cross_attentions,
            encoder_last_hidden_state=encoded.last_hidden_state,
            encoder_hidden_states=encoded.hidden_states,
        )

    def check_cache(self, cache: RnnS2SCache, encoder_outputs: RnnS2SEncoderOutput, rows: int) -> None:
        """Check a cache that is passed on for so many target rows: what the package does, and this class does not."""

    def memory_mask(self, attention_mask: Tensor | None) -> Tensor | None:
        """The mask of the memory: that of the input where the encoder keeps the length, else None."""
        return attention_mask if self.encoder.keeps_length else None

    def _encode(self, named: dict[str, Tensor | None], **settings: Any) -> RnnS2SEncoderOutput:
        given = {name: value for name, value in named.items() if value is not None}
        reads = ("input_ids", "inputs_embeds") if self.main_input_name == "input_ids" else (self.main_input_name,)
        for name in given:
            if name not in reads:
                raise ValueError(f"{name} was passed, but the encoder of this model reads {self.main_input_name}.")
        return self.encoder(**given, **settings, return_dict=True)


class RnnS2SForConditionalGeneration(RnnS2SPreTrainedModel, RnnS2SGenerationMixin):
    """The model for training and `generate()`: an output layer over the target vocabulary on top of `RnnS2SModel`."""

    model_class: type[RnnS2SModel] = RnnS2SModel

    def __init__(self, config: RnnS2SConfig) -> None:
        super().__init__(config)
        self.model = self.model_class(config)
        size = self.model.decoder.readout.size
        if config.tie_word_embeddings and size != config.embedding_size:
            raise ValueError(
                f"readout={config.readout!r} gives the output layer {size} numbers, and tie_word_embeddings=True its "
                f"embedding_size={config.embedding_size}. Set tie_word_embeddings=False, or another readout."
            )
        self.lm_head = nn.Linear(size, config.target_vocab_size)
        self.output_head = HEADS[config.head_type](config, self.model.decoder.memory_size)
        self.main_input_name = self.model.main_input_name
        self._skips_logits = False
        self.post_init()

    @property
    def _tied_weights_keys(self) -> dict[str, str]:  # type: ignore[override]
        source, target = "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"
        shared = self.model.shares_embeddings
        tied = {target: source} if shared else {}
        if self.config.tie_word_embeddings:
            tied["lm_head.weight"] = source if shared else target
        return tied

    @can_return_tuple
    def forward(  # noqa: D417 - the other arguments are described in RnnS2SModel
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: torch.LongTensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: RnnS2SEncoderOutput | Sequence[Any] | None = None,
        past_key_values: RnnS2SCache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        decoder_inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: Tensor | int | None = None,
        return_logits: bool | None = None,
        input_features: torch.FloatTensor | None = None,
        copy_ids: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Compute logits, and the loss if there are labels; takes the arguments of `RnnS2SModel.forward` and these.

        Args:
            labels: `(batch, target)`, the target tokens with -100 where they do not count. Without decoder inputs, the
                labels shifted right by one are used.
            logits_to_keep: compute the logits of the last so many positions only (0: all), or of the given ones.
            num_items_in_batch: what the summed loss is divided by, for gradient accumulation; None means the number of
                labels that count.
            return_logits: whether to return the logits. None means yes, unless `skip_logits_in_training` was called.
                The loss does without them, and nothing else in training is as large.

        Returns:
            Logits `(batch, target, target vocabulary)`, and the loss if there are labels: cross-entropy in nats per
            token; in training mode with `config.label_smoothing` and `config.coverage_loss`. 0 if no label counts.
        """
        if labels is not None:
            use_cache = False
            given = (input_ids, inputs_embeds, input_features)
            source = next((one for one in given if one is not None), None)
            _check_labels(labels, source, self.config.written_vocab_size)
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        config = self.config
        output_attentions = config.output_attentions if output_attentions is None else output_attentions
        output_hidden_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        covers = self.training and labels is not None and self.config.coverage_loss > 0
        head = self.output_head
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions or head.needs_attention or covers,
            output_hidden_states=output_hidden_states or head.needs_states,
            input_features=input_features,
            copy_ids=copy_ids,
            return_dict=True,
        )
        weights = next(iter(outputs.cross_attentions or ()), None)
        embedded, *layers = outputs.decoder_hidden_states or (None,)
        output = DecoderOutput(outputs.last_hidden_state, weights, tuple(layers), embedded)
        if head.reads_first:
            output = self._read(output, decoder_input_ids, decoder_attention_mask, outputs.past_key_values)
        attentions = () if output.weights is None else (output.weights,)
        memory = outputs.encoder_last_hidden_state
        sources = Sources(memory, None, None, self._source_ids(input_ids, copy_ids, encoder_outputs))
        keeps_all = isinstance(logits_to_keep, int) and logits_to_keep == 0
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        if return_logits is None:
            return_logits = not (self._skips_logits and self.training and labels is not None)
        logits = self.output_head(self.lm_head, output.at(kept), sources) if return_logits else None
        loss = None
        if labels is not None:
            loss = self._loss(output, sources, labels, num_items_in_batch, logits if keeps_all else None)
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            decoder_hidden_states=outputs.decoder_hidden_states if output_hidden_states else None,
            decoder_attentions=outputs.decoder_attentions if output_attentions else None,
            cross_attentions=attentions if output_attentions else None,
            encoder_last_hidden_state=memory,
            encoder_hidden_states=outputs.encoder_hidden_states if output_hidden_states else None,
        )

    def skip_logits_in_training(self, skip: bool = True) -> None:
        """Train without logits from now on: in training mode with labels, `forward` returns the loss, and logits None.

        The package's model is faster then and takes less memory. Losses, gradients and evaluation stay the same. It is
        for a `Seq2SeqTrainer` or a loop that reads only the loss; it concerns this object and is not saved with it.
        `forward(return_logits=...)` overrides it, and `skip=False` takes it back.
        """
        self._skips_logits = skip

    def prepare_decoder_input_ids_from_labels(self, labels: torch.LongTensor) -> torch.LongTensor:
        """Shift labels `(batch, target)` right by one, behind the start token, with padding in place of -100."""
        start = labels.new_full((labels.shape[0], 1), self.config.decoder_start_token_id)
        shifted = torch.cat([start, labels[:, :-1]], dim=1)
        return cast(torch.LongTensor, shifted.masked_fill(shifted == IGNORED_LABEL, self.config.pad_token_id))

    def resize_decoder_token_embeddings(self, new_num_tokens: int) -> nn.Embedding:
        """As in `RnnS2SModel`; the output layer is resized, too."""
        embeddings = self.model.resize_decoder_token_embeddings(new_num_tokens)
        self.lm_head = self._get_resized_lm_head(self.lm_head, new_num_tokens)
        self.tie_weights()
        return embeddings

    def _source_ids(self, input_ids: Tensor | None, copy_ids: Tensor | None, encoder_outputs: Any) -> Tensor | None:
        """The target ids of the source, `(batch, source)`, for a head that copies."""
        encoded = whole_encoder_outputs(encoder_outputs, self.config.cell_type)
        ids = (
            ids_to_copy(self.config, input_ids, copy_ids) if encoded is None else getattr(encoded, "source_ids", None)
        )
        if not self.output_head.needs_source_ids:
            return None
        if ids is None:
            raise ValueError(
                f"head_type={self.config.head_type!r} copies from the source, so it needs its target ids: pass "
                "copy_ids (or input_ids, where both sides share a vocabulary), or encoder_outputs made of them."
            )
        check_ids(ids, self.config.written_vocab_size, "copy_ids")
        return ids

    def _read(
        self, output: DecoderOutput, ids: Tensor | None, mask: Tensor | None, cache: RnnS2SCache | None
    ) -> DecoderOutput:
        """Let the head read what the decoder computed of these ids; what it remembers goes on in the cache."""
        before = None if cache is None or cache.state is None else cache.state.head
        mask = self.model.decoder.target_mask(mask, output.last_hidden_state, keeps_cache=cache is not None)
        output, remembered = self.output_head.read(self.lm_head, output, ids, before, mask)
        if cache is not None:
            cache.keep_of_head(remembered)
        return output

    def _loss(
        self,
        output: DecoderOutput,
        sources: Sources,
        labels: Tensor,
        num_items_in_batch: Tensor | int | None,
        logits: Tensor | None,
    ) -> Tensor:
        """The loss of decoder outputs, or of their logits `(batch, target, vocabulary)` if there are any already."""
        hidden = output.last_hidden_state
        if hidden.shape[:2] != labels.shape:
            found, target = tuple(labels.shape), tuple(hidden.shape[:2])
            raise ValueError(f"labels has the shape {found}, but the target is {target}: (batch, target).")
        labels = labels.to(hidden.device).long()
        smoothing = self.config.label_smoothing if self.training else 0.0
        total = self._summed_loss(output, sources, labels, smoothing, logits)
        if self.training and self.config.coverage_loss and output.weights is not None:
            total = total + self.config.coverage_loss * coverage_loss(output.weights, labels)
        if num_items_in_batch is None:
            num_items_in_batch = labels.ne(IGNORED_LABEL).sum()
        elif isinstance(num_items_in_batch, Tensor):
            num_items_in_batch = num_items_in_batch.to(total.device)
        # Without any label that counts the sum is 0, and so is the loss
        return total / torch.as_tensor(num_items_in_batch).clamp(min=1)

    def _summed_loss(self, output: DecoderOutput, sources: Sources, *arguments: Any) -> Tensor:
        """What the head computes; `arguments` are labels, label smoothing, and logits."""
        return self.output_head.loss(self.lm_head, output, sources, *arguments)


def _check_labels(labels: Tensor, source: Tensor | None, vocabulary_size: int) -> None:
    if labels.dim() != 2 or labels.shape[1] == 0:
        raise ValueError(
            f"labels has the shape {tuple(labels.shape)}; it must be (batch, target), with a token or more."
        )
    if source is not None and labels.shape[0] != source.shape[0]:
        raise ValueError(f"labels has {labels.shape[0]} rows, but the source has {source.shape[0]}.")
    check_ids(labels.masked_fill(labels == IGNORED_LABEL, 0), vocabulary_size, "labels")
