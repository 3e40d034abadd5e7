"""The notebook in `examples/`: it runs in a fresh kernel, and what it says by hand is what the model says."""

from __future__ import annotations

import base64
import copy
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from matplotlib.image import imread
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "examples" / "attention.ipynb"
PATIENCE = 10**6  # seconds that nbclient waits for a kernel: it wants a number, and a busy machine may be slow
# What is computed by hand and compared with the model, in this order
COMPARED = [
    "ids of 1000 texts",
    "memory",
    "final hidden state",
    "final cell state",
    "decoder states",
    "scores",
    "attention weights",
    "contexts",
    "attention weights by dot scores",
    "attention weights by general scores",
    "attention weights by additive scores",
    "logits",
    "log-probabilities",
    "log-probabilities of the first token",
    "attention weights of the first step",
    "loss",
    "shifted targets",
    "losses of 20 held-out pairs",
    "tokens of 300 greedy translations",
    "tokens of 120 hypotheses",
    "scores of the hypotheses",
    "attention of a translation",
    "log-probability of a given translation",
]
# A mistake in one formula: the cell, what is replaced in it and by what, and the cell that notices
MISTAKES = [
    ("byte-pair-encoding", "min(known", "max(known", "byte-pair-encoding"),
    ("lstm", "torch.sigmoid(stay) * cell", "torch.sigmoid(enter) * cell", "encoder"),
    ("lstm", ".chunk(4)", ".flip(0).chunk(4)", "encoder"),
    ("encoder", "embedded.flip(0)", "embedded", "encoder"),
    ("encoder", "backward.flip(0)", "backward", "encoder"),
    (
        "decoder-states",
        'torch.tanh(linear(f"{bridge}.cell", cell))',
        'linear(f"{bridge}.cell", cell)',
        "decoder-states",
    ),
    ("scores", "keys @ query", "-(keys @ query)", "scores"),
    ("scores", 'key_projection.weight"].T', 'key_projection.weight"]', "scores"),
    ("softmax", "return exponentials / exponentials.sum()", "return scores", "softmax"),
    ("context", "weight * vector", "vector", "context"),
    ("variants", "torch.tanh(asked + keys)", "torch.tanh(keys)", "variants"),
    ("output", "torch.tanh(", "torch.sigmoid(", "output"),
    ("output", "logits.exp().sum().log()", "logits.exp().mean().log()", "output"),
    ("step", "attention @ memory", "memory.mean(dim=0)", "step"),
    ("loss", "[tokenizer.bos_token_id, *target[:-1]]", "target", "loss"),
    ("batch", "targets[:, :-1]", "targets[:, 1:]", "batch"),
    ("greedy", "log_probabilities.argmax()", "log_probabilities.topk(2).indices[1]", "greedy"),
    ("beam-search", "total / length, tokens", "total, tokens", "beam-search-check"),
    ("beam-search", "[*tokens, token], state)", "[*tokens, token], before)", "beam-search-check"),
    ("alignment", "rows.append(row)", "rows.append(row.flip(0))", "alignment"),
    ("score", " * len(target)", "", "score"),
]


END = 2  # the id of `</s>`
# Beam search of a random model, by hand and by `generate()`; a bias makes `</s>` more probable
RANDOM_SEARCHES = """
trained = model
torch.manual_seed(3)
model = RnnS2SForConditionalGeneration(config).double().eval()
weights = model.state_dict()

def random_searches(bias):
    weights["lm_head.bias"][tokenizer.eos_token_id] = bias
    results = []
    for pair in held_out[:10]:
        ids = ids_of(pair["source"])
        found = model.generate(torch.tensor([ids]), **settings, return_dict_in_generate=True, output_scores=True)
        results.append([beam_search(ids, BEAMS), found.sequences[:, 1:].tolist(), found.sequences_scores.tolist()])
    return results
"""


