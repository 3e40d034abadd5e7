"""What the page gets of a model is what its pipeline gives."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_rnn_s2s.errors import UsageError
from hf_rnn_s2s.page.models import PageModel, load_model
from hf_rnn_s2s.page.writing import MOST_CHARACTERS, transcribe, write

from ..speech import write_tones
from .saved import save_listener, save_model

TEXT = "one red cat sleeps on the big mat"


def model_of(folder: Path, **values: Any) -> PageModel:
    return load_model(save_model(folder, **values))


def test_the_n_best_list_is_that_of_the_pipeline(tmp_path: Path) -> None:
    model = model_of(tmp_path / "a")
    written = write(model, TEXT, 4, 0.5)
    expected = model.pipeline(TEXT, num_beams=4, num_return_sequences=4, length_penalty=0.5, return_scores=True)
    assert [candidate._asdict() for candidate in written.candidates] == [
        {"text": record["translation_text"], "score": record["translation_score"]} for record in expected
    ]
    assert len({candidate.score for candidate in written.candidates}) == 4
    assert written.note == ""


def test_the_length_penalty_counts(tmp_path: Path) -> None:
    model = model_of(tmp_path / "a")
    model.pipeline.model.lm_head.bias.data[model.pipeline.tokenizer.eos_token_id] += 4.0  # lengths differ
    short, long = (write(model, TEXT, 4, penalty).candidates[0].text for penalty in (0.0, 2.0))
    assert len(short.split()) < len(long.split())


@pytest.mark.parametrize(("values", "names"), [
    ({}, ["mean of the heads"]),
    ({"num_attention_heads": 2}, ["mean of the heads", "layer 1, head 1", "layer 1, head 2"]),
])  # fmt: skip
def test_the_attention_is_that_of_the_pipeline(values: Any, names: list[str], tmp_path: Path) -> None:
    model = model_of(tmp_path / "a", **values)
    alignment = write(model, TEXT, 3, 1.0).alignment
    arguments = {"num_beams": 3, "num_return_sequences": 3, "return_attentions": "heads"}
    record = model.pipeline(TEXT, **arguments)[0]
    assert alignment is not None
    assert (alignment.source_tokens, alignment.target_tokens) == (record["source_tokens"], record["target_tokens"])
    assert list(alignment.views) == names
    assert alignment.views["mean of the heads"].equal(record["attention"])
    for head, name in enumerate(names[1:]):
        assert alignment.views[name].equal(record["cross_attentions"][0][head])


def test_with_several_layers_the_mean_says_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(tmp_path / "a", num_attention_heads=2)
    pipeline = model.pipeline

    class TwoLayers:
        model, tokenizer, return_name = pipeline.model, pipeline.tokenizer, pipeline.return_name

        def __call__(self, text: str, **arguments: Any) -> Any:
            records = pipeline(text, **arguments)
            for record in records:
                [heads] = record["cross_attentions"]
                record["cross_attentions"] = (heads, 1 - heads[:1])
            return records

    alignment = write(model._replace(pipeline=TwoLayers()), TEXT, 2, 1.0).alignment
    assert alignment is not None
    assert list(alignment.views) == [
        "mean of the heads of the last layer", "layer 1, head 1", "layer 1, head 2", "layer 2, head 1"
    ]  # fmt: skip
    assert alignment.views["layer 2, head 1"].equal(1 - alignment.views["layer 1, head 1"])


@pytest.mark.parametrize(
    "values",
    [
        {"attention_type": "hard_first_order_monotonic", "head_type": "marginal", "attention_window": 2},
        {"attention_type": "coverage", "head_type": "copying"},
        {
            "attention_type": "additive",
            "attention_span": "predictive",
            "attention_layer": "top",
            "input_feeding": True,
        },
        {"attention_type": "additive", "attention_query": "previous", "context_layers": "all", "cell_type": "gru"},
    ],
    ids=lambda values: values["attention_type"],
)
def test_every_kind_of_attention_can_be_shown(values: Any, tmp_path: Path) -> None:
    written = write(model_of(tmp_path / "a", **values), TEXT, 3, 1.0)
    assert len(written.candidates) == 3
    assert all(math.isfinite(candidate.score) and candidate.score <= 0 for candidate in written.candidates)
    assert written.alignment is not None
    for weights in written.alignment.views.values():
        assert weights.shape == (len(written.alignment.target_tokens), len(written.alignment.source_tokens))
        assert torch.isfinite(weights).all()


def test_a_model_without_attention_has_no_map(tmp_path: Path) -> None:
    written = write(model_of(tmp_path / "a", attention_type="none"), TEXT, 2, 1.0)
    assert len(written.candidates) == 2
    assert written.alignment is None


def test_a_greedy_search_has_one_result_and_no_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    model = model_of(tmp_path / "a")
    [candidate] = write(model, TEXT, 1, 2.0).candidates
    assert candidate.text == model.pipeline(TEXT, num_beams=1)[0]["translation_text"]
    assert [str(warning.message) for warning in recwarn if "length_penalty" in str(warning.message)] == []


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_a_blank_text_has_no_result(text: str, tmp_path: Path) -> None:
    assert write(model_of(tmp_path / "a"), text, 3, 1.0) == ([], None, "")


def test_too_long_a_text_is_refused_with_its_length(tmp_path: Path) -> None:
    model = model_of(tmp_path / "a")
    assert write(model, "a " * (MOST_CHARACTERS // 2), 1, 1.0).candidates
    refusal = "The text has 1,048,576 characters, and this page takes at most 20,000."
    with pytest.raises(UsageError, match=refusal):
        write(model._replace(pipeline=None), "x" * 2**20, 3, 1.0)  # the pipeline is not even asked


def test_a_text_that_is_cut_says_so(tmp_path: Path) -> None:
    model = model_of(tmp_path / "a", longest=6)
    assert write(model, "the dog runs", 1, 1.0).note == ""
    assert write(model, TEXT, 1, 1.0).note == (
        "The text has 9 pieces, and the model read 6 of them, the most that it was trained on."
    )


def test_what_the_pipeline_refuses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not valid Unicode"):
        write(model_of(tmp_path / "a"), "a\ud800", 1, 1.0)


def test_a_transcript_is_that_of_the_pipeline(tmp_path: Path) -> None:
    model = load_model(save_listener(tmp_path / "a"))
    recording = str(write_tones(tmp_path / "a.wav", ["low", "mid"]))
    expected = model.pipeline(recording, num_beams=3, length_penalty=0.5)["text"]
    assert transcribe(model, recording, 3, 0.5) == expected != ""
    (tmp_path / "b.wav").write_bytes(b"no sound")
    with pytest.raises(ValueError, match="cannot be read as a recording"):
        transcribe(model, str(tmp_path / "b.wav"), 1, 1.0)
