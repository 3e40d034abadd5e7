"""Trains a model for a task and leaves it, with its scores and pictures, in a folder.

    python train.py                                            recipes/demo.yaml, on the embedded corpus
    python train.py recipes/NAME.yaml [--argument value ...]   a recipe; the command line wins over it
    torchrun --nproc_per_node 2 train.py ...                   two processes, or `accelerate launch` for several GPUs
    python train.py --task summarization ...                   another task than translation; each has its recipes
    python train.py --help                                     every argument

The folder `output_dir` then holds the model with its code and tokenizer, `all_results.json`, `predictions.tsv`,
`training_curves.png`, `attention.png` and `README.md`, the model card.

Two functions have imports of their own: a mistake in the arguments is told before what training needs is loaded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_rnn_s2s.errors import ending_with_a_message
from hf_rnn_s2s.training.argument_checks import CHECKS
from hf_rnn_s2s.training.command_line import Arguments, parse_arguments
from hf_rnn_s2s.training.run_folder import own_folder

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_rnn_s2s.data.columns import Examples
    from hf_rnn_s2s.training.alignment import GoldAlignment
    from hf_rnn_s2s.training.trainer import RnnS2STrainer

DEMO_RECIPE = Path(__file__).parent / "recipes" / "demo.yaml"
CARD_TEMPLATE = Path(__file__).parent / "model_card.md"


def main(argv: Sequence[str] | None = None) -> None:
    """Trains, does the task on the test split and reports. `argv` follows the script's name; None: as called."""
    arguments = parse_arguments(sys.argv[1:] if argv is None else argv, DEMO_RECIPE, CHECKS)
    with own_folder(arguments.training):
        if arguments.training.ensemble_size == 1:
            run(arguments)
        else:
            from hf_rnn_s2s.training.ensembles import train_ensemble

            train_ensemble(arguments, run)


def run(arguments: Arguments) -> None:
    """What `main` does when the arguments are in order and the output folder is ours."""
    from transformers import set_seed

    from hf_rnn_s2s.data.loading import load_examples, require_splits
    from hf_rnn_s2s.runtime.export import check_export, export_model
    from hf_rnn_s2s.training.attention_metrics import gold_alignments, require_alignable
    from hf_rnn_s2s.training.averaging import average_checkpoints, chosen_callbacks, last_checkpoints
    from hf_rnn_s2s.training.building import (
        get_model,
        get_tokenizer,
        longest_source,
        set_generation,
        set_longest_source,
    )
    from hf_rnn_s2s.training.checkpoints import find_checkpoint
    from hf_rnn_s2s.training.ensembles import load_ensemble
    from hf_rnn_s2s.training.processes import end_together
    from hf_rnn_s2s.training.trainer import RnnS2STrainer

    model_arguments, data_arguments, training_arguments, task = arguments
    checkpoint = find_checkpoint(training_arguments)
    set_seed(training_arguments.seed)

    corpus = task.corpus(data_arguments)
    examples = load_examples(data_arguments, task.layout(data_arguments), corpus and corpus.build)
    require_splits(examples, training_arguments.do_train, training_arguments.do_predict)
    task.check_examples(examples)
    gold = gold_alignments(examples.get("test"), data_arguments)
    tokenizer = get_tokenizer(model_arguments, training_arguments, checkpoint, examples, task)
    went_on_from = checkpoint or model_arguments.model_name_or_path
    processor = task.get_processor(tokenizer, went_on_from, model_arguments)
    collator = task.collator(processor, data_arguments, training_arguments)
    if training_arguments.do_train:
        set_longest_source(tokenizer, data_arguments)
    else:
        data_arguments.max_source_length = longest_source(tokenizer)  # as in the pipeline
    model = get_model(model_arguments, checkpoint, tokenizer, task.languages(data_arguments), task.name)
    require_alignable(model, tokenizer, data_arguments)
    set_generation(model, model_arguments, data_arguments, training_arguments)
    if training_arguments.export:
        check_export(model)  # now, and not when hours have passed
    datasets = task.encode_splits(examples, processor, data_arguments, training_arguments)

    trainer = RnnS2STrainer(
        model,
        training_arguments,
        score=task.score(model.config, tokenizer),
        processing_class=processor,
        data_collator=collator,
        train_dataset=datasets.get("train"),
        eval_dataset=datasets.get("validation"),
        callbacks=chosen_callbacks(training_arguments, checkpoint),
    )
    if training_arguments.do_train:
        trainer.save_metrics("train", trainer.train(resume_from_checkpoint=checkpoint).metrics)
        if training_arguments.average_checkpoints is not None:
            folder = Path(str(training_arguments.output_dir))
            averaged = last_checkpoints(folder, training_arguments.average_checkpoints)
            average_checkpoints(trainer.accelerator.unwrap_model(trainer.model), averaged)
            trainer.save_metrics("eval", trainer.evaluate())
        trainer.save_model(_internal_call=True)  # a call from outside also pushes, but scores and card come first
        trainer.save_state()
    ensemble = load_ensemble(model_arguments.ensemble_models, model, tokenizer)
    if not training_arguments.do_train and "validation" in datasets:
        metrics = trainer.evaluate(**ensemble)
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)

    results = predict_test_split(trainer, datasets.get("test"), gold, data_arguments.squeeze_whitespace, ensemble)
    if trainer.is_world_process_zero():
        report(trainer, arguments, datasets, results, resumed=checkpoint is not None)
    if training_arguments.export and trainer.is_world_process_zero():
        folder = Path(str(training_arguments.output_dir)) / training_arguments.export
        model = trainer.accelerator.unwrap_model(trainer.model)
        export_model(model, folder, training_arguments.export, tokenizer=processor)
    if training_arguments.push_to_hub:
        trainer.push_to_hub()
    end_together(trainer)


