"""Coreference in raw text: which spans of it mean the same, by a fine-tuned `SpanBertForCoreference`.

    resolver = CoreferenceResolver.from_pretrained("your-org/spanbert-base-cased-coref")
    result = resolver.predict("Ada was tired, so she slept.")
    result.clusters()  # [[(0, 3), (18, 21)]], so that text[0:3] is "Ada" and text[18:21] is "she"

Spans of a text are (start, end) in characters or, of words, (start, end) with the end exclusive too; only inside of
this package are mentions (first, last) word, both included, as in `coreference`.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from .conll import CoreferenceDocument, conll_text
from .coreference import (
    Cluster,
    EncodedDocument,
    Mention,
    best_antecedents,
    clusters_from_antecedents,
    encode_document,
    speaker_numbers,
    to_word_clusters,
    with_singletons,
)
from .coreference_document import DocumentToResolve, Span, check_genre, check_list
from .modeling_spanbert_coref import Document, SpanBertForCoreference
from .opening import open_fine_tuned
from .pronouns import resolve_pronouns


BATCH_TOKENS = 4096
POOLED_BATCHES = 16  # worth of documents, whose segments are sorted by length; what is in memory at a time
UNITS = ("char", "word")


# Results


@dataclass
class CoreferenceResult:
    """The clusters of a document: mentions in the order of the text, clusters in that of their first mentions."""

    document: DocumentToResolve
    word_clusters: list[Cluster]  # mentions are (first, last) word, both included
    mentions: list[Mention]  # all K that the model kept, in clusters or not
    antecedents: np.ndarray  # (K, A), numbers of mentions, -1 where there are fewer
    probabilities: np.ndarray  # (K, A)

    @property
    def text(self) -> str:
        return self.document.text

    def clusters(self, unit: str = "char") -> list[list[Span]]:
        """Clusters of (start, end), the end exclusive in either unit: "char", of `text`, or "word", of the document.

        Raises ValueError for another unit.
        """
        return [[self._span(mention, unit) for mention in cluster] for cluster in self.word_clusters]

    def strings(self) -> list[list[str]]:
        """The clusters' mentions as they are in the text."""
        return [[self.text[start:end] for start, end in cluster] for cluster in self.clusters()]

    def score(self, span_a: Span, span_b: Span, unit: str = "char") -> float:
        """The probability, by the model, that of two mentions the earlier is the antecedent of the later.

        That is softmax of the later mention's scores over its antecedents and none, so the probabilities of all its
        antecedents and of being the first or no mention at all add up to 1, and in a large cluster each may be small.
        It is 0 for two mentions that the coarse scores have already kept apart.

        Raises ValueError for what is none of the spans that the model kept as mentions.
        """
        known: dict[Span, list[int]] = {}
        for number, mention in enumerate(self.mentions):
            known.setdefault(self._span(mention, unit), []).append(number)
        for span in (span_a, span_b):
            if tuple(span) not in known:
                raise ValueError(f"{span!r} is none of the {len(known)} spans that the model kept as mentions")
        ours, theirs = known[tuple(span_a)], known[tuple(span_b)]
        pairs = [(max(pair), min(pair)) for pair in ((i, j) for i in ours for j in theirs)]
        return max(float(self.probabilities[i][self.antecedents[i] == j].sum()) for i, j in pairs)

    def resolved_text(self) -> str:
        """The text with pronouns in clusters replaced by their cluster's most telling mention: see `pronouns`."""
        return resolve_pronouns(self.text, self.document.words, self.word_clusters)

    def to_conll(self, doc_key: str | None = None) -> str:
        """The document as in a CoNLL-2012 file; raises ValueError for one that cannot be written (`conll_text`)."""
        sentences = self.document.sentence_words()
        speakers = [[who or "-" for who in sentence] for sentence in self.document.sentence_speakers()]
        doc_key = doc_key or self.document.doc_key or "document"
        return conll_text(CoreferenceDocument(doc_key, sentences, speakers, self.word_clusters))

    def to_json(self) -> str:
        """One line of JSON: `text`, `clusters` in characters, their `strings`, `sentences` and `word_clusters`.

        Ends are exclusive, in characters and in words; a `doc_key` is there for documents that have one.
        """
        record = {} if self.document.doc_key is None else {"doc_key": self.document.doc_key}
        record |= {
            "text": self.text,
            "clusters": self.clusters(),
            "strings": self.strings(),
            "sentences": self.document.sentence_words(),
            "word_clusters": self.clusters(unit="word"),
        }
        return json.dumps(record, ensure_ascii=False)

    def _span(self, mention: Mention, unit: str) -> Span:
        first, last = mention
        if unit == "word":
            return first, last + 1
        if unit == "char":
            return self.document.words[first][0], self.document.words[last][1]
        raise ValueError(f"unknown unit {unit!r}; known: {', '.join(UNITS)}")


