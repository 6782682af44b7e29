"""Clusters of a text to look at: in the terminal, and as HTML.

Clusters are lists of (start, end) in characters, the end exclusive, as `CoreferenceResult.clusters()` gives them, and
are numbered from 1. Mentions may be inside of each other, and even cross.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from .page import count_of, escaped, page_of, painted, without_controls


Clusters = Sequence[Sequence[tuple[int, int]]]
NumberedMention = tuple[int, int, int]  # start, end and the number of the cluster

# Of the 256 of a terminal, some that are read on black and on white.
TERMINAL_COLOURS = (33, 166, 34, 170, 136, 37, 161, 99, 64, 202, 31, 133)
GOLDEN_ANGLE = 137.508  # degrees between the hues of clusters: neighbours differ, and none is met again
SHOWN_IN_LEGEND = 12  # mentions of a cluster, and clusters of an open list
ABOUT_CLUSTERS = """<p class="shown">
A <mark style="--hue:138">mention<sub>1</sub></mark> is words that someone or something is named by. Mentions with the
same number and colour are a cluster: they mean the same. A mention may be inside of another.</p>
"""


def colour_clusters(text: str, clusters: Clusters, colour: bool = True) -> str:
    """The text with its mentions in brackets, each with the number of its cluster: "[Ada|1] said [she|1] slept".

    `colour`: with escape sequences for a terminal, in which what is of a mention has the colour of its cluster.
    """
    parts, opened, done = [], [], 0
    for place, ending, starting in _boundaries(clusters):
        piece = without_controls(text[done:place])
        parts.append(painted(piece, _colour(opened[-1][2])) if opened and colour else piece)
        for mention in ending:
            closing = f"|{mention[2]}]"
            parts.append(painted(closing, _colour(mention[2])) if colour else closing)
            opened.remove(mention)
        for mention in starting:
            parts.append(painted("[", _colour(mention[2])) if colour else "[")
            opened.append(mention)
        done = place
    return "".join([*parts, without_controls(text[done:])])


def clusters_page(documents: Iterable[tuple[str, str, Clusters]], title: str = "Coreference") -> str:
    """A page of HTML with documents, each (name, text, clusters)."""
    return page_of(title, ABOUT_CLUSTERS, *(document_html(*document) for document in documents))


def document_html(name: str, text: str, clusters: Clusters) -> str:
    """A document's part of the page: its text with the mentions marked, and its clusters listed."""
    depth = max(_levels(_numbered(clusters)).values(), default=-1) + 1
    marked = f'<div class="text" dir="auto" style="--depth:{depth}">{marked_html(text, clusters)}</div>'
    title = f'<h2 dir="auto">{escaped(name)}</h2>'
    return f'<section class="shown">\n{title}\n{marked}\n{_legend(text, clusters)}\n</section>\n'


def marked_html(text: str, clusters: Clusters, thing: str = "cluster") -> str:
    """The text, escaped, with a `<mark>` around each mention; one that crosses another is cut in two.

    A mark's title is `thing` and the number of its cluster.
    """
    levels = _levels(_numbered(clusters))
    parts, opened, done = [], [], 0

    def open_mark(mention: NumberedMention) -> None:
        number = mention[2]
        style = f"--hue:{hue(number)};--inside:{levels[mention]}"
        parts.append(f'<mark title="{thing} {number}" style="{style}">')
        opened.append(mention)

    for place, ending, starting in _boundaries(clusters):
        parts.append(escaped(text[done:place]))
        crossing = []
        for mention in ending:
            while (inner := opened.pop()) != mention:
                parts.append("</mark>")
                crossing.append(inner)
            parts.append(f"<sub>{mention[2]}</sub></mark>")
            while crossing:
                open_mark(crossing.pop())
        for mention in starting:
            open_mark(mention)
        done = place
    return "".join([*parts, escaped(text[done:])])


def _numbered(clusters: Clusters) -> list[NumberedMention]:
    """All mentions in the order of the text, an outer one before those inside of it."""
    mentions = [(start, end, number) for number, cluster in enumerate(clusters, start=1) for start, end in cluster]
    return sorted(mentions, key=lambda mention: (mention[0], -mention[1], mention[2]))


def _boundaries(clusters: Clusters) -> Iterator[tuple[int, list[NumberedMention], list[NumberedMention]]]:
    """The places where mentions end or start, with those that end, inner ones first, and those that start."""
    starting, ending = defaultdict(list), defaultdict(list)
    for mention in _numbered(clusters):
        starting[mention[0]].append(mention)
        ending[mention[1]].append(mention)
    for place in sorted({*starting, *ending}):
        yield place, ending[place][::-1], starting[place]


def _levels(mentions: list[NumberedMention]) -> dict[NumberedMention, int]:
    """How many levels of mentions are inside of each."""
    levels = dict.fromkeys(mentions, 0)
    around: list[NumberedMention] = []
    for mention in [*mentions, None]:
        while around and (mention is None or around[-1][1] <= mention[0]):
            inner = around.pop()
            if around:
                levels[around[-1]] = max(levels[around[-1]], levels[inner] + 1)
        around.append(mention)
    return levels


def _legend(text: str, clusters: Clusters) -> str:
    """The list of the clusters, shut where it is long."""
    if not clusters:
        return "<p>No clusters.</p>"
    items = []
    for number, cluster in enumerate(clusters, start=1):
        shown = " · ".join(escaped(" ".join(text[start:end].split())) for start, end in cluster[:SHOWN_IN_LEGEND])
        more = len(cluster) - SHOWN_IN_LEGEND
        rest = f' <span class="more">and {more} more</span>' if more > 0 else ""
        items.append(f'<li dir="auto" style="--hue:{hue(number)}"><b>{number}</b>{shown}{rest}</li>')
    summary = f"{count_of(len(clusters), 'cluster')}, {count_of(sum(map(len, clusters)), 'mention')}"
    is_open = " open" if len(clusters) <= SHOWN_IN_LEGEND else ""
    return f"<details{is_open}><summary>{summary}</summary>\n<ol>\n" + "\n".join(items) + "\n</ol></details>"


def _colour(number: int) -> str:
    return f"38;5;{TERMINAL_COLOURS[(number - 1) % len(TERMINAL_COLOURS)]}"


def hue(number: int) -> int:
    return round(number * GOLDEN_ANGLE) % 360
