"""Coreference scores: the reference scorer's figures on all its cases, and counts by hand."""

import gzip
import json

import numpy as np
import pytest
from helpers import data_file, testdata_file
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from eval.metrics.conll_coref import b_cubed, blanc, ceaf_e, ceaf_m, compare, conll_coref_scores, lea, mentions, muc
from modeling_spanbert.conll import read_conll


METRICS = (muc, b_cubed, ceaf_m, ceaf_e, blanc, lea, mentions)
SCORER_NAMES = {"bcub": "b_cubed", "ceafm": "ceaf_m", "ceafe": "ceaf_e"}
FIGURES = ("precision", "recall", "f1")
A, B, C, D = (0, 1), (3, 3), (7, 9), (8, 9)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def by_our_names(expected: dict) -> dict[str, float]:
    """The reference scorer's fractions as our percents."""
    expected = dict(expected)
    conll_f1 = {"conll_f1": 100 * expected.pop("conll_avg_f1")} if "conll_avg_f1" in expected else {}
    return conll_f1 | {
        f"{SCORER_NAMES.get(name, name)}_{figure}": 100 * fractions[figure]
        for name, fractions in expected.items()
        for figure in FIGURES
    }


def assert_scores(predictions, references, expected, tolerance=1e-6):
    scores = conll_coref_scores(predictions, references)
    wanted = by_our_names(expected)
    assert {name: scores[name] for name in wanted} == pytest.approx(wanted, abs=100 * tolerance, rel=0)


# The reference scorer


def test_single_documents_score_as_in_the_reference_scorer():
    cases = read(testdata_file("coref", "single_documents.json"))["cases"]
    for case in cases:
        assert_scores([case["response"]], [case["key"]], case["expected"])
    assert len(cases) >= 28


def test_sets_of_documents_are_summed_before_they_are_divided():
    for case in read(testdata_file("coref", "document_sets.json"))["sets"]:
        responses = [case["response_docs"].get(name, []) for name in case["key_docs"]]
        assert_scores(responses, list(case["key_docs"].values()), case["expected"])


def test_the_published_cases_of_the_reference_scorer():
    for case in read(testdata_file("coref", "reference_scorer_cases.json"))["cases"]:
        assert_scores([case["response"]], [case["key"]], case["expected"])
        assert_scores([case["response"]], [case["key"]], case["published_expected"], tolerance=1e-4)


def test_the_scorer_s_own_case_files(as_documents):
    for case in read(data_file("coref", "scorer", "official-cases.json")):
        response, key = as_documents(case["response"]), as_documents(case["key"])
        assert_scores(list(response.values()), list(key.values()), case["expected"], tolerance=1e-4)


def test_real_documents_score_what_the_reference_scorer_prints(as_documents):
    with gzip.open(data_file("coref", "scorer", "official-scorer-runs.json.gz"), "rt", encoding="utf-8") as file:
        runs = json.load(file)
    for run in runs:
        key, response = as_documents(run["key"]), as_documents(run["response"])
        scores = conll_coref_scores([response.get(name, []) for name in key], list(key.values()))
        printed = dict(run["expected"])
        mean = printed.pop("conll_avg_f1")  # of the printed figures
        for name, figures in printed.items():
            for figure, value in figures.items():
                # The scorer cuts what is beyond two digits.
                assert -1e-9 <= scores[f"{SCORER_NAMES.get(name, name)}_{figure}"] - value < 0.01, (run["id"], name)
        assert 0 <= scores["conll_f1"] - mean < 0.011


@pytest.fixture
def as_documents(tmp_path):
    """Clusters by `doc_key` of a file of few columns, as the scorer takes them, read as one of twelve."""

    def read_text(text: str) -> dict[str, list]:
        lines = []
        for line in text.split("\n"):
            columns = line.split()
            if line.startswith("#begin document") and "part" not in line:
                line = f"#begin document {columns[2].rstrip(';')}; part 000"
            elif columns and not line.startswith("#"):
                line = "\t".join([columns[0], "0", "0", "word", *["-"] * 7, columns[-1]])
            lines.append(line)
        path = tmp_path / "few_columns.conll"
        path.write_text("\n".join(lines), encoding="utf-8")
        return {document.doc_key: document.clusters for document in read_conll(path)}

    return read_text


