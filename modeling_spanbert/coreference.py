"""Coreference without weights: documents -> what `SpanBertForCoreference` reads; its antecedents -> clusters of words.

    document = encode_document([["Ada", "slept", "."], ["She", "dreamt", "."]], tokenizer)
    output = model(**collate_documents([document], tokenizer.pad_token_id, model.config.genres))
    [clusters] = document_clusters(output, num_documents=1)
    to_word_clusters(clusters, document.subtoken_map)  # [[(0, 0), (3, 3)]]

A document is cut into segments of word pieces as by minimize.py of the original (mandarjoshi90/coref): at the end of a
sentence where one fits, and each with a [CLS] and a [SEP] of its own. Pieces are counted through all segments, with
these two; mentions are (first, last) piece or word, both included; a cluster is a list of mentions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from numbers import Integral

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from .configuration_spanbert import SpanBertConfig
from .modeling_spanbert_coref import SpanBertForCoreferenceOutput
from .text import restore_bracket


SPECIAL_SPEAKER = "[SPL]"  # who says [CLS] and [SEP]
# How OntoNotes writes the end of some sentences.
SLASHED = {"/.": ".", "/?": "?"}

Mention = tuple[int, int]
Cluster = list[Mention]


# Features


@dataclass
class EncodedDocument:
    """A document in segments; the lists that are not of segments have an item for each of its T pieces."""

    segments: list[list[int]]  # ids, from [CLS] to [SEP]
    sentence_map: list[int]  # number of the sentence; of [CLS] and [SEP], that of the next piece
    subtoken_map: list[int]  # number of the word; of [CLS] and [SEP], that of the piece before
    speakers: list[str | None]  # who says it, `SPECIAL_SPEAKER` for [CLS] and [SEP]
    genre: str | None = None
    clusters: list[Cluster] = field(default_factory=list)  # in pieces

    @property
    def word_map(self) -> list[int]:
        """As `subtoken_map`, but -1 for [CLS] and [SEP]."""
        words = list(self.subtoken_map)
        for first, stop in pairwise(self.offsets):
            words[first] = words[stop - 1] = -1
        return words

    @property
    def offsets(self) -> list[int]:
        """The first piece of each segment, and T."""
        return np.cumsum([0, *map(len, self.segments)]).tolist()


def encode_document(
    sentences: Sequence[Sequence[str]],
    tokenizer: PreTrainedTokenizerBase,
    max_segment_length: int = SpanBertConfig.max_segment_length,
    speakers: Sequence[str | Sequence[str | None] | None] | None = None,
    genre: str | None = None,
    clusters: Sequence[Sequence[Mention]] = (),
    restore_brackets: bool = False,
) -> EncodedDocument:
    """Cuts a document of `sentences`, lists of words, into segments of at most `max_segment_length` pieces.

    Args:
        speakers: for each sentence its speaker, or that of each of its words.
        clusters: gold clusters, with mentions in words of the document. Words that have no pieces, such as blanks, are
            left out of a mention, and a mention of none but such is left out.
        restore_brackets: reads "-LRB-" and the like of the Penn Treebank as the brackets that they stand for. The
            original does not: they are five pieces.

    A segment ends with the last sentence that fits, or else the last word; where a single word is longer than a
    segment, at which the original fails, in the word.

    Raises ValueError, with one line, for what is no document, for speakers that do not match the words, for mentions
    outside of the document, and for segments that have no room.
    """
    check_document(sentences)
    if not isinstance(max_segment_length, Integral) or max_segment_length < 3:
        raise ValueError(f"max_segment_length={max_segment_length}: expected at least 3: [CLS], a piece and [SEP]")
    words = [word for sentence in sentences for word in sentence]
    word_speakers = speakers_of_words(sentences, speakers)
    word_sentences = [number for number, sentence in enumerate(sentences) for _ in sentence]
    if restore_brackets:
        words = list(map(restore_bracket, words))
    word_ids = tokenize_words(tokenizer, [SLASHED.get(word, word) for word in words])

    ids = [id for pieces in word_ids for id in pieces]
    word_of = [number for number, pieces in enumerate(word_ids) for _ in pieces]  # of each piece
    word_ends = [one != other for one, other in pairwise([*word_of, -1])]
    sentence_ends = [one != other for one, other in pairwise([*(word_sentences[word] for word in word_of), -1])]
    before = np.cumsum([0, *sentence_ends]).tolist()  # sentences that end before each piece

    document = EncodedDocument([], [], [], [], genre)
    place = {}  # of each piece among those of all segments
    last_word = 0
    for start, stop in split_segments(sentence_ends, word_ends, int(max_segment_length) - 2):
        place |= {piece: len(document.sentence_map) + 1 + piece - start for piece in range(start, stop)}
        document.segments.append([tokenizer.cls_token_id, *ids[start:stop], tokenizer.sep_token_id])
        document.sentence_map += [before[start], *before[start:stop], before[stop]]
        document.subtoken_map += [last_word, *word_of[start:stop], word_of[stop - 1]]
        spoken = [word_speakers[word] for word in word_of[start:stop]]
        document.speakers += [SPECIAL_SPEAKER, *spoken, SPECIAL_SPEAKER]
        last_word = word_of[stop - 1]

    bounds = np.cumsum([0, *map(len, word_ids)]).tolist()  # the first piece of each word
    for cluster in clusters:
        check_cluster(cluster, len(words))
        spans = [(bounds[first], bounds[last + 1] - 1) for first, last in cluster]
        document.clusters.append([(place[start], place[end]) for start, end in spans if start <= end])
    return document


def split_segments(sentence_ends: list[bool], word_ends: list[bool], room: int) -> list[tuple[int, int]]:
    """(start, stop) of the segments, of at most `room` pieces; `…_ends` say whether something ends with a piece."""
    segments, start, num_pieces = [], 0, len(word_ends)
    while start < num_pieces:
        furthest = min(start + room, num_pieces)
        stops = range(furthest, start, -1)
        at_sentence = next((stop for stop in stops if sentence_ends[stop - 1]), None)
        at_word = next((stop for stop in stops if word_ends[stop - 1]), furthest)
        segments.append((start, at_sentence or at_word))
        start = segments[-1][1]
    return segments


def tokenize_words(tokenizer: PreTrainedTokenizerBase, words: list[str]) -> list[list[int]]:
    """The pieces of each word, tokenized once; the [SEP] of a text is letters and brackets, not the token."""
    known = list(dict.fromkeys(words))
    if not known:
        return []
    ids = tokenizer(known, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    ids = dict(zip(known, ids, strict=True))
    return [ids[word] for word in words]


def speakers_of_words(sentences, speakers) -> list[str | None]:
    """The speaker of each word of the document. Raises ValueError where their numbers differ."""
    if speakers is None:
        return [None] * sum(map(len, sentences))
    if len(speakers) != len(sentences):
        raise ValueError(f"{len(speakers)} speakers for {len(sentences)} sentences: expected one for each")
    found = []
    for number, (sentence, who) in enumerate(zip(sentences, speakers, strict=True)):
        if who is None or isinstance(who, str):
            who = [who] * len(sentence)
        if not isinstance(who, list | tuple):
            raise ValueError(f"speaker {who!r:.60} of sentence {number}: expected a name, None, or a list of these")
        if len(who) != len(sentence):
            raise ValueError(
                f"sentence {number} has {len(sentence)} words and {len(who)} speakers: expected one for each, or one"
            )
        found += who
    return found


def check_document(sentences) -> None:
    """Raises ValueError unless `sentences` are lists of words."""
    for number, sentence in enumerate(sentences):
        if isinstance(sentence, str) or not all(isinstance(word, str) for word in sentence):
            raise ValueError(f"sentence {number} is {str(sentence)[:50]!r}: expected a list of words")


def check_cluster(cluster, num_words: int) -> None:
    """Raises ValueError unless its mentions are inside of a document of `num_words`."""
    for first, last in cluster:
        if not 0 <= first <= last < num_words:
            raise ValueError(
                f"mention ({first}, {last}) in a document of {num_words} words: expected its first and last word, "
                "counted from 0, both included"
            )


def speaker_numbers(speakers: Sequence[str | None]) -> list[int]:
    """A number for each speaker: 0 for an unknown one, 1 for `SPECIAL_SPEAKER`, others by appearance.

    The original counts to 19, and takes every further speaker for the second of the document.
    """
    numbers = {None: 0, SPECIAL_SPEAKER: 1}
    return [numbers.setdefault(speaker, len(numbers)) for speaker in speakers]


def segment_window(document: EncodedDocument, first: int, num_segments: int) -> EncodedDocument:
    """The segments from `first` on, at most `num_segments`, with the mentions inside of them: a training example."""
    start, *_, stop = document.offsets[first : first + num_segments + 1]
    clusters = [[(s - start, e - start) for s, e in each if start <= s and e < stop] for each in document.clusters]
    return EncodedDocument(
        document.segments[first : first + num_segments],
        document.sentence_map[start:stop],
        document.subtoken_map[start:stop],
        document.speakers[start:stop],
        document.genre,
        [cluster for cluster in clusters if cluster],
    )


def collate_documents(
    documents: Sequence[EncodedDocument], pad_token_id: int, genres: Sequence[str], with_gold: bool = False
) -> dict[str, torch.Tensor]:
    """A batch for `SpanBertForCoreference`: the segments of all documents (S, L), and of each document what it says.

    `genres`: those of the config; another genre, or none, counts as the first. `with_gold` adds the gold mentions.
    """
    segments = [segment for document in documents for segment in document.segments]
    lengths = [len(segment) for segment in segments]
    attention_mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]  # (S, L)

    def rows(values: list[int], fill: int) -> torch.Tensor:
        """(S, L) of what all pieces have, one after the other."""
        return torch.full(attention_mask.shape, fill).masked_scatter(attention_mask, torch.tensor(values))

    batch = {
        "input_ids": rows([id for segment in segments for id in segment], pad_token_id),
        "attention_mask": attention_mask.long(),
        "sentence_map": rows([number for each in documents for number in each.sentence_map], -1),
        "word_map": rows([number for each in documents for number in each.word_map], -1),
        "speaker_ids": rows([number for each in documents for number in speaker_numbers(each.speakers)], 0),
        "genre_ids": torch.tensor([genres.index(each.genre) if each.genre in genres else 0 for each in documents]),
        "document_index": torch.arange(len(documents)).repeat_interleave(
            torch.tensor([len(each.segments) for each in documents])
        ),
    }
    if with_gold:
        mentions = [
            [(start, end, number) for number, cluster in enumerate(each.clusters) for start, end in cluster]
            for each in documents
        ]
        most = max(map(len, mentions))
        filled = [[*each, *[(-1, -1, -1)] * (most - len(each))] for each in mentions]
        gold = torch.tensor(filled, dtype=torch.long).view(len(documents), most, 3)  # (D, M, 3)
        names = ("gold_starts", "gold_ends", "gold_cluster_ids")
        batch |= dict(zip(names, gold.unbind(-1), strict=True))
    return batch


# Decoding


def best_antecedents(antecedent_index: torch.Tensor, antecedent_scores: torch.Tensor) -> list[int]:
    """For each mention the antecedent (N, A) of the highest score, if that is above 0; -1 for none, which scores 0."""
    if not antecedent_index.shape[1]:
        return [-1] * len(antecedent_index)
    score, place = antecedent_scores.max(dim=1, keepdim=True)  # (N, 1) each
    best = torch.where(score > 0, antecedent_index.gather(1, place), -1)
    return best.squeeze(1).tolist()


def clusters_from_antecedents(mentions: Sequence[Mention], antecedents: Sequence[int]) -> list[Cluster]:
    """Clusters of what is linked, directly or not, in the order of their first links; no singletons.

    `antecedents`: for each mention the number of an earlier one, or -1.
    """
    clusters: list[Cluster] = []
    cluster_of: dict[int, Cluster] = {}
    for number, antecedent in enumerate(antecedents):
        if antecedent < 0:
            continue
        assert antecedent < number, "an antecedent comes before its mention"
        if antecedent not in cluster_of:
            cluster_of[antecedent] = [tuple(mentions[antecedent])]
            clusters.append(cluster_of[antecedent])
        cluster_of[number] = cluster_of[antecedent]
        cluster_of[number].append(tuple(mentions[number]))
    return clusters


def with_singletons(
    clusters: list[Cluster], mentions: Sequence[Mention], are_mentions: Sequence[bool]
) -> list[Cluster]:
    """The clusters, and one for each of the `mentions` that is one and in none of them."""
    linked = {mention for cluster in clusters for mention in cluster}
    known = zip(mentions, are_mentions, strict=True)
    return clusters + [[mention] for mention, is_one in known if is_one and mention not in linked]


def document_clusters(
    output: SpanBertForCoreferenceOutput, num_documents: int, singletons: bool = False
) -> list[list[Cluster]]:
    """The clusters of each document of a batch, in its pieces; with `singletons` also mentions that score above 0."""
    best = best_antecedents(output.antecedent_index, output.antecedent_scores)
    spans = list(zip(output.mention_starts.tolist(), output.mention_ends.tolist(), strict=True))
    are_mentions = (output.mention_scores > 0).tolist()
    bounds = np.searchsorted(output.document_index.cpu().numpy(), range(num_documents + 1)).tolist()
    found = []
    for first, stop in pairwise(bounds):
        mentions = spans[first:stop]
        clusters = clusters_from_antecedents(mentions, [max(number - first, -1) for number in best[first:stop]])
        if singletons:
            clusters = with_singletons(clusters, mentions, are_mentions[first:stop])
        found.append(clusters)
    return found


def to_word_clusters(clusters: Sequence[Sequence[Mention]], subtoken_map: Sequence[int]) -> list[Cluster]:
    """Clusters in pieces -> clusters in words.

    Spans that differ in pieces may be the same words: such a mention counts once, where it is listed first (the
    reference scorer refuses a file with more than ten repeated ones). A cluster of which one mention is left is gone.
    """
    seen, found = set(), []
    for cluster in clusters:
        mentions = dict.fromkeys((subtoken_map[start], subtoken_map[end]) for start, end in cluster)
        mentions = [mention for mention in mentions if mention not in seen]
        seen.update(mentions)
        if len(mentions) > 1 or len(cluster) == 1:
            found.append(mentions)
    return [cluster for cluster in found if cluster]
