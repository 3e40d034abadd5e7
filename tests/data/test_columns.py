"""Which columns become source and target, and what is refused in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_rnn_s2s.data.arguments import DataError
from hf_rnn_s2s.data.loading import load_examples

from ..data_examples import PAIRS, files, rows, write_table

pytestmark = pytest.mark.usefixtures("own_datasets_cache")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_translation_column(tmp_path: Path, suffix: str, streaming: bool) -> None:
    table = [{"translation": {"de": pair["target"], "en": pair["source"]}} for pair in PAIRS]
    path = write_table(tmp_path / f"pairs{suffix}", table)
    options = {"source_lang": "en", "target_lang": "de", "streaming": streaming}
    assert rows(load_examples(files(path, **options))["validation"]) == PAIRS
    turned = load_examples(files(path, **{**options, "source_lang": "de", "target_lang": "en"}))["validation"]
    assert rows(turned)[0] == {"source": "Ein Hund läuft.", "target": "A dog runs."}


def test_columns_by_language_and_by_name(tmp_path: Path) -> None:
    table = [{"en": "dog", "de": "Hund", "source": "web", "target": "print"}]
    path = write_table(tmp_path / "pairs.csv", table)
    by_language = load_examples(files(path, source_lang="en", target_lang="de"))["train"]
    assert rows(by_language) == [{"source": "dog", "target": "Hund"}]
    by_name = load_examples(files(path, source_column="de", target_column="source"))["train"]
    assert rows(by_name) == [{"source": "Hund", "target": "web"}]
    turned = load_examples(files(path, source_column="target", target_column="source"))["train"]
    assert rows(turned) == [{"source": "print", "target": "web"}]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_missing_columns_list_what_is_there(tmp_path: Path, suffix: str) -> None:
    path = write_table(tmp_path / f"t{suffix}", [{"english": "dog", "german": "Hund"}])
    with pytest.raises(DataError, match=r"no column 'source' for the source text.*It has english, german"):
        load_examples(files(path))
    with pytest.raises(DataError, match="no column 'de' or 'target' for the target text; name one with target_column"):
        load_examples(files(path, source_column="english", target_lang="de"))
    with pytest.raises(DataError, match="source and target are both 'german'; name two"):
        load_examples(files(path, source_column="german", target_column="german"))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("bad_row", "message"),
    [
        ({"source": "a", "target": None}, r"row 3: 'target' is missing \(null\)"),
        ({"source": "a"}, r"row 3: 'target' is missing \(null\)"),
    ],
)
def test_null_values_name_the_row(tmp_path: Path, streaming: bool, bad_row: dict[str, Any], message: str) -> None:
    path = write_table(tmp_path / "t.jsonl", [*PAIRS[:2], bad_row, *PAIRS[3:]])
    with pytest.raises(DataError, match=message):
        rows(load_examples(files(path, streaming=streaming))["validation"])


def test_null_inside_translation_and_text_that_is_not(tmp_path: Path) -> None:
    table: list[Any] = [{"translation": {"en": "dog", "de": "Hund"}}, {"translation": {"en": "cat", "de": None}}]
    path = write_table(tmp_path / "t.jsonl", table)
    with pytest.raises(DataError, match=r"row 2: 'translation\.de' is missing"):
        load_examples(files(path, source_lang="en", target_lang="de"))
    path = write_table(tmp_path / "n.jsonl", [{"source": "one", "target": 1}])
    with pytest.raises(DataError, match="row 1: 'target' is not text but 1"):
        load_examples(files(path))
