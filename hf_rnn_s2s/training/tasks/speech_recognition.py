"""Speech recognition: a recording becomes the text that is spoken."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ...data.arguments import DataArguments
from ...data.sides import Layout, Side
from ...errors import UsageError
from ...model.configuration_rnn_s2s import RnnS2SConfig
from .base import REPEATS_BIASES, Corpus, MetricInfo, Score, Task, Words, reads_features, scored_by

SAMPLING_RATE = 16_000  # at which windows of 400 and steps of 160 samples are 25 and 10 milliseconds
# What data sets call the two columns
AUDIO_NAMES = ("audio", "file", "path", "source")
TEXT_NAMES = ("text", "sentence", "transcription", "target")


@dataclass
class SpeechRecognitionArguments:
    """The arguments that only speech recognition has."""

    _argument_group_name: ClassVar[str] = "speech recognition"

    audio_column: str | None = field(
        default=None,
        metadata={
            "help": f"Column with the recordings; by default {', '.join(AUDIO_NAMES)}. In files each is the path of a "
            "WAV, FLAC, OGG or MP3 file, which may be relative to the folder of the table."
        },
    )
    text_column: str | None = field(
        default=None, metadata={"help": f"Column with what is spoken; by default {', '.join(TEXT_NAMES)}."}
    )
    max_duration_in_seconds: float = field(
        default=20.0,
        metadata={
            "help": "Longest recording. Longer training pairs are left out, other recordings cut. The pipeline cuts "
            "longer ones into pieces."
        },
    )
    language: str | None = field(default=None, metadata={"help": "Language that is spoken, for the card: en."})


class SpeechRecognition(Task):
    """`--task speech-recognition`: word and character error rate, and `pipeline("automatic-speech-recognition")`."""

    name = "speech-recognition"
    arguments_class = SpeechRecognitionArguments
    defaults = {
        "encoder_type": "pyramidal",
        "tokenizer_kind": "char",
        "max_target_length": 500,  # characters, of twenty seconds at most
        "metric_for_best_model": "wer",
    }
    shows_attention = False
    metrics = {
        "wer": MetricInfo("Word error rate (%)", 2, greater_is_better=False),
        "cer": MetricInfo("Character error rate (%)", 2, greater_is_better=False),
        "exact_match": MetricInfo("Exact transcripts", 4, greater_is_better=True),
    }
    words = Words(
        title="Automatic Speech Recognition",
        writer="transcriber",
        result="transcript",
        done="transcribed",
        purpose="transcribing recordings of the kind it was trained on",
        limits=(
            "It knows the voices, rooms and microphones of its training data; others it understands less well.",
            "Names and words that its training never heard come out as other words.",
            REPEATS_BIASES,
            "It writes something for every noise that is not silent.",
        ),
        measured=(
            "[jiwer](https://github.com/jitsi/jiwer) counted wrong words and characters, in lower case and without "
            "punctuation; less is better."
        ),
        verb="transcribe",
        source="recording",
    )
    steps = """\
import soundfile
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

