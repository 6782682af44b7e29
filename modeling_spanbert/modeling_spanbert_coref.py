# Copyright 2026 The SpanBERT on Hugging Face authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Coreference resolution with SpanBERT (Section 4.1): which spans of a document are mentions of the same thing.

The head is that of Lee et al. (2017, arXiv 1707.07045; 2018, arXiv 1804.05392) on the segments of a document, which
are encoded one by one (Joshi et al., 2019, arXiv 1908.09091, "independent"; Joshi et al., 2020, is SpanBERT). Of all
spans of a sentence the best-scored are kept as mentions; for each of them the most promising antecedents are scored
in full; a mention is linked to the best one, or to none, which scores 0.

The numbers are those of the original, its order of computation is not: memory grows with the length of the document,
not with its square, and there is no longest document. Four things make it so:

- The first layer of a scorer is linear, so its products with the parts of a concatenation are computed once for each
  piece or mention, and added where candidates or pairs are formed.
- Attention over the pieces of a span is computed in windows of some dozen pieces, not over the whole document.
- Span vectors are made for the kept mentions alone.
- Candidates and pairs are scored in blocks; for the gradient a block is computed again.

Shapes: S segments of L places; of one document T pieces ([CLS] and [SEP] of each segment included), C candidates of
at most W pieces, K kept mentions, A antecedents of each that are scored in full; H hidden size, F units of a scorer,
E width of a feature, G = 3H + E width of a span vector. Of a block B rows or P pieces. N mentions of all D documents.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .configuration_spanbert import SpanBertConfig
from .dropout import SpanBertDropout
from .modeling_spanbert import SpanBertTaskModel, per_item


# Distances 0, 1, 2, 3, 4, 5-7, 8-15, 16-31, 32-63 and from 64 on have an embedding each: where the buckets start.
DISTANCE_BUCKETS = (1, 2, 3, 4, 5, 8, 16, 32, 64)
PIECES_IN_BLOCK = 64  # starts of candidates that are scored at a time
SEGMENTS_IN_BLOCK = 8  # that are encoded at a time where no gradient is needed


class Document(NamedTuple):
    """One document, its segments laid end to end."""

    pieces: torch.Tensor  # (T, H), the encoder's output
    segment: torch.Tensor  # (T,), from 0
    sentence: torch.Tensor  # (T,)
    speaker: torch.Tensor  # (T,)
    word: torch.Tensor | None  # (T,), -1 for [CLS] and [SEP]; None: candidates start and end anywhere
    genre: torch.Tensor  # ()


class Mentions(NamedTuple):
    """The kept spans of a document, in its order, and their antecedents."""

    start: torch.Tensor  # (K,), their first and
    end: torch.Tensor  # (K,), last piece
    score: torch.Tensor  # (K,)
    antecedents: torch.Tensor  # (K, A), numbers of mentions, -1 where there are fewer
    antecedent_scores: torch.Tensor  # (K, A), -inf there


def in_blocks(
    function: Callable[[slice], torch.Tensor], num_rows: int, block_size: int, num_results: int | None = None
) -> torch.Tensor:
    """The rows that `function` gives for slices of `num_rows`, concatenated: as many, or `num_results` in all.

    For the gradient each block is computed again, so that of all it makes only the result is kept. No rows are one
    empty block: the parameters are in every graph, as DDP needs.
    """
    slices = [slice(first, min(first + block_size, num_rows)) for first in range(0, max(num_rows, 1), block_size)]
    if torch.is_grad_enabled():
        return torch.cat([checkpoint(function, rows, use_reentrant=False) for rows in slices])
    # Into one tensor: small results that stay where large ones were would leave holes, into which the next ones, if
    # they are a little larger, do not fit, so that the process grows with every block.
    results, filled = None, 0
    for rows in slices:
        block = function(rows)
        if results is None:
            results = block.new_empty(num_rows if num_results is None else num_results, *block.shape[1:])
        results[filled : filled + len(block)] = block
        filled += len(block)
    return results


