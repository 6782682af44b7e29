"""Precision, recall and F1 of entities in sequences of IOB2 tags, as seqeval computes them."""

import warnings

from seqeval.metrics import accuracy_score, classification_report
from seqeval.scheme import IOB2


def ner_scores(predictions: list[list[str]], references: list[list[str]], mode: str | None = None) -> dict:
    """`overall_{precision,recall,f1,accuracy}`, and by entity type `{precision, recall, f1, number}`, fractions.

    Tags are "O", "B-TYPE" and "I-TYPE", a list of them for each sentence. An entity is right where its type, start and
    end are. `mode` says what an entity is:

    * None, seqeval's default, as the conlleval script of CoNLL-2003: an "I-TYPE" that continues no entity of its type
      begins one;
    * "strict", seqeval's strict mode in scheme IOB2: only "B-TYPE" begins an entity.

    0 where a denominator is 0. `overall_accuracy` is over tags, `number` counts entities of the references.

    Raises:
        ValueError: for an unknown mode, a tag that is not IOB2, or other lengths than the references'.
    """
    if mode not in (None, "strict"):
        raise ValueError(f"unknown mode {mode!r}; known: None (as conlleval), 'strict'")
    _check(predictions, references)
    strict = {"mode": "strict", "scheme": IOB2} if mode == "strict" else {}
    with warnings.catch_warnings(action="ignore"):  # seqeval also takes means over types, of which there may be none
        report = classification_report(references, predictions, output_dict=True, zero_division=0, **strict)
    overall = report.pop("micro avg")
    del report["macro avg"], report["weighted avg"]
    by_type = {
        entity_type: {**_figures(figures), "number": int(figures["support"])}
        for entity_type, figures in report.items()
    }
    return {
        **by_type,
        **{f"overall_{name}": value for name, value in _figures(overall).items()},
        "overall_accuracy": float(accuracy_score(references, predictions)),
    }


def _figures(figures: dict) -> dict[str, float]:
    names = {"precision": "precision", "recall": "recall", "f1": "f1-score"}
    return {name: float(figures[theirs]) for name, theirs in names.items()}


def _check(predictions: list[list[str]], references: list[list[str]]) -> None:
    if not sum(map(len, references)) or len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predicted sentences for {len(references)}; expected as many, with tags")
    for sentence, (predicted, expected) in enumerate(zip(predictions, references, strict=True)):
        if len(predicted) != len(expected):
            raise ValueError(f"sentence {sentence}: {len(predicted)} predicted tags for {len(expected)}")
        for tag in (*predicted, *expected):
            if tag != "O" and not (tag.startswith(("B-", "I-")) and len(tag) > 2):
                raise ValueError(f"sentence {sentence}: tag {tag!r}; expected O, B-TYPE or I-TYPE")
