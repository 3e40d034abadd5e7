"""
The first translation of a fresh process, from its start to its end: imports, loading and one sentence.

    python -m benchmarks.first_call              ours, exported and not, and CTranslate2

What a command that translates a line costs, or a server that starts when it is asked. The contenders of
`benchmarks.translating` learn first, if they have not; each is saved the way its users save it, and read by the
shortest program that they would write. Every program runs once before it is timed, so that its files are in the cache;
not so with `--quick`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.contenders import installed
from benchmarks.options import parse, parser, streams
from benchmarks.race import Worker, race
from benchmarks.report import report, rounded
from benchmarks.streams import Streams
from benchmarks.translating import learn

BEAMS = 5
SAVED = ("ours", "ours-float32", "ours-int8", "ours-int8-shortlist", "ctranslate2-int8", "ctranslate2-int8-map")


def main() -> None:
    """Trains and saves what is not there yet, then races."""
    options = parser(__doc__)
    options.add_argument("--contenders", nargs="+", choices=SAVED, default=list(filter(installed, SAVED)))
    chosen = parse(options)
    made = Streams(chosen.data, chosen.work, chosen.vocabulary)
    programs: dict[str, list[str]] = {}
    workers = [Worker.of(name, streams(chosen)) for name in chosen.contenders]
    for worker in workers:
        learn(worker, chosen, made)
        folder = chosen.work / "saved" / worker.name
        programs[worker.name] = worker.call("save", folder=str(folder))
    text = made.texts("test_2016_flickr", "en")[0]
    texts: dict[str, str] = {}

    def measure(worker: Worker) -> float:
        start = time.perf_counter()
        command = [sys.executable, "-W", "ignore", "-c", *programs[worker.name], text, str(BEAMS), str(chosen.threads)]
        texts[worker.name] = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        return time.perf_counter() - start

    for worker in [] if chosen.quick else workers:
        measure(worker)
    results = race(workers, 1 if chosen.quick else chosen.rounds, measure)
    for worker in workers:
        worker.end()
    megabytes = {}
    for name, (_, folder) in programs.items():
        megabytes[name] = rounded(sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6)
        print(f"{name}, {megabytes[name]} MB: {texts[name]:.80}")
    unit = "seconds until a fresh process has translated a sentence"
    report("first_call", unit, results, more_is_better=False, megabytes=megabytes, translations=texts)


if __name__ == "__main__":
    main()
