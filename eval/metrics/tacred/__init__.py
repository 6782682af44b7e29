"""Micro precision, recall and F1 of relations as the official TACRED scorer counts them (Zhang et al., 2017)."""


def tacred_scores(
    predictions: list[str], references: list[str], negative_label: str = "no_relation"
) -> dict[str, float]:
    """`precision`, `recall`, `f1` over labels other than `negative_label`, and `accuracy`; in percent, unrounded.

        precision = right relations / predicted relations, 100 where none is predicted
        recall    = right relations / relations of the references, 0 where there is none

    A wrong relation where there is another counts against both. The official conventions differ from those of the
    SpanBERT authors' run_tacred.py, where all is 0 when nothing is right; F1 is the same in both.

    Raises:
        ValueError: where the lists have no item, or not the same number.
    """
    if not len(references) or len(predictions) != len(references):
        raise ValueError(
            f"{len(predictions)} predictions for {len(references)} references; expected as many, and one at least"
        )
    pairs = list(zip(predictions, references, strict=True))
    num_right = sum(prediction == reference for prediction, reference in pairs)
    num_right_relations = sum(prediction == reference != negative_label for prediction, reference in pairs)
    num_predicted = sum(prediction != negative_label for prediction, _ in pairs)
    num_gold = sum(reference != negative_label for _, reference in pairs)

    precision = num_right_relations / num_predicted if num_predicted else 1.0
    recall = num_right_relations / num_gold if num_gold else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {
        "precision": 100 * precision,
        "recall": 100 * recall,
        "f1": 100 * f1,
        "accuracy": 100 * num_right / len(pairs),
    }
