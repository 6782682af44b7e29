"""The same-string baseline of coreference: no model, mentions are one thing where their words are the same."""

from collections import Counter
from collections.abc import Iterator

from modeling_spanbert.coreference import Cluster, Mention


MAX_WORDS = 10  # of a mention; longer ones hardly ever come twice


def same_string_clusters(training: list[dict], examples: list[dict]) -> list[list[Cluster]]:
    """The clusters of each of the `examples` (documents as `eval.tasks.coreference` has them).

    Mentions are taken from the left, the longest first: runs of words that start with a capital letter, but for one
    that starts its sentence alone, and words that are a mention in `training` at least every second time that they
    are there. Case is no difference. Those that come once are no cluster.
    """
    known = known_mentions(training)
    found = []
    for example in examples:
        clusters: dict[tuple[str, ...], Cluster] = {}
        for words, mention in mentions_of(example["sentences"], known):
            clusters.setdefault(words, []).append(mention)
        found.append([cluster for cluster in clusters.values() if len(cluster) > 1])
    return found


def known_mentions(documents: list[dict]) -> set[tuple[str, ...]]:
    """The words, in small letters, that are a mention at least every second time that they are in the `documents`."""
    as_mention, anywhere = Counter(), Counter()
    for document in documents:
        words = [word.lower() for sentence in document["sentences"] for word in sentence]
        mentions = {mention for cluster in document["clusters"] for mention in map(tuple, cluster)}
        as_mention.update(tuple(words[first : last + 1]) for first, last in mentions if last - first < MAX_WORDS)
    for document in documents:
        for sentence in document["sentences"]:
            words = [word.lower() for word in sentence]
            spans = ((first, stop) for first in range(len(words)) for stop in stops(first, len(words)))
            anywhere.update(span for span in (tuple(words[first:stop]) for first, stop in spans) if span in as_mention)
    return {span for span, count in as_mention.items() if 2 * count >= anywhere[span]}


def mentions_of(sentences: list[list[str]], known: set[tuple[str, ...]]) -> Iterator[tuple[tuple[str, ...], Mention]]:
    """The mentions of a document, with their words in small letters."""
    before = 0  # words
    for sentence in sentences:
        words = tuple(word.lower() for word in sentence)
        first = 0
        while first < len(words):
            name = first
            while name < len(words) and sentence[name][:1].isupper():
                name += 1
            stop = max((stop for stop in stops(first, len(words)) if words[first:stop] in known), default=first)
            if name > first and not (first == 0 and name == 1):
                stop = max(stop, name)
            if stop > first:
                yield words[first:stop], (before + first, before + stop - 1)
            first = max(stop, first + 1)
        before += len(words)


def stops(first: int, num_words: int) -> range:
    """Where a mention that starts with the word `first` of a sentence may stop."""
    return range(first + 1, min(first + MAX_WORDS, num_words) + 1)
