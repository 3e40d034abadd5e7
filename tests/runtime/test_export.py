"""What is exported computes what the model does, and is loaded, saved and refused as any other model is."""

import copy
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import nn
from transformers import (
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    PreTrainedTokenizerFast,
)
from transformers.generation import EosTokenCriteria, MaxLengthCriteria, StoppingCriteriaList

from hf_rnn_s2s import RnnS2SForConditionalGeneration, RnnTranslationPipeline, Shortlist, export_model
from hf_rnn_s2s.decoding.search import beam_search
from hf_rnn_s2s.decoding.stepper import Stepper
from hf_rnn_s2s.runtime.export import GRAPHS, write_graphs
from hf_rnn_s2s.runtime.format import BEAMS, ENCODER, FIELD, GREEDY, SCORES, WEIGHTS
from hf_rnn_s2s.runtime.runtime import Runtime
from hf_rnn_s2s.runtime.sessions import Graph, Graphs

from ..hub_server import HubServer
from ..presets.small import ALL, build, inputs
from ..random_models import END, model_that_ends, sources
from .conftest import Load

Model = RnnS2SForConditionalGeneration
REFUSED = {
    "pretrained-encoder": "encoder_type='pretrained'",
    "pointer-generator2017": "head_type='copying'",
    **{name: "head_type='marginal'" for name in ALL if name.startswith("wu2019")},
}


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many graphs were called until now, as the length of a list."""
    calls: list[int] = []
    run = Graph.run
    monkeypatch.setattr(Graph, "run", lambda self, given: calls.append(1) or run(self, given))
    return calls


def random_source(draw: random.Random, rows: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(draw.randrange(10**6))
    length = draw.randrange(1, 12)
    ids = torch.randint(3, 40, (rows, length), generator=generator)
    mask = torch.arange(length) < torch.randint(1, length + 1, (rows, 1), generator=generator)
    if draw.random() < 0.3:
        mask = mask.flip(1)  # padding on the left
    return {"input_ids": ids, "attention_mask": mask.long()}


@torch.no_grad()
def test_500_random_searches_are_those_of_the_model(model: Model, load: Load, runs: list[int]) -> None:
    """Sequences, and the scores of hypotheses to 1e-4."""
    exported, draw = load("float32"), random.Random(0)
    for _ in range(500):
        rows, beams, returned = draw.randrange(1, 5), draw.choice([2, 3, 5]), draw.choice([1, 2])
        given = random_source(draw, rows)
        config = GenerationConfig(
            num_beams=beams,
            num_return_sequences=returned,
            length_penalty=draw.choice([0.0, 0.6, 1.0, 1.4]),
            early_stopping=draw.choice([False, True, "never"]),
            max_length=draw.randrange(2, 16),
            eos_token_id=END,
            pad_token_id=0,
        )
        config._eos_token_tensor, config._pad_token_tensor = torch.tensor([END]), torch.tensor(0)
        criteria = StoppingCriteriaList([MaxLengthCriteria(config.max_length), EosTokenCriteria(END)])
        prompts = torch.ones(rows, 1, dtype=torch.long)
        encoded = model.get_encoder()(**given)
        steppers = (
            Stepper(model.model.decoder, model.output_head, model.lm_head, encoded, None, None, rows * beams),
            exported.runtime.stepper(exported.runtime.encode(*given.values(), model.config)),
        )
        (expected, scores), (found, others) = (
            beam_search(one, prompts, LogitsProcessorList(), criteria, config, drop_finished=True, repeatable=True)
            for one in steppers
        )
        assert torch.equal(found, expected)
        torch.testing.assert_close(others, scores, rtol=0, atol=1e-4)
    assert len(runs) > 500


@torch.no_grad()
def test_random_searches_of_many_steps_are_those_of_the_model(tmp_path: Path, runs: list[int]) -> None:
    """With rows that end early, one by one or in groups, and some that the limit ends. Each takes few calls."""
    model = model_that_ends(attention_type="additive", tie_word_embeddings=False).requires_grad_(False)
    model.lm_head.bias[END] -= 3
    layout = write_graphs(model, tmp_path, "float32", names=(ENCODER, GREEDY, BEAMS, SCORES))
    exported, draw, lengths = copy.deepcopy(model), random.Random(0), set()
    exported.runtime = Runtime(Graphs(tmp_path, tmp_path / WEIGHTS, layout.graphs), layout, exported)
    for _ in range(300):
        rows = draw.choice([1, 2, 5, 9, 20, 40])
        given = {**random_source(draw, rows), "max_length": draw.randrange(2, 16)}
        given["eos_token_id"] = draw.choice([END, [END, 7], [5, 6, 7, 8, 9, END], [END, -3, 10**6]])
        expected = GenerationMixin.generate(model, **given, num_beams=1)
        called = len(runs)
        assert torch.equal(exported.generate(**given, num_beams=1), expected)
        assert len(runs) - called == 2 if rows == 1 else 2 <= len(runs) - called <= 1 + rows
        lengths.add(expected.shape[1])
    assert lengths == set(range(2, 16))
    few, early = 0, []
    for _ in range(300):
        given = {**random_source(draw, draw.choice([1, 2, 5])), "max_length": draw.randrange(2, 16)}
        given |= {"num_beams": draw.choice([2, 3, 5]), "eos_token_id": draw.choice([END, [END, 7], [END, 10**6]])}
        given |= {"length_penalty": draw.choice([0.0, 1.0]), "early_stopping": draw.choice([False, True, "never"])}
        expected = GenerationMixin.generate(model, **given)
        called = len(runs)
        assert torch.equal(exported.generate(**given), expected)
        few += len(runs) - called < expected.shape[1] / 2
        if given["early_stopping"] is True and len(expected) == 1:  # the loop ends when the search does
            early.append(len(runs) - called)
    assert few > 200
    assert early.count(2) > 0.9 * len(early) > 20  # some choices are ambiguous, and searched for once more


@pytest.mark.parametrize("arguments", [{}, {"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 3}])
def test_generate_returns_what_the_model_does(
    arguments: dict[str, Any], model: Model, load: Load, runs: list[int]
) -> None:
    """Also the second and third time, when the preparation is left out, and with a prompt."""
    exported = load("float32")
    for turn in range(3):
        given = {"input_ids": sources() if turn < 2 else sources()[:3, :4], "max_new_tokens": 9, **arguments}
        expected = GenerationMixin.generate(model, **given)
        assert torch.equal(exported.generate(**given), expected)
    prompt = torch.tensor([[1, 5, 7]]).expand(16, 3)
    expected = model.generate(sources(), decoder_input_ids=prompt, max_new_tokens=5, **arguments)
    assert torch.equal(exported.generate(sources(), decoder_input_ids=prompt, max_new_tokens=5, **arguments), expected)
    assert len(runs) > 8


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("num_beams", [1, 3, 5])
def test_a_shortlist_leaves_out_tokens_alone(precision: str, num_beams: int, load: Load, runs: list[int]) -> None:
    """With the whole vocabulary on it the result is the one without it, and with less as if there were no more."""
    exported = load(precision)
    everything = Shortlist([range(40)] * 40)
    given = {"input_ids": sources(), "num_beams": num_beams, "max_new_tokens": 9}
    assert torch.equal(exported.generate(**given, shortlist=everything), exported.generate(**given))
    few = [END, *range(5, 40, 2)]
    shorter = exported.generate(**given, shortlist=Shortlist([few] * 40))
    others = [token for token in range(40) if token not in few]
    called = len(runs)
    expected = exported.generate(**given, suppress_tokens=others)
    if num_beams == 1:  # beams compare log-probabilities, which are those of fewer tokens
        assert torch.equal(shorter, expected)
    assert set(shorter[:, 1:].flatten().tolist()) <= {0, *few}
    assert len(runs) > called


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_row_does_not_depend_on_its_batch(precision: str, load: Load) -> None:
    """Not in the last bit of a score, for 8 bit integers: each row has a scale of its own."""
    exported, ids = load(precision), sources()
    together = exported.generate(ids, num_beams=3, max_new_tokens=9)
    for row, source in enumerate(ids.split(1)):
        alone = exported.generate(source, num_beams=3, max_new_tokens=9)[0]
        assert together[row, : len(alone)].tolist() == alone.tolist()
        assert together[row, len(alone) :].eq(0).all()
    token = torch.ones(16, 1, dtype=torch.long)
    scores = exported.runtime.stepper(exported.runtime.encode(ids, None, exported.config)).step(token)
    one = exported.runtime.stepper(exported.runtime.encode(ids[5:6], None, exported.config)).step(token[:1])
    torch.testing.assert_close(one[0], scores[5], rtol=0, atol=0 if precision == "int8" else 1e-6)


def test_integers_are_near_and_small(model: Model, folders: dict[str, Path], load: Load) -> None:
    stored = load_file(folders["int8"] / WEIGHTS)
    exported = load("int8").state_dict()
    assert sum(name.endswith("_int8") for name in stored) >= 9
    for name, weight in model.state_dict().items():
        if f"{name}_int8" in stored:
            step = torch.from_numpy(stored[f"{name}_scale"]).unsqueeze(1)
            assert stored[f"{name}_int8"].dtype == np.int8
            assert ((exported[name] - weight).abs() <= step / 2 * 1.001).all()
        elif name in stored:  # and not another name of a matrix that is there already
            assert torch.equal(exported[name], weight)
    assert not [
        name for name in stored if stored[name].ndim == 2 and stored[name].size > 64 and stored[name].dtype != np.int8
    ]


@pytest.mark.parametrize(("values", "least"), [({"share_encoder_decoder_embeddings": False}, 3.7), ({}, 3.7)])
def test_the_file_of_weights_is_small(values: dict[str, Any], least: float, tmp_path: Path) -> None:
    """Of the widths that people use, with separate vocabularies and with shared ones; the graphs are smaller still."""
    sizes = {"vocab_size": 2000, "decoder_vocab_size": 2000, "embedding_size": 128, "hidden_size": 256}
    torch.manual_seed(0)
    big = Model(model_that_ends().config.__class__(**sizes, **values)).eval().requires_grad_(False)
    big.save_pretrained(tmp_path / "plain")
    write_graphs(big, tmp_path, "int8", names=(SCORES,))
    assert (tmp_path / "plain" / WEIGHTS).stat().st_size > least * (tmp_path / WEIGHTS).stat().st_size
    assert (tmp_path / f"{SCORES}.onnx").stat().st_size < 2**15


@pytest.mark.parametrize(
    ("name", "precision"), [*((name, "float32") for name in ALL), ("nematus-conditional-gru", "int8")]
)
@torch.no_grad()
def test_presets(name: str, precision: str, tmp_path: Path, runs: list[int]) -> None:
    """Every one that has graphs computes what it does on torch; the others are refused by the name of the part."""
    model = build(name)
    if name in REFUSED:
        with pytest.raises(ValueError, match=f"^{REFUSED[name]} cannot be exported"):
            export_model(model, tmp_path)
        return
    names = (ENCODER, SCORES, *([GREEDY, BEAMS] if precision == "float32" else []))
    layout = write_graphs(model.requires_grad_(False), tmp_path, precision, names)
    atol = 2e-5 if precision == "float32" else 0.05
    runtime = Runtime(Graphs(tmp_path, tmp_path / WEIGHTS, layout.graphs), layout, model)
    given = inputs(name)
    ids, mask = given["input_ids"], given.get("attention_mask", torch.ones_like(given["input_ids"]))
    ids, mask = torch.cat([ids, ids[:, :3]], dim=1), torch.cat([mask, mask[:, :3]], dim=1)  # of another length
    parts = (model.model.decoder, model.output_head, model.lm_head, model.get_encoder()(ids, attention_mask=mask))
    ours = runtime.stepper(runtime.encode(ids, mask, model.config))
    theirs = Stepper(*parts, None, None, 9)
    token = torch.full((len(ids), 1), 4)
    for turn in range(4):
        torch.testing.assert_close(ours.step(token), theirs.step(token), rtol=0, atol=atol)
        if turn == 0:  # two beams for each source, crosswise
            rows = torch.arange(len(ids)).repeat_interleave(2)
        else:
            rows = torch.arange(2 * len(ids)).view(-1, 2).flip(1).flatten()
        token = torch.arange(3, 3 + len(rows)).unsqueeze(1) % 7
        ours.reorder(rows)
        theirs.reorder(rows)
    assert all(isinstance(part, nn.Module) for part in parts[:3])
    if precision == "float32":
        exported = copy.deepcopy(model)
        exported.runtime = runtime
        for num_beams in (1, 3):
            arguments = {"attention_mask": mask, "num_beams": num_beams, "max_new_tokens": 9}
            expected, called = GenerationMixin.generate(model, ids, **arguments), len(runs)
            assert torch.equal(exported.generate(ids, **arguments), expected)
            assert len(runs) > called + 1


def test_all_else_runs_on_torch(model: Model, load: Load) -> None:
    exported = load("float32")
    for arguments in (
        {"do_sample": True, "top_k": 5},
        {"num_beams": 3, "return_dict_in_generate": True, "output_scores": True},
        {"output_attentions": True, "return_dict_in_generate": True},
        {"num_beams": 2, "use_cache": False},
        {"repetition_penalty": 1.3},
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
    ):
        torch.manual_seed(0)
        expected = model.generate(sources(), max_new_tokens=6, **arguments)
        torch.manual_seed(0)
        found = exported.generate(sources(), max_new_tokens=6, **arguments)
        one, other = (getattr(output, "sequences", output) for output in (found, expected))
        assert torch.equal(one, other)


def change_weight(model: Model) -> None:
    with torch.no_grad():
        model.lm_head.bias[7] += 9


def add_hook(model: Model) -> None:
    model.model.decoder.layers[0].register_forward_hook(lambda *args: None)


@pytest.mark.parametrize(
    ("change", "reason"), [(change_weight, "lm_head.bias has changed since"), (add_hook, "there are hooks")]
)
def test_a_changed_model_computes_by_itself(change: Any, reason: str, load: Load, runs: list[int]) -> None:
    exported = load("float32")
    before = exported.generate(sources(), max_new_tokens=6)
    change(exported)
    runs.clear()
    after = exported.generate(sources(), max_new_tokens=6)
    assert not runs
    assert torch.equal(after, GenerationMixin.generate(exported, sources(), max_new_tokens=6))
    if change is change_weight:
        assert not torch.equal(after, before)
    assert exported.runtime._why_not(exported).startswith(reason)


def test_a_processor_without_the_instructions_computes_in_float32(
    load: Load, runs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hf_rnn_s2s.runtime.runtime.has_fast_int8", lambda: False)
    for precision, uses_graphs in (("int8", False), ("float32", True)):
        exported = load(precision)
        runs.clear()
        found = exported.generate(sources(), num_beams=3, max_new_tokens=6)
        assert bool(runs) == uses_graphs
        if not uses_graphs:
            assert torch.equal(found, GenerationMixin.generate(exported, sources(), num_beams=3, max_new_tokens=6))
            assert "no instructions for products of 8 bit integers" in exported.runtime._why_not(exported)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_what_was_loaded_is_saved_again(precision: str, folders: dict[str, Path], load: Load, tmp_path: Path) -> None:
    load(precision).save_pretrained(tmp_path / "again")
    for file in folders[precision].glob("*"):
        if file.suffix in (".onnx", ".safetensors"):
            assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "again")
    assert torch.equal(again.generate(sources(), num_beams=3), load(precision).generate(sources(), num_beams=3))
    assert again.runtime.layout.precision == precision
    change_weight(again)
    again.save_pretrained(tmp_path / "changed")
    changed = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "changed")
    assert changed.runtime is None
    assert torch.equal(changed.lm_head.bias, again.lm_head.bias)


def test_it_goes_to_the_hub_and_comes_back_with_its_graphs(load: Load, hub: HubServer, runs: list[int]) -> None:
    exported = load("int8")
    exported.push_to_hub("lab/small")
    files = set(hub.repositories["lab/small"].head.files)
    assert {"model.safetensors", "config.json", *(f"{name}.onnx" for name in GRAPHS)} <= files
    assert not any(name.endswith(".py") for name in files)
    again = AutoModelForSeq2SeqLM.from_pretrained("lab/small")
    called = len(runs)
    for num_beams in (1, 3):
        given = {"input_ids": sources(), "num_beams": num_beams, "max_new_tokens": 9}
        assert torch.equal(again.generate(**given), exported.generate(**given))
    assert again.runtime.serves(again)
    assert len(runs) > called


def test_it_says_what_it_is(folders: dict[str, Path]) -> None:
    config = json.loads((folders["int8"] / "config.json").read_text())
    assert config[FIELD]["precision"] == "int8"
    assert "auto_map" not in config
    card = (folders["int8"] / "README.md").read_text()
    assert "- onnx\n- int8\n" in card
    assert "The weights are 8 bit integers" in card


def test_a_folder_of_another_version_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    for file in folders["int8"].iterdir():
        (tmp_path / file.name).symlink_to(file)
    content = json.loads((tmp_path / "config.json").read_text())
    content[FIELD] |= {"format": 7, "package_version": "9.1"}
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(content))
    for the_class in (Model, AutoModelForSeq2SeqLM):
        with pytest.raises(
            ValueError, match=r"exported by version 9\.1 of hf_rnn_s2s in the form 7, and this version"
        ):
            the_class.from_pretrained(tmp_path)


def test_files_may_be_links_as_in_the_cache_of_the_hub(folders: dict[str, Path], tmp_path: Path) -> None:
    for file in folders["int8"].iterdir():
        (tmp_path / file.name).symlink_to(file)
    linked, direct = (Model.from_pretrained(folder) for folder in (tmp_path, folders["int8"]))
    assert torch.equal(linked.generate(sources()), direct.generate(sources()))


IN_A_FRESH_PROCESS = """
import sys
for name in ("onnx", "onnxscript", "onnx_ir", "datasets", "accelerate", "evaluate", "matplotlib", {more}):
    sys.modules[name] = None  # as if it were not installed
