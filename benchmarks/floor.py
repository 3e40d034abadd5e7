"""
The floor under a step: the matrix products that it cannot do without, on this machine.

    python -m benchmarks.floor                     training and decoding, float32 and bfloat16
    python -m benchmarks.floor --hidden 1024 ...   another shape

Everything else in a step, element-wise passes, copies, memory, Python, is what an implementation may get rid of. So
the share of the products in the time of the real step says how near it is to what the machine can do. A product is
timed by itself, warm, in the ways that torch has for it, of which the fastest counts: `torch.mm` or `torch.bmm`, the
kernel of oneDNN, and, where weights stay from step to step, that with packed weights. A recurrent layer counts as its
products, or as the fused kernel where that takes less.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import NamedTuple

import torch

from benchmarks.options import parse, parser
from benchmarks.report import report, rounded
from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration
from hf_rnn_s2s.decoding.packing import has_kernels, linear, packed
from hf_rnn_s2s.machine import clip_gradients, has_fast_bfloat16, keep_freed_memory
from hf_rnn_s2s.model.cells_rnn_s2s import LSTMLayer

CPU = torch.device("cpu")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Product(NamedTuple):
    """
    `times` products of `(rows, inner)` and `(inner, columns)`; with a batch each is as many products as that. Where
    the second one `stays`, it may be packed beforehand.
    """

    name: str
    rows: int
    inner: int
    columns: int
    times: int = 1
    batch: int = 1
    stays: bool = False

    def seconds(self, dtype: torch.dtype, device: torch.device) -> float:
        """Of all of them together."""
        shape = () if self.batch == 1 else (self.batch,)
        left = torch.randn(*shape, self.rows, self.inner).to(device, dtype)
        right = torch.randn(*shape, self.columns, self.inner).to(device, dtype)
        ways: list[Callable[[], object]] = [lambda: left @ right.mT]
        if self.batch == 1 and has_kernels(left):
            ways.append(lambda: linear(left, right))
            if self.stays:
                packed_right = torch.ops.mkldnn._reorder_linear_weight(right)
                ways.append(lambda: linear(left, packed_right))
        return self.times * min(_seconds(way, device) for way in ways)


class Recurrence(NamedTuple):
    """
    An LSTM layer over `time` steps of `rows` rows, forwards and, where it `trains`, backwards. No gradient is needed
    of the state it begins with where that is zero.
    """

    name: str
    rows: int
    time: int
    inputs: int
    hidden: int
    trains: bool
    begins_with_zeros: bool = False

    def products(self) -> list[Product]:
        """What its equations multiply."""
        positions, gates, stays = self.rows * self.time, 4 * self.hidden, not self.trains
        forward = [
            Product("inputs", positions, self.inputs, gates, stays=stays),
            Product("steps", self.rows, self.hidden, gates, self.time, stays=stays),
        ]
        backward = [
            Product("steps, backwards", self.rows, gates, self.hidden, self.time - self.begins_with_zeros),
            Product("gradient of inputs", positions, gates, self.inputs),
            Product("gradient of input weights", gates, positions, self.inputs),
            Product("gradient of recurrent weights", gates, positions, self.hidden),
        ]
        return forward + (backward if self.trains else [])

    def seconds(self, dtype: torch.dtype, device: torch.device) -> float:
        """The products, or the kernel."""
        products = sum(product.seconds(dtype, device) for product in self.products())
        return min(products, self._kernel_seconds(dtype, device))

    def _kernel_seconds(self, dtype: torch.dtype, device: torch.device) -> float:
        layer = LSTMLayer(self.inputs, self.hidden)
        layer.initialize()
        layer = layer.to(device, dtype)
        inputs = torch.randn(self.rows, self.time, self.inputs).to(device, dtype).requires_grad_(self.trains)
        state = tuple(torch.zeros(self.rows, self.hidden, dtype=dtype, device=device) for _ in range(2))
        gradient = torch.ones(self.rows, self.time, self.hidden, dtype=dtype, device=device)
        leaves = [inputs, *layer.parameters()]

        def train() -> None:
            torch.autograd.grad(layer(inputs, state)[0], leaves, gradient)

        if self.trains:
            return _seconds(train, device)
        with torch.no_grad():
            ready = packed(layer)
            return _seconds(lambda: ready(inputs, state), device)


def training_floor(config: RnnS2SConfig, rows: int, source: int, target: int) -> list[Product | Recurrence]:
    """What a training step multiplies, for `rows` pairs of so many tokens: once forwards, twice backwards."""
    hidden, embedding = config.hidden_size, config.embedding_size
    fused = 2 * hidden if config.context_fusion == "concat" else hidden
    parts: list[Product | Recurrence] = [
        Recurrence("encoder, both directions", rows, source, embedding, hidden // 2, True, True) for _ in range(2)
    ]
    parts += [
        Recurrence("encoder", rows, source, hidden, hidden, True, True) for _ in range(config.encoder_layers - 1)
    ]
    parts += [
        Recurrence("decoder", rows, target, fused if layer else embedding, hidden, True)
        for layer in range(config.decoder_layers)
    ]
    for name, positions, inner, columns in (
        ("bridge", rows, hidden, 2 * config.decoder_layers * hidden),
        ("keys", rows * source, hidden, hidden),
        ("output projection", rows * target, fused, embedding),
        ("vocabulary", rows * target, embedding, config.target_vocab_size),
    ):
        parts += [
            Product(name, positions, inner, columns),
            Product(f"{name}, gradient of inputs", positions, columns, inner),
            Product(f"{name}, gradient of weights", inner, positions, columns),
        ]
    for name, inner, columns in (("scores", hidden, source), ("contexts", source, hidden)):
        parts += [
            Product(name, target, inner, columns, batch=rows),
            Product(f"{name}, gradient of queries or weights", target, columns, inner, batch=rows),
            Product(f"{name}, gradient of keys or memory", inner, target, columns, batch=rows),
        ]
    return parts


def decoding_floor(config: RnnS2SConfig, sentences: int, beams: int, source: int) -> list[Product | Recurrence]:
    """What one step of a search multiplies."""
    hidden, embedding, rows = config.hidden_size, config.embedding_size, sentences * beams
    fused = 2 * hidden if config.context_fusion == "concat" else hidden
    return [
        *(
            Recurrence("decoder", rows, 1, fused if layer else embedding, hidden, False)
            for layer in range(config.decoder_layers)
        ),
        Product("scores", beams, hidden, source, batch=sentences),
        Product("contexts", beams, source, hidden, batch=sentences),
        Product("output projection", rows, fused, embedding, stays=True),
        Product("vocabulary", rows, embedding, config.target_vocab_size, stays=True),
    ]


def floor_seconds(parts: list[Product | Recurrence], precision: str, device: torch.device = CPU) -> float:
    """The time of all of them."""
    return sum(part.seconds(PRECISIONS[precision], device) for part in parts)


def _seconds(run: Callable[[], object], device: torch.device = CPU, rounds: int = 15) -> float:
    for _ in range(3):
        run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return median(times)


def _difference_in_seconds(longer: Callable[[], object], shorter: Callable[[], object], rounds: int = 15) -> float:
    """How much longer the one takes. They take turns, so that what slows the machine down for a while slows both."""
    times: dict[Callable[[], object], list[float]] = {longer: [], shorter: []}
    for _ in range(3 + rounds):  # of which the first ones warm up
        for run, measured in times.items():
            start = time.perf_counter()
            run()
            measured.append(time.perf_counter() - start)
    return median(more - less for more, less in zip(times[longer][3:], times[shorter][3:], strict=True))


def training_step_seconds(config: RnnS2SConfig, rows: int, source: int, target: int, precision: str) -> float:
    """Of a real one as the Trainer takes it: forward, backward, clipping, update."""
    torch.manual_seed(0)
    model = RnnS2SForConditionalGeneration(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    input_ids = torch.randint(4, config.vocab_size, (rows, source))
    labels = torch.randint(4, config.target_vocab_size, (rows, target))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = model(input_ids=input_ids, labels=labels, return_logits=False).loss
        loss.backward()
        clip_gradients(model, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return _seconds(step)


def decoding_step_seconds(config: RnnS2SConfig, sentences: int, beams: int, source: int, precision: str) -> float:
    """Of a real one within `generate()`, search included."""
    torch.manual_seed(0)
    model = RnnS2SForConditionalGeneration(config).eval().to(PRECISIONS[precision])
    with torch.no_grad():
        model.lm_head.bias[config.eos_token_id] = -1e9  # no translation ends before the others
    input_ids = torch.randint(4, config.vocab_size, (sentences, source))

    longer, shorter = (
        partial(model.generate, input_ids, num_beams=beams, max_new_tokens=length) for length in (30, 10)
    )
    return _difference_in_seconds(longer, shorter) / 20


def main() -> None:
    """Prints the products of a step, their time, and their share."""
    options = parser(__doc__)
    options.add_argument("--embedding", type=int, default=256)
    options.add_argument("--hidden", type=int, default=512)
    options.add_argument("--encoder-layers", type=int, default=1)
    options.add_argument("--decoder-layers", type=int, default=1)
    options.add_argument("--source", type=int, default=14, help="tokens of a source")
    options.add_argument("--target", type=int, default=15, help="tokens of a target")
    options.add_argument("--beams", type=int, default=5)
    chosen = parse(options)
    keep_freed_memory()
    config = RnnS2SConfig(
        vocab_size=chosen.vocabulary,
        decoder_vocab_size=chosen.vocabulary,
        embedding_size=chosen.embedding,
        hidden_size=chosen.hidden,
        encoder_layers=chosen.encoder_layers,
        decoder_layers=chosen.decoder_layers,
        dropout=0.3,
        label_smoothing=0.1,
    )
    rows, source, target, beams = chosen.batch_size, chosen.source, chosen.target, chosen.beams
    precisions = ["float32", *(["bfloat16"] if has_fast_bfloat16("cpu") else [])]
    shares: dict[str, float] = {}
    milliseconds: dict[str, list[float]] = {}
    kinds: list[tuple[str, list[Product | Recurrence], Callable[[str], float]]] = [
        (
            "training",
            training_floor(config, rows, source, target),
            partial(training_step_seconds, config, rows, source, target),
        ),
        (
            "decoding",
            decoding_floor(config, rows, beams, source),
            partial(decoding_step_seconds, config, rows, beams, source),
        ),
    ]
    for kind, parts, step_seconds in kinds:
        for precision in precisions:
            floors, steps = [], []
            for _ in range(1 if chosen.quick else chosen.rounds):
                floors.append(floor_seconds(parts, precision))
                steps.append(step_seconds(precision))
            shares[f"{kind}, {precision}"] = rounded(median(floors) / median(steps))
            milliseconds[f"{kind}, {precision}"] = [1e3 * step for step in steps]
            print(
                f"{kind} {precision:9} products {1e3 * median(floors):7.2f} ms   step {1e3 * median(steps):7.2f} ms   "
                f"share {median(floors) / median(steps):.0%}"
            )
    report("floor", "milliseconds of a step", milliseconds, floor_share=shares, more_is_better=False)


if __name__ == "__main__":
    main()
