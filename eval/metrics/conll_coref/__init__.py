"""Coreference as the CoNLL-2012 reference scorer counts it (v8.01; Pradhan et al., 2014), and LEA.

    G_1, G_2, …   gold clusters, of the references
    P_1, P_2, …   predicted clusters, of the predictions
    |G_i & P_j|   the mentions that both have: those with the same first and the same last word

No cluster reaches beyond its document, so all documents together are one set of clusters, and a sum over it is a sum
over documents: numerators and denominators are added up before they are divided.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


Clusters = Sequence[Sequence[Sequence[int]]]  # of one document; a mention is [first, last], both included


class Scores(NamedTuple):
    """Fractions."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Overlaps:
    """What the metrics look at: sizes of clusters, and of what gold and predicted ones share. All int64.

    There are G gold and P predicted clusters in D documents, and N pairs (i, j) that share a mention.
    """

    gold_sizes: np.ndarray  # (G,) |G_i|
    predicted_sizes: np.ndarray  # (P,) |P_j|
    gold: np.ndarray  # (N,) i
    predicted: np.ndarray  # (N,) j
    shared: np.ndarray  # (N,) |G_i & P_j|
    gold_mentions: np.ndarray  # (D,)
    predicted_mentions: np.ndarray  # (D,)
    shared_mentions: np.ndarray  # (D,)

    @property
    def gold_size(self) -> np.ndarray:
        """|G_i| of each pair (N,)."""
        return self.gold_sizes[self.gold]

    @property
    def predicted_size(self) -> np.ndarray:
        """|P_j| of each pair (N,)."""
        return self.predicted_sizes[self.predicted]


def conll_coref_scores(predictions: Sequence[Clusters], references: Sequence[Clusters]) -> dict[str, float]:
    """`{muc, b_cubed, ceaf_m, ceaf_e, blanc, lea, mentions}_{precision, recall, f1}` and `conll_f1`, in percent.

    `conll_f1`, which papers report, is the mean of the F1 of MUC, B-cubed and CEAF-e. All are unrounded; the scorer
    prints two digits and cuts the rest. 0 where a denominator is 0.

    Documents, and errors, are those of `compare`.
    """
    overlaps = compare(predictions, references)
    scores = {metric.__name__: metric(overlaps) for metric in (muc, b_cubed, ceaf_m, ceaf_e, blanc, lea, mentions)}
    percents = {
        f"{name}_{figure}": 100 * fraction
        for name, fractions in scores.items()
        for figure, fraction in fractions._asdict().items()
    }
    return {**percents, "conll_f1": 100 * (scores["muc"].f1 + scores["b_cubed"].f1 + scores["ceaf_e"].f1) / 3}


def compare(predictions: Sequence[Clusters], references: Sequence[Clusters]) -> Overlaps:
    """Counts what the clusters of `predictions` and `references`, which are aligned by position, share.

    A document is a list of clusters, a cluster a list of mentions `[first, last]`; one without clusters is `[]`. A
    mention that is listed again, in its cluster or in another one, counts once, where it is listed first. (The scorer
    does so with mentions that the key has, counts others as often as they are listed, and stops at the eleventh.)

    Raises:
        ValueError: where there are no documents, or not as many on both sides, or for what is no mention.
    """
    if not len(references) or len(predictions) != len(references):
        raise ValueError(
            f"{len(predictions)} predicted documents for {len(references)} references; "
            "expected as many, and one at least (a document without clusters is [])"
        )
    gold_sizes, predicted_sizes, pairs = Counter(), Counter(), Counter()
    num_mentions = []
    for document, (clusters, gold_clusters) in enumerate(zip(predictions, references, strict=True)):
        predicted = _clusters_by_mention(clusters, f"predictions[{document}]")
        gold = _clusters_by_mention(gold_clusters, f"references[{document}]")
        shared = gold.keys() & predicted.keys()
        gold_sizes.update((document, cluster) for cluster in gold.values())
        predicted_sizes.update((document, cluster) for cluster in predicted.values())
        pairs.update(((document, gold[mention]), (document, predicted[mention])) for mention in shared)
        num_mentions.append((len(gold), len(predicted), len(shared)))

    gold_places = {cluster: place for place, cluster in enumerate(gold_sizes)}
    predicted_places = {cluster: place for place, cluster in enumerate(predicted_sizes)}
    gold_mentions, predicted_mentions, shared_mentions = np.array(num_mentions, np.int64).T
    return Overlaps(
        gold_sizes=_int64(gold_sizes.values()),
        predicted_sizes=_int64(predicted_sizes.values()),
        gold=_int64(gold_places[cluster] for cluster, _ in pairs),
        predicted=_int64(predicted_places[cluster] for _, cluster in pairs),
        shared=_int64(pairs.values()),
        gold_mentions=gold_mentions,
        predicted_mentions=predicted_mentions,
        shared_mentions=shared_mentions,
    )


