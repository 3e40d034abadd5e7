"""The benchmarks of what a part of an architecture learns: that their tasks are what they say, and their measures."""

import contextlib
import io
import json
import string
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import copying, presets, toy_tasks
from benchmarks.toy_tasks import CELLS, END, FIRST, ITEMS, KINDS, TASKS, VISITED
from hf_rnn_s2s.training.arguments import ModelArguments, RnnS2STrainingArguments


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def test_a_reversal_reads_the_same_backwards(generator: torch.Generator) -> None:
    source, target = toy_tasks.reversal(5, generator)
    assert source.shape == target.shape == (5, 31)
    for row, other in zip(source.tolist(), target.tolist(), strict=True):
        assert row[-1] == other[-1] == END
        assert row[:-1] == other[-2::-1]


def test_a_chain_is_followed_from_cell_to_cell(generator: torch.Generator) -> None:
    for row, target in zip(*(one.tolist() for one in toy_tasks.chain(20, generator)), strict=True):
        *cells, end = row
        told = dict(divmod(token - FIRST, CELLS) for token in cells)
        assert len(told) == CELLS
        at, letters = 0, []
        for _ in range(VISITED):
            at = told[at]
            letters.append(FIRST + at // 2)
        assert [*letters, END] == target
        assert end == END


def test_an_inventory_tells_every_item_once(generator: torch.Generator) -> None:
    source, target = toy_tasks.inventory(20, generator)
    sides = [[sorted(zip(row[::2], row[1::2], strict=False)) for row in one.tolist()] for one in (source, target)]
    assert sides[0] == sides[1]
    assert all(len(set(items)) == ITEMS for items in sides[0])
    assert not torch.equal(source, target)


def test_repeated_items_are_counted() -> None:
    items = torch.tensor([[0, 1, 0, 2, 2, 0, *range(3, ITEMS - 3)], list(range(ITEMS))])
    written = torch.stack([items, KINDS + items], dim=2).flatten(1) + FIRST
    assert toy_tasks.repeated(written, written) == pytest.approx(3 / (2 * ITEMS))
    assert toy_tasks.exact(written, written.roll(1, 0)) == 0
    assert toy_tasks.exact(written, written) == 1


@pytest.mark.parametrize("name", TASKS)
def test_both_sides_are_of_one_size(name: str) -> None:
    sizes = [toy_tasks.build(TASKS[name], side).num_parameters() for side in TASKS[name].sides]
    assert max(sizes) <= 1.1 * min(sizes)


def test_the_better_rate_is_chosen_on_validation_rows() -> None:
    found = {"validation": [[0.1, 0.3], [0.4, 0.4], [0.9, 0.1]], "test": [[0.0, 0.0], [0.2, 0.4], [1.0, 1.0]]}
    row, record = toy_tasks.row_of("reversal", "none", found, 5)
    assert record["rate"] == toy_tasks.RATES[2]  # 0.5 in the mean
    assert record["test"] == [1.0, 1.0]
    found["validation"][2] = [0.3, 0.1]
    assert toy_tasks.row_of("reversal", "none", found, 5)[1]["test"] == [0.2, 0.4]
    assert toy_tasks.row_of("inventory", "none", found, 5)[1]["test"] == [0.0, 0.0]  # of which the least is best
    assert "100.0%" in row


def test_toy_tasks_run_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.StringIO()
    monkeypatch.setattr(sys, "argv", ["toy_tasks", "--quick", "--only", "inventory", "--work", str(tmp_path)])
    monkeypatch.setattr(toy_tasks, "SEEDS", (1,))
    for _ in range(2):  # the second time from the files
        with contextlib.redirect_stdout(printed):
            toy_tasks.main()
    first, second = (json.loads(line) for line in printed.getvalue().splitlines() if line.startswith("{"))
    assert first == second
    assert {record["side"] for record in first["rows"]} == {"coverage", "none"}


def test_no_name_is_in_two_splits(tmp_path: Path) -> None:
    copying.write_corpus(tmp_path, seed=3, share=0.05)
    names: dict[str, set[str]] = {}
    for split in copying.SPLITS:
        sides = [(tmp_path / f"{split}.{language}").read_text().splitlines() for language in ("en", "de")]
        words = [[sorted(set(line.split()) - copying.WORDS) for line in side] for side in sides]
        assert words[0] == words[1]  # what is to be written can be read
        names[split] = {name for line in words[0] for name in line}
        assert all(set(name) <= set(string.ascii_lowercase) for name in names[split])
    assert not (names["train"] | names["val"]) & names["test"]


def test_only_names_in_their_place_are_right() -> None:
    references = ["table in qzaw : lom", "phone kre"]
    assert copying.right_names(references, references) == (3, 3)
    assert copying.right_names(["table in lom : qzaw", "phone"], references) == (0, 3)
    assert copying.right_names(["table in <unk> : lom", "call kre"], references) == (2, 3)


@pytest.mark.parametrize("values", copying.MODELS.values())
def test_the_settings_of_the_copying_benchmark_are_arguments(values: dict[str, Any]) -> None:
    known = {*vars(ModelArguments()), *RnnS2STrainingArguments.__dataclass_fields__, "source_lang", "target_lang"}
    assert {*copying.SETTINGS, *values} - {"preset"} <= known | {"tokenizer_kind"}


def test_every_preset_is_at_the_common_shape() -> None:
    for name in presets.NAMES:
        config = presets.build(name).config
        assert config.target_vocab_size == 8000
        assert config.hidden_size == 512


def test_presets_are_put_between_their_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, readme = tmp_path / "work", tmp_path / "README.md"
    work.mkdir()
    (work / "default.speed.json").write_text('{"parameters": 12300000, "training": 1.0, "decoding": 1.0}')
    for rate, bleu in ((0.001, 30.2), (0.002, 32.48)):
        (work / f"default.3.{rate}.quality.json").write_text(json.dumps({"bleu": bleu, "rate": rate}))
    (work / "default.5.0.001.quality.json").write_text('{"bleu": 50.0, "rate": 0.001}')  # after other epochs
    (work / "luong2015.speed.json").write_text('{"parameters": 9990000, "training": 0.412, "decoding": 0.5}')
    readme.write_text(f"before\n{presets.BEGIN}\nold\n{presets.END}\nbehind\n")
    monkeypatch.setattr(presets, "ROOT", tmp_path)
    presets.write_table(work, 3.0)
    text = readme.read_text()
    assert "| `default` | 12.3 M | 1.00 | 1.00 | 32.5 | 0.002 |" in text
    assert "| `luong2015` | 10.0 M | 0.41 | 0.50 |  |  |" in text
    assert text.startswith("before\n")
    assert text.endswith("\nbehind\n")
    assert "old" not in text
