"""Attention-RNN sequence-to-sequence models for Hugging Face transformers.

Importing the package registers it: `AutoModelForSeq2SeqLM` and its kin load its checkpoints, and
`pipeline("translation")` translates with them.
"""

from .cache_rnn_s2s import RnnS2SCache
from .configuration_rnn_s2s import RnnS2SConfig
from .int8 import quantize_int8
from .modeling_rnn_s2s import RnnS2SForConditionalGeneration, RnnS2SModel, RnnS2SPreTrainedModel
from .pipeline_rnn_s2s import RnnTranslationPipeline
from .registration import register
from .shortlist_rnn_s2s import Shortlist
from .step_graphs_rnn_s2s import StepGraphs
from .tokenization_rnn_s2s import RnnS2STokenizer, train_tokenizer

__version__ = "0.1.0"

register()

__all__ = [
    "RnnS2SCache",
    "RnnS2SConfig",
    "RnnS2SForConditionalGeneration",
    "RnnS2SModel",
    "RnnS2SPreTrainedModel",
    "RnnS2STokenizer",
    "RnnTranslationPipeline",
    "Shortlist",
    "StepGraphs",
    "__version__",
    "quantize_int8",
    "train_tokenizer",
]
