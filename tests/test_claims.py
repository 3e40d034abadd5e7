"""What the package says about where it comes from: it lies in its repository, and no registry has a page of it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXTS = [
    *(ROOT / name for name in ("pyproject.toml", "README.md", "model_card.md", "train.py", "constraints.txt")),
    *(
        path
        for folder in ("hf_rnn_s2s", "hf_rnn_s2s_command", "recipes", "benchmarks", "examples")
        for path in (ROOT / folder).rglob("*.*")
    ),
]
REGISTRY = re.compile(r"""pypi\.org/project/hf[-_]rnn|pip install [^\n]*["' ]hf[-_]rnn[-_]s2s""", re.IGNORECASE)


@pytest.mark.parametrize(
    "path",
    [path for path in TEXTS if path.suffix in (".toml", ".md", ".py", ".txt", ".yaml", ".ipynb")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_nothing_claims_a_page_or_a_release_in_a_registry(path: Path) -> None:
    assert not REGISTRY.search(path.read_text(encoding="utf-8"))


def test_what_counts_as_a_claim() -> None:
    for claim in (
        "https://pypi.org/project/hf-rnn-s2s/",
        'pip install "hf-rnn-s2s[export]"',
        "pip install -U hf_rnn_s2s",
    ):
        assert REGISTRY.search(claim)
    assert not REGISTRY.search('pip install -c constraints.txt -e ".[train]"')
