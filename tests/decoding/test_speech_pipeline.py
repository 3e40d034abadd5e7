"""The pipeline of speech recognition: every form of a recording, long ones, and what is none."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile
import torch
from transformers import AutomaticSpeechRecognitionPipeline, Speech2TextFeatureExtractor, pipeline

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, RnnSpeechRecognitionPipeline
from hf_rnn_s2s.data.speech import SpeechCollator, features_of
from hf_rnn_s2s.decoding.speech_pipeline import SpeechRecognitionByModel
from hf_rnn_s2s.model import speech_pipeline_rnn_s2s
from hf_rnn_s2s.model.speech_pipeline_rnn_s2s import cut_at_quiet_places

from ..speech import BINS, RATE, TONES, processor, tones, write_tones

make_pipeline: Any = pipeline
SEQUENCES = [["low"], ["high", "mid"], ["mid", "low", "high"], ["low", "high", "mid", "high"]]


def melody(count: int, generator: np.random.Generator) -> list[str]:
    """Names of tones at random, no two alike in a row."""
    names: list[str] = []
    while len(names) < count:
        name = str(generator.choice(list(TONES)))
        if not names or name != names[-1]:
            names.append(name)
    return names


@pytest.fixture(scope="module")
def listener() -> RnnS2SForConditionalGeneration:
    """A model that has learned to tell three tones apart."""
    torch.manual_seed(0)
    one, generator = processor(), np.random.default_rng(0)
    config = RnnS2SConfig(
        vocab_size=len(one.tokenizer), encoder_type="pyramidal", num_mel_bins=BINS, stacked_frames=4, encoder_layers=2,
        hidden_size=48, embedding_size=16, decoder_layers=1, dropout=0.0, task="speech-recognition",
        attention_type="additive",
    )  # fmt: skip
    model = RnnS2SForConditionalGeneration(config).train()
    rows = []
    for number in range(400):
        names = melody(1 + number % 4, generator)
        silence = generator.integers(0, RATE // 10, size=2)  # a piece begins and ends anywhere between two tones
        samples = np.pad(tones(names), tuple(silence))
        samples += 0.002 * generator.standard_normal(len(samples)).astype(np.float32)
        labels = one.tokenizer(" ".join(names))["input_ids"]
        rows.append({"input_features": features_of(samples, one.feature_extractor), "labels": labels})
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    for _ in range(10):
        for start in range(0, 400, 16):
            loss = model(**SpeechCollator()(rows[start : start + 16])).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.eval()


@pytest.fixture
def transcriber(listener: RnnS2SForConditionalGeneration) -> RnnSpeechRecognitionPipeline:
    return of(listener)


def of(model: Any, pipeline_class: Any = RnnSpeechRecognitionPipeline, **options: Any) -> Any:
    one = processor()
    parts = {"tokenizer": one.tokenizer, "feature_extractor": one.feature_extractor}
    return pipeline_class(model=model, **{**parts, **options}, device="cpu")


def noisy(names: list[str]) -> np.ndarray:
    samples = tones(names)
    return samples + 0.002 * np.random.default_rng(1).standard_normal(len(samples)).astype(np.float32)


def test_it_hears_what_it_has_learned(transcriber: Any) -> None:
    heard = [transcriber(noisy(names)) for names in SEQUENCES]
    assert heard == [{"text": " ".join(names)} for names in SEQUENCES]
    assert transcriber([noisy(names) for names in SEQUENCES], batch_size=3) == heard
    assert list(transcriber(noisy(names) for names in SEQUENCES)) == heard


class Decoder:
    """As torchcodec, which does not load beside every torch, has it."""

    def __init__(self, data: torch.Tensor, sample_rate: int) -> None:
        self.samples = SimpleNamespace(data=data, sample_rate=sample_rate)

    def get_all_samples(self) -> SimpleNamespace:
        return self.samples


def test_every_form_of_a_recording(transcriber: Any, tmp_path: Path) -> None:
    names = SEQUENCES[2]
    samples, expected = noisy(names), {"text": " ".join(names)}
    path = tmp_path / "a.flac"
    soundfile.write(path, samples, RATE)
    twice = {"raw": np.interp(np.arange(3 * len(samples)) / 3, np.arange(len(samples)), samples).astype(np.float32)}
    for recording in (
        samples,
        torch.from_numpy(samples),
        np.stack([samples, samples]),
        (samples * 32767).astype(np.int16),
        str(path),
        path,
        path.read_bytes(),
        {"raw": samples, "sampling_rate": RATE},
        {"array": samples, "sampling_rate": RATE, "path": None},
        {**twice, "sampling_rate": 3 * RATE},
        Decoder(torch.from_numpy(twice["raw"])[None], 3 * RATE),
        Decoder(torch.from_numpy(samples).repeat(6, 1), RATE),
    ):
        assert transcriber(recording) == expected


def test_a_decoder_that_cannot_read_says_so(transcriber: Any) -> None:
    broken = Decoder(torch.zeros(1, 5), RATE)
    broken.get_all_samples = Mock(side_effect=RuntimeError("no stream"))  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="A decoder cannot read its recording: no stream"):
        transcriber(broken)


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_files_of_other_rates(rate: int, transcriber: Any, tmp_path: Path) -> None:
    path = write_tones(tmp_path / "a.wav", ["low", "mid"], rate, channels=2)
    samples, read = soundfile.read(path, dtype="float32")
    noise = 0.002 * np.random.default_rng(1).standard_normal(samples.shape).astype(np.float32)
    soundfile.write(path, samples + noise, read)
    assert transcriber(str(path)) == {"text": "low mid"}


def test_arrays_of_other_rates_keep_their_frequencies(transcriber: Any) -> None:
    """With soxr and, where the package is not installed, through the spectrum."""
    samples = torch.from_numpy(tones(["low"], rate=44_100))
    for one in (transcriber, of(transcriber.model, speech_pipeline_rnn_s2s.RnnSpeechRecognitionPipeline)):
        resampled = one._resample(samples, 44_100, RATE)
        assert abs(len(resampled) - len(samples) * RATE / 44_100) <= 1
        spectrum = torch.fft.rfft(resampled).abs()
        assert abs(float(spectrum.argmax()) * RATE / len(resampled) - TONES["low"]) < 5
        assert float(resampled.abs().max()) == pytest.approx(0.3, abs=0.02)


def test_nothing_and_silence_have_no_text(transcriber: Any) -> None:
    silent = [np.zeros(0, dtype=np.float32), np.zeros(RATE, dtype=np.float32), np.full(5, 1e-5, dtype=np.float32)]
    assert [transcriber(one) for one in silent] == [{"text": ""}] * 3
    mixed = [silent[1], noisy(["mid"]), silent[0]]
    assert transcriber(mixed, batch_size=3) == [{"text": ""}, {"text": "mid"}, {"text": ""}]


def test_a_long_recording_is_cut_where_it_is_quiet(transcriber: Any) -> None:
    """Every tone is heard once: 40 of them, in pieces of about three."""
    generator = np.random.default_rng(2)
    names = melody(40, generator)
    long = noisy(names)
    assert len(long) > 11 * RATE
    heard = transcriber(long, chunk_length_s=0.95)["text"].split()
    assert heard == names
    assert transcriber(long, chunk_length_s=0.95, batch_size=4)["text"].split() == names
    assert transcriber([long, noisy(["low"])], chunk_length_s=0.95)[1] == {"text": "low"}


def test_pieces_are_all_there_and_short_enough() -> None:
    generator = torch.Generator().manual_seed(0)
    for count, longest, block in (
        (1000, 100, 10),
        (1000, 99, 7),
        (100, 100, 10),
        (101, 100, 10),
        (57, 10, 50),
        (0, 5, 2),
    ):
        samples = torch.rand(count, generator=generator)
        pieces = cut_at_quiet_places(samples, longest, block)
        assert torch.equal(torch.cat(pieces), samples)
        assert all(0 < len(piece) <= longest for piece in pieces) or count == 0
    loud = torch.ones(100)
    loud[60:70] = 0
    assert [len(piece) for piece in cut_at_quiet_places(loud, 80, 10)] == [65, 35]


def test_generation_is_steered_as_in_transformers(transcriber: Any) -> None:
    samples = noisy(SEQUENCES[3])
    assert transcriber(samples, max_new_tokens=2) == {"text": "low high"}
    assert transcriber(samples, generate_kwargs={"max_new_tokens": 2, "num_beams": 3}) == {"text": "low high"}


def test_the_model_may_be_in_training(transcriber: Any) -> None:
    expected = transcriber(noisy(SEQUENCES[2]))
    transcriber.model.train()
    try:
        assert transcriber(noisy(SEQUENCES[2])) == expected
        assert transcriber.model.training
    finally:
        transcriber.model.eval()


@pytest.mark.parametrize(
    ("recording", "error", "message"),
    [
        ("nothing.wav", ValueError, "There is no recording 'nothing.wav'"),
        (b"no sound", ValueError, "The recording of 8 bytes cannot be read as a recording"),
        (7, TypeError, "A recording is a path, bytes, an array, a dictionary with one or a decoder, and this a 'int'"),
        (np.zeros((3, 50)), ValueError, r"shape \(3, 50\); it must be \(samples,\) or \(channels, samples\)"),
        (np.array([0.0, np.nan]), ValueError, "no finite numbers"),
        (
            {"raw": np.zeros(5), "sampling_rate": 0},
            ValueError,
            "sampling_rate=0 must be a number of samples",
        ),
        ({"raw": np.zeros(5), "sampling_rate": "8000"}, ValueError, "sampling_rate='8000' must be a number"),
        (np.zeros(5, dtype=bool), ValueError, "samples of torch.bool; they must be real numbers"),
        (np.zeros(5, dtype=complex), ValueError, "they must be real numbers"),
        (np.zeros(5, dtype=">f4"), ValueError, "an array that torch does not read"),
        ({"raw": np.zeros(5)}, ValueError, 'A dictionary needs "raw" or "array", samples, and their "sampling_rate"'),
    ],
)
def test_what_is_no_recording(recording: Any, error: type[Exception], message: str, transcriber: Any) -> None:
    with pytest.raises(error, match=message):
        transcriber(recording)


def test_arrays_that_are_views_and_lists_of_nothing(transcriber: Any) -> None:
    samples = noisy(SEQUENCES[1])
    backwards = samples[::-1].copy()[::-1]  # strides that torch does not have
    assert backwards.strides[0] < 0
    assert transcriber(backwards) == {"text": "high mid"}
    assert transcriber([]) == []


def test_a_file_that_is_no_recording_is_named(transcriber: Any, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan] * 300), RATE, subtype="FLOAT")
    with pytest.raises(ValueError, match="nan.wav' cannot be read as a recording: .* no finite numbers"):
        transcriber(str(tmp_path / "nan.wav"))
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(ValueError, match="text.wav' cannot be read as a recording"):
        transcriber(str(tmp_path / "text.wav"))


def test_parts_that_do_not_fit_are_refused(listener: RnnS2SForConditionalGeneration) -> None:
    with pytest.raises(ValueError, match="The feature extractor gives 80 features a frame, and the model reads 12"):
        of(listener, feature_extractor=Speech2TextFeatureExtractor())
    with pytest.raises(ValueError, match="needs a feature_extractor: pass feature_extractor="):
        of(listener, feature_extractor=None)
    with pytest.raises(ValueError, match="needs a tokenizer: pass tokenizer="):
        of(listener, tokenizer=None)
    for wrong in (0, 1e-6, float("inf"), "5"):
        with pytest.raises(ValueError, match=f"chunk_length_s={wrong!r} must be seconds, at least 0.1"):
            of(listener)(noisy(["low"]), chunk_length_s=wrong)
    with pytest.raises(ValueError, match="stride_length_s: pieces are cut where it is quiet, and do not overlap"):
        of(listener)(noisy(["low"]), chunk_length_s=1, stride_length_s=0.2)
    for several in ({"num_return_sequences": 2}, {"generate_kwargs": {"num_return_sequences": 2}}):
        with pytest.raises(ValueError, match="num_return_sequences: a recording has one text here"):
            of(listener)(noisy(["low"]), num_beams=2, **several)


def test_pipeline_finds_it_for_models_of_this_package_alone(
    listener: RnnS2SForConditionalGeneration, tmp_path: Path
) -> None:
    of(listener).save_pretrained(tmp_path / "model")
    loaded = make_pipeline("automatic-speech-recognition", str(tmp_path / "model"), device="cpu")
    assert type(loaded) is RnnSpeechRecognitionPipeline
    assert loaded(noisy(SEQUENCES[1])) == {"text": "high mid"}
    assert (tmp_path / "model" / "speech_pipeline_rnn_s2s.py").is_file()

    class Another:
        def __init__(self) -> None:
            self.config = type("Config", (), {"model_type": "wav2vec2"})()

    with pytest.raises(Exception, match="Another") as caught:  # transformers' own class was asked to take it
        SpeechRecognitionByModel(Another())
    names = [entry.frame.code.path for entry in caught.traceback]
    assert any(str(name).endswith("automatic_speech_recognition.py") for name in names)
    assert issubclass(SpeechRecognitionByModel, AutomaticSpeechRecognitionPipeline)
