"""Speaks phrases with eSpeak NG: `python speak.py FOLDER < ORDER`, without the rest of the package and its imports.

ORDER is JSON, a list of phrases, each with `file`, `text`, `voice` and `speed` (words per minute). Each phrase becomes
a FLAC file in the folder. What eSpeak NG says depends on what the same process said before, so that one process speaks
a whole order, from its beginning to its end. Some of its voices have breath or rough noise, which differs every time.

The library and its voices come from the package `espeakng-loader`, no program has to be installed beside it. eSpeak NG
is under the GPL, version 3 or later; what it speaks is free of that licence.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

SYNCHRONOUS = 2  # of `espeak_AUDIO_OUTPUT`: samples go to the callback, and nothing is played
SPEED = 1  # of `espeak_PARAMETER`
CHARACTERS, UTF8 = 1, 1  # units of positions, and the encoding of texts
OUT_RATE = 16_000  # samples per second of the files

Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class SpeakingError(RuntimeError):
    """eSpeak NG has refused something."""


class Speaker:
    """eSpeak NG in this process.

    Raises:
        ImportError: if `espeakng-loader` is not installed.
        SpeakingError: if the library cannot begin.
    """

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.rate = self._library.espeak_Initialize(SYNCHRONOUS, 0, data, 0)
        if self.rate <= 0:
            raise SpeakingError(f"eSpeak NG cannot begin with the voices in {data.decode()}: code {self.rate}.")
        self._parts: list[np.ndarray] = []
        self._callback = Callback(self._take)  # kept here, since the library calls it
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: str, speed: int) -> np.ndarray:
        """Samples of a phrase, int16 `(samples,)`, at `rate` samples per second.

        Raises:
            SpeakingError: for an unknown voice, or a speed that eSpeak NG does not have; without the check it would
                speak on in the voice before.
        """
        self._require(self._library.espeak_SetVoiceByName(voice.encode()), f"the voice {voice!r}")
        self._require(self._library.espeak_SetParameter(SPEED, speed, 0), f"the speed {speed}")
        self._parts = []
        content = text.encode()
        code = self._library.espeak_Synth(content, len(content) + 1, 0, CHARACTERS, 0, UTF8, None, None)
        self._require(code, f"the text {text!r}")
        self._require(self._library.espeak_Synchronize(), f"the text {text!r}")
        if not self._parts:
            raise SpeakingError(f"eSpeak NG says nothing for {text!r}.")
        return np.concatenate(self._parts)

    def _take(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._parts.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0  # to go on

    def _require(self, code: int, what: str) -> None:
        if code != 0:
            raise SpeakingError(f"eSpeak NG refuses {what}: code {code}.")


def main(folder: Path, order: list[dict[str, Any]]) -> None:
    """Speak an order."""
    import soundfile
    import soxr

    speaker = Speaker()
    for phrase in order:
        samples = speaker.say(phrase["text"], phrase["voice"], phrase["speed"]).astype(np.float32) / 2**15
        resampled = soxr.resample(samples, speaker.rate, OUT_RATE, quality="HQ")
        soundfile.write(folder / phrase["file"], resampled.clip(-1, 1), OUT_RATE, subtype="PCM_16")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.load(sys.stdin))
