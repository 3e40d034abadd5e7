"""How the pipeline translates documents: sentence by sentence, with the layout of the whole."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from ..errors import ProcessError
from .documents import joined_sentences, read_document, segmenter, split_long, write_document
from .reading import ReadingPipeline
from .text import describe_cuts, encode_whole, log_warnings

# From the arguments of reading and some texts to their records
Translate = Callable[[dict[str, Any], list[str]], list[Any]]
# What there is not of a document, since it is put together from many results
OF_ONE_SENTENCE = ("return_tensors", "return_attentions", "return_scores", "force_phrases")


class DocumentPipeline(ReadingPipeline):
    """Translates documents; see `split_sentences` of `RnnText2TextGenerationPipeline` in `pipeline.py`."""

    def _translate_documents(
        self,
        translate: Translate,
        preprocess_params: dict[str, Any],
        postprocess_params: dict[str, Any],
        texts: list[str],
        first: int,
    ) -> list[Any]:
        """Turn documents into records.

        Args:
            translate: turns sentences into records, given the arguments of reading them.
            preprocess_params: these arguments, with `split_sentences`.
            postprocess_params: the arguments of writing.
            texts: the documents.
            first: the number of the first one among all inputs.
        """
        config, language = self.model.config, preprocess_params["split_sentences"]
        segment = segmenter(language if isinstance(language, str) else getattr(config, "source_lang", None))
        documents = [read_document(text, segment) for text in texts]
        warnings: list[list[str]] = [[] for _ in documents]
        parts = self._parts(
            [
                (sentence, of_document)
                for blocks, of_document in zip(documents, warnings, strict=True)
                for block in blocks
                for sentence in block.sentences
            ]
        )
        if not preprocess_params.get("return_warnings"):
            log_warnings(warnings, first, way_out="")
        every = list(itertools.chain.from_iterable(parts))
        # What is to be said of the parts is said already.
        of_parts = {**preprocess_params, "split_sentences": False, "return_warnings": True}
        try:
            records = translate(of_parts, every) if every else []
        except ProcessError as error:
            raise error.renumbered(_owners(documents, parts, first)) from error
        name, target = f"{self.return_name}_text", getattr(config, "target_lang", None)
        written = (record[0][name] for record in records)
        whole = iter([joined_sentences(list(itertools.islice(written, len(one))), target) for one in parts])
        results: list[Any] = [[{name: write_document(blocks, whole, target)}] for blocks in documents]
        if postprocess_params.get("return_warnings"):
            for [result], of_document in zip(results, warnings, strict=True):
                result["warnings"] = of_document
        return results

    def _parts(self, sentences: list[tuple[str, list[str]]]) -> list[list[str]]:
        """The parts of each sentence, which is one part unless it is too long.

        Args:
            sentences: each with the warnings of its document, to which those of long ones are added.
        """
        if not sentences:  # which tokenizers do not take
            return []
        lengths = map(len, encode_whole(self.tokenizer, [sentence for sentence, _ in sentences]))
        limit = self.tokenizer.model_max_length
        return [
            [sentence] if length <= limit else self._parts_of_long(sentence, warnings)
            for (sentence, warnings), length in zip(sentences, lengths, strict=True)
        ]

    def _parts_of_long(self, sentence: str, warnings: list[str]) -> list[str]:
        limit = self.tokenizer.model_max_length
        parts = split_long(sentence, lambda part: len(encode_whole(self.tokenizer, [part])[0]) <= limit)
        cuts = describe_cuts(self.tokenizer, parts, encode_whole(self.tokenizer, parts))
        warnings += list(itertools.chain.from_iterable(cuts)) or [
            f"a sentence of more than {limit} tokens, the model_max_length of the tokenizer, is translated in "
            f"{len(parts)} parts: {sentence[:60]!r}..."
        ]
        return parts

    def _check_documents(self, forward_params: dict[str, Any], postprocess_params: dict[str, Any]) -> None:
        """Refuse what there is not of a document."""
        given = {**forward_params, **postprocess_params}
        unread = [name for name in OF_ONE_SENTENCE if given.get(name)]
        if not getattr(given.get("forbid_phrases"), "is_shared", True):
            unread.append("lists of phrases for each input")
        sequences = self._settings(forward_params).get("num_return_sequences") or 1
        if sequences > 1 and not postprocess_params.get("minimum_bayes_risk"):
            unread.append("num_return_sequences")
        if unread:
            raise ValueError(f"split_sentences gives the text of a document alone: leave out {', '.join(unread)}.")


def _owners(documents: list[list[Any]], parts: list[list[str]], first: int) -> list[int]:
    """For each part of a sentence the number of its document; `first` is that of the first one."""
    of_sentences = (
        number for number, blocks in enumerate(documents, first) for block in blocks for _ in block.sentences
    )
    return [number for number, one in zip(of_sentences, parts, strict=True) for _ in one]
