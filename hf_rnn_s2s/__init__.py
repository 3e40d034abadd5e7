"""Attention-RNN sequence-to-sequence models for Hugging Face transformers.

Importing the package registers it: `AutoModelForSeq2SeqLM` and its kin load its checkpoints, and
`pipeline()` does with them what they are for: `"translation"`, `"summarization"`, `"text2text-generation"` and
`"automatic-speech-recognition"`.
"""

from .decoding.pipeline import RnnSummarizationPipeline, RnnText2TextGenerationPipeline, RnnTranslationPipeline
from .decoding.shortlist import Shortlist
from .decoding.speech_pipeline import RnnSpeechRecognitionPipeline
from .decoding.step_graphs import StepGraphs
from .model.cache_rnn_s2s import RnnS2SCache
from .model.configuration_rnn_s2s import RnnS2SConfig
from .model.tokenization_rnn_s2s import RnnS2STokenizer, RnnS2SWordTokenizer
from .options import register
from .package_models import RnnS2SForConditionalGeneration, RnnS2SModel, RnnS2SPreTrainedModel
from .registration import register_everything
from .runtime.export import export_model
from .training.tokenizer_training import train_tokenizer
from .version import __version__

register_everything()

__all__ = [
    "RnnS2SCache",
    "RnnS2SConfig",
    "RnnS2SForConditionalGeneration",
    "RnnS2SModel",
    "RnnS2SPreTrainedModel",
    "RnnS2STokenizer",
    "RnnS2SWordTokenizer",
    "RnnSpeechRecognitionPipeline",
    "RnnSummarizationPipeline",
    "RnnText2TextGenerationPipeline",
    "RnnTranslationPipeline",
    "Shortlist",
    "StepGraphs",
    "__version__",
    "export_model",
    "register",
    "train_tokenizer",
]
