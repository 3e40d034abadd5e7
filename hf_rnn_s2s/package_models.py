"""The models of the package: those that travel with checkpoints, with what stays at home.

Their results are the same. What they have beside is speed, for which they may look into private parts of torch and
transformers behind a check, messages for what goes wrong, and help with sharing and adapters.
"""

from __future__ import annotations

import copy
import functools
import inspect
import os
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModel, GenerationMixin
from transformers.utils import logging

from .decoding.arguments import generate_arguments
from .decoding.caches import check_before_generation, require_own, require_rows
from .decoding.fast_search import NOTE, search_again
from .decoding.limits import check_generation_file
from .decoding.repeated_calls import RepeatedCalls, is_plain_source
from .decoding.scoring import Scores, score_targets
from .decoding.sharing import SharedModel
from .decoding.shortlist import shortlist_on_hub
from .model import modeling_rnn_s2s
from .model.cache_rnn_s2s import RnnS2SCache
from .model.configuration_rnn_s2s import RnnS2SConfig
from .model.decoder_rnn_s2s import RnnS2SDecoder
from .model.encoder_rnn_s2s import RnnS2SEncoderOutput
from .model.head_rnn_s2s import VocabularyHead
from .model.remote_code_rnn_s2s import model_to_share
from .model.state_rnn_s2s import DecoderOutput, Sources
from .runtime.export import copy_export
from .runtime.loading import PLACES, layout_of, load_exported
from .training.blocked_loss import fast_loss
from .training.step_gradients import with_looped_layers, with_step_gradients

logger = logging.get_logger(__name__)


class RnnS2SPreTrainedModel(SharedModel):
    """What both models, and those that users derive from it, have in common."""

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        """Two short rows, the second one padded, for source and target."""
        start, pad = self.config.decoder_start_token_id, self.config.pad_token_id
        ids = torch.tensor([[start, start, start], [start, start, pad]], device=self.device)
        return {"input_ids": ids, "attention_mask": ids.ne(pad), "decoder_input_ids": ids}


