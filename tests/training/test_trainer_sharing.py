"""What a trainer uploads: the code that loads the model, with every strategy, and a card that is worth it."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SForConditionalGeneration
from hf_rnn_s2s.training.trainer import RnnS2STrainer

from ..hub_server import HubServer
from .test_trainer import dataset, make_trainer  # noqa: F401 - a fixture

NAME = "lab/trained"
CODE = {"modeling_rnn_s2s.py", "pipeline_rnn_s2s.py", "configuration_rnn_s2s.py"}


@pytest.fixture
def trainer(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,  # noqa: F811
    tmp_path: Path,
    hub: HubServer,
    request: pytest.FixtureRequest,
) -> RnnS2STrainer:
    """Which pushes by itself, after two steps of training and a checkpoint for each, if it gets a strategy."""
    strategy = getattr(request, "param", None)
    pushing = {"push_to_hub": True, "hub_strategy": strategy, "hub_always_push": True} if strategy else {}
    return make_trainer(
        tiny_model,
        tiny_tokenizer,
        dataset,
        tmp_path / "out",
        max_steps=2,
        save_strategy="steps",
        save_steps=1,
        hub_model_id=NAME,
        **pushing,
    )


def carries_code(files: dict[str, bytes], folder: str = "") -> bool:
    """Whether a folder of a repository says so, and does so; not one without the other."""
    inside = {name.removeprefix(folder): content for name, content in files.items() if name.startswith(folder)}
    says_so = "auto_map" in json.loads(inside["config.json"])
    assert says_so == bool(set(inside) >= CODE) == any(name.endswith(".py") for name in inside if "/" not in name)
    return says_so


@pytest.mark.parametrize("drops", [False, True])
@pytest.mark.parametrize("trainer", ["end", "every_save", "checkpoint", "all_checkpoints"], indirect=True)
def test_every_strategy_carries_the_code_unless_told_not_to(
    trainer: RnnS2STrainer, hub: HubServer, drops: bool
) -> None:
    if drops:
        trainer.model.config.drop_code()
    before = trainer.model.config.to_dict()
    trainer.train()
    strategy = str(trainer.args.hub_strategy.value)
    if strategy != "end":
        trainer._finish_current_push()
        assert carries_code(hub.repositories[NAME].head.files) == (not drops)
    if strategy == "checkpoint":
        assert carries_code(hub.repositories[NAME].head.files, "last-checkpoint/") == (not drops)
    if strategy == "all_checkpoints":
        assert carries_code(hub.repositories[NAME].head.files, "checkpoint-2/") == (not drops)
    trainer.push_to_hub()
    assert carries_code(hub.repositories[NAME].head.files) == (not drops)
    assert {**trainer.model.config.to_dict(), "architectures": None, "dtype": None} == {
        **before,
        "architectures": None,
        "dtype": None,
    }


def test_a_trainer_that_only_pushes_in_the_end_carries_the_code_then(trainer: RnnS2STrainer, hub: HubServer) -> None:
    trainer.train()
    assert not list(Path(str(trainer.args.output_dir)).rglob("*.py"))
    trainer.push_to_hub()
    assert carries_code(hub.repositories[NAME].head.files)
    assert "auto_map" not in trainer.model.config.to_dict()


def test_a_card_on_the_hub_is_not_replaced_by_a_draft(trainer: RnnS2STrainer, hub: HubServer) -> None:
    folder = Path(str(trainer.args.output_dir))

    def pushed_card() -> str:
        trainer.push_to_hub()
        return hub.repositories[NAME].head.files["README.md"].decode()

    trainer.train()
    assert "generated_from_trainer" in pushed_card()  # where there is none, a draft is better than nothing
    (folder / "README.md").unlink()
    trainer.state.log_history.append({"loss": 1.0, "step": 3})
    assert "generated_from_trainer" in pushed_card()  # and may be drafted anew
    assert (folder / "README.md").exists()
    (folder / "README.md").unlink()
    hub.repositories[NAME].head.files["README.md"] = b"---\nlicense: mit\n---\nWritten by hand.\n"
    assert "Written by hand." in pushed_card()
    (folder / "README.md").write_text("---\nlicense: mit\n---\nFrom the folder.\n", encoding="utf-8")
    assert "From the folder." in pushed_card()


def test_saving_at_home_stays_as_it_was(trainer: RnnS2STrainer, tmp_path: Path) -> None:
    trainer.save_model(str(tmp_path / "saved"))
    saved: dict[str, Any] = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    assert not carries_code(saved)
