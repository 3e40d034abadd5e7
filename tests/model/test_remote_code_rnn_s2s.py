"""Which saved folders carry code, and what their `config.json` says about it."""

import ast
import json
from pathlib import Path

import pytest
from transformers import AutoConfig

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration
from hf_rnn_s2s import model as model_package

MODEL = Path(model_package.__file__).parent
AUTO_MAP = {
    "AutoConfig": "configuration_rnn_s2s.RnnS2SConfig",
    "AutoModel": "modeling_rnn_s2s.RnnS2SModel",
    "AutoModelForSeq2SeqLM": "modeling_rnn_s2s.RnnS2SForConditionalGeneration",
    "AutoModelForSpeechSeq2Seq": "modeling_rnn_s2s.RnnS2SForConditionalGeneration",
}
CUSTOM_PIPELINES = {
    "translation": {"impl": "pipeline_rnn_s2s.RnnTranslationPipeline", "pt": ["AutoModelForSeq2SeqLM"]}
}


def code_in(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("*.py")}


def expected_code() -> set[str]:
    """Every travelling file except those that only a tokenizer with two vocabularies needs."""
    return {path.name for path in MODEL.glob("*_rnn_s2s.py")} - {"tokenization_rnn_s2s.py"}


def content_of(directory: Path) -> dict:
    return json.loads((directory / "config.json").read_text(encoding="utf-8"))


