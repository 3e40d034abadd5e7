"""
This package as a contender of `benchmarks.tasks`: training through `train.py`, decoding through the pipeline.

    python -m benchmarks.transduction_worker '{"train": ..., ...}'
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import pipeline

import train as script

from .tasks import rows_of

RECIPE = Path(script.__file__).parent / "recipes" / "g2p-sigmorphon2020.yaml"


def train(order: dict[str, Any]) -> dict[str, Any]:
    """Trains for some epochs as the recipe does, without a validation file with no evaluation on the way."""
    recipe: dict[str, Any] = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    recipe |= {
        "train_file": order["train"],
        "validation_file": order.get("val", order["test"]),
        "test_file": order["test"],
        "output_dir": order["folder"],
        "num_train_epochs": order["epochs"],
        "per_device_train_batch_size": order["batch"],
        "dropout": order["dropout"],
        "label_smoothing_factor": order["label_smoothing"],
        "seed": order["seed"],
        "bf16": order["precision"] == "bfloat16",
        "num_beams": 1,
        "disable_tqdm": True,
        **order["options"],
    }
    if "val" not in order:
        recipe |= {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
        del recipe["average_checkpoints"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "recipe.yaml")
        path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
        script.main([str(path)])
    results = json.loads((Path(order["folder"]) / "all_results.json").read_text(encoding="utf-8"))
    return {"seconds": results["train_runtime"], "parameters": _transducer(order["folder"]).model.num_parameters()}


def decode(order: dict[str, Any]) -> dict[str, Any]:
    """The test words through the trained model, greedily, some times: the outputs, and the seconds of each time."""
    transducer = _transducer(order["folder"])
    times = []
    for _ in range(order["rounds"] + 1):
        begin = time.perf_counter()
        words = [word for word, _ in rows_of(Path(order["test"]))]
        with torch.autocast("cpu", torch.bfloat16, enabled=order["precision"] == "bfloat16"):
            rows = transducer(words, batch_size=order["batch"], num_beams=1)
        outputs = [row["generated_text"] for row in rows]
        times.append(time.perf_counter() - begin)
    return {"seconds": times[1:], "outputs": outputs}


def _transducer(folder: str) -> Any:
    build: Any = pipeline  # whose overloads know the tasks of transformers alone
    return build("text2text-generation", folder, trust_remote_code=True)


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(asked["threads"])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what training prints goes elsewhere
    print(json.dumps({"train": train, "decode": decode}[asked["do"]](asked)), file=answers)