def mentions(overlaps: Overlaps) -> Scores:
    """Mention detection: the mentions that both sides have, of those of each."""
    shared = overlaps.shared.sum()
    return _scores(shared, overlaps.predicted_sizes.sum(), shared, overlaps.gold_sizes.sum())


def muc(overlaps: Overlaps) -> Scores:
    """MUC (Vilain et al., 1995): of the links that join each cluster's mentions, those that the other side has.

    The predicted clusters cut G_i into parts, a mention that is in none of them being a part of its own:

        recall = sum over i of |G_i| - parts(G_i)  /  sum over i of |G_i| - 1

    and precision likewise, of P_j. A part of n mentions keeps n - 1 links, so both numerators are the sum over pairs
    of |G_i & P_j| - 1. Singletons have no links.
    """
    kept = (overlaps.shared - 1).sum()
    return _scores(kept, (overlaps.predicted_sizes - 1).sum(), kept, (overlaps.gold_sizes - 1).sum())


def b_cubed(overlaps: Overlaps) -> Scores:
    """B-cubed (Bagga and Baldwin, 1998): a mean over mentions.

    For a mention m in the predicted cluster P(m) and in the gold cluster G(m):

        precision = mean over predicted m of |P(m) & G(m)| / |P(m)|
        recall    = mean over gold m      of |P(m) & G(m)| / |G(m)|

    A mention that the other side does not have scores 0. The mentions of a pair of clusters score the same, so each
    pair adds |G_i & P_j|² / |P_j| and |G_i & P_j|² / |G_i|.
    """
    squares = overlaps.shared**2
    return _scores(
        (squares / overlaps.predicted_size).sum(),
        overlaps.predicted_sizes.sum(),
        (squares / overlaps.gold_size).sum(),
        overlaps.gold_sizes.sum(),
    )


def ceaf_m(overlaps: Overlaps) -> Scores:
    """CEAF by mentions (Luo, 2005): the mentions that clusters share under the best one-to-one map of clusters.

    With phi_3(G, P) = |G & P|, summed over the pairs of the map:

        precision = sum of phi_3 / number of predicted mentions
        recall    = sum of phi_3 / number of gold mentions
    """
    aligned = _best_alignment(overlaps, overlaps.shared)
    return _scores(aligned, overlaps.predicted_sizes.sum(), aligned, overlaps.gold_sizes.sum())


def ceaf_e(overlaps: Overlaps) -> Scores:
    """CEAF by entities (Luo, 2005): how alike clusters are under the best one-to-one map of clusters.

    With phi_4(G, P) = 2 |G & P| / (|G| + |P|), summed over the pairs of the map:

        precision = sum of phi_4 / number of predicted clusters
        recall    = sum of phi_4 / number of gold clusters
    """
    phi_4 = 2 * overlaps.shared / (overlaps.gold_size + overlaps.predicted_size)
    aligned = _best_alignment(overlaps, phi_4)
    return _scores(aligned, len(overlaps.predicted_sizes), aligned, len(overlaps.gold_sizes))


def blanc(overlaps: Overlaps) -> Scores:
    """BLANC (Recasens and Hovy, 2011), for predicted mentions (Luo et al., 2014): means over two kinds of links.

    The mentions of a document are linked two by two. A link of two mentions of one cluster is a coreference link, any
    other a non-coreference link; it is right where both sides have it and it is of the same kind in both. Precision,
    recall and F1 are computed for each kind, from counts over all documents, and BLANC's are their means. Where the
    references have no link of a kind, the other kind counts alone; where they have none at all, all is 0.
    """
    coreferent = _links(overlaps.shared).sum()
    predicted, gold = _links(overlaps.predicted_sizes).sum(), _links(overlaps.gold_sizes).sum()

    # Of the links between mentions that both sides have, these are coreference links in one of them at least.
    coreferent_in_gold = _links(np.bincount(overlaps.gold, overlaps.shared)).sum()
    coreferent_in_predicted = _links(np.bincount(overlaps.predicted, overlaps.shared)).sum()
    coreferent_in_either = coreferent_in_gold + coreferent_in_predicted - coreferent
    other = _links(overlaps.shared_mentions).sum() - coreferent_in_either
    other_predicted = _links(overlaps.predicted_mentions).sum() - predicted
    other_gold = _links(overlaps.gold_mentions).sum() - gold

    kinds = []
    if gold:
        kinds.append(_scores(coreferent, predicted, coreferent, gold))
    if other_gold:
        kinds.append(_scores(other, other_predicted, other, other_gold))
    return Scores(*np.mean(kinds, axis=0).tolist()) if kinds else Scores(0.0, 0.0, 0.0)


