"""Strings of spoken digits, made of single ones: `python -m hf_rnn_s2s.data.spoken_digits CLIPS OUTPUT`.

CLIPS is a folder of recordings named `DIGIT_SPEAKER_TAKE.wav`, such as those of the Free Spoken Digit Dataset
(https://github.com/Jakobovski/free-spoken-digit-dataset). OUTPUT gets `train.jsonl`, `validation.jsonl` and
`test.jsonl`, with the columns `audio` and `text`, and the recordings, in FLAC.

A string has 1 to 7 digits of one speaker, each length equally often, with random pauses, levels and a little noise.
Takes 0 to 4 of every digit are for the test and 5 to 9 for validation; training has the others, also faster and
slower by up to a fifth, which moves the pitch, as it is in other voices. The same seed gives the same strings.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..audio import resample
from ..errors import UsageError, ending_with_a_message

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LONGEST = 7  # digits in a string
TAKES = {"test": range(5), "validation": range(5, 10), "train": range(10, 1000)}
PAUSES = (0.0, 0.35)  # seconds between two digits, and before and behind the string
LEVELS = (0.3, 1.2)  # what each clip is multiplied by
NOISE = (-4.5, -3.0)  # of full scale, as a power of ten
STRETCH = 0.2  # of training strings, faster and slower by at most this share


class Clip(NamedTuple):
    """One spoken digit: its samples, and how many there are in a second."""

    samples: np.ndarray
    rate: int


Clips = dict[str, dict[int, dict[int, Clip]]]  # by speaker, digit and take


def read_clips(folder: Path) -> Clips:
    """The clips of a folder.

    Raises:
        UsageError: if there are none, a name is of another form, or a speaker lacks a digit.
    """
    import soundfile

    clips: Clips = defaultdict(lambda: defaultdict(dict))
    for path in sorted(folder.glob("*.wav")):
        digit, _, rest = path.stem.partition("_")
        speaker, _, take = rest.rpartition("_")
        if not (digit.isdigit() and len(digit) == 1 and speaker and take.isdigit()):
            raise UsageError(f"{path}: a clip is named DIGIT_SPEAKER_TAKE.wav, such as 7_theo_12.wav.")
        samples, rate = soundfile.read(path, dtype="float32")
        clips[speaker][int(digit)][int(take)] = Clip(samples, rate)
    if not clips:
        raise UsageError(f"{folder} has no clips named DIGIT_SPEAKER_TAKE.wav.")
    for speaker, digits in clips.items():
        if missing := [name for digit, name in enumerate(NAMES) if digit not in digits]:
            raise UsageError(f"{folder}: the speaker {speaker} says no {', '.join(missing)}.")
    return clips


def make_string(
    clips: Clips, takes: Sequence[int], length: int, stretches: bool, generator: np.random.Generator
) -> tuple[np.ndarray, int, str]:
    """One string: its samples, their rate, and what is said."""
    speaker = clips[str(generator.choice(sorted(clips)))]
    digits = generator.integers(10, size=length)
    chosen = []
    for digit in digits:
        there = [take for take in speaker[int(digit)] if take in takes]
        if not there:
            raise UsageError(f"A speaker has no take of {NAMES[digit]} among {takes}.")
        chosen.append(speaker[int(digit)][int(generator.choice(there))])
    rate = chosen[0].rate
    parts = []
    for clip in chosen:
        parts += [_pause(rate, generator), resample(clip.samples, clip.rate, rate) * generator.uniform(*LEVELS)]
    samples = np.concatenate([*parts, _pause(rate, generator)])
    if stretches:
        samples = resample(samples, round(rate * generator.uniform(1 - STRETCH, 1 + STRETCH)), rate)
    noise = 10 ** generator.uniform(*NOISE) * generator.standard_normal(len(samples))
    return (samples + noise).clip(-1, 1).astype(np.float32), rate, " ".join(NAMES[digit] for digit in digits)


def _pause(rate: int, generator: np.random.Generator) -> np.ndarray:
    return np.zeros(int(rate * generator.uniform(*PAUSES)), dtype=np.float32)


def write_strings(clips: Clips, output: Path, split: str, count: int, seed: int) -> None:
    """Make the strings of one split, and their table."""
    import soundfile

    generator = np.random.default_rng([seed, list(TAKES).index(split)])
    folder = output / split
    folder.mkdir(parents=True, exist_ok=True)
    with (output / f"{split}.jsonl").open("w", encoding="utf-8") as table:
        for number in range(count):
            length = 1 + number % LONGEST
            samples, rate, text = make_string(clips, TAKES[split], length, split == "train", generator)
            file = f"{split}/{number:05}.flac"
            soundfile.write(output / file, samples, rate, subtype="PCM_16")
            table.write(json.dumps({"audio": file, "text": text}) + "\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Make all splits."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("clips", type=Path, help="folder of DIGIT_SPEAKER_TAKE.wav")
    parser.add_argument("output", type=Path, help="folder for the strings")
    parser.add_argument("--seed", type=int, default=0)
    for split, count in (("train", 8000), ("validation", 350), ("test", 500)):
        parser.add_argument(f"--{split}", type=int, default=count, help="number of strings")
    arguments = parser.parse_args(argv)
    clips = read_clips(arguments.clips)
    for split in TAKES:
        write_strings(clips, arguments.output, split, getattr(arguments, split), arguments.seed)


if __name__ == "__main__":
    with ending_with_a_message("spoken_digits"):
        main()
