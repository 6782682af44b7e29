"""Clusters to look at: the terminal's text, and a page without anything foreign, scripts or unescaped text."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling_spanbert.show import STYLE, clusters_page, colour_clusters, marked_html, wants_colour


TEXT = "Ada saw her dog. It slept."
CLUSTERS = [[(0, 3), (8, 11)], [(8, 15), (17, 19)]]
ANSI = re.compile(r"\x1b\[[\d;]*m")


class Page(HTMLParser):
    """The text outside of styles, the open elements at each end of one, and what could reach out of the page."""

    def __init__(self, source: str):
        super().__init__()
        self.text, self.marked, self.opened, self.foreign = "", [], [], []
        self.feed(source)
        self.close()
        assert not self.opened, self.opened

    def handle_starttag(self, tag, attributes):
        if tag == "meta":
            return
        self.opened.append(tag)
        self.foreign += [tag] if tag in ("script", "link", "img", "iframe", "object") else []
        self.foreign += [name for name, _ in attributes if name in ("src", "href") or name.startswith("on")]

    def handle_endtag(self, tag):
        assert self.opened.pop() == tag

    def handle_data(self, data):
        if not {"sub", "style", "title"} & set(self.opened):
            self.text += data


def test_the_terminal_has_brackets_with_the_numbers_of_clusters():
    assert colour_clusters(TEXT, CLUSTERS, colour=False) == "[Ada|1] saw [[her|1] dog|2]. [It|2] slept."
    assert colour_clusters(TEXT, []) == TEXT


def test_colours_change_nothing_but_colours():
    coloured = colour_clusters(TEXT, CLUSTERS)
    assert ANSI.sub("", coloured) == colour_clusters(TEXT, CLUSTERS, colour=False)
    colours = re.findall(r"\x1b\[38;5;(\d+)m(Ada|her| dog|It)\x1b\[0m", coloured)
    assert [word for _, word in colours] == ["Ada", "her", " dog", "It"]
    (ada, _), (her, _), (dog, _), (it, _) = colours
    assert ada == her != dog == it


def test_a_colour_ends_with_its_line():
    for line in colour_clusters("two\nlines", [[(0, 9)]]).split("\n"):
        assert line.endswith("\x1b[0m")


def test_what_steers_a_terminal_is_not_shown():
    shown = colour_clusters("a\x1b[31mb\x9b2J\u202ec\td\n", [[(0, 1)]], colour=False)
    assert shown == "[a|1]�[31mb�2J�c\td\n"


def test_marks_are_nested_as_the_mentions_are():
    found = re.sub(r' title="cluster (\d)" style="[^"]*"', r" \1", marked_html(TEXT, CLUSTERS))
    assert found == (
        "<mark 1>Ada<sub>1</sub></mark> saw <mark 2><mark 1>her<sub>1</sub></mark> dog<sub>2</sub></mark>. "
        "<mark 2>It<sub>2</sub></mark> slept."
    )
    assert re.findall(r"--inside:(\d)", marked_html(TEXT, CLUSTERS)) == ["0", "1", "0", "0"]


def test_a_mention_that_crosses_another_is_in_two_marks():
    found = re.sub(r' title="cluster (\d)" style="[^"]*"', r" \1", marked_html("a b c", [[(0, 3)], [(2, 5)]]))
    assert found == "<mark 1>a <mark 2>b</mark><sub>1</sub></mark><mark 2> c<sub>2</sub></mark>"


def test_a_page_is_whole_and_reaches_nowhere():
    text = '<script src="http://a.b/c.js">alert(1)</script> & "Ada" \x00'
    source = clusters_page([("<i>", text, [[(0, 7), (49, 52)]]), ("none", "No one.", [])], title="A & B")
    page = Page(source)
    assert not page.foreign and "http" not in re.sub("http-equiv|http://a.b", "", source)
    assert text.replace("\x00", "�") in page.text and "No clusters." in page.text and "<i>" in page.text
    assert "1 cluster, 2 mentions" in page.text
    assert "<title>A &amp; B</title>" in source and "default-src 'none'" in source
    assert "prefers-color-scheme: dark" in source and 'name="viewport"' in source


def test_long_lists_are_shut_and_cut():
    source = clusters_page([("", "a b", [[(0, 1)] * 15] * 13)])
    assert source.count("and 3 more") == 13 and "<details>" in source
    assert "<details open>" in clusters_page([("", "a b", [[(0, 1), (2, 3)]])])


@given(st.text(max_size=20), st.lists(st.lists(st.tuples(st.integers(0, 19), st.integers(1, 9)), max_size=4)))
def test_any_text_with_any_mentions_is_shown_whole(text, drawn):
    clusters = [[(start, start + size) for start, size in each if start + size <= len(text)] for each in drawn]
    clusters = [list(dict.fromkeys(cluster)) for cluster in clusters]
    shown = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "�", text)
    # A parser of HTML reads a carriage return as itself here, a browser as a line break.
    assert Page(marked_html(text, clusters)).text == shown
    plain = colour_clusters(text, clusters, colour=False)
    assert ANSI.sub("", colour_clusters(text, clusters)) == plain
    assert len(plain) == len(text) + sum(3 + len(str(n)) for n, each in enumerate(clusters, 1) for _ in each)


@pytest.mark.parametrize("depth", [1, 3])
def test_lines_have_room_for_all_levels(depth):
    source = clusters_page([("", "a" * depth, [[(0, stop)] for stop in range(1, depth + 1)])])
    assert f'style="--depth:{depth}"' in source


@pytest.mark.parametrize(
    ("terminal", "no_color", "wanted"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_colours_are_for_terminals_of_those_who_want_them(monkeypatch, terminal, no_color, wanted):
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    monkeypatch.setenv("NO_COLOR", no_color)
    assert wants_colour() is wanted


def test_styles_touch_nothing_outside_of_what_is_shown():
    rules = re.findall(r"^ *([^@{}\n]+) \{", STYLE, re.MULTILINE)
    assert rules and all(part.strip().startswith(".shown ") for rule in rules for part in rule.split(","))
