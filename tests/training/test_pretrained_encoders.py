"""Training on top of a pretrained encoder: whose tokenizer, whose weights, and what does not fit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, BertConfig, BertModel, BertTokenizerFast, pipeline

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, RnnS2STokenizer
from hf_rnn_s2s.errors import UsageError
from hf_rnn_s2s.training.arguments import ModelArguments
from hf_rnn_s2s.training.building import get_model, train_new_tokenizer

WORDS = ["a", "the", "small", "big", "dog", "cat", "runs", "sleeps", "fast", "here"]
SIZES: dict[str, Any] = {"hidden_size": 48, "embedding_size": 32, "decoder_layers": 1, "dropout": 0.0}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with random weights, and a tokenizer of words, as they would lie on the Hub."""
    folder = tmp_path_factory.mktemp("bert")
    special = ["[PAD]", *(f"[unused{number}]" for number in range(9)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = Tokenizer(models.WordLevel({word: at for at, word in enumerate(special + WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 11), ("[SEP]", 12)]
    )
    BertTokenizerFast(tokenizer_object=backend, model_max_length=20).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(special) + len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=20,
        max_position_embeddings=20,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def arguments_for(folder: Path, **values: Any) -> ModelArguments:
    return ModelArguments(
        preset="pretrained-encoder", encoder_name=str(folder), decoder_vocab_size=300, **SIZES, **values
    )


@pytest.fixture
def tokenizer(bert: Path) -> RnnS2STokenizer:
    texts = {"source": ["a small dog", "the cat runs"], "target": ["ein kleiner Hund", "die Katze rennt"]}
    tokenizer: Any = train_new_tokenizer(arguments_for(bert), Dataset.from_dict(texts))
    tokenizer.model_max_length = 20
    return tokenizer


def test_the_source_is_the_encoders_and_the_target_our_own(tokenizer: RnnS2STokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    for one in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        assert one.convert_ids_to_tokens(one("a dog")["input_ids"]) == ["[CLS]", "a", "dog", "[SEP]"]
        assert (one.pad_token, one.unk_token, one.eos_token) == ("[PAD]", "[UNK]", "[SEP]")
        target = one.target_tokenizer
        assert (target.pad_token_id, target.bos_token_id, target.eos_token_id, target.unk_token_id) == (0, 1, 2, 3)
        labels = one("a dog", text_target="ein Hund")["labels"]
        assert labels[-1] == 2
        assert one.decode(labels, skip_special_tokens=True) == "ein Hund"


@pytest.mark.parametrize("freeze", [False, True])
def test_the_encoder_has_its_weights_and_learns_or_does_not(
    bert: Path, tokenizer: RnnS2STokenizer, freeze: bool, tmp_path: Path
) -> None:
    model = get_model(arguments_for(bert, freeze_encoder=freeze), None, tokenizer)
    assert (model.config.vocab_size, model.config.decoder_vocab_size) == (24, len(tokenizer.target_tokenizer))
    assert (model.config.eos_token_id, model.config.decoder_start_token_id) == (2, 1)
    pretrained = BertModel.from_pretrained(bert, add_pooling_layer=False).eval()
    batch = tokenizer(["a small dog", "the cat"], text_target=["ein Hund", "die Katze"], padding=True)
    batch["labels"] = [row[: row.index(2) + 1] for row in batch["labels"]]
    inputs = {name: torch.tensor(batch[name]) for name in ("input_ids", "attention_mask")}
    expected = pretrained(**inputs).last_hidden_state
    memory = model.eval().get_encoder()(**inputs).last_hidden_state
    mask = inputs["attention_mask"].bool()
    torch.testing.assert_close(memory[mask], expected[mask], rtol=0, atol=1e-6)
    longest = max(map(len, batch["labels"]))
    labels = torch.tensor([row + [-100] * (longest - len(row)) for row in batch["labels"]])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(120):
        loss = model.train()(**inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    own = dict(model.model.encoder.reader.named_parameters())
    changed = {name for name, one in pretrained.named_parameters() if not torch.equal(own[name], one)}
    assert bool(changed) != freeze
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert [one.requires_grad for one in loaded.model.encoder.reader.parameters()].count(True) == (
        0 if freeze else len(own)
    )
    translator = pipeline("translation", model=str(tmp_path), device="cpu")
    answers = translator(["a small dog", "the cat"], max_new_tokens=20)
    assert [answer["translation_text"] for answer in answers] == ["ein Hund", "die Katze"]


def test_what_does_not_fit_is_refused(bert: Path, tokenizer: RnnS2STokenizer) -> None:
    with pytest.raises(UsageError, match="encoder_type='pretrained' needs encoder_name"):
        ModelArguments(preset="pretrained-encoder")
    with pytest.raises(ValueError, match="vocab_size=25 does not fit the pretrained encoder, which has 24 tokens"):
        RnnS2SConfig.from_preset("pretrained-encoder", encoder_name=str(bert), vocab_size=25)
    with pytest.raises(ValueError, match="encoder_name=.* are of a pretrained encoder, but encoder_type='bidirectio"):
        RnnS2SConfig(encoder_name=str(bert))
    with pytest.raises(ValueError, match="bridge='dense' reads the encoder's final states, but encoder_type='pretr"):
        RnnS2SConfig.from_preset("pretrained-encoder", encoder_name=str(bert), bridge="dense")
    with pytest.raises(ValueError, match="load_encoder: the configuration names no encoder"):
        RnnS2SForConditionalGeneration(RnnS2SConfig(vocab_size=20, **SIZES)).load_encoder()
    tokenizer.model_max_length = 21
    with pytest.raises(UsageError, match="max_source_length must be at most 20: the pretrained encoder reads no more"):
        get_model(arguments_for(bert), None, tokenizer)
    model = RnnS2SForConditionalGeneration(
        RnnS2SConfig.from_preset("pretrained-encoder", encoder_name=str(bert), decoder_vocab_size=30, **SIZES)
    )
    with pytest.raises(ValueError, match="The source has 21 tokens, and this pretrained encoder reads at most 20"):
        model(torch.full((1, 21), 5), decoder_input_ids=torch.tensor([[1]]))


def test_a_tokenizer_of_another_encoder_is_refused(bert: Path, tokenizer: RnnS2STokenizer) -> None:
    tokenizer.source_tokenizer.add_tokens(["new"])
    with pytest.raises(UsageError, match="has 25 source and .* target tokens, but the model of encoder_name=.*=24"):
        get_model(arguments_for(bert), None, tokenizer)
