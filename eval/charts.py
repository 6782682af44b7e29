"""Charts as SVG to stand inside a page: curves over steps, bars, intervals. Pure functions, from numbers to text.

Lines and text take the page's colour (`currentColor`), so that a chart reads on white, on black and on paper.
"""

import itertools
import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup


WIDTH, HEIGHT = 540, 250  # units of the viewBox; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 62, 530, 28, 206  # edges of the area that the axes enclose
COLOURS = ("#2b7bba", "#d2691e", "#2e9e6b", "#7a2fda")  # told apart by the colour-blind, and read on white and black
MORE_DASHES = (None, "9 3", "2 3")  # each for as many curves as there are colours
DASHES = "5 4"
MAX_POINTS = 1000
FEW_POINTS = 40  # each is marked with a dot

Points = Sequence[tuple[float, float]]


def svg_curve(
    title: str,
    curves: dict[str, Points],
    y_label: str,
    x_label: str = "step",
    from_zero: bool = False,
    dashed: Sequence[str] = (),
    legend: bool = False,
) -> Markup:
    """`curves`, (x, y) by x, over x from 0 on; nothing where there is no point.

    A curve of more than `MAX_POINTS` points is drawn by the means of buckets. `from_zero` makes y start at 0; curves
    named in `dashed` are thin and grey, which is for what others are compared with.
    `legend` writes the names beside their lines into the chart, for one that stands without a page's legend.
    """
    drawn = {name: bucket_means(points) for name, points in curves.items() if points}
    if not drawn:
        return Markup()
    ys = [y for points in drawn.values() for _, y in points]
    last_x = max(points[-1][0] for points in curves.values() if points) or 1
    y_ticks = ticks(min([*ys, 0] if from_zero else ys), max(ys))
    x_ticks = [x for x in ticks(0, last_x, smallest_step=1) if x <= last_x]
    low, high = y_ticks[0], y_ticks[-1]
    parts = _frame(y_ticks, y_label, x_label)
    for x, text in zip(x_ticks, labels(x_ticks), strict=True):
        parts += _x_tick(_between(x / last_x, LEFT, RIGHT), text)
    for nth, (name, (colour, dashes)) in enumerate(styles(drawn, dashed).items()):
        line = {"stroke": colour, "stroke_width": 1.6, "stroke_dasharray": dashes}
        if legend:
            y = TOP + 14 * (nth + 1)
            parts.append(tag("text", name, x=RIGHT - 30, y=y, text_anchor="end", fill=colour))
            parts.append(tag("line", x1=RIGHT - 24, x2=RIGHT, y1=y - 4, y2=y - 4, **line))
        places = [
            (_between(x / last_x, LEFT, RIGHT), _between((y - low) / (high - low), BOTTOM, TOP))
            for x, y in drawn[name]
        ]
        corners = " ".join(f"{x},{y}" for x, y in places)
        parts.append(tag("polyline", tag("title", name), points=corners, fill="none", **line))
        if len(places) <= FEW_POINTS and name not in dashed:
            parts += [tag("circle", cx=x, cy=y, r=2.2, fill=colour) for x, y in places]
    return _svg(title, parts)


def svg_bars(
    title: str,
    groups: Sequence[str],
    bars: dict[str, Sequence[float | None]],
    y_label: str,
    x_label: str,
    reference: float | None = None,
) -> Markup:
    """A bar for each of `bars` in each of `groups`, from 0; nothing where there is no value.

    None leaves a bar's place free. `reference` is drawn as a dashed line.
    """
    values = [value for column in bars.values() for value in column if value is not None]
    if not values:
        return Markup()
    y_ticks = ticks(0, max([*values, reference or 0]))
    parts = _frame(y_ticks, y_label, x_label)
    width = (RIGHT - LEFT) / len(groups)
    bar_width = 0.8 * width / len(bars)
    for nth, group in enumerate(groups):
        parts += _x_tick(round(LEFT + (nth + 0.5) * width, 1), group)
    for nth, (name, (colour, _)) in enumerate(styles(bars).items()):
        for group, value in enumerate(bars[name]):
            if value is None:
                continue
            left = round(LEFT + (group + 0.1) * width + nth * bar_width, 1)
            top = _between(value / y_ticks[-1], BOTTOM, TOP)
            size = {"width": round(bar_width, 1), "height": round(BOTTOM - top, 1)}
            what = tag("title", f"{name}, {groups[group]}: {figure(value)}")
            parts.append(tag("rect", what, x=left, y=top, fill=colour, **size))
    if reference is not None:
        y = _between(reference / y_ticks[-1], BOTTOM, TOP)
        parts.append(tag("line", x1=LEFT, x2=RIGHT, y1=y, y2=y, stroke="currentColor", stroke_dasharray=DASHES))
    return _svg(title, parts)


