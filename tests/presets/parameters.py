"""How many parameters each preset has in the sizes of its paper, counted by hand."""


def lstm(inputs: int, hidden: int) -> int:
    """Four gates, each with weights for inputs and state and, as in torch, two biases."""
    return 4 * hidden * (inputs + hidden + 2)


def gru(inputs: int, hidden: int) -> int:
    return 3 * hidden * (inputs + hidden + 2)


def affine(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def sutskever2014() -> int:
    """The paper counts 384 million, 64 million of them recurrent, without biases."""
    embeddings = 160_000 * 1000 + 80_000 * 1000
    return embeddings + 2 * 4 * lstm(1000, 1000) + affine(1000, 80_000)


def bahdanau2015() -> int:
    embeddings = 2 * 30_000 * 620
    encoder = 2 * 3 * 1000 * (620 + 1000 + 1)
    first_state = affine(1000, 1000)
    attention = affine(1000, 1000) + 2000 * 1000 + 1000
    decoder = 3 * 1000 * (620 + 2000 + 1000 + 1)
    maxout = affine(1000 + 2000 + 620, 2 * 500)
    return embeddings + encoder + first_state + attention + decoder + maxout + affine(500, 30_000)


def luong2015() -> int:
    embeddings = 2 * 50_000 * 1000
    encoder = 4 * lstm(1000, 1000)
    decoder = lstm(1000 + 1000, 1000) + 3 * lstm(1000, 1000)
    attention = 1000 * 1000
    return embeddings + encoder + decoder + attention + affine(2 * 1000, 1000) + affine(1000, 50_000)


def luong2015_local() -> int:
    position = 1000 * 1000 + 1000
    return luong2015() + position


def gnmt2016() -> int:
    embeddings = 2 * 32_000 * 1024
    encoder = 2 * lstm(1024, 1024) + lstm(2048, 1024) + 6 * lstm(1024, 1024)
    attention = affine(1024, 1024) + 1024 * 1024 + 1024
    decoder = lstm(1024, 1024) + 7 * lstm(2048, 1024)
    return embeddings + encoder + attention + decoder + affine(1024, 32_000)


def rnmt_plus2018() -> int:
    def normed(inputs: int) -> int:
        return 4 * 1024 * (inputs + 1024 + 2)  # gain and bias in place of two biases

    embeddings = 2 * 32_000 * 1024
    encoder = 2 * normed(1024) + 5 * 2 * normed(2048) + 2048 * 1024
    heads = 3 * 1024 * 1024 + affine(256, 256) + 256 * 256 + 256
    decoder = 8 * normed(1024 + 1024)
    return embeddings + encoder + heads + decoder + affine(2048, 32_000)


def hybrid() -> int:
    embeddings = 2 * 32_000 * 1024
    norm = 2 * 1024
    attention = 4 * affine(1024, 1024)
    feed_forward = affine(1024, 8192) + affine(8192, 1024)
    encoder = 6 * (attention + feed_forward + 2 * norm) + norm
    heads = 3 * 1024 * 1024 + affine(256, 256) + 256 * 256 + 256
    decoder = 8 * 4 * 1024 * (1024 + 1024 + 1024 + 2)
    return embeddings + encoder + heads + decoder + affine(2048, 32_000)


def pretrained_encoder() -> int:
    """BERT base (Devlin et al. 2019), without its pooling layer, under the default decoder with 8,000 tokens."""
    norm = 2 * 768
    bert = (30_522 + 512 + 2) * 768 + norm
    bert += 12 * (4 * affine(768, 768) + affine(768, 3072) + affine(3072, 768) + 2 * norm)
    first_states = 2 * affine(768, 2 * 512)
    decoder = lstm(256, 512) + lstm(512 + 768, 512)
    attention = 768 * 512
    readout = affine(512 + 768, 256) + affine(256, 8000)
    return bert + 8000 * 256 + first_states + decoder + attention + readout


def pointer_generator2017() -> int:
    embeddings = 50_000 * 128
    encoder = 2 * lstm(128, 256)
    first_states = 2 * affine(512, 256)
    attention = affine(256, 512) + 512 * 512 + 512
    coverage, copying = 512, 512 + 256 + 128 + 1
    readout = affine(256 + 512, 256) + affine(256, 50_000)
    return embeddings + encoder + first_states + lstm(128, 256) + attention + coverage + copying + readout


def wu2019_hard(window: int = 6) -> int:
    """`window` is the number of moves."""
    return _wu2019(800 * window + affine(400, window))


def wu2019_hard_monotonic() -> int:
    return _wu2019(800 * 400)


def wu2019_hard_zeroth_order() -> int:
    return _wu2019(800 * 400)


def wu2019_hard_first_order() -> int:
    return wu2019_hard(window=11)


def _wu2019(attention: int) -> int:
    embeddings = 2 * 100 * 200
    encoder = 2 * lstm(200, 400) + 2 * lstm(800, 400)
    readout = affine(400 + 800, 1200) + affine(1200, 100)
    return embeddings + encoder + lstm(200, 400) + attention + readout


def nematus_conditional_gru() -> int:
    embeddings = 2 * 30_000 * 512
    encoder = 2 * gru(512, 1000)
    first_state = affine(2000, 1000)
    attention = affine(1000, 2000) + 2000 * 2000 + 2000
    decoder = gru(512, 1000) + gru(2000, 1000)
    deep = affine(1000 + 2000 + 512, 512)
    return embeddings + encoder + first_state + attention + decoder + deep + affine(512, 30_000)


def cosine_add() -> int:
    """In the sizes of the default architecture, with one vocabulary of 8,000 tokens."""
    embeddings = 8000 * 256
    encoder = 2 * lstm(256, 256)
    first_state = 2 * affine(512, 512)
    return embeddings + encoder + first_state + 512 * 512 + lstm(256, 512) + affine(512, 8000)


def self_attentive() -> int:
    tokens = affine(512, 512) + 512
    return nematus_conditional_gru() + 2000 * 2000 + tokens