import torch, hf_rnn_s2s
from transformers import AutoModelForSeq2SeqLM
model = AutoModelForSeq2SeqLM.from_pretrained({folder!r})
print(model.generate(torch.tensor({ids}), num_beams=3, max_new_tokens=9).tolist(), model.runtime is not None)
"""


@pytest.mark.parametrize("has_runtime", [True, False])
def test_loading_takes_the_runtime_alone_and_no_more_than_torch_without_it(
    has_runtime: bool, folders: dict[str, Path], load: Load
) -> None:
    folder, ids = str(folders["float32"]), sources()[:4].tolist()
    code = IN_A_FRESH_PROCESS.format(folder=folder, ids=ids, more="" if has_runtime else "'onnxruntime'")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = load("float32").generate(sources()[:4], num_beams=3, max_new_tokens=9).tolist()
    assert done.stdout.strip() == f"{expected} {has_runtime}"
    assert ("onnxruntime, which is not installed" in done.stderr) != has_runtime


def test_bad_arguments(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="precision='int4' is none of 'float32', 'int8'"):
        export_model(model, tmp_path, "int4")
    with pytest.raises(TypeError, match="Linear is no model of hf_rnn_s2s"):
        export_model(nn.Linear(2, 2), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file; give the name of a folder"):
        export_model(model, tmp_path / "file")
    model.save_pretrained(tmp_path / "model")
    before = (tmp_path / "model" / WEIGHTS).read_bytes()
    with pytest.raises(FileExistsError, match="There is a model in .*; give another folder"):
        export_model(model, tmp_path / "model")
    assert (tmp_path / "model" / WEIGHTS).read_bytes() == before
    broken = model_that_ends()
    with torch.no_grad():
        broken.lm_head.weight[3, 3] = torch.nan
    with pytest.raises(ValueError, match="are not finite numbers, in model.encoder.embed_tokens.weight"):
        export_model(broken, tmp_path)
    hooked = model_that_ends()
    hooked.register_forward_hook(lambda *args: None)
    with pytest.raises(ValueError, match="forward pass was changed"):
        export_model(hooked, tmp_path)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match="To export a model takes onnxscript"):
        export_model(model, tmp_path)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_processes_use_the_graphs_and_write_the_same(
    num_beams: int, load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    """The weights in another process are those that the graphs are known by."""
    words = Tokenizer(WordLevel({str(number): number for number in range(40)}, unk_token="39"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="0", eos_token=str(END))
    translator = RnnTranslationPipeline(model=load("int8"), tokenizer=tokenizer, device="cpu", max_new_tokens=8)
    texts = [" ".join(str(3 + (number + place) % 30) for place in range(1 + number % 5)) for number in range(40)]
    expected = translator(texts, num_beams=num_beams, batch_size=4)
    assert translator(texts, num_beams=num_beams, batch_size=4, processes=2) == expected
    assert translator._workers is not None
    shared = translator._workers.share((translator._to_send(), {"num_beams": num_beams}, {}))
    assert next(translator._workers.run(runs_of_graphs, shared, [texts])) > 0
    assert not caplog.messages


def runs_of_graphs(shared: Any, texts: list[str]) -> int:
    """How often graphs are run in another process."""
    translator, forward, _ = shared
    count = 0
    run = Graph.run

    def counted(self: Graph, inputs: Any) -> Any:
        nonlocal count
        count += 1
        return run(self, inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Graph, "run", counted)
        translator(texts, **forward)
    return count
