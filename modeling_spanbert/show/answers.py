"""Answers to a question to look at, in the terminal and as HTML: where they are in the context, and how they score.

What is shown is what `QuestionAnswerer.n_best` gives: each text's score is that of `QuestionAnswerer` without
`handle_impossible_answer`, a probability among the n best texts. No answer is set against the best of them in logits,
by which a model of SQuAD 2.0 decides.
"""

from collections.abc import Iterable
from typing import NamedTuple

from ..question_answering import Answer, NBest, QuestionAnswerer
from .clusters import Clusters, colour_clusters, hue, marked_html
from .page import escaped, without_controls


ABOUT_ANSWERS = """<p class="shown">
Below the question is what the model answers. In the text the best answers are marked with their rank; where some
overlap, the better one alone. The bars and percentages are probabilities among all answers that were weighed.</p>
"""


class AnsweredQuestion(NamedTuple):
    question: str
    context: str
    n_best: NBest
    threshold: float | None = None  # `config.null_score_diff_threshold`; None: the model always answers

    @classmethod
    def by(cls, answerer: QuestionAnswerer, question: str, context: str) -> "AnsweredQuestion":
        [n_best] = answerer.n_best([question], [context])
        return cls(question, context, n_best, getattr(answerer.model.config, "null_score_diff_threshold", None))

    @property
    def is_impossible(self) -> bool:
        """Whether the prediction is that there is no answer: always, where the context has no token."""
        if not self.n_best.answers:
            return True
        return self.threshold is not None and self.n_best.score_difference > self.threshold

    def prediction(self) -> str:
        """In one line, to be printed."""
        return "no answer" if self.is_impossible else one_line(self.n_best.answers[0].text)

    def ranked(self, top_k: int) -> list[tuple[Answer, float]]:
        """The `top_k` best texts with their scores."""
        return self.n_best.ranked()[:top_k] if self.n_best.answers else []

    def no_answer(self) -> str:
        """How no answer does against the best text, in words."""
        if not self.n_best.answers:
            return "No answer: the context has no text that could be one."
        difference = self.n_best.score_difference
        if self.threshold is None:
            verdict = "the model has no threshold for it, and always answers"
        else:
            verdict = f"{'' if self.is_impossible else 'not '}above the model's threshold of {self.threshold:+.2f}"
        return f"No answer against the best text: {difference:+.2f} in logits; {verdict}."


def places(answers: list[tuple[Answer, float]]) -> Clusters:
    """Where the answers are, as clusters of one, numbered by rank; of those that overlap, the best alone."""
    shown: list[list[tuple[int, int]]] = []
    for answer, _ in answers:
        overlaps = any(answer.start < end and start < answer.end for found in shown for start, end in found)
        shown.append([] if overlaps else [(answer.start, answer.end)])
    return shown


def one_line(text: str) -> str:
    return " ".join(without_controls(text).split())


def colour_answer(answered: AnsweredQuestion, top_k: int = 5, colour: bool = True) -> str:
    """Question and prediction, the context with "[answers|1]" by rank, and the `top_k` best with their scores.

    `colour`: with escape sequences for a terminal.
    """
    ranked = answered.ranked(top_k)
    lines = [f"{number}  {score:6.1%}  {one_line(answer.text)}" for number, (answer, score) in enumerate(ranked, 1)]
    parts = [
        f"{without_controls(answered.question)}\n-> {answered.prediction()}",
        colour_clusters(answered.context, places(ranked), colour),
        "\n".join([*lines, answered.no_answer()]),
    ]
    return "\n\n".join(filter(str.strip, parts)) + "\n"


def answer_html(answered: AnsweredQuestion, top_k: int = 5) -> str:
    """The question's part of a page: the prediction, the context with the answers marked, and a bar for each score."""
    ranked = answered.ranked(top_k)
    context = marked_html(answered.context, places(ranked), "answer")
    prediction = f"<em>{answered.prediction()}</em>" if answered.is_impossible else escaped(answered.prediction())
    return "\n".join(
        [
            '<section class="shown">',
            f'<h2 dir="auto">{escaped(answered.question)}</h2>',
            f'<p class="prediction" dir="auto">{prediction}</p>',
            f'<div class="text" dir="auto">{context}</div>',
            scores_html((answer.text, score) for answer, score in ranked),
            f"<p>{escaped(answered.no_answer())}</p>",
            "</section>\n",
        ]
    )


def scores_html(ranked: Iterable[tuple[str, float]]) -> str:
    """A list of texts by rank, each with its score, from 0 to 1, and a bar of that length."""
    items = []
    for number, (text, score) in enumerate(ranked, start=1):
        style = f"--hue:{hue(number)};--score:{score:.3f}"
        shown = f'<bdi>{escaped(one_line(text))}</bdi> <bdi class="more">{score:.1%}</bdi>'
        items.append(f'<li class="scored" style="{style}"><b>{number}</b>{shown}</li>')
    return "\n".join(["<ol>", *items, "</ol>"])
