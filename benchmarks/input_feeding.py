"""
Training with input feeding, beside OpenNMT-py: the same shape, in turns, each in a process of its own.

    python -m benchmarks.input_feeding --peer PYTHON --rounds 5

PYTHON is the interpreter of an environment with OpenNMT-py 3.5.1. It wants an old torch, so it is installed by itself:

    pip install torch
    pip install --no-deps OpenNMT-py==3.5.1
    pip install configargparse pyyaml six sacrebleu waitress flask tensorboard ctranslate2 pyonmttok rapidfuzz \
        fasttext-wheel spacy pyahocorasick

Embeddings of 256, a bidirectional LSTM of 256 each way, a decoder of 512 with general attention and the attentional
vector fed back, vocabularies of 8,000, dropout 0.3, Adam, in float32: 12.67 million parameters on both sides. The
figures are target tokens per second, of random tokens, medians over the steps.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

ROWS, SOURCE, TARGET = 64, 14, 15  # of a batch, about as in Multi30k

TIMING = """
import json, sys, time
import torch
from torch import nn

rows, source, target, steps = json.loads(sys.argv[1])
torch.manual_seed(0)
torch.set_num_threads(2)

def time_steps(parameters, loss_of):
    optimizer, times = torch.optim.Adam(parameters, lr=1e-3), []
    for _ in range(steps + 2):
        begin = time.perf_counter()
        loss_of().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - begin)
    print(json.dumps([sum(one.numel() for one in parameters), times[2:]]))
"""
OURS = (
    TIMING
    + """
from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration

sizes = dict(vocab_size=8000, decoder_vocab_size=8000, embedding_size=256, hidden_size=512, readout_size=512)
shape = dict(encoder_type="bidirectional", reverse_source=False, encoder_layers=1, decoder_layers=1, dropout=0.3)
model = RnnS2SForConditionalGeneration(RnnS2SConfig.from_preset("luong2015", **sizes, **shape)).train()
model.skip_logits_in_training()
tokens, labels = torch.randint(4, 8000, (rows, source)), torch.randint(4, 8000, (rows, target))
time_steps(list(model.parameters()), lambda: model(tokens, labels=labels).loss)
"""
)
THEIRS = (
    TIMING
    + """
from onmt.decoders.decoder import InputFeedRNNDecoder
from onmt.encoders.rnn_encoder import RNNEncoder
from onmt.models import NMTModel
from onmt.modules import Embeddings

def embeddings():
    return Embeddings(word_vec_size=256, word_vocab_size=8000, word_padding_idx=1, dropout=0.3)

encoder = RNNEncoder("LSTM", True, 1, 512, 0.3, embeddings(), False)
decoder = InputFeedRNNDecoder("LSTM", True, 1, 512, attn_type="general", dropout=0.3, embeddings=embeddings())
model, output_layer = NMTModel(encoder, decoder), nn.Linear(512, 8000)
tokens, labels = torch.randint(4, 8000, (rows, source, 1)), torch.randint(4, 8000, (rows, target + 1, 1))
lengths, entropy = torch.full((rows,), source), nn.CrossEntropyLoss()

def loss_of():
    outputs, _ = model(tokens, labels, lengths)
    return entropy(output_layer(outputs.reshape(-1, 512)), labels[:, 1:].reshape(-1))

time_steps([*model.parameters(), *output_layer.parameters()], loss_of)
"""
)


def tokens_per_second(python: str, code: str, steps: int) -> tuple[int, float]:
    """The number of parameters, and target tokens per second."""
    order = json.dumps([ROWS, SOURCE, TARGET, steps])
    outcome = subprocess.run([python, "-c", code, order], capture_output=True, text=True, check=False)
    if outcome.returncode:
        sys.exit(f"{python} failed:\n{outcome.stderr[-2000:]}")
    parameters, times = json.loads(outcome.stdout.splitlines()[-1])
    return parameters, ROWS * TARGET / statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="interpreter of the environment with OpenNMT-py")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    arguments = parser.parse_args()
    ours, theirs = [], []
    for number in range(arguments.rounds):
        mine = tokens_per_second(sys.executable, OURS, arguments.steps)
        other = tokens_per_second(str(arguments.peer), THEIRS, arguments.steps)
        ours.append(mine[1])
        theirs.append(other[1])
        print(f"round {number + 1}: ours {mine[1]:,.0f}, OpenNMT-py {other[1]:,.0f} target tokens/s", flush=True)
    print(f"parameters: ours {mine[0]:,}, OpenNMT-py {other[0]:,}")
    ratios = [one / two for one, two in zip(ours, theirs, strict=True)]
    print(
        f"ratio of medians {statistics.median(ours) / statistics.median(theirs):.3f}, "
        f"of the rounds {min(ratios):.3f} to {max(ratios):.3f}"
    )


if __name__ == "__main__":
    main()
