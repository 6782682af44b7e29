"""`spanbert show answer` and `spanbert show clusters`: answers in their context, and clusters of a text or a file."""

import re

import pytest
import torch
from coreference_helpers import STRINGS, TEXT, TOKENIZER, learnt_model
from helpers import tiny_config, tiny_tokenizer
from test_show import ANSI, Page

from modeling_spanbert import QuestionAnswerer, SpanBertForQuestionAnswering
from modeling_spanbert.__main__ import main
from modeling_spanbert.question_answering import Answer, NBest
from modeling_spanbert.show import AnsweredQuestion, answer_html, colour_answer


CONTEXT = "the queen <won> the game"
QUEEN, GAME = Answer("the queen", 0, 9, 2.0, 1.0), Answer("the game", 16, 24, 1.0, 1.0)
PART = Answer("queen", 4, 9, 1.5, 1.0)


def answered(null: float = 0.0, threshold: float | None = None, answers=(QUEEN, PART, GAME)) -> AnsweredQuestion:
    return AnsweredQuestion("who won?", CONTEXT, NBest([*answers], Answer("", 0, 0, null, 0.0), 20), threshold)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of random weights: it answers something."""
    folder = tmp_path_factory.mktemp("qa")
    torch.manual_seed(0)
    SpanBertForQuestionAnswering(tiny_config(initializer_range=0.3)).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def coref_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coref")
    learnt_model().save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return str(folder)


def test_answers_in_the_terminal_are_numbered_by_rank_where_they_do_not_overlap_a_better_one():
    # 1 / (1 + e^-0.5 + e^-1) = 0.506, and e^-0.5 and e^-1 times that
    assert colour_answer(answered(), colour=False) == (
        "who won?\n-> the queen\n\n[the queen|1] <won> [the game|3]\n\n"
        "1   50.6%  the queen\n2   30.7%  queen\n3   18.6%  the game\n"
        "No answer against the best text: -3.00 in logits; the model has no threshold for it, and always answers.\n"
    )
    assert "[the game|" not in colour_answer(answered(), top_k=2, colour=False)
    assert ANSI.sub("", colour_answer(answered())) == colour_answer(answered(), colour=False)


@pytest.mark.parametrize(
    ("null", "threshold", "prediction", "verdict"),
    [
        (3.5, None, "the queen", "+0.50 in logits; the model has no threshold"),
        (3.5, 0.0, "no answer", "+0.50 in logits; above the model's threshold of +0.00"),
        (3.5, 1.0, "the queen", "+0.50 in logits; not above the model's threshold of +1.00"),
        (0.0, -4.0, "no answer", "-3.00 in logits; above the model's threshold of -4.00"),
    ],
)
def test_no_answer_is_the_prediction_above_the_threshold(null, threshold, prediction, verdict):
    shown = answered(null, threshold)
    assert shown.prediction() == prediction
    for text in (colour_answer(shown, colour=False), Page(answer_html(shown)).text):
        assert verdict in text and prediction in text


def test_a_context_without_text_has_no_answer():
    shown = answered(answers=())
    assert shown.prediction() == "no answer"
    assert colour_answer(shown._replace(context=""), colour=False) == (
        "who won?\n-> no answer\n\nNo answer: the context has no text that could be one.\n"
    )
    assert "<em>no answer</em>" in answer_html(shown)


def test_html_is_escaped_and_has_a_bar_for_each_score():
    source = answer_html(answered()._replace(question="<b>\x00"))
    page = Page(source)
    assert not page.foreign and "<b>�" in page.text and CONTEXT in page.text
    assert re.findall(r"--score:([\d.]+)", source) == ["0.506", "0.307", "0.186"]
    assert 'title="answer 1"' in source and source.count("<mark") == 2


def test_show_answer_prints_what_the_predictor_gives(folder, tmp_path, capsys):
    question, context = "who won the game?", "the queen won\nthe game."
    found = QuestionAnswerer.from_pretrained(folder)(question=question, context=context, top_k=3)
    source, page = tmp_path / "context.txt", tmp_path / "answer.html"
    source.write_text(context, encoding="utf-8")
    arguments = ["show", "answer", "--question", question, "--model_name_or_path", folder, "--top_k", "3"]
    capsys.readouterr()
    assert main([*arguments, "--context", context]) == 0
    printed = capsys.readouterr().out
    lines = [f"{n}  {each['score']:6.1%}  {' '.join(each['answer'].split())}" for n, each in enumerate(found, 1)]
    assert "\n".join(lines) in printed and "\x1b" not in printed

    assert main([*arguments, "--context", str(source), "--html", str(page)]) == 0
    assert capsys.readouterr().out == f"{' '.join(found[0]['answer'].split())}\n"
    shown = Page(page.read_text(encoding="utf-8"))
    assert "marked with their rank" in shown.text
    assert context in shown.text and not shown.foreign


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--context", "none.txt"], "file not found: none.txt"),
        (["--context", "a", "--top_k", "0"], "top_k=0: expected a whole number, at least 1"),
        (["--context", "a", "--html", "none/a.html"], "expected a file to write in a folder that is there"),
        (["--context", "a", "--model_name_or_path", "./none"], "./none"),
    ],
)
def test_bad_options_are_one_line(folder, options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = [] if "--model_name_or_path" in options else ["--model_name_or_path", folder]
    page = [] if "--html" in options else ["--html", "a.html"]
    assert main(["show", "answer", "--question", "who?", *model, *page, *options]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err.splitlines()[-1] and not [*tmp_path.iterdir()]


def test_show_clusters_of_a_text_and_of_a_file(coref_folder, tmp_path, capsys):
    def show(*argv):
        assert main(["show", "clusters", *map(str, argv), "--model_name_or_path", coref_folder]) == 0
        return capsys.readouterr().out

    shown = "[the queen|1] saw [a dog|2]. [She|1] won [it|2]. We lost.\n\n1 document, 2 clusters, 4 mentions\n"
    source, page = tmp_path / "in.txt", tmp_path / "clusters.html"
    source.write_text(TEXT, encoding="utf-8")
    assert show(TEXT) == show(source) == shown
    assert show(TEXT, "--html", page) == "1 document, 2 clusters, 4 mentions\n"
    found = Page(page.read_text(encoding="utf-8"))
    assert "same number and colour" in found.text
    assert TEXT in found.text and all(" · ".join(strings) in found.text for strings in STRINGS)
    show(source, "--html", page)
    assert "<title>Coreference in in.txt</title>" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [("none.txt", "file not found: none.txt"), ("a.pdf", "a.pdf: expected a name that ends in .txt, .jsonl or conll")],
)
def test_bad_files_of_clusters_are_one_line(coref_folder, text, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["show", "clusters", text, "--model_name_or_path", coref_folder, "--html", "a.html"]) == 2
    assert message in capsys.readouterr().err and not [*tmp_path.iterdir()]
