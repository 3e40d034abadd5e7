"""
The command `hf-rnn-s2s translate` beside the pipeline it calls: rate, memory, and what interruptions do to the output.

    python -m benchmarks.command --model FOLDER --text FILE --lines 100000

The text is repeated until it has so many lines; a number behind each makes them differ. In every round the command
translates all of them, from file to file, and the pipeline all of them from list to list, in a process of its own. Of
both counts the time from the first translation on, so that imports and loading do not: of the command, from the moment
at which the first chunk is written, and of the pipeline, from its second call on. At the end the command is killed
three times, and resumed; the file must be the same.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from .report import report, rounded

# Reads lines of standard input in one call of the pipeline, behind a first call that warms it up
PIPELINE = """
import sys, time
import hf_rnn_s2s
from transformers import pipeline
translator = pipeline("translation", model=sys.argv[1], num_beams=int(sys.argv[2]), return_warnings=True)
lines = sys.stdin.read().splitlines()
translator(lines[:64])
start = time.perf_counter()
translator(lines)
print(len(lines) / (time.perf_counter() - start))
"""
EVERY = 0.1  # seconds between two looks at a process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder with a model of translation")
    parser.add_argument("--text", type=Path, required=True, help="a file with a sentence on each line")
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--num-beams", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, whole, part = (Path(folder) / name for name in ("source.txt", "whole.txt", "part.txt"))
        write_source(arguments.text, source, arguments.lines)
        rates: dict[str, list[float]] = {"command": [], "pipeline": []}
        memory: list[dict[str, float]] = []
        for _ in range(arguments.rounds):
            rate, by_share = run_command(arguments, source, whole)
            rates["command"].append(rate)
            memory.append(by_share)
            rates["pipeline"].append(run_pipeline(arguments, source))
        kills = kill_and_resume(arguments, source, part)
        is_same = filecmp.cmp(whole, part, shallow=False)
    megabytes = {share: rounded(median(one[share] for one in memory)) for share in memory[0]}
    pairs = [mine / theirs for mine, theirs in zip(*rates.values(), strict=True)]
    print(f"MB of the command by share of the lines: {megabytes}")
    print(f"killed at {kills} lines; the resumed file is {'the same' if is_same else 'ANOTHER ONE'}")
    report(
        "command",
        "lines/s",
        rates,
        ours="command",
        megabytes=megabytes,
        killed_at=kills,
        same=is_same,
        ratio_of_pairs=rounded(median(pairs)),
    )
    if not is_same:
        sys.exit(1)


def write_source(text: Path, path: Path, count: int) -> None:
    lines = text.read_text(encoding="utf-8").splitlines()
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            file.write(f"{lines[number % len(lines)]} {number // len(lines)}\n")


def start_command(asked: argparse.Namespace, source: Path, output: Path, *more: str) -> subprocess.Popen[bytes]:
    command = ["translate", "--model", asked.model, str(source), "--output", str(output)]
    command += ["--num-beams", str(asked.num_beams), *more]
    return subprocess.Popen([sys.executable, "-m", "hf_rnn_s2s", *command])


def run_command(asked: argparse.Namespace, source: Path, output: Path) -> tuple[float, dict[str, float]]:
    """Lines per second behind the first chunk, and memory in MB when shares of the lines were written."""
    count = asked.lines
    output.unlink(missing_ok=True)  # lines of an earlier round would be counted
    process = start_command(asked, source, output)
    shares = {f"{percent} %": percent * count // 100 for percent in (5, 25, 50, 75, 95)}
    memory: dict[str, float] = {}
    begin, first = 0.0, 0
    while process.poll() is None:
        written = count_lines(output)
        if written and not first:
            begin, first = time.perf_counter(), written
        for share, lines in shares.items():
            if written >= lines and share not in memory:
                memory[share] = resident_megabytes(process.pid)
        time.sleep(EVERY)
    if process.returncode:
        raise RuntimeError(f"the command ended with {process.returncode}")
    return (count - first) / (time.perf_counter() - begin), memory


def run_pipeline(asked: argparse.Namespace, source: Path) -> float:
    with source.open("rb") as file:
        command = [sys.executable, "-c", PIPELINE, asked.model, str(asked.num_beams)]
        ended = subprocess.run(command, stdin=file, capture_output=True, check=True)
    return float(ended.stdout)


def kill_and_resume(asked: argparse.Namespace, source: Path, output: Path) -> list[int]:
    """Kill the command when a quarter, half and three quarters are written; how many lines there were each time."""
    kills = []
    for share in (0.25, 0.5, 0.75):
        process = start_command(asked, source, output, "--resume")
        while process.poll() is None and count_lines(output) < share * asked.lines:
            time.sleep(EVERY)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills.append(count_lines(output))
        with output.open("ab") as file:
            file.write(b"half a rec")  # as a kill in the middle of writing would leave it
    process = start_command(asked, source, output, "--resume")
    if process.wait():
        raise RuntimeError(f"the command ended with {process.returncode}")
    return kills


def count_lines(path: Path) -> int:
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(2**20), b""))


def resident_megabytes(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
