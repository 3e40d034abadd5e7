"""What the README tells people to type."""

import re
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


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
