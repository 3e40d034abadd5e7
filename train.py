"""Trains a translation model and leaves it, with its scores and pictures, in a folder.

    python train.py                                            recipes/demo.yaml, on the embedded corpus
    python train.py recipes/NAME.yaml [--argument value ...]   a recipe; the command line wins over it
    torchrun --nproc_per_node 2 train.py ...                   two processes, or `accelerate launch` for several GPUs
    python train.py --help                                     every argument

The folder `output_dir` then holds the model with its code and tokenizer, `all_results.json`, `predictions.tsv`,
`training_curves.png`, `attention.png` and `README.md`, the model card.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from datasets import Dataset, concatenate_datasets
from transformers import (
    AutoConfig,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    EarlyStoppingCallback,
    PreTrainedTokenizerFast,
    TrainerCallback,
    set_seed,
)

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, RnnS2STokenizer, train_tokenizer
from hf_rnn_s2s.arguments import ModelArguments, RnnS2STrainingArguments, parse_arguments
from hf_rnn_s2s.averaging import WeightAveraging
from hf_rnn_s2s.checkpoints import find_checkpoint
from hf_rnn_s2s.data import load_examples, training_texts
from hf_rnn_s2s.data_arguments import DataArguments
from hf_rnn_s2s.data_columns import Examples
from hf_rnn_s2s.data_tokens import tokenize_examples
from hf_rnn_s2s.metrics import TranslationMetric
from hf_rnn_s2s.model_card import build_model_card, language_pair
from hf_rnn_s2s.pipeline_rnn_s2s import DEFAULT_MAX_NEW_TOKENS
from hf_rnn_s2s.plots import has_training_curves, plot_training_curves
from hf_rnn_s2s.reports import draw_attention, informative_example, translations_table, write_predictions
from hf_rnn_s2s.trainer import RnnS2STrainer

DEMO_RECIPE = Path(__file__).parent / "recipes" / "demo.yaml"
CARD_TEMPLATE = Path(__file__).parent / "model_card.md"
# What may change when training goes on from a checkpoint; everything else is built into its weights.
CHANGEABLE = {"dropout", "embedding_dropout", "attention_dropout", "label_smoothing"}


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse_arguments(sys.argv[1:] if argv is None else argv, DEMO_RECIPE)
    model_arguments, data_arguments, training_arguments = arguments
    checkpoint = find_checkpoint(training_arguments)
    extras = callbacks(training_arguments, checkpoint)
    model_arguments.check_architecture()
    check_work(model_arguments, training_arguments)
    set_seed(training_arguments.seed)

    examples = load_examples(data_arguments)
    check_splits(examples, training_arguments)
    tokenizer = get_tokenizer(model_arguments, training_arguments, checkpoint, examples)
    model = get_model(model_arguments, checkpoint, tokenizer)
    model.generation_config.update(
        num_beams=model_arguments.num_beams,
        length_penalty=model_arguments.length_penalty,
        # the start token counts, too
        max_length=training_arguments.generation_max_length
        or 1 + (data_arguments.max_target_length or DEFAULT_MAX_NEW_TOKENS),
    )
    datasets = encode_splits(examples, tokenizer, data_arguments, training_arguments)

    target_lang = language_pair(data_arguments)[1]

    def score(predictions: list[str], references: list[str]) -> dict[str, Any] | None:
        return TranslationMetric().compute(predictions=predictions, references=references, target_lang=target_lang)

    trainer = RnnS2STrainer(
        model,
        training_arguments,
        score=score,
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        train_dataset=datasets.get("train"),
        eval_dataset=datasets.get("validation"),
        callbacks=extras,
    )
    if training_arguments.do_train:
        trainer.save_metrics("train", trainer.train(resume_from_checkpoint=checkpoint).metrics)
        trainer.save_model(_internal_call=True)  # a call from outside also pushes, but scores and card come first
        trainer.save_state()
    elif training_arguments.do_eval and "validation" in datasets:
        metrics = trainer.evaluate()
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)

    translations = predict_test_split(trainer, datasets.get("test"), model_arguments.num_beams)
    if trainer.is_world_process_zero():
        report(trainer, arguments, datasets, translations)
    if training_arguments.push_to_hub:
        trainer.push_to_hub()
    trainer.accelerator.end_training()


def check_work(model_arguments: ModelArguments, arguments: RnnS2STrainingArguments) -> None:
    """Raises if a run without training is told to make a model."""
    if arguments.do_train:
        return
    if model_arguments.model_name_or_path is None:
        raise ValueError("do_train=false: name the model that is to be evaluated, with --model_name_or_path.")
    for name in ("resume_from_checkpoint", "push_to_hub"):
        if getattr(arguments, name):
            raise ValueError(f"{name} goes with training, but do_train=false; leave it out.")


def check_splits(examples: dict[str, Examples], arguments: RnnS2STrainingArguments) -> None:
    """Raises what would otherwise come up when tokenizer and model are ready."""
    if not arguments.do_train:
        return
    if "train" not in examples:
        raise ValueError(f"There is nothing to train on, only {', '.join(examples)}; name a train_file.")
    if not isinstance(examples["train"], Dataset) and arguments.max_steps <= 0:
        raise ValueError("A streamed dataset does not tell its size: say how long to train, with --max_steps.")


def get_tokenizer(
    arguments: ModelArguments,
    training: RnnS2STrainingArguments,
    checkpoint: str | None,
    examples: dict[str, Examples],
) -> PreTrainedTokenizerFast:
    """The tokenizer of the checkpoint or of the given name; or a new one, trained by the first process for all."""
    name = checkpoint or arguments.tokenizer_name or arguments.model_name_or_path
    if name is None:
        new = train_new_tokenizer(arguments, examples["train"]) if training.process_index == 0 else None
        return broadcast_object_list([new])[0]
    tokenizer: Any = AutoTokenizer.from_pretrained(name)
    if tokenizer("a")["input_ids"][-1] != tokenizer.eos_token_id:
        raise ValueError(f"The tokenizer {name} does not end a text with an end token, so no translation would end.")
    if arguments.decoder_vocab_size is not None and not isinstance(tokenizer, RnnS2STokenizer):
        raise ValueError(
            f"decoder_vocab_size={arguments.decoder_vocab_size} asks for a vocabulary of the target's own, but the "
            f"tokenizer {name} has one for both sides; leave it out."
        )
    return tokenizer


def train_new_tokenizer(arguments: ModelArguments, examples: Examples) -> PreTrainedTokenizerFast:
    if arguments.decoder_vocab_size is None:
        return train_tokenizer(training_texts(examples), arguments.vocab_size, arguments.tokenizer_kind)
    return train_tokenizer(
        training_texts(examples, ["source"]),
        arguments.vocab_size,
        arguments.tokenizer_kind,
        target_texts=training_texts(examples, ["target"]),
        target_vocab_size=arguments.decoder_vocab_size,
    )


def get_model(
    arguments: ModelArguments, checkpoint: str | None, tokenizer: PreTrainedTokenizerFast
) -> RnnS2SForConditionalGeneration:
    """The model of the checkpoint or of the given name, or a new one. It is saved together with its code."""
    name, architecture = checkpoint or arguments.model_name_or_path, arguments.architecture()
    if name is None:
        vocab_size, decoder_vocab_size = vocabularies(tokenizer)
        config = RnnS2SConfig(
            vocab_size=vocab_size,
            decoder_vocab_size=decoder_vocab_size,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            unk_token_id=tokenizer.unk_token_id,
            decoder_start_token_id=tokenizer.pad_token_id
            if tokenizer.bos_token_id is None
            else tokenizer.bos_token_id,
            **architecture,
        )
        model = RnnS2SForConditionalGeneration(config)
    else:
        config = AutoConfig.from_pretrained(name)
        if not isinstance(config, RnnS2SConfig):
            raise ValueError(f"{name} is a {config.model_type!r} model; this script trains 'rnn_s2s' models.")
        for field, value in architecture.items():
            if field not in CHANGEABLE and getattr(config, field) != value:
                raise ValueError(
                    f"{field}={value}, but the checkpoint {name} has {field}={getattr(config, field)}; leave it out."
                )
            setattr(config, field, value)
        found, expected = vocabularies(tokenizer), [config.vocab_size, config.decoder_vocab_size]
        alike = (found[1] is None) == (expected[1] is None)
        if not alike or any((have or 0) > (room or 0) for have, room in zip(found, expected, strict=True)):
            raise ValueError(
                f"The tokenizer has {found} tokens on the source and the target side, the model {name} has {expected} "
                "(None: one vocabulary for both); leave out --tokenizer_name to use the tokenizer of the model."
            )
        model = RnnS2SForConditionalGeneration.from_pretrained(name, config=config)
    model.config.carry_code()
    return model


def vocabularies(tokenizer: PreTrainedTokenizerFast) -> tuple[int, int | None]:
    """Sizes of the source's vocabulary, and of the target's where that has its own."""
    separate = isinstance(tokenizer, RnnS2STokenizer)
    return len(tokenizer), len(tokenizer.target_tokenizer) if separate else None


def encode_splits(
    examples: dict[str, Examples],
    tokenizer: PreTrainedTokenizerFast,
    arguments: DataArguments,
    training: RnnS2STrainingArguments,
) -> dict[str, Examples]:
    """Each split that is needed as token ids. Those to evaluate on keep their texts, which are what is scored."""
    encoded = {}
    if training.do_train:
        encoded["train"] = tokenize_examples(examples["train"], tokenizer, arguments, training=True)
    for name in ["validation", *(["test"] if training.do_predict else [])]:
        if name in examples:
            ids = tokenize_examples(examples[name], tokenizer, arguments, training=False)
            encoded[name] = concatenate_datasets([ids, examples[name]], axis=1)
    return encoded


def callbacks(arguments: RnnS2STrainingArguments, checkpoint: str | None) -> list[TrainerCallback]:
    chosen: list[TrainerCallback] = []
    if arguments.early_stopping_patience is not None:
        chosen.append(EarlyStoppingCallback(arguments.early_stopping_patience))
    if arguments.ema_decay is not None:
        chosen.append(WeightAveraging(arguments.ema_decay, checkpoint))
    return chosen


def predict_test_split(trainer: RnnS2STrainer, test: Dataset | None, num_beams: int) -> list[tuple[str, str, str]]:
    """Rows of source, reference and translation; the scores go to `all_results.json`."""
    if test is None:
        return []
    output = trainer.predict(test, metric_key_prefix="predict", num_beams=num_beams)
    trainer.log_metrics("predict", output.metrics)
    trainer.save_metrics("predict", output.metrics)
    return list(zip(test["source"], test["target"], output.predictions, strict=True))


def report(trainer: RnnS2STrainer, arguments: Any, datasets: dict[str, Any], translations: list[Any]) -> None:
    """Writes what people will look at, and shows how to go on."""
    folder, model = Path(str(trainer.args.output_dir)), trainer.accelerator.unwrap_model(trainer.model)
    source = None
    if translations:
        write_predictions(folder / "predictions.tsv", translations)
        source = informative_example(trainer.processing_class, translations, arguments[1].max_source_length)
    if model.config.attention_type == "none":
        source = None
    if source is not None:
        draw_attention(folder / "attention.png", model, trainer.processing_class, source)
    if trainer.args.do_train:
        write_card(trainer, model, arguments, datasets, translations, source is not None)
    print(translations_table(translations[:5]))
    name = folder if trainer.args.do_train else arguments[0].model_name_or_path
    print(f'from transformers import pipeline; translator = pipeline("translation", "{name}", trust_remote_code=True)')


def write_card(
    trainer: RnnS2STrainer, model: Any, arguments: Any, datasets: dict[str, Any], translations: list[Any], draws: bool
) -> None:
    """The model card with its curves."""
    folder, curves = Path(str(trainer.args.output_dir)), has_training_curves(trainer.state.log_history)
    if curves:
        plot_training_curves(trainer.state.log_history).savefig(folder / "training_curves.png")
    card = build_model_card(
        CARD_TEMPLATE,
        model,
        *arguments,
        split_sizes={name: len(split) if isinstance(split, Dataset) else None for name, split in datasets.items()},
        metrics=json.loads((folder / "all_results.json").read_text(encoding="utf-8")),
        samples=translations[:5],
        has_curves=curves,
        has_attention_picture=draws,
        resumed=trainer.args.resume_from_checkpoint not in (None, "false"),
    )
    card.save(folder / "README.md")


if __name__ == "__main__":
    main()
