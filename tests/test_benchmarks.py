"""The benchmarks on a CPU at a small size: that they run to their last line, and that the floor is not made up."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import pipeline

from benchmarks import revisions
from benchmarks.contenders import CONTENDERS, contender_class, installed, racers
from benchmarks.floor import Product, Recurrence, decoding_floor, training_floor
from benchmarks.race import race
from benchmarks.report import report
from benchmarks.scaling import marginal
from benchmarks.streams import END, PAD, Streams, padded
from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration

ROOT = Path(__file__).parents[1]
COMMON = {"benchmark", "unit", "contenders", "spread", "ratios", "floor_share"}
CONFIG = {"vocab_size": 90, "decoder_vocab_size": 70, "embedding_size": 12, "hidden_size": 16}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences of random words; a target has the words of its source in capitals."""
    folder, draw = tmp_path_factory.mktemp("corpus"), random.Random(0)
    words = ["".join(draw.choices("abcdefghij", k=draw.randint(2, 6))) for _ in range(300)]
    for split, pairs in (("train", 400), ("val", 20), ("test_2016_flickr", 64)):
        sources = [" ".join(draw.choices(words, k=draw.randint(2, 7))) for _ in range(pairs)]
        (folder / f"{split}.en").write_text("".join(text + "\n" for text in sources), encoding="utf-8")
        (folder / f"{split}.de").write_text("".join(text.upper() + "\n" for text in sources), encoding="utf-8")
    return folder


def run(name: str, *arguments: str) -> list[dict[str, Any]]:
    """The JSON lines that a benchmark prints. It runs here, and its contenders in processes of their own."""
    printed, threads = io.StringIO(), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", [name, "--quick", *arguments])
        patch.chdir(ROOT)
        try:
            importlib.import_module(f"benchmarks.{name}").main()
        finally:
            torch.set_num_threads(threads)
    lines = printed.getvalue().splitlines()
    assert lines[-1].startswith("{")
    return [json.loads(line) for line in lines if line.startswith("{")]


class WorkerHere:
    """A `Worker` in this process, for tests that are not about processes."""

    def __init__(self, name: str, contender: Any) -> None:
        self.name, self._contender = name, contender

    @classmethod
    def of(cls, name: str, settings: dict[str, Any]) -> WorkerHere:
        sizes = {key: settings[key] for key in ("vocabulary", "batch_size")}
        the_class, arguments = contender_class(name)
        return cls(name, the_class(Streams(Path(settings["data"]), Path(settings["work"]), **sizes), **arguments))

    def call(self, method: str, **arguments: Any) -> Any:
        return json.loads(json.dumps(getattr(self._contender, method)(**arguments)))

    def end(self) -> None:
        pass


@pytest.fixture
def small(corpus: Path) -> list[str]:
    options = {"data": corpus, "work": corpus / "work", "vocabulary": 400, "batch-size": 8, "threads": 1}
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


def test_training(small: list[str]) -> None:
    (line,) = run("training", *small, "--contenders", "ours", "tutorial", "marian")
    assert line.keys() >= COMMON | {"parameters", "peak_memory_mb"}
    assert line["benchmark"] == "training"
    assert line["contenders"].keys() == {"ours", "tutorial", "marian"}
    for name in ("tutorial", "marian"):
        expected = line["contenders"]["ours"] / line["contenders"][name]
        assert line["ratios"][f"ours/{name}"] == pytest.approx(expected, rel=2e-3)
    assert all(low <= line["contenders"][name] <= high for name, (low, high) in line["spread"].items())
    assert all(share > 0 for share in line["floor_share"].values())


