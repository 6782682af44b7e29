"""The coreference head as the papers write it, and as the original computes it: one tensor for all that there is.

For tests and benchmarks: without dropout, blocks or recomputation, and quadratic in the length of the document.
"""

import torch
from torch.nn import functional as F

from modeling_spanbert.modeling_spanbert_coref import Document, Mentions, SpanBertCoreferenceHead


def naive_head(head: SpanBertCoreferenceHead, document: Document) -> Mentions:
    """What `head(document)` gives in eval mode."""
    config, weights = head.config, dict(head.named_parameters())
    x = document.pieces  # (T, H)

    def linear(name: str, inputs: torch.Tensor) -> torch.Tensor:
        return F.linear(inputs, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def embed(name: str, ids: torch.Tensor) -> torch.Tensor:
        return weights[f"{name}.weight"][ids]

    def feed_forward(name: str, inputs: torch.Tensor) -> torch.Tensor:
        return linear(f"{name}.output", linear(f"{name}.hidden", inputs).relu()).squeeze(-1)

    # Mentions
    candidates = torch.tensor(all_candidates(document, config.max_span_width), dtype=torch.long).view(-1, 2)
    start, end = candidates.unbind(-1)  # (C,) each
    place = torch.arange(len(x))
    inside = (place >= start[:, None]) & (place <= end[:, None])  # (C, T)
    attention = linear("mentions.attention", x).squeeze(-1)  # (T,)
    attended = attention.expand(len(start), -1).masked_fill(~inside, -torch.inf).softmax(-1) @ x  # (C, H)
    g = torch.cat([x[start], x[end], embed("mentions.width_embeddings", end - start), attended], -1)  # (C, G)
    prior = feed_forward("mentions.width_prior_scorer", embed("mentions.width_prior_embeddings", end - start))  # (C,)
    mention_score = feed_forward("mentions.scorer", g) + prior  # (C,)

    num_kept = min(config.max_num_spans, int(config.top_span_ratio * len(x)))
    kept = best_spans(candidates.tolist(), mention_score.tolist(), num_kept)
    start, end, g, mention_score = start[kept], end[kept], g[kept], mention_score[kept]

    # Coarse scores of all pairs
    number = torch.arange(len(kept))
    distance = number[:, None] - number  # (K, K)
    prior = linear("antecedents.distance_prior", embed("antecedents.distance_prior_embeddings", bucket(distance)))
    coarse = linear("antecedents.coarse", g) @ g.T + prior.squeeze(-1) + mention_score[:, None] + mention_score
    reach = config.max_antecedent_search or len(kept)
    coarse = coarse.masked_fill((distance < 1) | (distance > reach), -torch.inf)  # (K, K)
    coarse, antecedents = coarse.topk(min(config.max_top_antecedents, reach, len(kept)))  # (K, A)

    # Fine scores
    speaker, segment = document.speaker[start], document.segment[start]  # (K,) each
    apart = (segment[:, None] - segment[antecedents]).clamp(0, config.max_training_sentences - 1)
    features = [
        embed("antecedents.speaker_embeddings", (speaker[:, None] == speaker[antecedents]).long()),
        embed("antecedents.genre_embeddings", document.genre.expand_as(antecedents)),
        embed("antecedents.segment_distance_embeddings", apart),
        embed("antecedents.distance_embeddings", bucket(number[:, None] - antecedents)),
    ]
    for depth in range(config.coref_depth):
        if depth:
            chances = F.pad(scores, (1, 0)).softmax(-1)  # noqa: F821 - of the depth before
            attended = torch.einsum("ka,kag->kg", chances, torch.cat([g[:, None], g[antecedents]], 1))
            gate = linear("antecedents.gate", torch.cat([g, attended], -1)).sigmoid()
            g = gate * attended + (1 - gate) * g
        mention = g[:, None].expand(*antecedents.shape, -1)  # (K, A, G)
        pairs = torch.cat([mention, g[antecedents], mention * g[antecedents], *features], -1)
        scores = coarse + feed_forward("antecedents.scorer", pairs)  # (K, A)
    return Mentions(start, end, mention_score, antecedents.masked_fill(coarse == -torch.inf, -1), scores)


def all_candidates(document: Document, max_span_width: int) -> list[tuple[int, int]]:
    num_pieces, sentence = len(document.sentence), document.sentence.tolist()
    starts = ends = set(range(num_pieces))
    if document.word is not None:
        words = document.word.tolist()
        starts = {words.index(word) for word in words if word >= 0}
        ends = {num_pieces - 1 - words[::-1].index(word) for word in words if word >= 0}
    return [
        (s, e)
        for s in range(num_pieces)
        for e in range(s, min(s + max_span_width, num_pieces))
        if sentence[s] == sentence[e] and s in starts and e in ends
    ]


def best_spans(spans: list[list[int]], scores: list[float], num_kept: int) -> list[int]:
    def cross(one, other) -> bool:
        return one[0] < other[0] <= one[1] < other[1] or other[0] < one[0] <= other[1] < one[1]

    taken = []
    for index in sorted(range(len(spans)), key=lambda index: -scores[index]):
        if len(taken) < num_kept and not any(cross(spans[index], spans[other]) for other in taken):
            taken.append(index)
    return sorted(taken, key=lambda index: spans[index])


def bucket(distance: torch.Tensor) -> torch.Tensor:
    logarithm = distance.clamp(min=1).double().log2().floor().long() + 3
    return torch.where(distance <= 4, distance.clamp(min=0), logarithm).clamp(max=9)
