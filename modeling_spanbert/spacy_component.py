"""Coreference as a component of spaCy (https://spacy.io): the clusters of a document as its span groups.

    pip install "spanbert[spacy]"

    nlp = spacy.load("en_core_web_sm")
    nlp.add_pipe("spanbert_coref", config={"model": "your-org/spanbert-base-cased-coref"})
    doc = nlp("Ada was tired, so she slept.")
    doc.spans["coref_clusters_1"]  # [Ada, she]

spaCy finds it by its entry point; nothing else of this package imports spaCy. Clusters are numbered from 1, in the
order of their first mentions, under the names that spaCy's own experimental component gives them.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from spacy.language import Language
from spacy.tokens import Doc, SpanGroup

from .coreference_document import DocumentToResolve
from .coreference_resolver import CoreferenceResolver


class SpanBertCoreferenceComponent:
    """Adds to documents the clusters that `resolver` finds, as `doc.spans["{span_prefix}_1"]` and so on.

    Words are the tokens of the document, and sentences its own where they are set, else those of `text.py`. Clusters
    of an earlier run are replaced.
    """

    def __init__(self, resolver: CoreferenceResolver, span_prefix: str):
        self.resolver = resolver
        self.span_prefix = span_prefix

    def __call__(self, doc: Doc) -> Doc:
        [doc] = self.pipe([doc])
        return doc

    def pipe(self, docs: Iterable[Doc], batch_size: int = 64) -> Iterator[Doc]:
        """The documents with their clusters, in their order; the word pieces of `batch_size` are encoded together."""
        docs = iter(docs)
        while group := list(islice(docs, batch_size)):
            found = self.resolver.predict_iter(map(document_of, group))
            for doc, result in zip(group, found, strict=True):
                for name in [name for name in doc.spans if name.startswith(f"{self.span_prefix}_")]:
                    del doc.spans[name]
                for number, cluster in enumerate(result.clusters(unit="word"), 1):
                    name = f"{self.span_prefix}_{number}"
                    doc.spans[name] = SpanGroup(doc, name=name, spans=[doc[start:end] for start, end in cluster])
                yield doc


def document_of(doc: Doc) -> DocumentToResolve:
    """The tokens of a spaCy document; blank ones stay, so that numbers of words are numbers of tokens."""
    if doc.has_annotation("SENT_START"):
        return DocumentToResolve.from_sentences([[token.text for token in sentence] for sentence in doc.sents])
    return DocumentToResolve.from_tokens([token.text for token in doc])


@Language.factory("spanbert_coref", default_config={"span_prefix": "coref_clusters", "batch_tokens": 4096})
def make_component(
    nlp: Language, name: str, model: str, span_prefix: str, batch_tokens: int
) -> SpanBertCoreferenceComponent:
    """`model`: a folder or a repository of the Hub, as of `CoreferenceResolver.from_pretrained`, which says more."""
    return SpanBertCoreferenceComponent(
        CoreferenceResolver.from_pretrained(model, batch_tokens=batch_tokens), span_prefix
    )
