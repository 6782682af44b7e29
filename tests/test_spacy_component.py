"""The coreference component of spaCy pipelines; needs the extra `spacy`, but no model of spaCy's."""

import pytest
from coreference_helpers import CLUSTERS, SENTENCES, STRINGS, TEXT, TOKENIZER, learnt_model


spacy = pytest.importorskip("spacy", reason="needs spaCy (the extra spacy)")

import modeling_spanbert.spacy_component  # noqa: E402, F401 - registers its name, as spaCy does by the entry point


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coref")
    learnt_model().save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def nlp(checkpoint):
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.add_pipe("spanbert_coref", config={"model": checkpoint})
    return nlp


def clusters_of(doc, prefix: str = "coref_clusters") -> list[list[str]]:
    return [[span.text for span in doc.spans[f"{prefix}_{number + 1}"]] for number in range(len(doc.spans))]


def test_clusters_are_span_groups_of_the_document(nlp):
    doc = nlp(TEXT)
    assert clusters_of(doc) == STRINGS
    spans = [[(span.start, span.end - 1) for span in group] for group in doc.spans.values()]
    assert spans == [cluster for cluster in CLUSTERS if len(cluster) > 1]
    assert len(list(doc.sents)) == len(SENTENCES)


def test_blank_tokens_count_and_another_run_replaces_the_first(nlp):
    doc = nlp(f"  \n{TEXT}")
    assert clusters_of(doc) == STRINGS
    assert clusters_of(nlp.get_pipe("spanbert_coref")(doc)) == STRINGS


def test_many_documents_stream_in_their_order(nlp):
    texts = [TEXT, "", "we won .", TEXT] * 3
    found = [clusters_of(doc) for doc in nlp.pipe(iter(texts), batch_size=5)]
    assert found == [STRINGS, [], [], STRINGS] * 3


def test_a_document_without_sentences_and_another_prefix(checkpoint):
    nlp = spacy.blank("en")
    nlp.add_pipe("spanbert_coref", config={"model": checkpoint, "span_prefix": "entity"})
    assert clusters_of(nlp(TEXT), "entity") == STRINGS


def test_a_pipeline_is_saved_with_the_name_of_its_model(nlp, tmp_path):
    nlp.to_disk(tmp_path / "pipeline")
    assert clusters_of(spacy.load(tmp_path / "pipeline")(TEXT)) == STRINGS


def test_a_model_is_needed(tmp_path):
    with pytest.raises(ValueError, match="model"):
        spacy.blank("en").add_pipe("spanbert_coref")
    with pytest.raises(OSError):
        spacy.blank("en").add_pipe("spanbert_coref", config={"model": str(tmp_path)})
