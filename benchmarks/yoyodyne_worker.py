"""
yoyodyne as a contender of `benchmarks.tasks`, run by the interpreter of its own environment.

    PYTHON -m benchmarks.yoyodyne_worker '{"train": ..., ...}'

It is used as its own command line uses it: its data module, its model, the Trainer of Lightning. Training is timed
from the first batch to the last one, decoding from files to text.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import optim
from yoyodyne import data, models, schedulers
from yoyodyne.data import mappers
from yoyodyne.models import modules

LONGEST = 128  # symbols of a target, as by default
QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}


class Clock(lightning.Callback):
    """The seconds from the first batch to the last one."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.begin = time.perf_counter()

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.seconds = time.perf_counter() - self.begin


def contender(order: dict[str, Any]) -> tuple[data.DataModule, models.SoftAttentionLSTMModel]:
    """The data and the model, of the sizes that the order names."""
    files = {name: order[name] for name in ("train", "val", "predict", "test") if order.get(name)}
    loaded = data.DataModule(
        model_dir=order["folder"], target_sep=" ", tie_embeddings=False, batch_size=order["batch"], **files
    )
    sizes, dropout = order["sizes"], order["dropout"]
    encoder = modules.LSTMEncoder(
        hidden_size=sizes["encoder"] // 2,
        layers=sizes["encoder_layers"],
        bidirectional=True,
        dropout=dropout,
        embedding_size=sizes["embedding"],
    )
    model = models.SoftAttentionLSTMModel(
        source_encoder=encoder,
        decoder_hidden_size=sizes["decoder"],
        decoder_layers=1,
        decoder_dropout=dropout,
        embedding_size=sizes["embedding"],
        label_smoothing=order["label_smoothing"],
        max_target_length=LONGEST,
        optimizer=lambda parameters: optim.AdamW(parameters, lr=order["learning_rate"], weight_decay=0.01),
        scheduler=schedulers.Dummy,
        vocab_size=loaded.vocab_size,
        target_vocab_size=loaded.target_vocab_size,
    )
    return loaded, model


def train(order: dict[str, Any]) -> dict[str, Any]:
    """Trains for some epochs. With a validation file, the model of the best epoch is kept."""
    lightning.seed_everything(order["seed"], verbose=False)
    loaded, model = contender(order)
    clock, validates = Clock(), "val" in order
    callbacks: list[lightning.Callback] = [clock]
    if validates:
        kept = {"filename": "best", "monitor": "val_accuracy", "mode": "max", "save_weights_only": True}
        callbacks.append(ModelCheckpoint(order["folder"], **kept))
    trainer = lightning.Trainer(
        max_epochs=order["epochs"],
        precision=order["precision"],
        gradient_clip_val=1.0,
        enable_checkpointing=validates,
        limit_val_batches=None if validates else 0,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        **QUIET,
    )
    trainer.fit(model, loaded)
    return {"seconds": clock.seconds, "parameters": sum(one.numel() for one in model.parameters())}


def decode(order: dict[str, Any]) -> dict[str, Any]:
    """The test words through the trained model, greedily, some times: the outputs, and the seconds of each time."""
    loaded, model = contender({**order, "predict": order["test"]})
    model.load_state_dict(torch.load(Path(order["folder"]) / "best.ckpt", weights_only=False)["state_dict"])
    mapper, times = mappers.Mapper(loaded.index), []
    trainer = lightning.Trainer(precision=order["precision"], **QUIET)
    for _ in range(order["rounds"] + 1):
        begin = time.perf_counter()
        batches = trainer.predict(model, loaded)
        outputs = [" ".join(mapper.decode_target(row)) for batch in batches for row in batch]
        times.append(time.perf_counter() - begin)
    return {"seconds": times[1:], "outputs": outputs}


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(asked["threads"])
    print(json.dumps({"train": train, "decode": decode}[asked["do"]](asked)))