def test_the_scorer_s_files_hold_the_clusters_of_its_cases(as_documents):
    files = read(testdata_file("coref", "reference_scorer_conll_files.json"))
    files = files.get("files", files)
    for case in read(testdata_file("coref", "reference_scorer_cases.json"))["cases"]:
        for side in ("key", "response"):
            [clusters] = as_documents(files[case[f"{side}_file"]]).values()
            assert clusters == sorted(sorted(map(tuple, cluster)) for cluster in case[side]), case["id"]


# By hand: gold {A, B, C}


@pytest.mark.parametrize(
    ("metric", "predicted", "precision", "recall"),
    [
        (muc, [[A, B, C]], 1, 1),
        (muc, [[A, B], [C]], 1, 1 / 2),  # of the links A-B-C one is left
        (muc, [[A, B, C, D]], 2 / 3, 1),
        (muc, [[A], [B], [C]], 0, 0),  # singletons have no links
        (b_cubed, [[A, B], [C]], 1, (2 / 3 + 2 / 3 + 1 / 3) / 3),
        (b_cubed, [[A, B, D]], (2 / 3 + 2 / 3 + 0) / 3, (2 / 3 + 2 / 3 + 0) / 3),
        (ceaf_m, [[A, B], [C]], 2 / 3, 2 / 3),  # {A, B} is mapped, {C} is not
        (ceaf_m, [[A, B, D]], 2 / 3, 2 / 3),
        (ceaf_e, [[A, B], [C]], 0.8 / 2, 0.8 / 1),  # phi_4 = 2 * 2 / (3 + 2)
        (ceaf_e, [[A, B, C, D]], 6 / 7, 6 / 7),
        (blanc, [[A, B], [C]], 1, 1 / 3),  # the references have coreference links only; A-B is one of their three
        (blanc, [[A, B, C, D]], 3 / 6, 1),
        (lea, [[A, B], [C]], (2 * 1 + 1 * 0) / 3, 1 / 3),  # the singleton {C} is none in the references
        (lea, [[A, B, C, D]], 3 / 6, 1),
        (mentions, [[A, D], [C]], 2 / 3, 2 / 3),
        *((metric, [], 0, 0) for metric in METRICS),
        *((metric, [[D]], 0, 0) for metric in METRICS),
    ],
)
def test_counts_by_hand(metric, predicted, precision, recall):
    scores = metric(compare([predicted], [[[A, B, C]]]))
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0
    assert scores == pytest.approx((precision, recall, f1))


def test_blanc_is_the_mean_over_both_kinds_of_links():
    # Gold links: A-B coreference, A-C and B-C not. Predicted: A-C coreference, A-B and B-C not. Right: B-C.
    assert blanc(compare([[[A, C], [B]]], [[[A, B], [C]]])) == pytest.approx(((0 + 1 / 2) / 2,) * 3)
    # Gold and predicted singletons: non-coreference links alone count.
    assert blanc(compare([[[A], [B], [D]]], [[[A], [B], [C]]])) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    # Mentions of two documents have no link: one mention each is no link at all.
    assert blanc(compare([[[A]], [[B]]], [[[A]], [[B]]])) == (0, 0, 0)


def test_lea_counts_a_singleton_by_its_link_to_itself():
    assert lea(compare([[[A], [B, C]]], [[[A], [B], [C]]])) == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_ceaf_takes_the_best_map_and_not_the_first_good_one():
    gold = [[(word, word) for word in range(first, first + 6)] for first in (0, 6)]
    # The largest overlap, of 4, would leave nothing for the other two clusters.
    predicted = [[*gold[0][:3], *gold[1][:4]], gold[1][4:]]
    assert ceaf_m(compare([predicted], [gold]))[1] == pytest.approx((3 + 2) / 12)


# Items


def test_a_repeated_mention_counts_once_where_it_is_listed_first():
    once = conll_coref_scores([[[A, B], [C]]], [[[A, B, C], [D]]])
    assert conll_coref_scores([[[A, B, A], [A, C, B], [C]]], [[[A, B, C], [D]]]) == once
    assert conll_coref_scores([[[A, B], [C]]], [[[A, B, C], [A, D], [B]]]) == once
    for many in range(30):  # the scorer stops at the eleventh
        assert conll_coref_scores([[[A, B], *[[B]] * many]], [[[A, B]]])["conll_f1"] == 100


