"""
Whether `luong2015` and OpenNMT-py are one model: trained from the same weights on the same batches, by how much their
losses differ.

    python -m benchmarks.same_training --peer PYTHON --steps 30

PYTHON is the interpreter of an environment with OpenNMT-py 3.5.1, as in `benchmarks.input_feeding`. OpenNMT-py draws
the weights and the batches, trains, and leaves all of that in a file; then this package loads the weights and trains
on those batches. Four layers of 512 on each side that copy their states, general attention of the top layer, input
feeding, embeddings of 256, sources and targets of different lengths with padding, Adam, gradients clipped at 1, in
float32. Without dropout, since no two implementations draw the same masks; the bias of our readout, which OpenNMT-py
lacks, stays at zero.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration

Texts = list[list[int]]
LAYERS, EMBEDDING, HIDDEN, TOKENS, ROWS = 4, 256, 512, 8000, 32
TRAINING = f"""
import random, sys
import torch
from torch import nn
from onmt.decoders.decoder import InputFeedRNNDecoder
from onmt.encoders.rnn_encoder import RNNEncoder
from onmt.models import NMTModel
from onmt.modules import Embeddings

path, steps = sys.argv[1], int(sys.argv[2])
torch.manual_seed(0)
random.seed(0)
layers, embedding, hidden, tokens, rows = {LAYERS}, {EMBEDDING}, {HIDDEN}, {TOKENS}, {ROWS}

def embeddings():
    return Embeddings(word_vec_size=embedding, word_vocab_size=tokens, word_padding_idx=0)

def batch():
    return [[random.randrange(4, 200) for _ in range(random.randrange(3, 15))] for _ in range(rows)]

def padded(texts):
    longest = max(map(len, texts))
    return torch.tensor([text + [0] * (longest - len(text)) for text in texts]).unsqueeze(-1)

encoder = RNNEncoder("LSTM", False, layers, hidden, 0.0, embeddings(), False)
decoder = InputFeedRNNDecoder("LSTM", False, layers, hidden, attn_type="general", embeddings=embeddings())
model, output_layer = NMTModel(encoder, decoder), nn.Linear(hidden, tokens)
parameters = [*model.parameters(), *output_layer.parameters()]
for parameter in parameters:
    nn.init.uniform_(parameter, -0.1, 0.1)
weights = {{name: one.clone() for name, one in [*model.state_dict().items(), *output_layer.state_dict().items()]}}
batches = [(batch(), batch()) for _ in range(steps)]
optimizer, entropy, losses = torch.optim.Adam(parameters, lr=1e-3), nn.CrossEntropyLoss(ignore_index=0), []
for sources, targets in batches:
    lengths = torch.tensor([len(text) for text in sources])
    written = padded([[1, *text, 2] for text in targets])
    outputs, _ = model(padded([text[::-1] for text in sources]), written, lengths)
    loss = entropy(output_layer(outputs.reshape(-1, hidden)), written[:, 1:].reshape(-1))
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
torch.save((weights, batches, losses), path)
"""


def trained_by_the_peer(python: Path, steps: int) -> Any:
    """First weights by name, batches of token lists, and the loss of every step, of OpenNMT-py."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "training.pt"
        command = [str(python), "-c", TRAINING, str(path), str(steps)]
        outcome = subprocess.run(command, capture_output=True, text=True, check=False)
        if outcome.returncode:
            sys.exit(f"{python} failed:\n{outcome.stderr[-2000:]}")
        return torch.load(path)


def build(weights: dict[str, Tensor]) -> RnnS2SForConditionalGeneration:
    """Our model with these weights, which are used up."""
    sizes: dict[str, Any] = {"embedding_size": EMBEDDING, "hidden_size": HIDDEN, "readout_size": HIDDEN}
    vocabularies: dict[str, Any] = {"vocab_size": TOKENS, "decoder_vocab_size": TOKENS}
    model = RnnS2SForConditionalGeneration(RnnS2SConfig.from_preset("luong2015", **sizes, **vocabularies, dropout=0.0))
    for name, parameter in model.named_parameters():
        if name == "model.decoder.output_projection.bias":
            parameter.requires_grad_(False).zero_()
        else:
            parameter.data.copy_(theirs(name, weights))
    return model.train()


def theirs(name: str, weights: dict[str, Tensor]) -> Tensor:
    """The weight of OpenNMT-py that is our weight of this name."""
    side, part = ("encoder" if ".encoder." in name else "decoder"), name.rpartition(".")[2]
    if name.startswith("lm_head"):
        return weights[part]
    if "embed_tokens" in name:
        return weights[f"{side}.embeddings.make_embedding.emb_luts.0.weight"]
    if "key_projection" in name:  # q · W m here, and m · W q there
        return weights["decoder.attn.linear_in.weight"].T
    if "output_projection" in name:  # reads [h; c] here, and [c; h] there
        context, state = weights["decoder.attn.linear_out.weight"].chunk(2, dim=1)
        return torch.cat([state, context], dim=1)
    number = name.split(".")[3]
    if side == "decoder":
        return weights[f"decoder.rnn.layers.{number}.{part}"]
    return weights[f"encoder.rnn.{part}_l{int(number) + 1 if number.isdigit() else 0}"]


def padded(texts: Texts, filler: int) -> Tensor:
    """Token ids `(rows, longest)`, with the filler behind those of shorter texts."""
    longest = max(map(len, texts))
    return torch.tensor([text + [filler] * (longest - len(text)) for text in texts])


def train(model: RnnS2SForConditionalGeneration, batches: list[tuple[Texts, Texts]]) -> list[float]:
    """The loss of every step."""
    parameters = [one for one in model.parameters() if one.requires_grad]
    optimizer, losses = torch.optim.Adam(parameters, lr=1e-3), []
    for sources, targets in batches:
        source, labels = padded(sources, 0), padded([[*text, 2] for text in targets], -100)
        loss = model(source, attention_mask=(source != 0).long(), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def main() -> None:
    """Prints the losses of both at every step, and the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="interpreter of the environment with OpenNMT-py")
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    weights, batches, other = trained_by_the_peer(arguments.peer, arguments.steps)
    own = train(build(weights), batches)
    for step, (one, two) in enumerate(zip(own, other, strict=True), start=1):
        print(f"step {step}: ours {one:.6f}, OpenNMT-py {two:.6f}, difference {one - two:+.1e}")
    print(f"largest difference {max(abs(one - two) for one, two in zip(own, other, strict=True)):.1e}")


if __name__ == "__main__":
    main()