def test_first_call(small: list[str], corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.first_call.Worker", WorkerHere)
    (line,) = run("first_call", *small, "--contenders", "ours-float32")
    assert line["benchmark"] == "first_call"
    assert line["contenders"]["ours-float32"] > 0
    text = (corpus / "test_2016_flickr.en").read_text(encoding="utf-8").splitlines()[0]
    translator: Any = pipeline("translation", model=corpus / "work" / "saved" / "ours-float32", device="cpu")
    expected = translator(text, num_beams=5)[0]["translation_text"]
    assert line["translations"]["ours-float32"].split() == expected.split()  # what is printed may have other line ends


def test_translating(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.translating.Worker", WorkerHere)
    names = ["ours", "ours-shortlist", "marian"] + [
        name for name in ("ours-int8-shortlist", "ctranslate2-int8-map") if installed(name)
    ]
    greedy, beams = run("translating", *small, "--contenders", *names)
    for line in (greedy, beams):
        assert line.keys() >= COMMON | {"bleu", "generate_by_model_alone"}
        assert line["contenders"].keys() == line["bleu"].keys() == set(names)
        assert line["floor_share"].keys() == line["generate_by_model_alone"].keys() == {"ours"}
        assert line["generate_by_own_steps"].keys() == {"ours"}
    assert greedy["benchmark"] == "translating, 1 beams, batches of 8"
    one, _ = run("translating", *small, "--contenders", "ours-float32", "--batch-one")
    assert one["benchmark"] == "translating, 1 beams, batches of 1"
    usual, long = one["milliseconds"]["ours-float32"]
    assert 0 < usual <= long


def test_what_train_py_adds(small: list[str]) -> None:
    (line,) = run("trainer", *small)
    assert line.keys() >= COMMON
    assert line["contenders"].keys() == {"bare loop", "train.py"}
    assert line["floor_share"] > 0


def test_another_revision_beside_this_one(small: list[str]) -> None:
    (line,) = run("revisions", *small, "--before", str(ROOT))
    assert line.keys() >= COMMON | {"ratios_of_pairs", "equal_translations", "revision"}
    kinds = line["ratios"].keys()
    assert kinds == line["ratios_of_pairs"].keys()
    assert {"training, float32", "greedy, batches of 8, float32", "5 beams, batches of 1, float32"} <= kinds
    for kind, ratio in line["ratios"].items():
        before, now = (line["contenders"][f"{kind}, {side}"] for side in ("before", "now"))
        assert ratio == pytest.approx(now / before, rel=2e-3)
    assert line["equal_translations"].keys() == {kind for kind in kinds - {"import"} if "training" not in kind}
    assert set(line["equal_translations"].values()) == {1.0}


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_revision_is_unpacked_and_an_unknown_one_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "repository"
    (repository / "hf_rnn_s2s").mkdir(parents=True)
    (repository / "hf_rnn_s2s" / "__init__.py").write_text("committed")
    monkeypatch.setattr(revisions, "ROOT", repository)
    author = ["-c", "user.name=A. Author", "-c", "user.email=author@example.org"]
    for command in (["init", "--quiet"], ["add", "."], [*author, "commit", "--quiet", "--message", "First"]):
        subprocess.run(["git", *command], cwd=repository, check=True)
    (repository / "hf_rnn_s2s" / "__init__.py").write_text("changed since")
    name = revisions.unpack("HEAD", tmp_path / "unpacked")
    assert len(name) == 12
    assert (tmp_path / "unpacked" / "hf_rnn_s2s" / "__init__.py").read_text() == "committed"
    with pytest.raises(SystemExit, match="^git rev-parse: "):
        revisions.unpack("no-such-revision", tmp_path)


def test_memory(small: list[str]) -> None:
    (line,) = run("memory", *small, "--contenders", "ours")
    assert line.keys() >= COMMON
    assert line["contenders"].keys() == {"ours"}
    assert 10 < line["growth"]["ours"][0] < line["growth"]["plain"][0]
    more = line["megabytes_per_thousand_tokens"]
    assert more["ours"] < more["plain"] / 2  # the promise that the table is there for


def test_floor_and_scaling(small: list[str]) -> None:
    (floor,) = run("floor", *small, "--hidden", "32", "--embedding", "16")
    assert floor.keys() >= COMMON
    assert all(share > 0 for share in floor["floor_share"].values())
    (scaling,) = run("scaling", "--small", "--threads", "1")
    assert scaling.keys() >= COMMON
    assert {f"{name}, {kind}, source" for name in ("ours", "marian") for kind in ("training", "translating")} <= set(
        scaling["table"]
    )


def test_the_shape_of_gnmt_at_a_small_size() -> None:
    (line,) = run("gpu", "--small", "--device", "cpu")
    assert line.keys() >= COMMON
    assert {"training", "greedy, batch 1", "beam 5, batch 4"} <= line["contenders"].keys()
    assert line["ratios"] == {}  # nothing of that size is to be compared


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("context_fusion", ["concat", "add"])
def test_the_floor_counts_the_products_that_a_step_has(context_fusion: str, layers: int) -> None:
    config = RnnS2SConfig(**CONFIG, encoder_layers=layers, decoder_layers=layers, context_fusion=context_fusion)
    model = RnnS2SForConditionalGeneration(config).train().double()  # products in float64 are all counted
    source, target = torch.randint(4, 90, (3, 5)), torch.randint(4, 70, (3, 6))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=source, labels=target).loss.backward()
    parts = training_floor(config, rows=3, source=5, target=6)
    assert sum(map(operations, parts)) == counter.get_total_flops()


def test_the_floor_of_a_search_counts_what_a_step_has() -> None:
    config = RnnS2SConfig(**CONFIG, decoder_layers=1)
    model = RnnS2SForConditionalGeneration(config).eval().double()
    decoder = model.model.decoder
    with torch.no_grad():
        encoded = model.get_encoder()(torch.randint(4, 90, (3, 5)))
        encoded.rows_per_source = 4
        sources, state = decoder.prepare(encoded), decoder.first_state(encoded, decoder.prepare(encoded))
        embedded = decoder.embed_tokens(torch.randint(4, 70, (12, 1)))
        with FlopCounterMode(display=False) as counter:
            model.lm_head(decoder.read_at_once(embedded, state, sources)[0].last_hidden_state)
    parts = decoding_floor(config, sentences=3, beams=4, source=5)
    assert sum(map(operations, parts)) == counter.get_total_flops()


def operations(part: Product | Recurrence) -> int:
    if isinstance(part, Recurrence):
        return sum(map(operations, part.products()))
    return 2 * part.rows * part.inner * part.columns * part.times * part.batch


@pytest.mark.parametrize(("more_is_better", "ratio"), [(True, 4.0), (False, 0.25)])
def test_the_report(more_is_better: bool, ratio: float, capsys: pytest.CaptureFixture[str]) -> None:
    results = {"ours": [30.0, 80.0, 40.0], "theirs": [10.0, 9.0, 70.0], "others": [1.0, 2.0, 3.0]}
    report("a name", "a unit", results, floor_share=0.5, more_is_better=more_is_better, more=[1])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line.pop("ratios")["ours/theirs"] == ratio
    assert line == {
        "benchmark": "a name",
        "unit": "a unit",
        "contenders": {"ours": 40.0, "theirs": 10.0, "others": 2.0},
        "spread": {"ours": [30.0, 80.0], "theirs": [9.0, 70.0], "others": [1.0, 3.0]},
        "floor_share": 0.5,
        "more": [1],
    }


def test_contenders_take_turns() -> None:
    calls: list[str] = []

    def measure(worker: Any) -> float:
        calls.append(worker.name)
        return float(len(calls))

    workers: Any = [SimpleNamespace(name=name) for name in "ABC"]
    assert race(workers, 3, measure) == {"A": [1, 4, 7], "B": [2, 5, 8], "C": [3, 6, 9]}
    assert calls == list("ABCABCABC")


def test_what_one_more_costs() -> None:
    assert marginal([10, 20, 60], [0.5, 0.7, 1.1]) == pytest.approx([20.0, 10.0])


@pytest.mark.parametrize("name", [name for name in CONTENDERS if installed(name)])
def test_every_contender_learns_and_keeps_the_order_of_its_sources(name: str, corpus: Path) -> None:
    the_class, arguments = contender_class(name)
    contender: Any = the_class(Streams(corpus, corpus / "work", vocabulary=400, batch_size=8), **arguments)
    contender.model.train()
    batch = contender.batch(list(range(8)))
    losses = [contender.train_step(batch) for _ in range(12)]
    assert losses[-1] < 0.9 * losses[0]
    if name not in racers("translating"):
        return
    texts = contender.streams.texts("test_2016_flickr", "en")[:6]
    contender.model.eval()
    for beams in (1, 3):
        together = contender.translate_texts(texts, beams, 6)
        alone = [contender.translate_texts([text], beams, 1)[0] for text in texts]
        equal = sum(one == other for one, other in zip(together, alone, strict=True))
        assert equal >= (3 if "shortlist" in name else 5)  # one has the words of a whole batch; and bfloat16 rounds
        assert contender.translate_texts(texts[::-1], beams, 6)[::-1] == together


def test_all_contenders_get_the_same_pairs(corpus: Path) -> None:
    streams = Streams(corpus, corpus / "work", vocabulary=400, batch_size=8)
    again = Streams(corpus, corpus / "work", vocabulary=400, batch_size=8)
    for batches in (streams.batches, streams.mixed_batches):
        assert sorted(row for batch in batches for row in batch) == list(range(400))
    assert streams.batches == again.batches
    assert streams.pairs == again.pairs
    assert all(target[-1] == source[-1] == END for source, target in streams.pairs)
    spread = [
        max(map(len, of)) - min(map(len, of)) for of in ([streams.pairs[r][1] for r in b] for b in streams.batches)
    ]
    assert sum(spread) / len(spread) < 1
    assert streams.target_tokens([0, 1]) == len(streams.pairs[0][1]) + len(streams.pairs[1][1])
    assert padded([[1], [1, 2]], PAD) == [[1, PAD], [1, 2]]


@pytest.mark.parametrize("name", [["training", "--contenders", "ours"], ["revisions", "--before", str(ROOT)]])
def test_missing_data_is_named(name: list[str], tmp_path: Path) -> None:
    benchmark, *arguments = name
    with pytest.raises(SystemExit, match="The benchmarks read Multi30k"):
        run(benchmark, *arguments, "--data", str(tmp_path))


def test_who_takes_part() -> None:
    assert set(racers("training")) | set(racers("translating")) == set(CONTENDERS)
    assert "tutorial" not in racers("translating")
    assert not [name for name in racers("training") if name in ("ours-int8", "ours-shortlist")]
    assert installed("ours")