def lea(overlaps: Overlaps) -> Scores:
    """LEA, link-based and entity-aware (Moosavi and Strube, 2016): the share of its links, weighted by its size.

        recall = sum over i of |G_i| * resolved(G_i)  /  sum over i of |G_i|

        resolved(G_i) = sum over j of links(G_i & P_j) / links(G_i),  links(C) = |C| (|C| - 1) / 2

    and precision likewise, of P_j. A singleton has one link, to itself; it is resolved where it is a singleton on the
    other side too.
    """
    gold_size, predicted_size = overlaps.gold_size, overlaps.predicted_size
    return _scores(
        (predicted_size * _resolved(predicted_size, gold_size, overlaps.shared)).sum(),
        overlaps.predicted_sizes.sum(),
        (gold_size * _resolved(gold_size, predicted_size, overlaps.shared)).sum(),
        overlaps.gold_sizes.sum(),
    )


def _scores(right_predicted: float, predicted: float, right_gold: float, gold: float) -> Scores:
    """From numerator and denominator of precision, and of recall."""
    precision = float(right_predicted / predicted) if predicted else 0.0
    recall = float(right_gold / gold) if gold else 0.0
    return Scores(precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0)


def _clusters_by_mention(clusters: Clusters, where: str) -> dict[tuple[int, int], int]:
    """The number of the cluster that lists each mention first."""
    cluster_of = {}
    for number, cluster in enumerate(clusters):
        for mention in cluster:
            cluster_of.setdefault(_mention(mention, f"{where}[{number}]"), number)
    return cluster_of


def _mention(value: Sequence[int], where: str) -> tuple[int, int]:
    mention = tuple(value) if isinstance(value, Sequence | np.ndarray) else ()
    if (
        len(mention) != 2
        or not all(isinstance(word, Integral) for word in mention)
        or not 0 <= mention[0] <= mention[1]
    ):
        raise ValueError(f"{where}: {value!r:.60} is no mention: expected [first, last], both included, from 0")
    return mention


def _int64(numbers) -> np.ndarray:
    return np.fromiter(numbers, np.int64)


def _links(sizes: np.ndarray) -> np.ndarray:
    """Pairs of mentions in sets of these sizes."""
    return sizes * (sizes - 1) / 2


def _resolved(size: np.ndarray, size_opposite: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """The share (N,) of the links of each pair's one cluster, of `size` mentions, that its other cluster has."""
    alone = size == 1
    return np.where(alone, size_opposite == 1, _links(shared) / np.where(alone, 1, _links(size)))


def _best_alignment(overlaps: Overlaps, similarity: np.ndarray) -> float:
    """The greatest sum of `similarity` (N,) over pairs of which no two have a cluster in common.

    Clusters that are joined by no chain of pairs do not compete, so each group of clusters that are is solved apart:
    a book with thousands of clusters then takes no matrix of all of them.
    """
    num_gold, num_predicted = len(overlaps.gold_sizes), len(overlaps.predicted_sizes)
    num_clusters = num_gold + num_predicted
    edges = (overlaps.shared, (overlaps.gold, num_gold + overlaps.predicted))
    _, group_of = connected_components(coo_array(edges, shape=(num_clusters, num_clusters)), directed=False)
    group = group_of[overlaps.gold]  # (N,)

    alone = np.bincount(group, minlength=num_clusters)[group] == 1
    total = float(similarity[alone].sum())
    competing = np.flatnonzero(~alone)
    competing = competing[np.argsort(group[competing], kind="stable")]
    for pairs in np.split(competing, np.flatnonzero(np.diff(group[competing])) + 1):
        rows, row = np.unique(overlaps.gold[pairs], return_inverse=True)
        columns, column = np.unique(overlaps.predicted[pairs], return_inverse=True)
        matrix = np.zeros((len(rows), len(columns)))
        matrix[row, column] = similarity[pairs]
        total += float(matrix[linear_sum_assignment(matrix, maximize=True)].sum())
    return total