processor = AutoProcessor.from_pretrained({model}, trust_remote_code=True)
model = AutoModelForSpeechSeq2Seq.from_pretrained({model}, trust_remote_code=True)
samples, rate = soundfile.read({source})  # one channel, at the rate of processor.feature_extractor
inputs = processor(samples, sampling_rate=rate, return_tensors="pt", padding=True)
print(processor.tokenizer.decode(model.generate(**inputs)[0], skip_special_tokens=True))"""
    example = "recording.wav"
    unread = {
        "source_column": "name the column of recordings with audio_column",
        "target_column": "name the column of texts with text_column",
    }
    tokenized_sides = ("target",)

    def problems(self, model: Any, data: DataArguments, training: Any) -> Iterator[str]:
        yield from super().problems(model, data, training)
        own = self.arguments
        if data.streaming:
            yield "streaming: features of speech are computed once and kept, so recordings are not streamed."
        for package in ("soundfile", "soxr"):
            if importlib.util.find_spec(package) is None:
                yield f"Recordings are read with {package}: pip install {package}."
        if model.encoder_type is not None and not reads_features(model.encoder_type):
            yield f"encoder_type={model.encoder_type} reads text; recordings need encoder_type=pyramidal."
        if model.head_type == "copying":
            yield "head_type=copying copies tokens of the source, and a recording has none: leave it out."
        for name in ("decoder_vocab_size", "decoder_tokenizer_kind", "tokenizer_name"):
            if getattr(model, name) is not None:
                yield f"{name}: a recording has no tokens; vocab_size and tokenizer_kind are the text's: leave it out."
        if not 0 < own.max_duration_in_seconds < math.inf:
            yield f"max_duration_in_seconds={own.max_duration_in_seconds} must be a number of seconds above 0."
        if training.per_device_train_batch_tokens is not None:
            yield "per_device_train_batch_tokens counts tokens of texts: set per_device_train_batch_size instead."
        if data.demo_locales != ["en", "zh"]:
            yield "demo_locales are those of translation; the demo of speech is in English."
        for name in ("bpe_dropout", "word_dropout"):
            if getattr(training, name):
                yield f"{name} changes the tokens of the source, and a recording has none: leave it out."

    def layout(self, data: DataArguments) -> Layout:
        own = self.arguments
        return Layout(
            Side("recording", "audio_column", own.audio_column, AUDIO_NAMES),
            Side("spoken text", "text_column", own.text_column, TEXT_NAMES),
            tuple(data.reference_columns or ()),
            reads_audio=True,
        )

    def corpus(self, data: DataArguments) -> Corpus:
        from ...data.demo_speech import build_demo_speech

        return Corpus(
            build_demo_speech,
            "The speech demo of hf-rnn-s2s: English phrases with dates, times, durations, quantities and prices, "
            "written by rule from [Unicode CLDR](https://cldr.unicode.org) data and spoken by "
            "[eSpeak NG](https://github.com/espeak-ng/espeak-ng), a synthesizer. Voices and speed of the test split "
            "are none of those of training.",
        )

    def get_processor(self, tokenizer: Any, checkpoint: str | None, model_arguments: Any) -> Any:
        """The processor of a checkpoint, or a new one around the tokenizer."""
        from transformers import AutoConfig, Speech2TextFeatureExtractor, Speech2TextProcessor

        if checkpoint is not None:
            return self._processor_of(checkpoint, AutoConfig.from_pretrained(checkpoint).num_mel_bins)
        bins = model_arguments.num_mel_bins or RnnS2SConfig.num_mel_bins
        extractor = Speech2TextFeatureExtractor(
            feature_size=bins,
            num_mel_bins=bins,
            sampling_rate=SAMPLING_RATE,
            normalize_vars=False,  # of a silent band the variance is 0, by which nothing can be divided
            chunk_length=self.arguments.max_duration_in_seconds,
        )
        return Speech2TextProcessor(extractor, tokenizer)

    def _processor_of(self, checkpoint: str, features: int) -> Any:
        """The processor of a model that reads so many features a frame, which is also told the longest recording."""
        from transformers import AutoProcessor

        try:
            processor = AutoProcessor.from_pretrained(checkpoint)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"model_name_or_path {checkpoint} has no processor that can be loaded: {error}"
            ) from error
        found = getattr(getattr(processor, "feature_extractor", None), "feature_size", None)
        if found != features:
            raise UsageError(
                f"The processor of {checkpoint} gives {found} features a frame, and the model reads {features}: use "
                "the one that belongs to the model."
            )
        processor.feature_extractor.chunk_length = self.arguments.max_duration_in_seconds
        return processor

    def longest_source(self, data: DataArguments) -> str | None:
        return f"recordings of at most {self.arguments.max_duration_in_seconds:g} seconds"

    def encode_splits(
        self, examples: dict[str, Any], processor: Any, data: DataArguments, training: Any
    ) -> dict[str, Any]:
        from ...data.speech import encode_recordings

        wanted = {"train": training.do_train, "validation": True, "test": training.do_predict}
        longest = self.arguments.max_duration_in_seconds
        return {
            split: encode_recordings(split, rows, processor, data, longest, training=split == "train")
            for split, rows in examples.items()
            if wanted[split]
        }

    def collator(self, processor: Any, data: DataArguments, training: Any) -> Callable[[Any], Any]:
        from ...data.speech import SpeechCollator

        return SpeechCollator()

    def score(self, config: Any, tokenizer: Any) -> Score:
        from ..error_rates import SpeechMetric

        return scored_by(SpeechMetric)

    def resampled(self, target_lang: str | None, tokenizer: Any) -> dict[str, Any]:
        from ..error_rates import edits_in_results, spoken
        from ..resampling import RatioMetric, share

        def is_exact(result: str, references: Sequence[str]) -> bool:
            return spoken(result) in map(spoken, references)

        return {
            "wer": RatioMetric("wer", edits_in_results(spoken, str.split), 100.0),
            "cer": RatioMetric("cer", edits_in_results(spoken, list), 100.0),
            "exact_match": share("exact_match", is_exact),
        }

    def summary(self, languages: tuple[str | None, str | None]) -> str:
        return f"Transcribes speech{f' in {languages[0]}' if languages[0] else ''}."

    def draw_attention(
        self, path: Path, model: Any, processor: Any, rows: Any, test: Any, data: DataArguments
    ) -> None:
        from ..speech_pictures import draw_speech_attention

        draw_speech_attention(path, model, processor, rows, test)
