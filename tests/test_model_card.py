"""The model card: what the Hub reads from its metadata, and what people read below."""

from pathlib import Path
from typing import Any, cast

import pytest
from huggingface_hub import ModelCard, ModelCardData

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration
from hf_rnn_s2s.arguments import ModelArguments, RnnS2STrainingArguments
from hf_rnn_s2s.data_arguments import DataArguments
from hf_rnn_s2s.model_card import build_model_card, describe_data, language_pair

TEMPLATE = Path(__file__).parent.parent / "model_card.md"
METRICS = {
    "epoch": 3.0,
    "train_runtime": 90.0,
    "target_tokens_per_second": 12345.6,
    "predict_bleu": 37.512,
    "predict_bleu_signature": "nrefs:1|case:mixed",
    "predict_chrf": 61.24,
    "predict_ter": 44.04,
    "predict_exact_match": 0.0625,
    "predict_loss": 1.5,
    "predict_perplexity": 4.4817,
}


def make_card(
    model: RnnS2SForConditionalGeneration, tmp_path: Path, data: DataArguments | None = None, **changes: Any
) -> ModelCard:
    model.generation_config.update(max_length=65)
    inputs: dict[str, Any] = {
        "split_sizes": {"train": 29000, "validation": 1014, "test": 1000},
        "metrics": METRICS,
        "samples": [('a "red" | blue\nmat', "eine Matte", "eine rote Matte")],
        "pictures": {"training_curves.png", "attention.png"},
        "resumed": False,
        **changes,
    }
    options = inputs.pop("options", {})
    card = build_model_card(
        TEMPLATE,
        model,
        ModelArguments(license="mit"),
        data or DataArguments(train_file="folder/train", validation_file="v", source_lang="en", target_lang="de"),
        RnnS2STrainingArguments(output_dir=str(tmp_path / "my-model"), **options),
        **inputs,
    )
    path = tmp_path / "README.md"
    card.save(path)
    return ModelCard.load(path)


def test_metadata(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    data = cast(ModelCardData, make_card(tiny_model, tmp_path).data)
    assert (data.language, data.license, data.library_name) == (["en", "de"], "mit", "transformers")
    assert data.pipeline_tag == "translation"
    assert data.model_name == "my-model"
    results = {result.metric_type: result for result in data.eval_results or []}
    assert {name: result.metric_value for name, result in results.items()} == {
        "bleu": 37.5,
        "chrf": 61.2,
        "ter": 44.0,
        "exact_match": 0.0625,
    }
    assert results["bleu"].metric_args == {"signature": "nrefs:1|case:mixed"}
    assert (results["bleu"].dataset_name, results["bleu"].dataset_split) == ("train", "test")


def test_text(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    text = make_card(tiny_model, tmp_path).text
    for line in [
        "# my-model",
        "- **Languages:** `en` → `de`",
        f"- **Parameters:** {tiny_model.num_parameters():,}",
        "| `attention_type` | general |",
        "| train | 29,000 |",
        r"| BLEU | 37.5 | `nrefs:1\|case:mixed` |",
        "| Exact match | 0.0625 |  |",
        r'| a "red" \| blue mat | eine Matte | eine rote Matte |',
        r'print(translator("a \"red\" | blue\nmat"))',
        "![Attention weights of one test translation](attention.png)",
        "Local files: `train`.",
        "| `learning_rate` | 0.002 |",
        "| `lr_scheduler_type` | linear |",
    ]:
        assert line in text.splitlines(), line
    assert "for 3.0 epochs. This took 1.5 minutes" in text
    assert "writes at most 64 tokens" in text
    assert str(tmp_path) not in text
    assert "{{" not in text
    assert "None" not in text


def test_a_model_that_was_not_measured_says_so(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    metrics = {name: value for name, value in METRICS.items() if not name.startswith("predict")}
    sizes = {"train": None, "validation": 5}
    card = make_card(tiny_model, tmp_path, metrics=metrics, split_sizes=sizes, samples=[], pictures=set())
    assert not card.data.to_dict().get("model-index")
    assert "has not been measured" in card.text
    assert "| train | a stream |" in card.text
    assert "attention.png" not in card.text


@pytest.mark.parametrize(
    ("data", "pair", "sentence"),
    [
        (DataArguments(demo_locales=["en", "zh_Hant"]), ("en", "zh_Hant"), "for the locales `en` and `zh_Hant`"),
        (
            DataArguments(dataset_name="wmt/wmt14", dataset_config_name="de-en", source_lang="de", target_lang="en"),
            ("de", "en"),
            "[`wmt/wmt14`](https://huggingface.co/datasets/wmt/wmt14), configuration `de-en`",
        ),
        (DataArguments(train_file="/secret/a.tsv", validation_file="b.tsv"), (None, None), "Local files: `a.tsv`."),
    ],
)
def test_data(data: DataArguments, pair: tuple[str | None, str | None], sentence: str) -> None:
    assert language_pair(data) == pair
    assert sentence in describe_data(data)


def test_language_codes_are_those_of_the_hub(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    card = make_card(tiny_model, tmp_path, DataArguments(demo_locales=["en", "zh_Hant"]))
    assert card.data.to_dict()["language"] == ["en", "zh"]


def test_the_card_follows_what_was_done(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    card = make_card(tiny_model, tmp_path, options={"optim": "sgd"}, resumed=True, pictures=set())
    assert "cross-entropy of target tokens, with `sgd`, for 3.0 epochs" in card.text
    assert "What came after the run was last resumed took" in card.text
    assert "training_curves.png" not in card.text
    assert {"lstm", "attention"} <= set(card.data.tags)
    plain = RnnS2SForConditionalGeneration(
        RnnS2SConfig(vocab_size=300, embedding_size=8, hidden_size=8, attention_type="none", cell_type="gru")
    )
    tags = set(make_card(plain, tmp_path).data.tags)
    assert "gru" in tags
    assert not {"lstm", "attention"} & tags


def test_a_local_folder_is_told_by_its_name(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    folder = tmp_path / "my corpus"
    folder.mkdir()
    data = DataArguments(dataset_name=str(folder), source_lang="en", target_lang="de")
    card = make_card(tiny_model, tmp_path, data)
    assert str(tmp_path) not in card.content.replace(str(tmp_path / "my-model"), "")
    assert "A local folder: `my corpus`." in card.text
    assert card.data.datasets is None
    assert {result.dataset_type for result in card.data.eval_results} == {"my corpus"}
    on_the_hub = DataArguments(dataset_name="lab/corpus", source_lang="en", target_lang="de")
    card = make_card(tiny_model, tmp_path, on_the_hub)
    assert card.data.datasets == ["lab/corpus"]
    assert {result.dataset_type for result in card.data.eval_results} == {"lab/corpus"}
