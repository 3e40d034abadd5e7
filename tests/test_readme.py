"""What the README tells people to type."""

import re
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel

from hf_rnn_s2s.model.configuration_rnn_s2s import BUILT_IN, OPTIONS
from hf_rnn_s2s.options import REGISTRIES
from hf_rnn_s2s_command.main import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def table_of_options() -> str:
    """What the configuration says of its options, the names of classes first."""
    rows = ["| Option | Values | |", "|---|---|---|"]
    for name, option in sorted(OPTIONS.items(), key=lambda item: item[0] not in BUILT_IN):
        values = ", ".join(f"`{choice}`" for choice in BUILT_IN.get(name, ()))
        kind = str(option.type).split(" ")[0]
        others = {"bool": "yes or no", "str": "a text"}.get(kind, "a number")
        rows.append(f"| `{name}` | {values or others} | {first_sentence(option)} |")
    return "\n".join(rows)


def first_sentence(option: Any) -> str:
    return re.split(r"(?<=[.;])(?<!et al\.)\s", option.metadata["help"])[0].rstrip(";.")


def test_the_table_of_options_is_that_of_the_configuration() -> None:
    assert table_of_options() in README


def test_there_is_a_class_for_every_name() -> None:
    """Also after others have registered classes of their own."""
    for kind, registry in REGISTRIES.items():
        assert list(registry)[: len(BUILT_IN[kind])] == list(BUILT_IN[kind])
    wiring = {"attention_layer", "attention_query", "context_layers"}  # which are no classes
    assert set(BUILT_IN) - set(REGISTRIES) == wiring


def test_begin_in_python(capsys: pytest.CaptureFixture[str]) -> None:
    """All of the section, from top to bottom: what it prints is what stands behind the `print`."""
    section = README.split("## Begin in Python\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(blocks[0], names)
    [promised] = re.findall(r"print\(.*\)  # (.*)", blocks[0])
    assert capsys.readouterr().out.strip() == promised

    exec(blocks[1], names)
    tokenizer, model = names["tokenizer"], names["model"]
    assert len(tokenizer("<2de> a dog")["input_ids"]) == 1 + len(tokenizer("a dog")["input_ids"])
    assert model.get_input_embeddings().num_embeddings == model.config.vocab_size == len(tokenizer)

    exec(blocks[2], names)
    assert isinstance(names["model"], PeftModel)
    trainable = {name.split(".lora_")[0] for name, one in names["model"].named_parameters() if one.requires_grad}
    assert any("embed_tokens" in name for name in trainable)
    assert any("lm_head" in name for name in trainable)
    assert any("layers.0" in name for name in trainable)


def test_pictures_are_there_and_small() -> None:
    pictures = re.findall(r'<img src="([^"]+)"|!\[[^\]]*\]\(([^)]+)\)', README)
    assert pictures
    for names in pictures:
        path = ROOT / next(filter(None, names))
        assert path.is_file(), path
        assert path.stat().st_size < 60_000, path


def test_commands_have_the_options_that_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    lines = re.findall(r"^hf-rnn-s2s (.*)", README, flags=re.MULTILINE)
    assert len(lines) >= 3
    for line in lines:
        name, *words = line.split("#")[0].split()
        with pytest.raises(SystemExit):
            main([name, "--help"])
        said = capsys.readouterr().out
        assert all(word in said for word in words if word.startswith("--")), line
