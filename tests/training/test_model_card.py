"""The model card: what the Hub reads from its metadata, and what people read below."""

import ast
import platform
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, ModelCardData

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, __version__
from hf_rnn_s2s.data.arguments import DataArguments
from hf_rnn_s2s.training.arguments import ModelArguments, RnnS2STrainingArguments
from hf_rnn_s2s.training.languages import language_pair
from hf_rnn_s2s.training.model_card import build_model_card, describe_data
from hf_rnn_s2s.training.tasks.translation import Translation

from ..markdown_reader import PARSER, blocks, shown, tables

TEMPLATE = Path(__file__).parents[2] / "model_card.md"
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
    options = {"output_dir": str(tmp_path / "my-model"), **inputs.pop("options", {})}
    license = inputs.pop("license", "mit")
    card = build_model_card(
        TEMPLATE,
        model,
        ModelArguments(license=license),
        data or DataArguments(train_file="folder/train", validation_file="v", source_lang="en", target_lang="de"),
        RnnS2STrainingArguments(**options),
        inputs.pop("task", Translation()),
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


def papers_of(card: ModelCard) -> str:
    return next(line for line in card.text.splitlines() if line.startswith("- **Papers:**"))


def test_papers_are_those_of_the_architecture(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    assert "Luong" in papers_of(make_card(tiny_model, tmp_path))
    assert "Cotterell" not in papers_of(make_card(tiny_model, tmp_path))
    tiny_model.config.head_type = "copying"
    assert "[See et al. 2017](https://arxiv.org/abs/1704.04368)" in papers_of(make_card(tiny_model, tmp_path))
    tiny_model.config.head_type, tiny_model.config.attention_type = "marginal", "hard_monotonic"
    hard = papers_of(make_card(tiny_model, tmp_path))
    assert "[Wu & Cotterell 2019](https://arxiv.org/abs/1905.06319)" in hard
    assert "Luong" not in hard
    tiny_model.config.head_type, tiny_model.config.attention_type = "vocabulary", "none"
    assert papers_of(make_card(tiny_model, tmp_path)).count("](") == 1


def test_which_checkpoint_it_is(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    chosen = {"load_best_model_at_end": True, "metric_for_best_model": "bleu", "eval_strategy": "epoch"}
    best = make_card(tiny_model, tmp_path, options=chosen).text
    assert "Of its checkpoints this is the one with the highest `bleu` on the validation split." in best
    mean = make_card(tiny_model, tmp_path, options={**chosen, "average_checkpoints": 5, "save_total_limit": 6}).text
    assert "Its weights are the mean of the last 5 checkpoints." in mean
    assert "this is the one" not in mean


def test_text(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    text = make_card(tiny_model, tmp_path).text
    for line in [
        "# my-model",
        "- **Languages:** English `en` → German `de`",
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
    assert sentence in describe_data(data, Translation())


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


def settings(card: ModelCard) -> dict[str, str]:
    """Every row of the tables with two columns."""
    return dict(row for table in tables(card.text) for row in table if len(row) == 2)


def test_the_environment_is_told(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    card = make_card(tiny_model, tmp_path)
    versions = settings(card)
    assert (versions["hf-rnn-s2s"], versions["Python"]) == (__version__, platform.python_version())
    assert versions["torch"] == torch.__version__
    assert f"Trained with hf-rnn-s2s {__version__}, whose code it carries." in card.text
    if not torch.accelerator.is_available():
        threads = torch.get_num_threads()
        assert f"a CPU (`{platform.machine()}`) with {threads} thread" in card.text
    assert "pypi.org" not in card.content


@pytest.mark.parametrize(
    ("languages", "summary", "details", "codes"),
    [
        (
            ("en", "zh_Hans"),
            "English to Chinese (Simplified)",
            "English `en` → Chinese (Simplified) `zh_Hans`",
            ["en", "zh"],
        ),
        (("nb", "no"), "Norwegian Bokmål to Norwegian", "Norwegian Bokmål `nb` → Norwegian `no`", ["nb", "no"]),
        (("en", None), "text from English", "English `en` → not stated", ["en"]),
        ((None, "de"), "text into German", "not stated → German `de`", ["de"]),
        ((None, None), "text", "not stated", None),
        (("src", "my_tgt"), r"src to my\_tgt", "`src` → `my_tgt`", None),
        (("a`b", "<i>"), r"a\`b to \<i\>", "``a`b`` → `<i>`", None),
    ],
)
def test_languages_have_names(
    tiny_model: RnnS2SForConditionalGeneration,
    tmp_path: Path,
    languages: tuple[str | None, str | None],
    summary: str,
    details: str,
    codes: list[str] | None,
) -> None:
    source, target = languages
    data = DataArguments(train_file="train", validation_file="v", source_lang=source, target_lang=target)
    card = make_card(tiny_model, tmp_path, data)
    assert f"Translates {summary}. " in card.text
    assert f"- **Languages:** {details}" in card.text.splitlines()
    assert card.data.language == codes


def test_languages_that_the_run_does_not_say_are_those_of_the_model(tmp_path: Path) -> None:
    config = RnnS2SConfig(vocab_size=300, embedding_size=8, hidden_size=8, source_lang="en", target_lang="de")
    data = DataArguments(train_file="a.tsv", validation_file="b.tsv")
    card = make_card(RnnS2SForConditionalGeneration(config), tmp_path, data)
    assert "- **Languages:** English `en` → German `de`" in card.text.splitlines()


def test_numbers_are_rounded(tmp_path: Path) -> None:
    config = RnnS2SConfig(
        vocab_size=300, embedding_size=8, hidden_size=8, dropout=0.1 + 0.2, initializer_range=1 / 3, cell_type="gru"
    )
    metrics = {
        **METRICS,
        "epoch": 2.9999999,
        "train_runtime": 12.3456,
        "predict_bleu": 100.00000000000004,
        "predict_chrf": 33.333333333333336,
        "predict_exact_match": 1 / 3,
        "predict_perplexity": 12345.678901,
    }
    options = {"learning_rate": 0.0030000000000000001, "weight_decay": 0.1 + 0.2, "adam_beta2": 0.9999999}
    card = make_card(RnnS2SForConditionalGeneration(config), tmp_path, metrics=metrics, options=options)
    rows = settings(card)
    assert {name: rows[name] for name in ("learning_rate", "weight_decay", "adam_beta2", "num_train_epochs")} == {
        "learning_rate": "0.003",
        "weight_decay": "0.3",
        "adam_beta2": "0.9999999",
        "num_train_epochs": "10",
    }
    assert (rows["dropout"], rows["initializer_range"]) == ("0.3", "0.33333333")
    results = {row[0]: row[1] for table in tables(card.text) for row in table if row[2:] and row[0] != "Source"}
    assert (results["BLEU"], results["chrF2++"], results["Exact match"]) == ("100.0", "33.3", "0.3333")
    assert results["Perplexity per target token"] == "12,345.68"
    measured = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert measured == {"bleu": 100.0, "chrf": 33.3, "ter": 44.0, "exact_match": 0.3333}
    assert "for 3.0 epochs. This took 12 seconds" in card.text


def test_a_score_that_is_no_number_is_not_one(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    metrics = {**METRICS, "predict_bleu": float("nan"), "predict_perplexity": float("inf")}
    card = make_card(tiny_model, tmp_path, metrics=metrics)
    assert "bleu" not in {result.metric_type for result in card.data.eval_results}
    assert [row[:2] for table in tables(card.text) for row in table if row[0] == "BLEU"] == [["BLEU", "not finite"]]


def test_only_arguments_that_took_part_are_listed(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    by_epochs = settings(make_card(tiny_model, tmp_path))
    assert (by_epochs["num_train_epochs"], by_epochs["per_device_train_batch_size"]) == ("10", "64")
    assert not {"max_steps", "per_device_train_batch_tokens"} & set(by_epochs)
    options = {"max_steps": 500, "per_device_train_batch_tokens": 2000}
    by_steps = settings(make_card(tiny_model, tmp_path, options=options))
    assert (by_steps["max_steps"], by_steps["per_device_train_batch_tokens"]) == ("500", "2000")
    assert not {"num_train_epochs", "per_device_train_batch_size"} & set(by_steps)
    stream = DataArguments(train_file="t", validation_file="v", source_lang="en", target_lang="de", streaming=True)
    assert "for 500 steps. This took" in make_card(tiny_model, tmp_path, stream, options=options).text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "the one with the lowest `loss` on the validation split."),
        ({"metric_for_best_model": "eval_bleu"}, "the one with the highest `bleu` on the validation split."),
        ({"load_best_model_at_end": False}, None),
    ],
)
def test_the_card_says_which_checkpoint_it_is(
    tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path, options: dict[str, Any], sentence: str | None
) -> None:
    text = make_card(tiny_model, tmp_path, options=options).text
    assert sentence in text if sentence else "Of its checkpoints" not in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.4, "7 seconds"), (90.0, "1.5 minutes"), (7199.0, "120.0 minutes"), (9000.0, "2.5 hours")]
)
def test_durations_have_units_that_fit(
    tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path, seconds: float, text: str
) -> None:
    card = make_card(tiny_model, tmp_path, metrics={**METRICS, "train_runtime": seconds})
    assert f"This took {text}, evaluations included" in card.text


# Names and sentences that Markdown, HTML, YAML and Jinja would read as theirs

HOSTILE = [
    "a | b || \\| c \\",
    "`x` ``y`` *z* _v_ ~~w~~",
    "[link](https://example.org) ![x](y.png) <b onload=alert(1)> &lt;i&gt; <!-- -->",
    "{{ card_data }} {% for x in y %} {# gone #}",
    "# heading\n\n- item\n1. first\n\n---\nlanguage: fr\n---\n```\ncode\n```",
    "'quote' \"double\" : { key: [1, 2], &anchor *alias !tag %percent @at",
    "no",
    "- - -",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_sentences_of_the_data_stay_text(
    tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path, text: str
) -> None:
    card = make_card(tiny_model, tmp_path, samples=[(text, text, text), ("plain", "", text)])
    shown_text = " ".join(text.split())
    assert tables(card.text)[-2] == [
        ["Source", "Reference", "Translation"],
        [shown_text, shown_text, shown_text],
        ["plain", "", shown_text],
    ]
    assert headings(card) == headings(make_card(tiny_model, tmp_path))
    program = next(token.content for token in PARSER.parse(card.text) if token.type == "fence")
    calls = [node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Call)]
    assert [call.args[0].value for call in calls if ast.unparse(call.func) == "translator"] == [text]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_stay_text(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path, name: str) -> None:
    name = name.replace("/", "÷")  # what a file name cannot have
    data = DataArguments(
        train_file=f"folder/{name}", validation_file="v", test_file=name, source_lang=name, target_lang=name + "2"
    )
    metrics = {**METRICS, "predict_bleu_signature": name}
    card = make_card(
        tiny_model, tmp_path, data, license=name, metrics=metrics, options={"output_dir": str(tmp_path / name)}
    )
    shown_name = " ".join(name.split())
    first, *others = headings(card)
    assert first == shown_name
    assert others == headings(make_card(tiny_model, tmp_path))[1:]
    paragraphs = ["".join(child.content for child in inline.children or []) for _, inline in blocks(card.text)]
    assert f"Local files: {shown_name}." in paragraphs
    assert f"License: {shown_name}" in paragraphs
    signatures = {row[0]: row[2] for table in tables(card.text) for row in table if row[2:]}
    assert signatures["BLEU"] == shown_name
    metadata = yaml.safe_load(card.content.split("\n---\n")[0])
    assert metadata["license"] == shown_name
    assert metadata["model-index"][0]["name"] == shown_name
    assert metadata["model-index"][0]["results"][0]["dataset"]["name"] == shown_name
    assert {type(value) for value in (metadata["license"], *metadata["tags"])} == {str}
    assert card.data.language == (["no"] if name == "no" else None)


def headings(card: ModelCard) -> list[str]:
    return [shown(inline) for kind, inline in blocks(card.text) if kind == "heading_open"]


def test_long_sentences_are_cut(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    long = "a very long sentence " * 500
    card = make_card(tiny_model, tmp_path, samples=[(long, long, long), ("short", "kurz", "kurz")])
    row = tables(card.text)[-2][1]
    assert all(150 < len(text) <= 200 and text.endswith("…") for text in row)
    assert 'print(translator("short"))' in card.text  # an example that fits into a line
    card = make_card(tiny_model, tmp_path, samples=[(long, long, long)])
    assert max(map(len, card.text.splitlines())) < 1000


def test_what_is_no_name_on_the_hub_is_no_link(tmp_path: Path) -> None:
    hostile = DataArguments(dataset_name="x](https://example.org) [y", source_lang="en", target_lang="de")
    assert "https://" not in describe_data(hostile, Translation()).replace("`x](https://example.org) [y`", "")
    assert "[`lab/x`](https://huggingface.co/datasets/lab/x)." in describe_data(
        DataArguments(dataset_name="lab/x"), Translation()
    )
