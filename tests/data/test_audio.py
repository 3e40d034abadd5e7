"""Recordings of every kind, and what is said of those that are none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from datasets import Audio, Dataset

from hf_rnn_s2s.data.arguments import DataArguments
from hf_rnn_s2s.data.audio import read_recording
from hf_rnn_s2s.data.loading import load_examples
from hf_rnn_s2s.data.sides import Layout, Side
from hf_rnn_s2s.data.speech import SpeechCollator, encode_recordings, features_of
from hf_rnn_s2s.errors import UsageError

from ..data_examples import write_table
from ..speech import BINS, RATE, processor, tones, write_tones

LAYOUT = Layout(
    Side("recording", "audio_column", None, ("audio",)), Side("text", "text_column", None, ("text",)), reads_audio=True
)


def load(path: str) -> Any:
    return load_examples(DataArguments(train_file=path, validation_file=path, test_file=path), LAYOUT)


def encode(split: str, examples: Any, longest: float = 5.0, **options: Any) -> Any:
    arguments = DataArguments(**options)
    return encode_recordings(split, examples, processor(), arguments, longest, training=split == "train")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_files_of_every_format_are_read_by_paths_relative_to_the_table(suffix: str, tmp_path: Path) -> None:
    write_tones(tmp_path / "sounds" / f"a.{suffix}", ["low", "high"])
    path = write_table(tmp_path / "rows.jsonl", [{"audio": f"sounds/a.{suffix}", "text": "low high"}])
    [row] = load(path)["test"]
    assert (row["source"], row["target"]) == (f"a.{suffix}", "low high")
    samples = read_recording(row["audio"], RATE, "here")
    expected = tones(["low", "high"])
    if suffix in ("wav", "flac"):
        np.testing.assert_allclose(samples, expected, atol=1e-4)
    assert abs(len(samples) - len(expected)) < 0.1 * RATE


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (48_000, 2), (44_100, 1)])
def test_other_rates_and_channels_become_those_of_the_model(rate: int, channels: int, tmp_path: Path) -> None:
    path = write_tones(tmp_path / "a.wav", ["mid", "low"], rate, channels)
    samples = read_recording({"path": str(path), "bytes": None}, RATE, "here")
    expected = tones(["mid", "low"])
    assert abs(len(samples) - len(expected)) <= 2
    length = min(len(samples), len(expected))
    assert np.corrcoef(samples[:length], expected[:length])[0, 1] > 0.99


def test_a_dataset_with_audio_is_read_without_its_own_decoder(tmp_path: Path) -> None:
    path = write_tones(tmp_path / "a.wav", ["low"])
    dataset = Dataset.from_dict({"audio": [str(path)], "text": ["low"]}).cast_column("audio", Audio())
    dataset.save_to_disk(str(tmp_path / "saved" / "train"))
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    data = DataArguments(dataset_name=str(tmp_path / "saved"), validation_split_percentage=None)
    with pytest.raises(UsageError, match="no validation split"):
        load_examples(data, LAYOUT)
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["test"]}')
    (tmp_path / "saved" / "train").rename(tmp_path / "saved" / "test")
    [row] = load_examples(data, LAYOUT)["test"]
    np.testing.assert_allclose(read_recording(row["audio"], RATE, "here"), tones(["low"]), atol=1e-4)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "rows.jsonl, row 2: 'audio' is missing"),
        ("", "rows.jsonl, row 2: 'audio' is missing"),
        (7, "rows.jsonl, row 2: 'audio' is no path of a recording but 7"),
        ("nothing.wav", "rows.jsonl, row 2: 'audio': there is no file .*nothing.wav. Paths are relative"),
    ],
)
def test_what_is_no_path_is_named_with_its_row(value: Any, message: str, tmp_path: Path) -> None:
    write_tones(tmp_path / "a.wav", ["low"])
    path = write_table(tmp_path / "rows.jsonl", [{"audio": "a.wav", "text": "low"}, {"audio": value, "text": "low"}])
    with pytest.raises(UsageError, match=message):
        load(path)


def test_what_is_no_recording_is_named_with_its_row(tmp_path: Path) -> None:
    write_tones(tmp_path / "a.wav", ["low"])
    (tmp_path / "text.wav").write_text("This is no sound.")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan, 0.1]), RATE, subtype="FLOAT")
    for name, message in (
        ("text.wav", "The test split, row 2: .*text.wav cannot be read as a recording"),
        ("empty.wav", "The test split, row 2: .*empty.wav has no samples: its length is 0"),
        ("nan.wav", "The test split, row 2: .*nan.wav has samples that are no finite numbers"),
    ):
        table = [{"audio": "a.wav", "text": "low"}, {"audio": name, "text": "low"}]
        examples = load(write_table(tmp_path / "rows.jsonl", table))
        with pytest.raises(UsageError, match=message):
            encode("test", examples["test"])


def test_features_labels_and_batches(tmp_path: Path) -> None:
    table = []
    for number, names in enumerate([["low"], ["mid", "high"], ["low", "mid", "high"]]):
        write_tones(tmp_path / f"{number}.wav", names)
        table.append({"audio": f"{number}.wav", "text": " ".join(names)})
    encoded = encode("test", load(write_table(tmp_path / "rows.jsonl", table))["test"])
    one = processor()
    for number, row in enumerate(encoded):
        samples = tones(table[number]["text"].split())
        expected = one.feature_extractor(samples, sampling_rate=RATE)["input_features"][0]
        np.testing.assert_allclose(row["input_features"], expected, atol=1e-3)
        assert row["length"] == len(expected)
        assert row["labels"] == one.tokenizer(table[number]["text"])["input_ids"]
        assert row["target"] == table[number]["text"]
    batch = SpeechCollator()([encoded[row] for row in range(3)])
    lengths = encoded["length"][:]
    assert batch["input_features"].shape == (3, max(lengths), BINS)
    assert batch["attention_mask"].sum(1).tolist() == lengths
    for row, length in enumerate(lengths):
        np.testing.assert_array_equal(batch["input_features"][row, :length], encoded[row]["input_features"])
        assert (batch["input_features"][row, length:] == 0).all()
    assert batch["labels"].tolist()[0] == [*encoded[0]["labels"], -100, -100]


def test_long_and_silent_recordings_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Ten minutes are left out of training and cut elsewhere; silence stays, and gives numbers."""
    soundfile.write(tmp_path / "long.wav", np.tile(tones(["low"]), 2000)[: 600 * RATE], RATE)
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    write_tones(tmp_path / "a.wav", ["low"])
    table = [{"audio": f"{name}.wav", "text": "low"} for name in ("a", "long", "silent")]
    examples = load(write_table(tmp_path / "rows.jsonl", table))
    train = encode("train", examples["train"], longest=1.0)
    assert len(train) == 2
    assert np.isfinite(train[1]["input_features"]).all()
    messages = [record.getMessage() for record in caplog.records]
    assert "train split: 1 of 3 recordings are silent." in messages
    assert any(message.startswith("1 of 3 training pairs are longer than max_duration") for message in messages)
    caplog.clear()
    test = encode("test", examples["test"], longest=1.0)
    assert test["length"][:] == [len(train[0]["input_features"]), 98, 98]
    messages = [record.getMessage() for record in caplog.records]
    assert any("1 of 3 recordings are longer than max_duration_in_seconds=1: what exceeds" in one for one in messages)
    with pytest.raises(UsageError, match="Every training pair is longer than max_duration_in_seconds=0.1"):
        encode("train", examples["train"], longest=0.1)