def test_what_is_listed_in_another_order_scores_the_same():
    gold = [[[A, B], [C, D]], [[A, C]]]
    predicted = [[[A, B, C]], [[A, C], [B]]]
    backwards = conll_coref_scores([[[C, B, A]], [[B], [C, A]]], [[[D, C], [B, A]], [[C, A]]])
    assert conll_coref_scores(predicted, gold) == pytest.approx(backwards)
    assert conll_coref_scores(predicted[::-1], gold[::-1]) == pytest.approx(backwards)


def test_no_mention_at_all_scores_0():
    assert set(conll_coref_scores([[], []], [[], []]).values()) == {0.0}
    assert set(conll_coref_scores([[[]], []], [[], [[]]]).values()) == {0.0}


def test_the_keys_are_those_of_all_metrics():
    scores = conll_coref_scores([np.array([[A, B]])], [[[A, B]]])
    names = ("muc", "b_cubed", "ceaf_m", "ceaf_e", "blanc", "lea", "mentions")
    assert list(scores) == [*(f"{name}_{figure}" for name in names for figure in FIGURES), "conll_f1"]
    assert set(scores.values()) == {100.0} and {type(value) for value in scores.values()} == {float}


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([], [], "0 predicted documents for 0 references; expected as many, and one at least"),
        ([[]], [[], []], "1 predicted documents for 2 references"),
        ([[], [[[5]]]], [[], []], r"predictions\[1\]\[0\]: \[5\] is no mention: expected \[first, last\]"),
        ([[]], [[[A], [[4, 3]]]], r"references\[0\]\[1\]: \[4, 3\] is no mention"),
        ([[[[-1, 3]]]], [[]], r"\[-1, 3\] is no mention"),
        ([[[[0.5, 3]]]], [[]], r"\[0.5, 3\] is no mention"),
        ([[[7]]], [[]], r"predictions\[0\]\[0\]: 7 is no mention"),
        ([[["ab"]]], [[]], r"'ab' is no mention"),
    ],
)
def test_what_cannot_be_scored_is_said_in_a_line(predictions, references, message):
    with pytest.raises(ValueError, match=message) as raised:
        conll_coref_scores(predictions, references)
    assert "\n" not in str(raised.value)


# Properties

bounded = settings(max_examples=60, deadline=None)
MENTIONS = st.integers(0, 12).flatmap(lambda first: st.tuples(st.just(first), st.integers(first, first + 2)))
DOCUMENTS = st.lists(st.lists(st.lists(MENTIONS, max_size=5), max_size=6), min_size=1, max_size=3)


@bounded
@given(DOCUMENTS, DOCUMENTS)
def test_exchanging_the_sides_exchanges_precision_and_recall(one, other):
    one, other = one[: len(other)], other[: len(one)]
    forth, back = compare(one, other), compare(other, one)
    for metric in METRICS:
        if metric is not blanc:  # which kinds of links count depends on the references alone
            precision, recall, f1 = metric(forth)
            assert metric(back) == pytest.approx((recall, precision, f1))
            assert 0 <= precision <= 1 + 1e-9 and min(precision, recall) <= f1 + 1e-9 <= max(precision, recall) + 2e-9


@bounded
@given(DOCUMENTS)
def test_what_equals_the_references_is_right(documents):
    overlaps = compare(documents, documents)
    for metric in METRICS:
        # MUC knows no singletons, and BLANC no mention that is alone in its document: 0 where there is nothing else.
        assert metric(overlaps) == pytest.approx((1, 1, 1)) or metric(overlaps) == (0, 0, 0)
    assert bool(b_cubed(overlaps).f1) == bool(len(overlaps.shared))


@bounded
@given(DOCUMENTS, DOCUMENTS)
def test_groups_of_clusters_are_aligned_as_all_together(one, other):
    overlaps = compare(one[: len(other)], other[: len(one)])
    matrix = np.zeros((len(overlaps.gold_sizes), len(overlaps.predicted_sizes)))
    matrix[overlaps.gold, overlaps.predicted] = overlaps.shared
    aligned = matrix[linear_sum_assignment(matrix, maximize=True)].sum()
    assert ceaf_m(overlaps).recall * overlaps.gold_sizes.sum() == pytest.approx(aligned)


def test_a_book_of_singletons_needs_no_matrix_of_them():
    book = [[[word, word]] for word in range(30_000)]  # a matrix of 7 GB
    assert conll_coref_scores([book], [book])["ceaf_e_f1"] == 100
