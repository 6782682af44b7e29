"""Clusters of a text to look at: in the terminal, and as a page of HTML that needs nothing but itself.

    print(colour_clusters(result.text, result.clusters(), colour=sys.stdout.isatty()))
    Path("clusters.html").write_text(clusters_page([("Ada", result.text, result.clusters())]), encoding="utf-8")

Clusters are lists of (start, end) in characters, the end exclusive, as `CoreferenceResult.clusters()` gives them, and
are numbered from 1. Mentions may be inside of each other, and even cross.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from html import escape


Clusters = Sequence[Sequence[tuple[int, int]]]
NumberedMention = tuple[int, int, int]  # start, end and the number of the cluster

# Of the 256 of a terminal, some that are read on black and on white.
TERMINAL_COLOURS = (33, 166, 34, 170, 136, 37, 161, 99, 64, 202, 31, 133)
GOLDEN_ANGLE = 137.508  # degrees between the hues of clusters: neighbours differ, and none is met again
# Signs that steer a terminal or turn the direction of what follows; white space is none.
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
SHOWN_IN_LEGEND = 12  # mentions of a cluster, and clusters of an open list

PAGE_START = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }}
h1, h2 {{ line-height: 1.2; overflow-wrap: anywhere; }}
h2 {{ margin-top: 2.2rem; border-bottom: 1px solid rgba(128, 128, 128, 0.5); }}
.text {{ white-space: pre-wrap; overflow-wrap: anywhere; line-height: calc(1.7em + var(--depth) * 5px); }}
mark {{
  color: inherit; background: hsl(var(--hue) 80% 50% / 0.13); border-bottom: 2px solid hsl(var(--hue) 75% 40%);
  padding-bottom: calc(var(--inside) * 5px); border-radius: 2px;
  -webkit-box-decoration-break: clone; box-decoration-break: clone;
}}
mark > sub, li > b {{ font-size: 0.7em; font-weight: 600; line-height: 0; color: hsl(var(--hue) 80% 30%); }}
mark > sub {{ padding: 0 0.15em; user-select: none; }}
li > b {{ font-size: 0.85em; margin-right: 0.4em; }}
ol {{ list-style: none; padding: 0; }}
li {{ padding-left: 0.6rem; border-left: 4px solid hsl(var(--hue) 75% 40%); margin: 0.35rem 0; }}
li {{ overflow-wrap: anywhere; }}
details {{ margin-top: 1rem; }}
summary {{ cursor: pointer; }}
.more {{ opacity: 0.7; }}
@media (prefers-color-scheme: dark) {{
  mark {{ background: hsl(var(--hue) 70% 60% / 0.2); border-bottom-color: hsl(var(--hue) 70% 62%); }}
  mark > sub, li > b {{ color: hsl(var(--hue) 75% 75%); }}
  li {{ border-left-color: hsl(var(--hue) 70% 62%); }}
}}
@media print {{ body {{ font-size: 11px; max-width: none; margin: 0; }} }}
</style>
</head>
<body>
<h1>{title}</h1>
"""
PAGE_END = "</body>\n</html>\n"


def colour_clusters(text: str, clusters: Clusters, colour: bool = True) -> str:
    """The text with its mentions in brackets, each with the number of its cluster: "[Ada|1] said [she|1] slept".

    `colour`: with escape sequences for a terminal, in which what is of a mention has the colour of its cluster.
    """
    parts, opened, done = [], [], 0
    for place, ending, starting in _boundaries(clusters):
        piece = _without_controls(text[done:place])
        parts.append(_painted(piece, opened[-1][2]) if opened and colour else piece)
        for mention in ending:
            closing = f"|{mention[2]}]"
            parts.append(_painted(closing, mention[2]) if colour else closing)
            opened.remove(mention)
        for mention in starting:
            parts.append(_painted("[", mention[2]) if colour else "[")
            opened.append(mention)
        done = place
    return "".join([*parts, _without_controls(text[done:])])


def clusters_page(documents: Iterable[tuple[str, str, Clusters]], title: str = "Coreference") -> str:
    """A page of HTML with documents, each (name, text, clusters)."""
    return "".join([page_start(title), *(document_html(*document) for document in documents), PAGE_END])


def page_start(title: str) -> str:
    """What comes before the documents of a page that is written part by part; `PAGE_END` comes after them."""
    return PAGE_START.format(title=_escaped(title))


def document_html(name: str, text: str, clusters: Clusters) -> str:
    """A document's part of the page: its text with the mentions marked, and its clusters listed."""
    depth = max(_levels(_numbered(clusters)).values(), default=-1) + 1
    marked = f'<div class="text" dir="auto" style="--depth:{depth}">{marked_html(text, clusters)}</div>'
    return f'<h2 dir="auto">{_escaped(name)}</h2>\n{marked}\n{_legend(text, clusters)}\n'


def marked_html(text: str, clusters: Clusters) -> str:
    """The text, escaped, with a `<mark>` around each mention; one that crosses another is cut in two."""
    levels = _levels(_numbered(clusters))
    parts, opened, done = [], [], 0

    def open_mark(mention: NumberedMention) -> None:
        number = mention[2]
        style = f"--hue:{_hue(number)};--inside:{levels[mention]}"
        parts.append(f'<mark title="cluster {number}" style="{style}">')
        opened.append(mention)

    for place, ending, starting in _boundaries(clusters):
        parts.append(_escaped(text[done:place]))
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
    return "".join([*parts, _escaped(text[done:])])


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
        shown = " · ".join(_escaped(" ".join(text[start:end].split())) for start, end in cluster[:SHOWN_IN_LEGEND])
        more = len(cluster) - SHOWN_IN_LEGEND
        rest = f' <span class="more">and {more} more</span>' if more > 0 else ""
        items.append(f'<li dir="auto" style="--hue:{_hue(number)}"><b>{number}</b>{shown}{rest}</li>')
    summary = f"{count_of(len(clusters), 'cluster')}, {count_of(sum(map(len, clusters)), 'mention')}"
    is_open = " open" if len(clusters) <= SHOWN_IN_LEGEND else ""
    return f"<details{is_open}><summary>{summary}</summary>\n<ol>\n" + "\n".join(items) + "\n</ol></details>"


def _without_controls(text: str) -> str:
    return CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def _escaped(text: str) -> str:
    return escape(_without_controls(text))


def _hue(number: int) -> int:
    return round(number * GOLDEN_ANGLE) % 360


def count_of(number: int, thing: str) -> str:
    """ "1 cluster", "2 clusters"."""
    return f"{number} {thing}{'s' * (number != 1)}"


def _painted(text: str, number: int) -> str:
    """In the colour of the cluster, line by line, since pagers forget a colour at the end of one."""
    start = f"\x1b[38;5;{TERMINAL_COLOURS[(number - 1) % len(TERMINAL_COLOURS)]}m"
    return "\n".join(f"{start}{line}\x1b[0m" if line else line for line in text.split("\n"))