class SpanBertFeedForward(nn.Module):
    """w_2 · dropout(ReLU(W_1 x + b_1)) + b_2: the scorer of mentions, of widths and of pairs."""

    def __init__(self, input_size: int, config: SpanBertConfig):
        super().__init__()
        self.hidden = nn.Linear(input_size, config.ffnn_size)
        self.dropout = SpanBertDropout(config.ffnn_dropout)
        self.output = nn.Linear(config.ffnn_size, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Scores (…) of `inputs` (…, size)."""
        return self.from_hidden(self.hidden(inputs))

    def from_hidden(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scores (…) of W_1 x + b_1 (…, F), which is overwritten."""
        return self.output(self.dropout(F.relu(hidden, inplace=True))).squeeze(-1)


# Mentions


def candidate_spans(sentence: torch.Tensor, word: torch.Tensor | None, max_span_width: int) -> torch.Tensor:
    """Whether the span of w + 1 pieces from piece s is a candidate (T, W): it is in one sentence.

    With `word`, (T,), it starts and ends with a word; both may be in different segments. Without, any piece will do,
    [CLS] and [SEP] too, as in the original, where the sentence of these is that of the next piece.
    """
    start = torch.arange(len(sentence), device=sentence.device)[:, None]
    end = start + torch.arange(max_span_width, device=sentence.device)  # (T, W)
    inside = end < len(sentence)
    end = end.clamp(max=len(sentence) - 1)
    allowed = inside & (sentence[end] == sentence[start])
    if word is not None:
        last_word = word.max() + 1
        # Words are numbered upwards, so a word starts where a number is the highest so far, even if a segment ends in
        # the middle of a long one.
        before = F.pad(word.cummax(0).values, (1, 0), value=-1)[:-1]  # (T,)
        after = torch.where(word < 0, last_word, word).flip(0).cummin(0).values.flip(0)
        after = torch.cat([after[1:], last_word[None]])  # (T,)
        starts, ends = word > before, (word >= 0) & (word < after)
        allowed &= starts[:, None] & ends[end]
    return allowed


def select_spans(start: torch.Tensor, end: torch.Tensor, score: torch.Tensor, num_kept: int) -> torch.Tensor:
    """Indices of the `num_kept` best of C spans of which no two cross, in document order.

    As in Section 5 of Lee et al. (2017), spans are taken from the best to the worst, but for those that cross one
    taken before: s < s' <= e < e'. Nested ones do not. Where fewer than `num_kept` are left, there are fewer; the
    original repeats the first one.
    """
    start, end, score = start.cpu(), end.cpu(), score.detach().cpu()
    num_pieces = int(end.max()) + 1 if len(end) else 0
    last_end, first_start = [-1] * num_pieces, [num_pieces] * num_pieces  # of the spans taken, by start and by end
    taken = []
    for chunk in score.sort(descending=True, stable=True).indices.split(4096):
        for index, s, e in zip(chunk.tolist(), start[chunk].tolist(), end[chunk].tolist(), strict=True):
            if len(taken) == num_kept:
                break
            if s < e and (max(last_end[s + 1 : e + 1]) > e or min(first_start[s:e]) < s):
                continue
            taken.append((s, e, index))
            last_end[s] = max(last_end[s], e)
            first_start[e] = min(first_start[e], s)
    return torch.tensor([index for _, _, index in sorted(taken)], dtype=torch.long)


class SpanBertMentionScorer(nn.Module):
    """How likely a span (s, e) is a mention, by its vector g (Lee et al., 2017, Section 4) and its width.

        a_t     = w_a · x_t + b_a
        x̂       = sum over t in (s, e) of softmax(a)_t x_t
        g       = [x_s; x_e; φ(e - s); x̂]
        s_m     = FFNN_m(g) + FFNN_w(ψ(e - s))

    φ and ψ are embeddings of the width. The second term, the width's own score, is the released code's.
    """

    def __init__(self, config: SpanBertConfig):
        super().__init__()
        hidden_size, feature_size = config.hidden_size, config.feature_emb_size
        self.max_span_width = config.max_span_width
        self.sizes = [hidden_size, hidden_size, feature_size, hidden_size]  # of the parts of g
        self.attention = nn.Linear(hidden_size, 1)
        self.width_embeddings = nn.Embedding(config.max_span_width, feature_size)
        self.scorer = SpanBertFeedForward(sum(self.sizes), config)
        self.width_prior_embeddings = nn.Embedding(config.max_span_width, feature_size)
        self.width_prior_scorer = SpanBertFeedForward(feature_size, config)
        self.dropout = SpanBertDropout(config.ffnn_dropout)

    def forward(self, pieces: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        """s_m (C,) of the candidates that `allowed` (T, W) names, in its row-major order; `pieces` are x (T, H).

        With the columns of W_1 for each part of g, W_1 g = W_s x_s + W_e x_e + W_φ φ + sum of softmax(a)_t W_x̂ x_t.
        """
        attention = self.attention(pieces).squeeze(-1)  # (T,)
        width_prior = self.width_prior_scorer(self.width_prior_embeddings.weight)  # (W,)
        to_start, to_end, to_width, to_attended = self.scorer.hidden.weight.split(self.sizes, dim=1)  # (F, …) each

        def block(rows: slice) -> torch.Tensor:
            start, width = allowed[rows].nonzero(as_tuple=True)  # (C',) each, the start counted from that of the block
            end = start + width
            window = slice(rows.start, rows.stop + self.max_span_width - 1)  # P pieces: of all spans that start here
            x = pieces[window]  # (P, H)
            weights = span_attention(attention[window].expand(len(start), -1), start[:, None], end[:, None])  # (C', P)
            hidden = F.linear(self.dropout(self.width_embeddings(width)), to_width, self.scorer.hidden.bias)  # (C', F)
            hidden += F.linear(x, to_start)[start]
            hidden += F.linear(x, to_end)[end]
            hidden += weights @ F.linear(x, to_attended)
            return self.scorer.from_hidden(hidden) + width_prior[width]

        return in_blocks(block, len(pieces), PIECES_IN_BLOCK, int(allowed.sum()))

    def vectors(self, pieces: torch.Tensor, start: torch.Tensor, end: torch.Tensor, block_size: int) -> torch.Tensor:
        """g (K, G) of the spans from `start` to `end` (K,). Dropout of φ is drawn again; the original draws once."""
        attention = self.attention(pieces).squeeze(-1)  # (T,)
        places = torch.arange(self.max_span_width, device=pieces.device)  # (W,)

        def block(rows: slice) -> torch.Tensor:
            s, e = start[rows], end[rows]  # (B,) each
            inside = (s[:, None] + places).clamp(max=len(pieces) - 1)  # (B, W)
            weights = span_attention(attention[inside], 0, (e - s)[:, None])  # (B, W)
            attended = (weights[:, None] @ pieces[inside]).squeeze(1)  # (B, H)
            width = self.dropout(self.width_embeddings(e - s))  # (B, E)
            return torch.cat([pieces[s], pieces[e], width, attended], dim=-1)  # (B, G)

        return in_blocks(block, len(start), block_size)


def span_attention(attention: torch.Tensor, start: torch.Tensor | int, end: torch.Tensor) -> torch.Tensor:
    """softmax over the places `start` to `end` (B, 1) of `attention` (B, P); 0 elsewhere."""
    place = torch.arange(attention.shape[1], device=attention.device)
    return attention.masked_fill((place < start) | (place > end), -torch.inf).softmax(dim=-1)


# Antecedents


def distance_bucket(distance: torch.Tensor) -> torch.Tensor:
    """Which of the ten embeddings stands for a distance, in mentions: 0 to 4 alone, then 5-7, 8-15, …, from 64 on."""
    return torch.bucketize(distance, torch.tensor(DISTANCE_BUCKETS, device=distance.device), right=True)


class SpanBertAntecedentScorer(nn.Module):
    """How likely the mention j is an antecedent of i, from coarse to fine (Lee et al., 2018, Sections 3 and 4).

        s(i, j) = s_c(i, j) + s_a(i, j)     and s(i, none) = 0
        s_c     = s_m(i) + s_m(j) + (W_c g_i + b_c) · g_j + w_d · ψ(i - j) + b_d
        s_a     = FFNN_a([g_i; g_j; g_i * g_j; φ(i, j)])

    The `max_top_antecedents` best by s_c are scored by s_a too. φ embeds whether both have one speaker, the genre, the
    distance in segments, and that in mentions, which ψ embeds once more. `coref_depth` - 1 times, and s_a is computed
    anew after each, the vector of a mention takes in those of its antecedents:

        a_i     = sum over j of P(j) g_j, where P = softmax(s(i, ·)) and g_i stands for none
        f_i     = sigmoid(W_f [g_i; a_i] + b_f)
        g_i    <- f_i * a_i + (1 - f_i) * g_i

    (the paper has f_i and 1 - f_i the other way round).
    """

    def __init__(self, config: SpanBertConfig):
        super().__init__()
        self.config = config
        feature_size = config.feature_emb_size
        size = 3 * config.hidden_size + feature_size
        self.coarse = nn.Linear(size, size)
        self.distance_prior_embeddings = nn.Embedding(len(DISTANCE_BUCKETS) + 1, feature_size)
        self.distance_prior = nn.Linear(feature_size, 1)
        self.speaker_embeddings = nn.Embedding(2, feature_size)
        self.genre_embeddings = nn.Embedding(len(config.genres), feature_size)
        self.segment_distance_embeddings = nn.Embedding(config.max_training_sentences, feature_size)
        self.distance_embeddings = nn.Embedding(len(DISTANCE_BUCKETS) + 1, feature_size)
        self.sizes = [size, size, size, 4 * feature_size]  # of the parts that are scored
        self.scorer = SpanBertFeedForward(sum(self.sizes), config)
        if config.coref_depth > 1:
            self.gate = nn.Linear(2 * size, size)
        self.dropout = SpanBertDropout(config.ffnn_dropout)

    def forward(
        self,
        vectors: torch.Tensor,
        mention_score: torch.Tensor,
        speaker: torch.Tensor,
        segment: torch.Tensor,
        genre: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Antecedents (K, A) of each mention, -1 where there are fewer, and their scores s (K, A), -inf there.

        From g (K, G), s_m (K,), the speaker and segment (K,) of their first piece, and the genre () of the document.
        """
        source = self.dropout(self.coarse(vectors))  # (K, G)
        target = self.dropout(vectors)  # (K, G)
        prior = self.distance_prior(self.dropout(self.distance_prior_embeddings.weight)).squeeze(-1)  # (10,)
        antecedents = self._search(source, target, mention_score, prior)  # (K, A)
        distance = torch.arange(len(vectors), device=vectors.device)[:, None] - antecedents  # (K, A)
        others = antecedents.clamp(min=0)  # (K, A), with an index in place of -1; what it gives is masked at the end

        def coarse(rows: slice) -> torch.Tensor:
            bilinear = (target[others[rows]] @ source[rows, :, None]).squeeze(-1)  # (B, A)
            return (
                mention_score[rows, None]
                + mention_score[others[rows]]
                + bilinear
                + prior[distance_bucket(distance[rows])]
            )

        def features(rows: slice) -> torch.Tensor:
            apart = segment[rows, None] - segment[others[rows]]  # (B, A)
            same_speaker = speaker[rows, None] == speaker[others[rows]]  # (B, A)
            embedded = [
                self.speaker_embeddings(same_speaker.long()),
                self.genre_embeddings(genre).expand(*apart.shape, -1),
                self.segment_distance_embeddings(apart.clamp(0, self.config.max_training_sentences - 1)),
                self.distance_embeddings(distance_bucket(distance[rows])),
            ]  # (B, A, E) each
            return self.dropout(torch.cat(embedded, dim=-1))  # (B, A, 4E)

        block_size = self.config.score_block_size
        coarse_scores = in_blocks(coarse, len(vectors), block_size)  # (K, A)

        def scores_of(vectors: torch.Tensor) -> torch.Tensor:
            scores = coarse_scores + self._fine(vectors, others, features)
            return scores.masked_fill(antecedents < 0, -torch.inf)

        scores = scores_of(vectors)  # (K, A)
        for _ in range(self.config.coref_depth - 1):
            vectors = self._refined(vectors, others, scores)  # (K, G)
            scores = scores_of(vectors)  # (K, A)
        return antecedents, scores

    @torch.no_grad()
    def _search(self, source, target, mention_score, prior) -> torch.Tensor:
        """The A best antecedents by s_c (K, A), the best first; -1 where there are fewer.

        Without a gradient: which pairs are looked at is a choice, that does not flow back in the original either.
        """
        num_mentions = len(source)
        reach = self.config.max_antecedent_search or num_mentions
        num_antecedents = min(self.config.max_top_antecedents, reach, num_mentions)  # A

        def block(rows: slice) -> torch.Tensor:
            first = max(0, rows.start - reach)
            i = torch.arange(rows.start, rows.stop, device=source.device)[:, None]
            j = torch.arange(first, rows.stop, device=source.device)  # (J,), those that come before some i
            scores = source[rows] @ target[j].T + mention_score[j] + prior[distance_bucket(i - j)]  # (B, J)
            scores = scores.masked_fill((j >= i) | (j < i - reach), -torch.inf)
            best = scores.topk(min(num_antecedents, len(j)), dim=-1)  # (B, at most A)
            found = (best.indices + first).masked_fill(best.values == -torch.inf, -1)
            return F.pad(found, (0, num_antecedents - found.shape[1]), value=-1)  # (B, A)

        return in_blocks(block, num_mentions, self.config.score_block_size)

    def _fine(self, vectors, antecedents, features: Callable[[slice], torch.Tensor]) -> torch.Tensor:
        """s_a (K, A), with W_1 [g_i; g_j; g_i * g_j; φ] = W_i g_i + W_j g_j + W_p (g_i * g_j) + W_φ φ."""
        to_mention, to_antecedent, to_product, to_features = self.scorer.hidden.weight.split(self.sizes, dim=1)
        mention_part = F.linear(vectors, to_mention)  # (K, F)
        antecedent_part = F.linear(vectors, to_antecedent)  # (K, F)

        def block(rows: slice) -> torch.Tensor:
            hidden = F.linear(vectors[rows, None] * vectors[antecedents[rows]], to_product)  # (B, A, F)
            hidden += mention_part[rows, None]
            hidden += antecedent_part[antecedents[rows]]
            hidden += F.linear(features(rows), to_features, self.scorer.hidden.bias)
            return self.scorer.from_hidden(hidden)

        return in_blocks(block, len(vectors), self.config.score_block_size)

    def _refined(self, vectors, antecedents, scores) -> torch.Tensor:
        """g after it has taken in the antecedents (K, G)."""

        def block(rows: slice) -> torch.Tensor:
            own = vectors[rows]  # (B, G)
            chances = F.pad(scores[rows], (1, 0)).softmax(dim=-1)  # (B, 1 + A)
            attended = (chances[:, None, 1:] @ vectors[antecedents[rows]]).squeeze(1) + chances[:, :1] * own  # (B, G)
            gate = self.gate(torch.cat([own, attended], dim=-1)).sigmoid()  # (B, G)
            return gate * attended + (1 - gate) * own

        return in_blocks(block, len(vectors), self.config.score_block_size)


class SpanBertCoreferenceHead(nn.Module):
    """The mentions of a document and the scores of their antecedents."""

    def __init__(self, config: SpanBertConfig):
        super().__init__()
        self.config = config
        self.mentions = SpanBertMentionScorer(config)
        self.antecedents = SpanBertAntecedentScorer(config)

    def forward(self, document: Document, given: torch.Tensor | None = None) -> Mentions:
        """The best of the candidates, or the spans that are `given` (T, W), as by `candidate_spans`: all of these."""
        config, pieces = self.config, document.pieces
        allowed = given
        if given is None:
            allowed = candidate_spans(document.sentence, document.word, config.max_span_width)  # (T, W)
        start, width = allowed.nonzero(as_tuple=True)  # (C,) each
        score = self.mentions(pieces, allowed)  # (C,)
        end = start + width

        if given is None:
            num_kept = min(config.max_num_spans, int(config.top_span_ratio * len(pieces)))
            kept = select_spans(start, end, score, num_kept).to(pieces.device)  # (K,)
            start, end, score = start[kept], end[kept], score[kept]
        vectors = self.mentions.vectors(pieces, start, end, config.score_block_size)  # (K, G)
        antecedents, antecedent_scores = self.antecedents(
            vectors, score, document.speaker[start], document.segment[start], document.genre
        )
        return Mentions(start, end, score, antecedents, antecedent_scores)


# Losses


def gold_clusters(mentions: Mentions, starts: torch.Tensor, ends: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The cluster (K,) of each kept mention among the gold ones (M,), -1 for one that is none of them."""
    if not len(starts) or not len(mentions.start):
        return torch.full_like(mentions.start, -1)
    num_pieces = torch.maximum(mentions.end.max(), ends.max()) + 1
    gold, order = (starts * num_pieces + ends).sort()  # (M,); one number for each span, negative for the fillers
    span = mentions.start * num_pieces + mentions.end  # (K,)
    place = torch.searchsorted(gold, span).clamp(max=len(gold) - 1)
    return torch.where(gold[place] == span, ids[order][place], -1)


def antecedent_loss(mentions: Mentions, cluster: torch.Tensor) -> torch.Tensor:
    """The marginal log-likelihood of the right antecedents, negated (Lee et al., 2017, Section 6); a sum.

        L = - sum over i of log(sum over right j of P(j)), P = softmax over the antecedents and none

    Right are those of the A antecedents that are in i's cluster (K,); where there are none of these, none.
    """
    theirs = cluster[mentions.antecedents.clamp(min=0)]  # (K, A)
    right = (theirs == cluster[:, None]) & (theirs >= 0) & (mentions.antecedents >= 0)
    right = torch.cat([~right.any(dim=-1, keepdim=True), right], dim=-1)  # (K, 1 + A)
    scores = F.pad(mentions.antecedent_scores.float(), (1, 0))  # (K, 1 + A)
    return (scores.logsumexp(dim=-1) - scores.masked_fill(~right, -torch.inf).logsumexp(dim=-1)).sum()


def mention_loss(mentions: Mentions, cluster: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of sigmoid(s_m) with whether a kept mention is a gold one; a sum (Xu and Choi, 2020)."""
    return F.binary_cross_entropy_with_logits(mentions.score.float(), (cluster >= 0).float(), reduction="sum")


@dataclass
class SpanBertForCoreferenceOutput(ModelOutput):
    """The N mentions that are kept, document after document, each in its order, and their antecedents.

    Args:
        loss: with gold mentions.
        mention_starts, mention_ends: (N,), the first and the last piece, both included, counted in their document.
        mention_scores: (N,).
        antecedent_index: (N, A), which of the N mentions; -1 where there are fewer than A.
        antecedent_scores: (N, A), in logits against 0 for no antecedent; -inf where `antecedent_index` is -1.
        document_index: (N,), of which document.
    """

    loss: torch.Tensor | None = None
    mention_starts: torch.Tensor | None = None
    mention_ends: torch.Tensor | None = None
    mention_scores: torch.Tensor | None = None
    antecedent_index: torch.Tensor | None = None
    antecedent_scores: torch.Tensor | None = None
    document_index: torch.Tensor | None = None


class SpanBertForCoreference(SpanBertTaskModel):
    """SpanBERT with the mentions of documents and their antecedents (Section 4.1 of the paper).

    `coreference.encode_document` makes the inputs, `coreference.clusters_from_antecedents` clusters of the outputs.
    """

    def __init__(self, config: SpanBertConfig):
        super().__init__(config)
        self.coreference = SpanBertCoreferenceHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        sentence_map: torch.Tensor | None = None,
        word_map: torch.Tensor | None = None,
        speaker_ids: torch.Tensor | None = None,
        genre_ids: torch.Tensor | None = None,
        document_index: torch.Tensor | None = None,
        gold_starts: torch.Tensor | None = None,
        gold_ends: torch.Tensor | None = None,
        gold_cluster_ids: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs,
    ) -> SpanBertForCoreferenceOutput:
        """Resolves documents, of which each row (S, L) is a segment.

        Args:
            sentence_map: (S, L), the number of each piece's sentence in its document; needed.
            word_map: (S, L), that of its word, -1 for [CLS] and [SEP]; needed unless candidates are subwords.
            speaker_ids: (S, L), any number for each speaker; by default there is one.
            genre_ids: (D,), the place in `config.genres` of each document's; by default the first, for all unknown.
            document_index: (S,), from 0; by default all segments are one document's.
            gold_starts, gold_ends: (D, M), or (M,) for one document: the pieces of its mentions, as in the output;
                -1 where a document has fewer than M.
            gold_cluster_ids: (D, M) or (M,), from 0. A mention that is in no other's cluster is a singleton, of
                use to the mention loss alone.
            num_items_in_batch: documents of the whole update; by default those of this batch.

        The loss is the sum over mentions of the marginal log-likelihood, and of `mention_loss_coef` times the mention
        loss, divided by the number of documents. (The original has one document in a batch.)

        Raises `ValueError` for what is needed and missing, and for inputs of different shapes.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if document_index is None:
            document_index = input_ids.new_zeros(len(input_ids))
        if genre_ids is None:
            genre_ids = input_ids.new_zeros(int(document_index.max()) + 1)
        if speaker_ids is None:
            speaker_ids = torch.zeros_like(input_ids)
        if self.config.candidate_boundaries == "subword":
            word_map = None
        elif word_map is None:
            raise ValueError("candidate_boundaries='word' needs word_map: the number of each piece's word, or -1")
        if sentence_map is None:
            raise ValueError("expected sentence_map, the number of each piece's sentence: mentions are inside of one")
        check_shapes(input_ids, genre_ids, document_index, attention_mask, sentence_map, speaker_ids, word_map)
        gold = gold_mentions(gold_starts, gold_ends, gold_cluster_ids, len(genre_ids))

        hidden_states = self._encode(input_ids, attention_mask, **kwargs)  # (S, L, H)
        segments = torch.arange(len(input_ids), device=input_ids.device)[:, None].expand_as(input_ids)  # (S, L)
        loss, found = hidden_states.new_zeros((), dtype=torch.float32), []
        for number, genre in enumerate(genre_ids):
            kept = attention_mask.bool() & (document_index == number)[:, None]  # (S, L), of which T
            segment = segments[kept]  # (T,)
            if not len(segment):
                raise ValueError(f"document {number} has no pieces: expected a segment with attention_mask 1")
            document = Document(
                pieces=hidden_states[kept],
                segment=segment - segment[:1],
                sentence=sentence_map[kept],
                speaker=speaker_ids[kept],
                word=None if word_map is None else word_map[kept],
                genre=genre,
            )
            mentions = self.coreference(document)
            found.append(mentions)
            if gold is not None:
                cluster = gold_clusters(mentions, *gold[number])  # (K,)
                loss = loss + antecedent_loss(mentions, cluster)
                if self.config.mention_loss_coef:
                    loss = loss + self.config.mention_loss_coef * mention_loss(mentions, cluster)
        count = len(genre_ids) if num_items_in_batch is None else num_items_in_batch
        return SpanBertForCoreferenceOutput(loss=None if gold is None else per_item(loss, count), **joined(found))

    def _encode(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **kwargs) -> torch.Tensor:
        """The encoder's output (S, L, H); without gradients for some segments at a time, in bounded memory."""
        rows = len(input_ids) if torch.is_grad_enabled() else SEGMENTS_IN_BLOCK
        encoded = [
            self.bert(ids, attention_mask=mask, **kwargs).last_hidden_state
            for ids, mask in zip(input_ids.split(rows), attention_mask.split(rows), strict=True)
        ]
        return torch.cat(encoded)


def check_shapes(input_ids, genre_ids, document_index, *others) -> None:
    """Raises ValueError unless `others` are of the shape of `input_ids` (S, L), and the two say of each row whose."""
    for tensor in others:
        if tensor is not None and tensor.shape != input_ids.shape:
            raise ValueError(
                f"an input of shape {tuple(tensor.shape)}: expected {tuple(input_ids.shape)}, as input_ids"
            )
    if document_index.shape != input_ids.shape[:1]:
        given = tuple(document_index.shape)
        raise ValueError(f"document_index of shape {given}: expected ({len(input_ids)},), one for each segment")
    low, high = (int(bound) for bound in document_index.aminmax())
    if low < 0 or high >= len(genre_ids):
        wrong = low if low < 0 else high
        raise ValueError(f"document_index {wrong}: expected 0 to {len(genre_ids) - 1}, as genre_ids has documents")


def gold_mentions(starts, ends, cluster_ids, num_documents: int) -> list[tuple] | None:
    """Starts, ends and cluster ids (M,) of each document; None where nothing is given. Raises ValueError for parts."""
    given = [tensor is not None for tensor in (starts, ends, cluster_ids)]
    if not any(given):
        return None
    if not all(given):
        raise ValueError("expected all of gold_starts, gold_ends and gold_cluster_ids, or none")
    if not starts.shape == ends.shape == cluster_ids.shape or len(torch.atleast_2d(starts)) != num_documents:
        raise ValueError(
            f"gold mentions of shapes {tuple(starts.shape)}, {tuple(ends.shape)}, {tuple(cluster_ids.shape)}: "
            f"expected one shape ({num_documents}, M)"
        )
    return list(zip(*map(torch.atleast_2d, (starts, ends, cluster_ids)), strict=True))


def joined(found: list[Mentions]) -> dict[str, torch.Tensor]:
    """The mentions of D documents as one list of N, with antecedents numbered in it, filled to the largest A."""
    width = max(mentions.antecedents.shape[1] for mentions in found)
    index, scores, before = [], [], 0
    for mentions in found:
        missing = (0, width - mentions.antecedents.shape[1])
        numbers = torch.where(mentions.antecedents < 0, -1, mentions.antecedents + before)
        index.append(F.pad(numbers, missing, value=-1))
        scores.append(F.pad(mentions.antecedent_scores, missing, value=-torch.inf))
        before += len(mentions.start)
    return {
        "mention_starts": torch.cat([mentions.start for mentions in found]),
        "mention_ends": torch.cat([mentions.end for mentions in found]),
        "mention_scores": torch.cat([mentions.score for mentions in found]),
        "antecedent_index": torch.cat(index),
        "antecedent_scores": torch.cat(scores),
        "document_index": torch.cat([torch.full_like(each.start, number) for number, each in enumerate(found)]),
    }


SpanBertForCoreference.register_for_auto_class("AutoModel")

__all__ = ["SpanBertForCoreference"]
