"""The same-string baseline of coreference."""

from eval.tasks import TASKS
from eval.tasks.same_string import known_mentions, same_string_clusters


def document(text: str, *clusters: list[tuple[int, int]]) -> dict:
    """Sentences with a slash between them, words with a space."""
    return {"sentences": [sentence.split() for sentence in text.split(" / ")], "clusters": list(clusters)}


def test_names_are_linked_where_they_come_again_in_any_case():
    read = document("the Royal Society met / The Royal Society slept / then the royal society left")
    assert same_string_clusters([], [read]) == [[]]  # "Royal Society", "The Royal Society"
    read = document("of Ada Lovelace / Ada Lovelace slept / Then Ada left / Then she slept")
    assert same_string_clusters([], [read]) == [[[(1, 2), (3, 4)]]]  # "Then" is a capital of its sentence


def test_words_that_are_mentions_in_training_are_mentions_the_longest_first():
    training = [document("she saw the old ship / ship it", [(0, 0)], [(2, 4), (6, 6)])]
    assert known_mentions(training) == {("she",), ("the", "old", "ship"), ("it",)}
    read = document("the old ship sank / she saw it / She left the old ship")
    assert same_string_clusters(training, [read]) == [[[(0, 2), (9, 11)], [(4, 4), (7, 7)]]]


def test_words_that_are_seldom_mentions_are_none():
    training = [document("that and that and that", [(0, 0)])]
    assert known_mentions(training) == set()
    training = [document("that and that", [(0, 0)])]
    assert known_mentions(training) == {("that",)}


def test_it_is_the_baseline_of_coreference():
    gold = document("Ada slept / and Ada left", [(0, 0), (3, 3)])
    task = TASKS["ontonotes_coref"]
    assert task.score(task.baseline([], [gold]), [gold])["conll_f1"] == 0  # "Ada" starts its sentence alone
    training = [document("ada slept", [(0, 0)])]
    assert task.score(task.baseline(training, [gold]), [gold])["conll_f1"] == 100