def test_fewer_samples_than_a_window_are_one_frame() -> None:
    extractor = processor().feature_extractor
    assert features_of(np.ones(3, dtype=np.float32), extractor).shape == (1, BINS)
    assert features_of(tones(["low"])[:400], extractor).shape == (1, BINS)


def test_a_recording_that_is_written_over_is_read_again(tmp_path: Path) -> None:
    """The cache of `datasets` goes by names."""
    write_tones(tmp_path / "a.wav", ["low"])
    path = write_table(tmp_path / "rows.jsonl", [{"audio": "a.wav", "text": "low"}])
    before = encode("test", load(path)["test"])["length"][:]
    write_tones(tmp_path / "a.wav", ["low", "mid", "high"])
    after = encode("test", load(path)["test"])["length"][:]
    assert after[0] > 2 * before[0]


def test_a_file_without_a_header_is_no_recording(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(1000))
    examples = load(write_table(tmp_path / "rows.jsonl", [{"audio": "a.raw", "text": "low"}]))
    with pytest.raises(UsageError, match=r"row 1: .*a.raw cannot be read as a recording"):
        encode("test", examples["test"])


def test_recordings_set_aside_for_validation_take_no_others_with_them(tmp_path: Path) -> None:
    """Of two speakers files have the same names, and say the same."""
    table = []
    for speaker in ("ann", "bob"):
        for number in range(6):
            write_tones(tmp_path / speaker / f"{number}.wav", ["low"])
            table.append({"audio": f"{speaker}/{number}.wav", "text": "low"})
    data = DataArguments(
        train_file=write_table(tmp_path / "rows.jsonl", table), validation_split_percentage=25, examples_seed=1
    )
    examples = load_examples(data, LAYOUT)
    assert (len(examples["train"]), len(examples["validation"])) == (9, 3)


def test_the_prefix_of_a_parallel_text_names_no_recordings(tmp_path: Path) -> None:
    prefix = str(tmp_path / "train")
    data = DataArguments(train_file=prefix, validation_file=prefix, source_lang="a", target_lang="b")
    with pytest.raises(UsageError, match="train is no table; recordings are named in one"):
        load_examples(data, LAYOUT)
