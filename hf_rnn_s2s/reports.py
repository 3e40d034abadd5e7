"""What a run leaves for people to look at: the table of translations, `predictions.tsv` and the pictures."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .pipeline_rnn_s2s import RnnTranslationPipeline
from .plots import plot_attention

# Everything that some reader of text files takes for the end of a line or of a field.
SEPARATORS = re.compile("\r\n|[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")
Row = tuple[str, str, str]
COLUMNS = ("source", "reference", "hypothesis")
WIDEST_PICTURE = 30  # tokens on an axis that can still be read


def translations_table(rows: Iterable[Row]) -> str:
    """Rows of `(source, reference, hypothesis)` as a block of three lines each."""
    blocks = [
        "\n".join(f"{name:>10}  {SEPARATORS.sub(' ', text)}" for name, text in zip(COLUMNS, row, strict=True))
        for row in rows
    ]
    return "\n" + "\n\n".join(blocks) + "\n"


def write_predictions(path: Path, rows: Iterable[Row]) -> None:
    """
    Writes a UTF-8 table with a header and one row per example, in order, tab between the columns, nothing quoted.

    A tab or line break inside a text (also the rarer ones, such as U+2028) would break the row: each is written as one
    space. The scores are those of the texts before that.
    """
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in (COLUMNS, *rows):
            file.write("\t".join(SEPARATORS.sub(" ", text) for text in row) + "\n")


def informative_example(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]) -> str:
    """The source whose attention is worth a look: the longest one that fits into a picture, rightly translated if one
    is. If none fits, the shortest."""
    lengths = [
        max(len(tokenizer(text)["input_ids"]) for text in (source, hypothesis)) for source, _, hypothesis in rows
    ]

    def worth(number: int) -> tuple[bool, bool, int]:
        _, reference, hypothesis = rows[number]
        fits = lengths[number] <= WIDEST_PICTURE
        return fits, hypothesis == reference and fits, lengths[number] if fits else -lengths[number]

    return rows[max(range(len(rows)), key=worth)][0]


def draw_attention(path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """Translates one text and draws where the model looked while it wrote."""
    translator = RnnTranslationPipeline(model=model, tokenizer=tokenizer, device=model.device)
    translation = translator(source, return_attentions=True)[0]
    tokens = (translation["source_tokens"], translation["target_tokens"])
    plot_attention(*tokens, translation["attention"]).savefig(path)


__all__ = ["draw_attention", "informative_example", "translations_table", "write_predictions"]