def svg_intervals(title: str, intervals: dict[str, tuple[float, float | None]], x_label: str) -> Markup:
    """A line of means with their intervals, one below the other: (mean, half the width or None) by name."""
    if not intervals:
        return Markup()
    left, step = 150, 24
    height = TOP + step * len(intervals) + 44
    ends = [mean + sign * (half or 0) for mean, half in intervals.values() for sign in (-1, 1)]
    x_ticks = ticks(min(ends), max(ends))
    bottom = height - 44

    def place(x: float) -> float:
        return _between((x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]), left, RIGHT)

    parts = [tag("text", x_label, x=(left + RIGHT) // 2, y=bottom + 38, text_anchor="middle")]
    for x, text in zip(x_ticks, labels(x_ticks), strict=True):
        parts += _x_tick(place(x), text, bottom)
        parts.append(
            tag("line", x1=place(x), x2=place(x), y1=TOP, y2=bottom, stroke="currentColor", stroke_opacity=0.15)
        )
    for nth, (name, (mean, half)) in enumerate(intervals.items()):
        y = TOP + step * (nth + 0.5)
        colour = COLOURS[nth % len(COLOURS)]
        what = tag("title", f"{name}: {figure(mean)}" + ("" if half is None else f" ± {figure(half)}"))
        parts.append(tag("text", name, x=left - 8, y=y + 4, text_anchor="end"))
        if half:
            ends = {"x1": place(mean - half), "x2": place(mean + half)}
            parts.append(tag("line", what, **ends, y1=y, y2=y, stroke=colour, stroke_width=2))
        parts.append(tag("circle", what, cx=place(mean), cy=y, r=4, fill=colour))
    return _svg(title, parts, height)


def swatch(colour: str, dashes: str | None) -> Markup:
    """A short line in a style of `styles`, for a legend."""
    line = tag("line", x1=0, x2=24, y1=4, y2=4, stroke=colour, stroke_width=3, stroke_dasharray=dashes)
    return tag("svg", line, width=24, height=8, aria_hidden="true")


def styles(names: Iterable[str], dashed: Sequence[str] = ()) -> dict[str, tuple[str, str | None]]:
    """The colour and the dashes of each curve: twelve differ; of each kind of bar, which has no dashes: four."""
    free = itertools.cycle((colour, dashes) for dashes in MORE_DASHES for colour in COLOURS)
    return {name: ("currentColor", DASHES) if name in dashed else next(free) for name in names}


def bucket_means(points: Points, most: int = MAX_POINTS) -> list[tuple[float, float]]:
    """At most `most` points: the means of runs of neighbours that are equally many, but for the last."""
    size = -(-len(points) // most)
    if size <= 1:
        return list(points)
    buckets = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in b) / len(b), sum(y for _, y in b) / len(b)) for b in buckets]


def ticks(low: float, high: float, most: int = 6, smallest_step: float = 1e-300) -> list[float]:
    """Round numbers, equally far apart and about `most`, of which the first is <= `low` and the last >= `high`."""
    if low == high:
        low, high = (low - abs(low) / 10, high + abs(high) / 10) if low else (0, 1)
    rough = max((high - low) / (most - 1), smallest_step)
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def labels(values: Sequence[float]) -> list[str]:
    """`values` of `ticks` as text, with as many decimals as their distance needs."""
    step = values[1] - values[0] if len(values) > 1 else 1
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if decimals > 4 or values[-1] >= 1e7:
        return [f"{value:.3g}" for value in values]
    return [f"{value:,.{decimals}f}" for value in values]


def figure(value: float) -> str:
    """A number for a legend or a table: four digits, or all before the point."""
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"


def tag(name: str, *inside: str, **attributes: float | str | None) -> Markup:
    """An element; what is not Markup is escaped, an attribute that is None is left out, `_` in its name is `-`."""
    given = [
        Markup(' {}="{}"').format(key.replace("_", "-"), value)
        for key, value in attributes.items()
        if value is not None
    ]
    return Markup("<{}{}>{}</{}>").format(name, Markup().join(given), Markup().join(inside), name)


def _svg(title: str, parts: list[Markup], height: float = HEIGHT) -> Markup:
    inside = Markup("\n").join([tag("title", title), *parts])
    return tag("svg", inside, viewBox=f"0 0 {WIDTH} {height}", role="img", font_size=12, fill="currentColor")


def _frame(y_ticks: list[float], y_label: str, x_label: str) -> list[Markup]:
    """The x axis, a thin line for each y tick, and what the axes measure."""
    parts = [
        tag("text", y_label, x=4, y=14),
        tag("text", x_label, x=(LEFT + RIGHT) // 2, y=BOTTOM + 38, text_anchor="middle"),
    ]
    for nth, text in enumerate(labels(y_ticks)):
        y = _between(nth / (len(y_ticks) - 1), BOTTOM, TOP)
        opacity = 0.15 if nth else 0.7
        parts.append(tag("line", x1=LEFT, x2=RIGHT, y1=y, y2=y, stroke="currentColor", stroke_opacity=opacity))
        parts.append(tag("text", text, x=LEFT - 6, y=round(y + 4, 1), text_anchor="end"))
    return parts


def _x_tick(x: float, text: str, bottom: float = BOTTOM) -> list[Markup]:
    return [
        tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, stroke="currentColor", stroke_opacity=0.7),
        tag("text", text, x=x, y=bottom + 18, text_anchor="middle"),
    ]


def _between(share: float, start: float, end: float) -> float:
    return round(start + share * (end - start), 1)