def test_plain_saving_has_no_code(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    tiny_model.save_pretrained(tmp_path)
    assert code_in(tmp_path) == set()
    assert not content_of(tmp_path).keys() & {"auto_map", "custom_pipelines"}


def test_carried_code_is_complete_and_exact(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    tiny_model.config.carry_code()
    tiny_model.save_pretrained(tmp_path)
    assert code_in(tmp_path) == expected_code()
    for name in expected_code():
        assert (tmp_path / name).read_bytes() == (MODEL / name).read_bytes()
    content = content_of(tmp_path)
    assert content["auto_map"] == AUTO_MAP
    assert content["custom_pipelines"] == CUSTOM_PIPELINES
    assert "_auto_class" not in content


def test_a_checkpoint_names_the_pipeline_of_its_task(tmp_path: Path) -> None:
    """And no other: transformers could not tell which of two is meant. Any other task has the general one."""
    expected = {
        "translation": ("translation", "RnnTranslationPipeline"),
        "summarization": ("summarization", "RnnSummarizationPipeline"),
        "speech-recognition": ("automatic-speech-recognition", "RnnSpeechRecognitionPipeline"),
        "transduction": ("text2text-generation", "RnnText2TextGenerationPipeline"),
        "paraphrasing": ("text2text-generation", "RnnText2TextGenerationPipeline"),
    }
    for task, (name, pipeline_class) in expected.items():
        config = RnnS2SConfig(task=task)
        config.carry_code()
        config.save_pretrained(tmp_path / task)
        [(saved, reference)] = content_of(tmp_path / task)["custom_pipelines"].items()
        assert (saved, reference["impl"].split(".")[1]) == (name, pipeline_class)
        assert (MODEL / f"{reference['impl'].split('.')[0]}.py").is_file()
        assert RnnS2SConfig.from_pretrained(tmp_path / task).task == task


def test_carried_code_is_little() -> None:
    """People are asked to read it before they trust it."""
    lines = [len((MODEL / name).read_text(encoding="utf-8").splitlines()) for name in expected_code()]
    assert len(lines) <= 24
    assert sum(lines) <= 4_600  # of which speech takes about 350, and hard attention 250


def test_carried_code_looks_into_nothing_private() -> None:
    """But for what the interface of a model of transformers demands."""
    demanded = {
        "_expand_inputs_for_generation",  # the beams of a sentence share its memory
        "_get_resized_embeddings",  # source and target may have vocabularies of their own
        "_get_resized_lm_head",
        "_forward",  # of a pipeline
        "_sanitize_parameters",  # of a pipeline, likewise
        "_prepare_cache_for_generation",  # makes a state where others have keys and values
        "_prepare_generated_length",  # a model's own limit gives way without a warning
        "_resize_token_embeddings",  # the configuration follows
    }
    trees = [ast.parse((MODEL / name).read_text(encoding="utf-8")) for name in expected_code()]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    functions = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    attributes = [node for node in nodes if isinstance(node, ast.Attribute) and node.attr[0] == "_"]
    ours = functions | {node.attr for node in attributes if isinstance(node.ctx, ast.Store)} | {"_replace"}
    of_super = {node.attr for node in attributes if ast.unparse(node.value) == "super()"}
    others = {node.attr for node in attributes} - ours | of_super
    assert {name for name in others if not name.startswith("__")} == demanded


def test_carrying_code_is_the_choice_of_one_config(tiny_config: RnnS2SConfig, tmp_path: Path) -> None:
    carrying = RnnS2SConfig()
    carrying.carry_code()
    carrying.save_pretrained(tmp_path / "with_code")
    tiny_config.save_pretrained(tmp_path / "without_code")
    assert code_in(tmp_path / "with_code") == expected_code()
    assert code_in(tmp_path / "without_code") == set()


def test_what_came_with_code_is_saved_with_code(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    tiny_model.config.carry_code()
    tiny_model.save_pretrained(tmp_path / "first")
    loaded, unused = AutoConfig.from_pretrained(tmp_path / "first", return_unused_kwargs=True, no_such_setting=1)
    assert type(loaded) is RnnS2SConfig
    assert unused == {"no_such_setting": 1}
    assert not hasattr(loaded, "custom_pipelines")
    RnnS2SForConditionalGeneration.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    assert code_in(tmp_path / "second") == expected_code()
    assert content_of(tmp_path / "second") == content_of(tmp_path / "first")


def test_a_config_built_from_the_content_of_another_carries_the_code_too(
    tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path
) -> None:
    tiny_model.config.carry_code()
    config = RnnS2SConfig(**tiny_model.config.to_dict())
    assert not hasattr(config, "custom_pipelines")
    RnnS2SForConditionalGeneration(config).save_pretrained(tmp_path)
    assert code_in(tmp_path) == expected_code()
    assert content_of(tmp_path)["auto_map"] == AUTO_MAP


def test_the_way_of_transformers_gives_the_same_folder(
    tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RnnS2SForConditionalGeneration, "_auto_class", None)  # undone after the test
    RnnS2SForConditionalGeneration.register_for_auto_class("AutoModelForSeq2SeqLM")
    tiny_model.save_pretrained(tmp_path)
    assert code_in(tmp_path) == expected_code()
    assert content_of(tmp_path)["auto_map"] == AUTO_MAP
    assert content_of(tmp_path)["custom_pipelines"] == CUSTOM_PIPELINES


def test_a_model_class_of_ones_own_is_not_saved_with_other_code(tiny_config: RnnS2SConfig, tmp_path: Path) -> None:
    class Own(RnnS2SForConditionalGeneration):
        pass

    model = Own(tiny_config)
    for share in (model.config.carry_code, lambda: Own.register_for_auto_class("AutoModelForSeq2SeqLM")):
        share()
        with pytest.raises(ValueError, match="model class='Own' means a class of your own"):
            model.save_pretrained(tmp_path)
        model.config.drop_code()
        Own._auto_class = None
        model.save_pretrained(tmp_path)
        assert code_in(tmp_path) == set()


def test_code_can_be_dropped_again(tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    before = tiny_model.config.to_dict()
    tiny_model.config.carry_code()
    tiny_model.save_pretrained(tmp_path / "with_code")
    loaded = RnnS2SForConditionalGeneration.from_pretrained(tmp_path / "with_code")
    for model in (tiny_model, loaded):
        model.config.drop_code()
        assert model.config.drops_code
        model.save_pretrained(tmp_path / "without_code")
        assert code_in(tmp_path / "without_code") == set()
        assert not content_of(tmp_path / "without_code").keys() & {"auto_map", "custom_pipelines", "drops_code"}
        model.config.carry_code()
        assert not model.config.drops_code
    assert tiny_model.config.to_dict().keys() - before.keys() == {"auto_map", "custom_pipelines"}


def test_a_file_has_no_say_in_dropping_code() -> None:
    assert not RnnS2SConfig.from_dict({"model_type": "rnn_s2s", "drops_code": True}).drops_code
