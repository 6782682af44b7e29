"""examples/demo.py, served on this machine alone: each tab answers as its predictor does, and nobody else is asked."""

import importlib.util
import re
import socket
import urllib.request

import pytest
import torch
from coreference_helpers import STRINGS, TEXT, TOKENIZER, learnt_model
from helpers import ROOT, tiny_config, tiny_tokenizer
from test_show import Page

import modeling_spanbert
from modeling_spanbert import (
    QuestionAnswerer,
    RelationExtractor,
    SpanBertForPreTraining,
    SpanBertForQuestionAnswering,
    SpanBertForRelationExtraction,
)


gradio_client = pytest.importorskip("gradio_client", reason="needs the extra demo: pip install -e .[demo]")
pytest.importorskip("gradio", reason="needs the extra demo: pip install -e .[demo]")

CONTEXT = "the queen won\nthe great game."


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny model for each tab; all but that of coreference have random weights."""
    folder, tokenizer = tmp_path_factory.mktemp("models"), tiny_tokenizer()
    config = {"initializer_range": 0.3}
    torch.manual_seed(0)
    models = {
        "answer": SpanBertForQuestionAnswering(tiny_config(**config)),
        "fill": SpanBertForPreTraining(tiny_config(**config)),
    }
    for name, model in models.items():
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)

    learnt_model().save_pretrained(folder / "coref")
    TOKENIZER.save_pretrained(folder / "coref")

    types = {"SUBJ=PERSON": "[S]", "OBJ=CITY": "[O]", "OBJ=TITLE": "[T]"}
    tokenizer.add_tokens([*types.values()], special_tokens=True)
    relations = tiny_config(vocab_size=len(tokenizer), entity_token_map=types, num_labels=3, **config)
    relations.id2label = {0: "no_relation", 1: "born_in", 2: "has_title"}
    SpanBertForRelationExtraction(relations).save_pretrained(folder / "relations")
    tokenizer.save_pretrained(folder / "relations")
    return {name: str(folder / name) for name in (*models, "coref", "relations")}


@pytest.fixture(scope="module")
def client(demo, folders):
    """The page on a free port; a connection to another machine fails, and fails the test."""
    foreign, connect = [], socket.socket.connect

    def to_this_machine(self, address):
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            foreign.append(address)
            raise OSError(f"a connection to {address}")
        return connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", to_this_machine)
        page = demo.build(folders)
        _, url, share_url = demo.launch(page)
        try:
            yield gradio_client.Client(url, verbose=False, analytics_enabled=False)
        finally:
            page.close(verbose=False)
    assert url.startswith("http://127.0.0.1:") and not share_url and not foreign


def test_the_page_is_served_with_its_styles_and_fetches_nothing_from_elsewhere(client):
    with urllib.request.urlopen(client.src) as response:
        source = response.read().decode()
    assert '"title":"SpanBERT"' in source and ".shown mark" in source and '"analytics_enabled":false' in source
    fetched = re.findall(r'<(?:script|link|img)\b[^>]*?(?:src|href)="([^"]+)"', source)
    assert fetched and not [each for each in fetched if each.startswith(("http", "//"))]


def test_answers_are_those_of_the_predictor(client, folders):
    question = "who won the game?"
    found = QuestionAnswerer.from_pretrained(folders["answer"])(question=question, context=CONTEXT, top_k=5)
    source = client.predict(question, CONTEXT, api_name="/answer")
    page = Page(source)
    assert question in page.text and CONTEXT in page.text and not page.foreign
    assert re.findall(r"--score:([\d.]+)", source) == [f"{each['score']:.3f}" for each in found]


def test_clusters_are_those_of_the_predictor(client):
    page = Page(client.predict(TEXT, api_name="/coreference"))
    assert TEXT in page.text and all(" · ".join(strings) in page.text for strings in STRINGS)


def test_relations_are_those_of_the_predictor(client, folders):
    text = "the queen was great in the city"
    extractor = RelationExtractor.from_pretrained(folders["relations"])
    for object_type in ("CITY", "TITLE"):
        found = extractor(text=text, subject=(4, 9), object=(27, 31), subject_type="PERSON", object_type=object_type)
        source = client.predict(text, "queen", "city", "PERSON", object_type, api_name="/relations")
        page = Page(source)
        assert f"{found['label']}: 1 → 2 {found['score']:.1%}" in page.text
        assert "queen<sub>1</sub>" in source and "city<sub>2</sub>" in source


@pytest.mark.parametrize("num_words", [0, 2])
def test_fillings_are_those_of_the_predictor(client, folders, num_words):
    text = "the queen won the [BLANK] in the city"
    filler = modeling_spanbert.SpanFiller.from_pretrained(folders["fill"])
    found = filler(text, num_words=num_words or None, top_k=5)
    source = client.predict(text, num_words, api_name="/fill")
    assert found[0]["text"] in Page(source).text
    assert re.findall(r"<li .*?<bdi>(.*?)</bdi>", source) == [each["filling"] for each in found]


def test_what_the_user_has_to_change_is_a_message(client):
    with pytest.raises(Exception, match="span '&lt;king' is not in the text"):
        client.predict("the queen", "<king", "queen", "PERSON", "CITY", api_name="/relations")


def test_only_given_models_have_a_tab(demo, folders):
    def names(models):
        page = demo.build(models)
        return {each.api_name for each in page.fns.values()}

    assert names({"answer": folders["answer"]}) == {"answer"}
    assert names(folders) == {"coreference" if name == "coref" else name for name in folders}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no model given: expected at least one of --fill, --answer, --coref, --relations"),
        (["--answer", "./none"], "./none"),
        (["--coref", "answer"], "is not fine-tuned for coreference"),
    ],
)
def test_bad_models_are_one_line(demo, folders, argv, message, capsys):
    assert demo.main([folders.get(each, each) for each in argv]) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith("error: ") and message in err