class RnnS2SModel(RnnS2SPreTrainedModel, modeling_rnn_s2s.RnnS2SModel):
    """Encoder and decoder without an output layer."""

    @functools.wraps(modeling_rnn_s2s.RnnS2SModel.forward)
    def forward(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """As in the model that travels. In training, what reads step by step is faster."""
        encoder, decoder = with_looped_layers(self.encoder), self.decoder
        if isinstance(decoder, RnnS2SDecoder):
            decoder = with_step_gradients(decoder)
        model: Any = self
        if (encoder, decoder) != (self.encoder, self.decoder):
            model = copy.copy(self)
            model._modules = {**self._modules, "encoder": encoder, "decoder": decoder}
        return super(RnnS2SModel, model).forward(*args, **kwargs)

    # For the guard: it does not change what the model computes.
    forward.computes_the_same = True  # type: ignore[attr-defined]

    def check_cache(self, cache: RnnS2SCache, encoder_outputs: RnnS2SEncoderOutput, rows: int) -> None:
        """Raise a TypeError or a ValueError unless the cache is of this model, for so many target rows."""
        require_own(cache, self.decoder, encoder_outputs, rows)


class RnnS2SForConditionalGeneration(RnnS2SPreTrainedModel, modeling_rnn_s2s.RnnS2SForConditionalGeneration):
    """The model for training and `generate()`: an output layer over the target vocabulary on top of `RnnS2SModel`."""

    model_class = RnnS2SModel
    runtime: Any = None  # of a model that was loaded from an export: a `Runtime`
    shortlist_file: Path | None = None  # of a model from the Hub that has a shortlist: the file that was downloaded

    def __init__(self, config: RnnS2SConfig) -> None:
        super().__init__(config)
        self._repeated_calls = RepeatedCalls()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, config: Any = None, **kwargs: Any) -> Any:
        """Load as `PreTrainedModel.from_pretrained` does, and what `export_model` has written with its graphs.

        Raises:
            ValueError: if it was exported in a form that this version does not read; and as in transformers.
        """
        name = pretrained_model_name_or_path
        load = super().from_pretrained
        if name is None:
            return load(name, *args, config=config, **kwargs)
        places = {place: kwargs[place] for place in PLACES if place in kwargs}
        layout = layout_of(name, config, places)
        if layout is None:
            loaded = load(name, *args, config=config, **kwargs)
        else:
            rest = {key: value for key, value in kwargs.items() if key not in places}
            loaded = load_exported(load, name, layout, config, places, rest)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if model.main_input_name == "input_ids":
            model.shortlist_file = shortlist_on_hub(name, places)
        return loaded

    def generate(self, inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """Generate as `GenerationMixin.generate` does.

        Greedy and beam search that return token ids alone are faster, with the same result, and take more arguments:
        `shortlist`, `step_graphs`, `ensemble`, `gnmt_length_penalty`, `coverage_penalty`, `force_phrases` and
        `forbid_phrases`; see `decoding.fast_search.with_fast_search`.

        Raises:
            OSError: if there is no shortlist where it is looked for.
            TypeError: for an ensemble or phrases that are no lists.
            ValueError: for settings that make no sense, and for weights that are no finite numbers.
        """
        source: Any = kwargs.get("input_ids") if inputs is None else inputs
        mask = kwargs.get("attention_mask")
        if not args and is_plain_source(self, source, mask) and (inputs is None or "input_ids" not in kwargs):
            prepared = self._repeated_calls.find(self, kwargs)
            sequences = None if prepared is None else search_again(self, source, mask, prepared)
            if sequences is not None:
                return sequences
            kwargs[NOTE] = self._repeated_calls.note(self, kwargs)
        if args:
            names = list(inspect.signature(GenerationMixin.generate).parameters)[2:]  # behind self and inputs
            kwargs = dict(**dict(zip(names, args, strict=False)), **kwargs)  # which refuses what is given twice
        # Not that of the model that travels, which refuses the arguments that are added.
        return GenerationMixin.generate(self, inputs, **generate_arguments(self, inputs, kwargs))  # type: ignore[arg-type]

    def score(self, input_ids: Tensor | None = None, labels: Tensor | None = None, **inputs: Any) -> Scores:
        """The log-probability of given targets, token by token, without any search.

        Args:
            input_ids: sources `(batch, source)`.
            labels: targets `(batch, target)`, with -100 or the padding id at padding.
            inputs: more of the sources, as for `forward`: `attention_mask`, `copy_ids`, `encoder_outputs`, ...

        Raises:
            ValueError: without labels; and as `forward`.
        """
        if labels is None:
            raise ValueError("score: pass the targets as labels.")
        return score_targets(self, labels, input_ids=input_ids, **inputs)

    def load_encoder(self) -> None:
        """Take the weights of the pretrained encoder that the configuration names; a new model has random ones.

        Raises:
            OSError: if there is no such encoder.
            ValueError: if the configuration names none.
        """
        name = self.config.encoder_name
        if self.config.encoder_type != "pretrained" or name is None:
            raise ValueError("load_encoder: the configuration names no encoder; set encoder_name.")
        pretrained: Any = AutoModel.from_pretrained(name, dtype=self.dtype)
        encoder = pretrained.get_encoder() if pretrained.config.is_encoder_decoder else pretrained
        given = encoder.state_dict()
        reader = self.model.encoder.reader
        reader.load_state_dict({key: given[key] for key in reader.state_dict()})

    def untie_embeddings(self) -> None:
        """Give the source's embeddings, the target's and the output layer a matrix each, where they share one.

        The results stay the same; from now on each can be trained by itself, and the configuration says so. Needed
        before an adapter for the embeddings is put around the model that shall be merged into them later: each of the
        three then has its own, and a shared matrix would take in all of them.

        Raises:
            TypeError: if one of them has an adapter already.
        """
        modules = (self.model.encoder.embed_tokens, self.model.decoder.embed_tokens, self.lm_head)
        for module in modules:
            if not isinstance(module, (nn.Embedding, nn.Linear)):
                raise TypeError("There is an adapter around one of the embeddings: untie them before it is put there.")
        seen: set[int] = set()
        for module in modules:
            weight = cast(nn.Parameter, module.weight)
            if id(weight) in seen:
                module.weight = nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad)
            seen.add(id(weight))
        self.config.tie_word_embeddings = self.config.share_encoder_decoder_embeddings = False
        self.all_tied_weights_keys = self.model.all_tied_weights_keys = {}

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save as `SharedModel` does; an output layer tied to the target's embeddings is saved as tied.

        It warns if the configuration denies the tie, as PEFT makes it do where the output layer is not tied to the
        source's embeddings: only `untie_embeddings` makes two matrices of one.

        A model that was loaded from an export is saved as one, unless its weights have changed since.
        """
        if self.runtime is not None:
            if self.runtime.is_of(self):
                plain = model_to_share(self, carry_code=False)
                plain.runtime = None
                plain.save_pretrained(save_directory, *args, **kwargs)
                copy_export(self.runtime, plain, Path(save_directory))
                return
            logger.warning("The weights have changed since the export was loaded; they are saved without its graphs.")
        saved, weight = self, getattr(self.lm_head, "weight", None)
        is_tied = weight is not None and weight is self.model.decoder.embed_tokens.weight
        if is_tied and not self.config.tie_word_embeddings:
            logger.warning(
                "config.tie_word_embeddings is False, but the output layer and the target's embeddings are one "
                "matrix, and are saved as such. To save a matrix each, call model.untie_embeddings() first."
            )
            saved = object.__new__(type(self))
            vars(saved).update(vars(self), config=copy.deepcopy(self.config))
            saved.config.tie_word_embeddings = True
        super(RnnS2SForConditionalGeneration, saved).save_pretrained(save_directory, *args, **kwargs)

    def prepare_inputs_for_generation(self, input_ids: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As in the model that travels; a ValueError if the cache has other rows than `input_ids`."""
        require_rows(kwargs.get("past_key_values"), input_ids.shape[0])
        return super().prepare_inputs_for_generation(input_ids, *args, **kwargs)

    def _prepare_cache_for_generation(  # type: ignore[override]
        self, generation_config: Any, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        check_before_generation(self, generation_config, model_kwargs)
        super()._prepare_cache_for_generation(generation_config, model_kwargs, *args, **kwargs)

    def _summed_loss(
        self,
        output: DecoderOutput,
        sources: Sources,
        labels: Tensor,
        label_smoothing: float,
        logits: Tensor | None,
    ) -> Tensor:
        """As the head computes it, with less time and memory; not for another head, or a changed output layer."""
        if type(self.output_head) is VocabularyHead:
            rows = output.last_hidden_state.flatten(0, 1)
            of_rows = None if logits is None else logits.flatten(0, 1)
            total = fast_loss(self.lm_head, rows, labels.flatten(), label_smoothing, of_rows)
            if total is not None:
                return total
        return super()._summed_loss(output, sources, labels, label_smoothing, logits)

    def adjust_generation_fn(self, *args: Any, **kwargs: Any) -> None:
        """Read the generation settings of a checkpoint for `from_pretrained`, as in `GenerationMixin`.

        Raises:
            ValueError: for a setting of another kind than it must be, or a file without settings.
        """
        try:
            super().adjust_generation_fn(*args, **kwargs)  # type: ignore[misc]
        except (AttributeError, TypeError):  # from comparing a text with a number, without the name of the setting
            name = kwargs.get("pretrained_model_name_or_path", args[3] if len(args) > 3 else None)
            if name is not None:
                check_generation_file(name, **{place: kwargs[place] for place in PLACES if place in kwargs})
            raise