# Prediction


class CoreferenceResolver:
    """Finds the clusters of documents of any length.

    Args:
        model, tokenizer: as they were saved together; the model is put in eval mode.
        batch_tokens: word pieces, padding included, that are encoded together.
        max_segment_length: that of the training by default (`config.max_segment_length`).

    Raises ValueError for settings that do not go with the model.
    """

    def __init__(
        self,
        model: SpanBertForCoreference,
        tokenizer: PreTrainedTokenizerBase,
        batch_tokens: int = BATCH_TOKENS,
        max_segment_length: int | None = None,
    ):
        limit = model.config.max_position_embeddings
        if len(tokenizer) > model.config.vocab_size:
            raise ValueError(
                f"the tokenizer has {len(tokenizer)} tokens, the model {model.config.vocab_size}: not its own"
            )
        if max_segment_length is not None and max_segment_length > limit:
            raise ValueError(f"max_segment_length={max_segment_length}: the model takes at most {limit}")
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_tokens = _checked_batch_tokens(batch_tokens)
        self.max_segment_length = max_segment_length or min(model.config.max_segment_length, limit)

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        batch_tokens: int = BATCH_TOKENS,
        max_segment_length: int | None = None,
        **kwargs,
    ) -> "CoreferenceResolver":
        """Opens a folder or a repository of the Hub; `open_fine_tuned` says what it takes and raises."""
        opened = open_fine_tuned(SpanBertForCoreference, name, "coreference", device, dtype, **kwargs)
        return cls(*opened, batch_tokens, max_segment_length)

    def predict(
        self,
        texts: str | Sequence[str] | None = None,
        *,
        tokens: Sequence[str] | Sequence[Sequence[str]] | None = None,
        sentences: Sequence[Sequence[str]] | Sequence[Sequence[Sequence[str]]] | None = None,
        speakers: Sequence | None = None,
        genre: str | Sequence[str | None] | None = None,
        mentions: Sequence | None = None,
        singletons: bool = False,
        batch_tokens: int | None = None,
    ) -> CoreferenceResult | list[CoreferenceResult]:
        """The clusters of a document, or a list of these for a list of documents.

        Give one of `texts`, `tokens` (words of a document) and `sentences` (lists of words). For several documents
        all are lists with an item for each.

        Args:
            speakers: for a text turns (start, end, name) in characters; for tokens a name for each; for sentences a
                name for each, or for each of their words.
            genre: one of the model's `config.genres`, for all or for each; unknown by default.
            mentions: (start, end), the end exclusive, in characters of a text and in words otherwise. These alone are
                linked, all that have a word piece, and none is looked for.
            singletons: mentions that are linked to none are clusters of one. Which are mentions, a model knows that
                was trained with `mention_loss_coef`; of given ones all are.
            batch_tokens: as for the constructor; the results do not depend on it.

        Raises ValueError, with one line, for what is none of these, and for singletons of a model without them.
        """
        kinds = {"texts": texts, "tokens": tokens, "sentences": sentences}
        kind, documents = _the_one_given(kinds)
        one = _nesting(documents) == {"texts": 0, "tokens": 1, "sentences": 2}[kind]
        options = {"speakers": speakers, "genre": genre, "mentions": mentions}
        if one:
            documents, options = [documents], {name: [option] for name, option in options.items()}
        if options["genre"] is None or isinstance(options["genre"], str):
            options["genre"] = [options["genre"]] * len(documents)
        for name, option in options.items():
            check_list(name, option)
            if option is None:
                options[name] = [None] * len(documents)
            elif len(option) != len(documents):
                raise ValueError(f"{len(documents)} documents, but {name} has {len(option)}: expected one for each")
        make = {
            "texts": DocumentToResolve.from_text,
            "tokens": DocumentToResolve.from_tokens,
            "sentences": DocumentToResolve.from_sentences,
        }[kind]
        made = [
            _of_document(None if one else number, make, document, *each)
            for number, (document, *each) in enumerate(zip(documents, *options.values(), strict=True))
        ]
        found = list(self.predict_iter(made, singletons, batch_tokens))
        return found[0] if one else found

    def predict_iter(
        self,
        documents: Iterable[DocumentToResolve],
        singletons: bool = False,
        batch_tokens: int | None = None,
        progress: bool = False,
    ) -> Iterator[CoreferenceResult]:
        """The clusters of each of many documents, in their order, of which only some are in memory at a time.

        `progress`: a bar on the terminal, if there is one, that counts word pieces. Raises as `predict`.
        """
        batch_tokens = _checked_batch_tokens(self.batch_tokens if batch_tokens is None else batch_tokens)
        return self._results(documents, singletons, batch_tokens, progress)

    def _results(self, documents, singletons: bool, batch_tokens: int, progress: bool) -> Iterator[CoreferenceResult]:
        with tqdm(unit=" pieces", unit_scale=True, disable=None if progress else True) as bar:
            for group in self._groups(documents, singletons, POOLED_BATCHES * batch_tokens):
                vectors = self._encode([ids for _, each in group for ids in each.segments], batch_tokens, bar)
                for document, encoded in group:
                    own = [vectors.pop(0) for _ in encoded.segments]
                    yield self._resolve(document, encoded, own, singletons)

    def _groups(
        self, documents: Iterable[DocumentToResolve], singletons: bool, num_pieces: int
    ) -> Iterator[list[tuple[DocumentToResolve, EncodedDocument]]]:
        """Documents with their segments, together until they have `num_pieces`."""
        group, pooled = [], 0
        for document in documents:
            self._check(document, singletons)
            encoded = encode_document(
                document.sentence_words(),
                self.tokenizer,
                self.max_segment_length,
                document.sentence_speakers(),
                document.genre,
                [[mention] for mention in document.mentions or []],
                self.model.config.restore_brackets,
            )
            group.append((document, encoded))
            pooled += len(encoded.subtoken_map)
            if pooled >= num_pieces:
                yield group
                group, pooled = [], 0
        if group:
            yield group

    def _check(self, document: DocumentToResolve, singletons: bool) -> None:
        """Raises ValueError for what this model cannot do."""
        config = self.model.config
        if singletons and not config.mention_loss_coef and document.mentions is None:
            raise ValueError(
                "singletons=True needs a model that was trained with mention_loss_coef above 0 (this one has "
                f"{config.mention_loss_coef}), or given mentions"
            )
        check_genre(document.genre, config.genres)

    @torch.no_grad()
    def _encode(self, segments: list[list[int]], batch_tokens: int, bar: tqdm) -> list[torch.Tensor]:
        """The encoder's output (T, H) of each segment, in batches of like lengths, the longest first."""
        order = sorted(range(len(segments)), key=lambda number: -len(segments[number]))
        vectors = [torch.empty(0)] * len(segments)
        while order:
            longest = len(segments[order[0]])
            num_rows = max(batch_tokens // longest, 1)
            rows, order = order[:num_rows], order[num_rows:]
            lengths = torch.tensor([len(segments[row]) for row in rows])
            attention_mask = torch.arange(longest) < lengths[:, None]  # (B, L)
            ids = torch.tensor([id for row in rows for id in segments[row]])
            input_ids = torch.full(attention_mask.shape, self.tokenizer.pad_token_id).masked_scatter(
                attention_mask, ids
            )
            device = self.model.device
            encoded = self.model.bert(input_ids.to(device), attention_mask=attention_mask.long().to(device))
            for row, length, hidden in zip(rows, lengths.tolist(), encoded.last_hidden_state, strict=True):
                vectors[row] = hidden[:length]
            bar.update(len(ids))
        return vectors

    @torch.no_grad()
    def _resolve(
        self, document: DocumentToResolve, encoded: EncodedDocument, vectors: list[torch.Tensor], singletons: bool
    ) -> CoreferenceResult:
        if not vectors:
            return CoreferenceResult(document, [], [], np.empty((0, 0), int), np.empty((0, 0)))
        given = None if document.mentions is None else self._given(document, encoded)
        found = self.model.coreference(self._document(encoded, vectors), given)
        scores = found.antecedent_scores.float()
        if not found.score.isfinite().all() or scores.isnan().any() or (scores == torch.inf).any():
            raise ValueError(
                f"the model's scores are not finite in {self.model.dtype}: give dtype='float32', or other weights"
            )
        spans = list(zip(found.start.tolist(), found.end.tolist(), strict=True))
        clusters = clusters_from_antecedents(spans, best_antecedents(found.antecedents, scores))
        if singletons:
            are_mentions = (found.score > 0) if given is None else torch.ones_like(found.start)
            clusters = with_singletons(clusters, spans, are_mentions.tolist())
        return CoreferenceResult(
            document,
            sorted(sorted(cluster) for cluster in to_word_clusters(clusters, encoded.subtoken_map)),
            [(encoded.subtoken_map[start], encoded.subtoken_map[end]) for start, end in spans],
            found.antecedents.cpu().numpy(),
            torch.nn.functional.pad(scores, (1, 0)).softmax(dim=-1)[:, 1:].cpu().numpy(),
        )

    def _document(self, encoded: EncodedDocument, vectors: list[torch.Tensor]) -> Document:
        config, device = self.model.config, self.model.device
        lengths = torch.tensor([len(segment) for segment in encoded.segments])
        words = None if config.candidate_boundaries == "subword" else torch.tensor(encoded.word_map, device=device)
        return Document(
            pieces=torch.cat(vectors),
            segment=torch.arange(len(lengths)).repeat_interleave(lengths).to(device),
            sentence=torch.tensor(encoded.sentence_map, device=device),
            speaker=torch.tensor(speaker_numbers(encoded.speakers), device=device),
            word=words,
            genre=torch.tensor(config.genres.index(encoded.genre) if encoded.genre else 0, device=device),
        )

    def _given(self, document: DocumentToResolve, encoded: EncodedDocument) -> torch.Tensor:
        """Which spans (T, W) are the given mentions. Raises ValueError for one that the model cannot represent."""
        width = self.model.config.max_span_width
        given = torch.zeros(len(encoded.subtoken_map), width, dtype=torch.bool)
        for (first, last), pieces in zip(document.mentions, encoded.clusters, strict=True):
            for start, end in pieces:
                if end - start >= width:
                    raise ValueError(
                        f"the mention of words {first} to {last} has {end - start + 1} word pieces: the model was "
                        f"trained on at most {width} (max_span_width)"
                    )
                given[start, end - start] = True
        return given.to(self.model.device)


def _checked_batch_tokens(batch_tokens: int) -> int:
    if not isinstance(batch_tokens, Integral) or batch_tokens < 1:
        raise ValueError(f"batch_tokens={batch_tokens}: expected an integer of at least 1")
    return int(batch_tokens)


def _the_one_given(kinds: dict[str, Any]) -> tuple[str, Any]:
    """The name and value of the one that is not None. Raises ValueError for none, several and no lists."""
    given = [(kind, value) for kind, value in kinds.items() if value is not None]
    if len(given) != 1:
        raise ValueError(f"expected exactly one of {', '.join(kinds)}")
    [(kind, value)] = given
    if not isinstance(value, list | tuple) and not (kind == "texts" and isinstance(value, str)):
        raise ValueError(f"{kind}: expected a list{' or a string' * (kind == 'texts')}, got {type(value).__name__}")
    return kind, value


def _nesting(value) -> int:
    """How deep lists are inside of each other: 0 for what is none; by the first item that has the most of them."""
    if not isinstance(value, list | tuple):
        return 0
    return 1 + max(map(_nesting, value), default=0)


def _of_document(number: int | None, make, document, *options) -> DocumentToResolve:
    """What `make` makes; where it raises ValueError, that says of which document."""
    try:
        return make(document, *options)
    except ValueError as error:
        if number is None:
            raise
        raise ValueError(f"document {number}: {error}") from None
