"""How the pipeline translates documents: sentence by sentence, with the layout of the whole."""

from __future__ import annotations

import itertools
from typing import Any

from .documents import joined_sentences, read_document, segmenter, split_long, write_document
from .reading import ReadingPipeline
from .text import describe_cuts, encode_whole, log_warnings

# What there is not of a document, since it is put together from many results
OF_ONE_SENTENCE = ("return_tensors", "return_attentions", "return_scores", "force_phrases")


class DocumentPipeline(ReadingPipeline):
    """Translates documents; see `split_sentences` of `RnnText2TextGenerationPipeline` in `pipeline.py`."""

    def _translate(
        self,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
        texts: list[str],
        first: int,
    ) -> list[Any]:
        """Turn some texts into records; `first` is the number of the first one among all inputs."""
        raise NotImplementedError

    def _translate_documents(
        self,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
        texts: list[str],
        first: int,
    ) -> list[Any]:
        """As `_translate`, for documents."""
        self._check_documents(forward_params, postprocess_params)
        config, language = self.model.config, preprocess_params["split_sentences"]
        segment = segmenter(language if isinstance(language, str) else getattr(config, "source_lang", None))
        documents = [read_document(text, segment) for text in texts]
        warnings: list[list[str]] = [[] for _ in documents]
        sentences = [
            self._parts(sentence, of_document)
            for blocks, of_document in zip(documents, warnings, strict=True)
            for block in blocks
            for sentence in block.sentences
        ]
        if not preprocess_params.get("return_warnings"):
            log_warnings(warnings, first, way_out="")
        parts = list(itertools.chain.from_iterable(sentences))
        # What is to be said of the parts is said already.
        of_parts = {**preprocess_params, "split_sentences": False, "return_warnings": True}
        records = self._translate(batch_size, of_parts, forward_params, postprocess_params, parts, 0) if parts else []
        name, target = f"{self.return_name}_text", getattr(config, "target_lang", None)
        written = (record[0][name] for record in records)
        whole = iter([joined_sentences(list(itertools.islice(written, len(one))), target) for one in sentences])
        results: list[Any] = [[{name: write_document(blocks, whole, target)}] for blocks in documents]
        if postprocess_params.get("return_warnings"):
            for [result], of_document in zip(results, warnings, strict=True):
                result["warnings"] = of_document
        return results

    def _parts(self, sentence: str, warnings: list[str]) -> list[str]:
        """The parts of a sentence, which is one part unless it is too long; a warning is added if it is."""
        limit = self.tokenizer.model_max_length
        parts = split_long(sentence, self._fits)
        said = f"a sentence of more than {limit} tokens, the model_max_length of the tokenizer, "
        if not all(map(self._fits, parts)):
            cuts = describe_cuts(self.tokenizer, parts, encode_whole(self.tokenizer, parts))
            warnings += itertools.chain.from_iterable(cuts)
        elif len(parts) > 1:
            warnings.append(f"{said}is translated in {len(parts)} parts: {sentence[:60]!r}...")
        return parts

    def _fits(self, sentence: str) -> bool:
        """Whether the model reads a sentence whole."""
        return len(encode_whole(self.tokenizer, [sentence])[0]) <= self.tokenizer.model_max_length

    def _check_documents(self, forward_params: dict[str, Any], postprocess_params: dict[str, Any]) -> None:
        """Refuse what there is not of a document."""
        given = {**forward_params, **postprocess_params}
        unread = [name for name in OF_ONE_SENTENCE if given.get(name)]
        sequences = self._settings(forward_params).get("num_return_sequences") or 1
        if sequences > 1 and not postprocess_params.get("minimum_bayes_risk"):
            unread.append("num_return_sequences")
        if unread:
            raise ValueError(f"split_sentences gives the text of a document alone: leave out {', '.join(unread)}.")
