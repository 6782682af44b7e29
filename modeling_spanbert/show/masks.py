"""Masks of a text to look at, in the terminal and as HTML: spans, what the model reads, and the pair of each target.

What is shown is what a batch holds (`masked_rows`), nothing else.
"""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from .masked_rows import MaskedRow, MaskedToken
from .page import count_of, escaped, painted, without_controls


KINDS = {"masked": ("38;5;33", 212), "random": ("38;5;166", 25), "kept": ("38;5;34", 140)}  # terminal's codes, hue
BOUNDARY = "4"  # underlined
NONE = "–"  # of a target that the span boundary objective leaves out
HEADER = ("span", "target", "read as", "left boundary", "right boundary", "position")
ABOUT_MASKS = """<p class="shown">
Of what is masked, the model reads <mark style="--hue:212">[MASK]</mark> for 80 % of spans,
<mark style="--hue:25">random</mark> tokens for 10 %, and the tokens as they are, <mark style="--hue:140">kept</mark>,
for 10 %. It predicts each target from all that it reads (MLM) and, where there is a pair, from that alone: the
<u>tokens at the boundaries</u> of the span and the target’s position in it (SBO, Section 3.2 of the paper).</p>
"""


class Segment(NamedTuple):
    """Some of a row's text: of a span, a boundary token, or neither."""

    text: str
    kind: str | None = None
    span: int = 0
    boundary_of: str = ""  # "left boundary of span 2"; may be the right one of another as well


def segments(row: MaskedRow) -> Iterator[Segment]:
    """All of the row's text in its order; tokens of a span that are masked in the same way are together."""
    boundaries = boundaries_of(row.tokens)

    def group(place: int):
        token = row.tokens[place]
        return (token.span, token.kind) if token.kind else place if place in boundaries else None

    done = 0
    in_text = [place for place, token in enumerate(row.tokens) if token.end > token.start]
    for key, places in groupby(in_text, key=group):
        if key is None:
            continue
        places = [*places]
        token = row.tokens[places[0]]
        start, end = max(token.start, done), row.tokens[places[-1]].end
        if end <= start:  # tokens of one character (byte-level), which is shown already
            continue
        yield Segment(row.text[done:start])
        yield Segment(row.text[start:end], token.kind, token.span, boundaries.get(places[0], ""))
        done = end
    yield Segment(row.text[done:])


def boundaries_of(tokens: Sequence[MaskedToken]) -> dict[int, str]:
    """What each place that some target is predicted from is: "right boundary of span 1, left boundary of span 2"."""
    found: dict[int, dict[str, None]] = {}
    for token in tokens:
        if token.span_position >= 0:
            for side, place in (("left", token.left_boundary), ("right", token.right_boundary)):
                found.setdefault(place, {})[f"{side} boundary of span {token.span}"] = None
    return {place: ", ".join(roles) for place, roles in found.items()}


def summary(row: MaskedRow) -> str:
    """ "8 of 52 tokens masked in 2 spans, 8 with an SBO pair"; [CLS] and [SEP] are not counted."""
    masked = [token for token in row.tokens if token.kind]
    with_pair = sum(token.span_position >= 0 for token in masked)
    spans = count_of(max((token.span for token in masked), default=0), "span")
    return f"{len(masked)} of {len(row.tokens) - 2} tokens masked in {spans}, {with_pair} with an SBO pair"


def target_cells(row: MaskedRow) -> Iterator[tuple[MaskedToken, tuple[str, ...]]]:
    """Each masked token and what is under `HEADER` of it: places are of the row, with [CLS] at 0."""
    for token in row.tokens:
        if token.kind:
            pair = (NONE, NONE, NONE)
            if token.span_position >= 0:
                boundaries = (token.left_boundary, token.right_boundary)
                pair = (*(f"{place} {row.tokens[place].piece}" for place in boundaries), str(token.span_position))
            yield token, (str(token.span), token.piece, token.read, *pair)


# The terminal


def colour_masks(row: MaskedRow, colour: bool = True) -> str:
    """The text with "[spans|1 masked]" and "<boundaries>", what the model reads, and a table of the targets.

    `colour`: with escape sequences for a terminal, a colour for each kind.
    """

    def paint(text: str, codes: str) -> str:
        return painted(without_controls(text), codes) if colour else without_controls(text)

    parts = []
    for text, kind, span, boundary_of in segments(row):
        if kind:
            parts.append(paint(f"[{text}|{span} {kind}]", KINDS[kind][0]))
        else:
            parts.append(paint(f"<{text}>", BOUNDARY) if boundary_of else without_controls(text))
    read = " ".join(paint(token.read, KINDS[token.kind][0]) if token.kind else token.read for token in row.tokens)
    return "\n\n".join(["".join(parts), f"the model reads: {read}", *_table(row, paint), summary(row)]) + "\n"


def _table(row: MaskedRow, paint: Callable[[str, str], str]) -> list[str]:
    targets = list(target_cells(row))
    if not targets:
        return []
    cells = [HEADER, *(tuple(map(without_controls, cells)) for _, cells in targets)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    header, *lines = (
        [cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)] for line in cells
    )
    for (token, _), line in zip(targets, lines, strict=True):
        line[:3] = [paint(cell, KINDS[token.kind][0]) for cell in line[:3]]
    return ["\n".join("  ".join(line).rstrip() for line in [header, *lines])]


def _width(text: str) -> int:
    """In columns of a terminal."""
    return sum((unicodedata.east_asian_width(sign) in "WF") + (not unicodedata.combining(sign)) for sign in text)


# The page


def masks_html(row: MaskedRow, title: str = "") -> str:
    """A row's part of the page: its text, what the model reads, and the targets with their pairs."""
    parts, text = ['<section class="shown">', f"<h2>{escaped(title)}</h2>" * bool(title)], []
    for piece, kind, span, boundary_of in segments(row):
        if kind:
            text.append(_mark(piece, kind, span, f"<sub>{span}</sub>"))
        else:
            shown = escaped(piece)
            text.append(f'<u title="{boundary_of}">{shown}</u>' if boundary_of else shown)
    parts.append(f'<div class="text" dir="auto">{"".join(text)}</div>')
    read = [_mark(token.read, token.kind, token.span) if token.kind else escaped(token.read) for token in row.tokens]
    pieces = " ".join(f"<bdi>{piece}</bdi>" for piece in read)
    parts.append(f'<h3>The model reads</h3>\n<div class="text read" dir="{_direction(row.text)}">{pieces}</div>')
    lines = []
    for token, cells in target_cells(row):
        shown = [f"<bdi>{escaped(cell)}</bdi>" for cell in cells]
        shown[2] = _mark(token.read, token.kind, token.span)
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in shown) + "</tr>")
    if lines:
        header = "".join(f"<th>{name}</th>" for name in HEADER)
        parts.append(f'<h3>Targets</h3>\n<div class="wide"><table>\n<tr>{header}</tr>')
        parts += [*lines, "</table></div>"]
    return "\n".join([*parts, f"<p>{summary(row)}</p>", "</section>\n"])


def _mark(text: str, kind: str, span: int, label: str = "") -> str:
    return f'<mark title="span {span}: {kind}" style="--hue:{KINDS[kind][1]}">{escaped(text)}{label}</mark>'


def _direction(text: str) -> str:
    """That of the text's first letter that has one, as `dir="auto"`: here the first token is always Latin."""
    strong = (kind for kind in map(unicodedata.bidirectional, text) if kind in ("L", "R", "AL"))
    return "ltr" if next(strong, "L") == "L" else "rtl"