class Session:
    """A kernel that has executed the notebook, and can be asked for more.

    Attributes:
        cells: the executed cells by id.
    """

    def __init__(self, client: NotebookClient) -> None:
        self._client = client
        self.cells = {cell.id: copy.deepcopy(cell) for cell in client.nb.cells}

    def execute(self, source: str) -> str:
        """What is printed by some code."""
        return printed(self._execute(nbformat.v4.new_code_cell(source)))

    def refusal(self, source: str) -> str:
        """The message of the AssertionError that some code must end with."""
        # Without the tag, the kernel may skip what it is told next
        cell = self._execute(nbformat.v4.new_code_cell(source, metadata={"tags": ["raises-exception"]}))
        errors = [output for output in cell.outputs if output.output_type == "error"]
        assert [error.ename for error in errors] == ["AssertionError"]
        return errors[0].evalue

    def value(self, expression: str) -> Any:
        return json.loads(self.execute(f"print(json.dumps({expression}))"))

    def _execute(self, cell: nbformat.NotebookNode) -> nbformat.NotebookNode:
        self._client.nb.cells.append(cell)
        return self._client.execute_cell(cell, len(self._client.nb.cells) - 1)

    def printed_by(self, cell: str) -> str:
        return printed(self.cells[cell])


def printed(cell: nbformat.NotebookNode) -> str:
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