def predict_test_split(
    trainer: RnnS2STrainer,
    test: Dataset | None,
    gold: list[GoldAlignment] | None,
    squeezes: bool,
    ensemble: dict[str, Any],
) -> list[tuple[str, str, str]]:
    """Rows of source, reference and result; the scores, also of the alignments, go to `all_results.json`.

    `ensemble` has the models that write together with that of the trainer, as an argument of `generate()`.
    """
    from hf_rnn_s2s.training.attention_metrics import score_alignments

    if test is None:
        return []
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    beams = model.generation_config.num_beams or 1
    output = trainer.predict(test, metric_key_prefix="predict", num_beams=beams, **ensemble)
    metrics: dict[str, Any] = dict(output.metrics or {})
    if gold is not None:
        scores = score_alignments(model, trainer.processing_class, test, gold, squeezes)
        metrics |= {f"predict_{name}": score for name, score in scores.items()}
    trainer.log_metrics("predict", metrics)
    trainer.save_metrics("predict", metrics)
    return list(zip(test["source"], test["target"], output.predictions, strict=True))


def report(
    trainer: RnnS2STrainer,
    arguments: Arguments,
    datasets: dict[str, Examples],
    results: list[tuple[str, str, str]],
    resumed: bool,
) -> None:
    """Writes what people will look at, and shows how to go on."""
    from hf_rnn_s2s.training.model_card import build_model_card
    from hf_rnn_s2s.training.reports import draw_training_curves, results_table, write_predictions

    folder, model = Path(str(trainer.args.output_dir)), trainer.accelerator.unwrap_model(trainer.model)
    if results:
        write_predictions(folder / "predictions.tsv", results)
        if model.config.attention_type != "none":
            drawn = (model, trainer.processing_class, results, datasets["test"], arguments.data)
            arguments.task.draw_attention(folder / "attention.png", *drawn)
    if trainer.args.do_train:
        titles = {name: metric.curve for name, metric in arguments.task.metrics.items()}
        chosen_by = trainer.args.metric_for_best_model
        draw_training_curves(folder / "training_curves.png", trainer.state, chosen_by, titles)
        card = build_model_card(
            CARD_TEMPLATE,
            model,
            *arguments,
            split_sizes={name: getattr(split, "num_rows", None) for name, split in datasets.items()},
            metrics=json.loads((folder / "all_results.json").read_text(encoding="utf-8")),
            samples=results[:5],
            pictures={path.name for path in folder.glob("*.png")},
            resumed=resumed,
        )
        card.save(folder / "README.md")
    print(results_table(results[:5]))
    name = folder if trainer.args.do_train else arguments.model.model_name_or_path
    writer, task = arguments.task.words.writer, arguments.task.pipeline_name
    print(f'from transformers import pipeline; {writer} = pipeline("{task}", "{name}", trust_remote_code=True)')


if __name__ == "__main__":
    with ending_with_a_message("train.py"):
        main()