def stored() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """The notebook after its last cell, in a kernel of its own and in an empty folder."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = stored()
    waits = {"timeout": None, "startup_timeout": PATIENCE, "iopub_timeout": PATIENCE}
    client = NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}, **waits)
    with client.setup_kernel():
        for index, cell in enumerate(list(notebook.cells)):
            client.execute_cell(cell, index)
        assert list(folder.iterdir()) == []  # it leaves nothing behind
        yield Session(client)


def test_it_is_stored_without_results() -> None:
    notebook = stored()
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 20
    for cell in code:
        assert cell.outputs == [], cell.id
        assert cell.execution_count is None, cell.id
    for cell in notebook.cells:
        assert cell.metadata == {}, cell.id
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", cell.id)  # the tests call cells by these
    # `jupyter execute` reads the file in the encoding of the machine, which need not be UTF-8
    assert NOTEBOOK.read_bytes().isascii()


def test_the_commands_install_what_it_needs() -> None:
    text = stored().cells[0].source
    [extra] = re.findall(r'pip install -c constraints.txt -e "\.\[(\w+)\]"', text)
    [path] = re.findall(r"jupyter execute (\S+)", text)
    assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert ROOT / path == NOTEBOOK


def test_its_contents_are_its_headings() -> None:
    texts = [cell.source for cell in stored().cells if cell.cell_type == "markdown"]
    headings = re.findall(r"^## (\d+\. .+)$", "\n".join(texts), flags=re.MULTILINE)
    assert re.findall(r"^(\d+\. .+)$", texts[0], flags=re.MULTILINE) == headings
    assert [int(heading.split(".")[0]) for heading in headings] == list(range(1, 12))


def test_every_part_agrees_with_the_model(session: Session) -> None:
    lines = "".join(printed(cell) for cell in session.cells.values() if cell.cell_type == "code").splitlines()
    found = [re.fullmatch(r"same (.+), largest difference (\S+)", line) for line in lines if line.startswith("same ")]
    assert [match and match[1] for match in found] == COMPARED
    assert all(float(match[2]) <= 1e-5 for match in found if match)


def test_what_counts_as_the_same(session: Session) -> None:
    assert session.execute("same('these', torch.tensor([1.0]), torch.tensor([1.000009]))").startswith("same these, ")
    for other in ("[1.00002]", "[math.nan]", "[[1.0]]", "[1.0, 1.0]"):
        message = session.refusal(f"same('these', torch.tensor([1.0]), torch.tensor({other}))")
        assert message.startswith("these: ")


def test_the_trained_model_agrees_as_well(session: Session) -> None:
    """All that was compared before the training, once more after it."""
    again = ["encoder", "decoder-states", "scores", "softmax", "context", "output", "step", "loss"]
    lines = "".join(session.execute(session.cells[cell].source) for cell in again).splitlines()
    assert len([line for line in lines if line.startswith("same ")]) == 12
    loss = re.fullmatch(r"loss (\d\.\d\d); if all tokens were equally probable, it would be 6\.40", lines[-1])
    assert loss is not None
    assert float(loss[1]) < 0.5


@pytest.mark.parametrize(("cell", "right", "wrong", "noticed_by"), MISTAKES)
def test_a_mistake_is_noticed(session: Session, cell: str, right: str, wrong: str, noticed_by: str) -> None:
    source = session.cells[cell].source
    assert source.count(right) == 1
    try:
        if cell != noticed_by:
            session.execute(source.replace(right, wrong))
            message = session.refusal(session.cells[noticed_by].source)
        else:
            message = session.refusal(source.replace(right, wrong))
        assert re.search(r"differ by|by hand, .* in the model", message)
    finally:
        session.execute(source)
        session.execute(session.cells[noticed_by].source)


def test_held_out_phrases_are_translated(session: Session) -> None:
    phrases, translations = session.value("phrases"), session.value("translations")
    right = sum(pair["target"] == text for pair, text in zip(phrases, translations, strict=True))
    assert len(phrases) == 300
    assert session.printed_by("greedy-texts").splitlines()[-1] == (
        f"{right} of 300 held-out phrases are translated without a mistake"
    )
    assert right > 0.75 * 300
    assert not session.value("[pair for pair in held_out if pair in training]")


def test_translations_by_hand_are_those_of_the_pipeline(session: Session) -> None:
    texts = [pair["source"] for pair in session.value("phrases")[:40]]
    for beams, by_hand in ((1, "greedy(ids_of(text))"), (3, "beam_search(ids_of(text), 3)[0]")):
        expected = [one["translation_text"] for one in session.value(f"translator({texts!r}, num_beams={beams})")]
        decoded = f"[tokenizer.decode({by_hand}[1], skip_special_tokens=True) for text in {texts!r}]"
        assert session.value(decoded) == expected
    assert session.printed_by("pipeline").count("translation_text") == 2


def test_beam_search_by_hand_is_that_of_the_model_where_nothing_was_learned(session: Session) -> None:
    """There hypotheses are nearly as good as each other, and some reach the limit without an end."""
    session.execute(RANDOM_SEARCHES)
    try:
        ended = []
        for bias in (0.0, 2.0):
            for by_hand, tokens, scores in session.value(f"random_searches({bias})"):
                for (score, written), of_model, score_of_model in zip(by_hand, tokens, scores, strict=True):
                    assert written == of_model[: len(written)]
                    assert set(of_model[len(written) :]) <= {END}
                    assert score == pytest.approx(score_of_model, abs=1e-5)
                    ended.append(written[-1] == END)
        assert 10 < sum(ended) < len(ended) - 10
    finally:
        session.execute("model, weights = trained, trained.state_dict()")


def test_attention_is_drawn(session: Session) -> None:
    [picture] = [output.data["image/png"] for output in session.cells["alignment"].outputs if "data" in output]
    pixels = imread(io.BytesIO(base64.b64decode(picture)), format="png")
    blue = (pixels[..., 2] > pixels[..., 0] + 0.3).mean()  # the cells that the attention is in
    assert min(pixels.shape[:2]) > 300
    assert 0.005 < blue < 0.5


def test_it_tells_what_attention_is_worth(session: Session) -> None:
    first, second, *by_length = session.printed_by("comparison").splitlines()
    with_attention, without = (
        float(re.fullmatch(rf"{name}: (\S+)% of 500 phrases", line)[1])  # type: ignore[index]
        for name, line in (("with attention", first), ("without", second))
    )
    assert with_attention == pytest.approx(session.value("sum(exact['with attention'])") / 5, abs=0.05)
    assert with_attention > 75
    assert without < with_attention - 30
    assert len(by_length) == 4
    long = re.fullmatch(r"20 to 60 tokens: (\d+)% with attention, (\d+)% without", by_length[-1])
    assert long is not None
    assert int(long[1]) > int(long[2]) + 30
