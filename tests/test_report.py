"""A run as one page: training/report.py, and its charts, eval/charts.py."""

import html
import json
import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from card_facts import RESULTS, RUN

from eval.charts import BOTTOM, LEFT, MAX_POINTS, RIGHT, TOP, bucket_means, labels, svg_bars, svg_curve, ticks
from training import report


ARGUMENTS = RUN["arguments"] | {"stop_after_step": None, "train_file": ["first.txt", "second.txt"]}
SCORES = RESULTS["held_out"]


def logged(step: int, **changes) -> dict:
    values = {"loss": 14.0 - step / 100, "mlm_loss": 7.0, "sbo_loss": 7.0 - step / 100, "lr": 1e-4, "grad_norm": 1.5}
    return {"step": step, **values, "skipped_updates": 0, "tokens_per_second": 5000.0, **changes}


def write_run(folder, lines=(), results=None, **changes):
    run = RUN | {"arguments": ARGUMENTS} | changes
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    if results:
        (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return folder


def page_of(folder) -> str:
    path = report.write_report(folder)
    assert path == folder / "report.html" and not list(folder.glob("*.partial"))
    return path.read_text(encoding="utf-8")


def text_of(page: str) -> str:
    """What a reader sees, in one line."""
    body = page[page.index("<body>") :]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def svgs(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg view.*?</svg>", page, re.DOTALL)]  # noqa: S314


def corners(svg: str) -> list[tuple[float, float]]:
    (points,) = re.findall(r'points="([^"]*)"', svg)
    return [tuple(map(float, pair.split(","))) for pair in points.split()]


def test_a_finished_run_is_told_whole(tmp_path):
    lines = [logged(step) for step in range(100, 1001, 100)]
    lines.insert(5, {"step": 500, "eval": SCORES | {"mlm_loss": 5.9}})
    page = page_of(write_run(tmp_path, lines, RESULTS | {"num_passes": 0.9}))
    text = text_of(page)
    for told in (
        "steps 1,000 of 1,000 tokens seen 512,000 (0.90 passes over the text)",
        "1:02:06 of training and evaluation",
        "speed 5,000 tokens/s (median)",
        "training loss 4 nats a masked token, at step 1,000",
        "MLM loss (nats) 4.568 - MLM loss at [MASK] (nats) 4.987 6.700 SBO loss (nats) 5.432 - MLM accuracy 25.60% -",
        "MLM accuracy at [MASK] 19.90% 5.10% SBO accuracy 12.30% -",
        "1 1,000 41.00% 30.00% 20.00% 11+ 50 11.00% 10.00% -",
        "MLM: last 4.568, lowest 4.568 (step 1,000), highest 5.9 (step 500)",
        "unigram guess: last 6.7",
        "files first.txt, second.txt documents 1,234 tokens (word pieces) 567,890 rows of 64 tokens 8,900",
        "padding 1.23% of the positions fingerprint 0123456789abcdef",
        "Skipped updates None.",
        RUN["command"],
        f"hardware {RUN['hardware']} python 3.11.7 torch 2.13.0",
        "train_file first.txt second.txt",
    ):
        assert told in text, told
    for name, value in ARGUMENTS.items():
        assert f"{name} {report.as_typed(value)}" in text
    titles = [svg.find("title").text for svg in svgs(page)]
    assert titles == [
        "Training loss", "Its parts", "Held-out loss", "Held-out accuracy", "Learning rate", "Gradient norm",
        "Throughput", "Held-out accuracy by span length",
    ]  # fmt: skip


def heights(svg: ElementTree.Element) -> list[float]:
    return [float(bar.get("height")) for bar in svg.findall("rect")]


def test_the_lengths_of_masked_spans_stand_beside_those_that_are_drawn(tmp_path):
    lengths = {"unit": "words", "num_rows": 1200, "counts": [500, 300, 0, 100, *[0] * 7, 60, 40], "drawn": [0.5, 0.5]}
    page = page_of(write_run(tmp_path, [logged(1)], span_lengths=lengths))
    text = text_of(page)
    assert "the 1,000 spans, runs of masked words, in the first 1,200 rows" in text
    assert "drawn (theory): mean 1.50 words in the masks: mean 2.74 words" in text
    (chart,) = [svg for svg in svgs(page) if svg.find("title").text == "Lengths of masked spans"]
    bars = heights(chart)
    assert bars[0] == bars[1] == bars[2] == pytest.approx(BOTTOM - TOP)  # 50 %, the highest: drawn, drawn, counted
    assert bars[3:] == pytest.approx([share / 50 * (BOTTOM - TOP) for share in (30, 0, 10, *[0] * 6, 10)], abs=0.1)
    assert [t.text for t in chart.findall("text")].count("11+") == 1


@pytest.mark.parametrize("unit", ["words", "tokens"])
def test_lengths_of_a_scheme_that_draws_none_stand_alone(tmp_path, unit):
    lengths = {"unit": unit, "num_rows": 10, "counts": [30, 10], "drawn": None}
    text = text_of(page_of(write_run(tmp_path, [logged(1)], span_lengths=lengths)))
    assert f"in the masks: mean 1.25 {unit}" in text and "theory" not in text


@pytest.mark.parametrize("lengths", [None, {"unit": "words", "num_rows": 5, "counts": [], "drawn": [1.0]}])
def test_a_run_without_masked_spans_has_a_report(tmp_path, lengths):
    assert "masked spans" not in text_of(page_of(write_run(tmp_path, [logged(1)], span_lengths=lengths)))


def test_the_page_needs_nothing_but_itself_and_its_elements_nest(tmp_path):
    page = page_of(write_run(tmp_path, [logged(1), logged(2)], RESULTS | {"step": 2, "num_passes": 0.1}))
    assert not re.search(r"https?:|<script|<link|<img|url\(|@import|\ssrc=|\shref=", page)

    class Nesting(HTMLParser):
        is_open = []

        def handle_starttag(self, tag, attributes):
            if tag != "meta":
                self.is_open.append(tag)

        def handle_endtag(self, tag):
            assert self.is_open.pop() == tag

    parser = Nesting()
    parser.feed(page)
    parser.close()
    assert not parser.is_open


def test_values_are_escaped(tmp_path):
    evil = "<script>alert('1')</script>&\""
    data = RUN["data"] | {"files": [evil], "skipped_shards": [evil]}
    arguments = ARGUMENTS | {"train_file": [evil]}
    changes = {"model_id": evil, "command": evil, "hardware": evil, "data": data, "arguments": arguments}
    page = page_of(write_run(tmp_path, [logged(1)], **changes))
    assert "<script" not in page
    assert text_of(page).count(evil) == 6


@pytest.mark.parametrize("lines", [[], [logged(10)], [{"step": 5, "eval": SCORES}, logged(10)]])
def test_an_unfinished_run_gives_a_report_of_what_there_is(tmp_path, lines):
    write_run(tmp_path, lines)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('null\n{"loss": 1.0}\n{"step": 11, "lo')  # being written
    page = page_of(tmp_path)
    text = text_of(page)
    assert f"steps {10 if lines else 0} of 1,000 (the run has not finished)" in text
    assert ("No step is logged yet" in text) == (not lines)
    assert ("No scores yet" in text) == (len(lines) < 2)
    assert ("Held-out text, after step 5" in text) == (len(lines) == 2)
    assert len(svgs(page)) == {0: 0, 1: 5, 2: 8}[len(lines)]


def test_a_run_without_metrics_has_a_report(tmp_path):
    (write_run(tmp_path) / "metrics.jsonl").unlink()
    assert "No step is logged yet" in page_of(tmp_path)


def test_results_of_an_earlier_end_do_not_count_when_the_run_went_on(tmp_path):
    text = text_of(page_of(write_run(tmp_path, [logged(1000), logged(1100)], RESULTS | {"num_passes": 1.0})))
    assert "steps 1,100 of 1,000 (the run has not finished)" in text and "tokens seen" not in text


def test_what_was_cut_and_warned_of_is_told(tmp_path):
    data = RUN["data"] | {"num_truncated_tokens": 1234, "warnings": ["a mark", "no spans"]}
    text = text_of(page_of(write_run(tmp_path, [logged(100)], data=data)))
    assert "skipped tokens, cut from the ends of two-sequence blocks 1,234" in text
    assert "warnings a mark; no spans" in text


def test_next_sentence_prediction_is_told_where_it_was_trained(tmp_path):
    scores = SCORES | {"nsp_loss": 0.312, "nsp_accuracy": 0.876}
    page = page_of(write_run(tmp_path, [logged(100), {"step": 100, "eval": scores}]))
    assert "NSP loss (nats) 0.312 - NSP accuracy 87.60% -" in text_of(page)
    assert "NSP: last 87.6" in text_of(page)
    assert "NSP" not in text_of(page_of(write_run(tmp_path, [logged(100), {"step": 100, "eval": SCORES}])))


def test_a_run_without_held_out_text_or_span_boundaries_has_a_report(tmp_path):
    results = RESULTS | {"num_passes": 0.1, "held_out": None}
    page = page_of(write_run(tmp_path, [logged(1000, sbo_loss=None)], results))
    assert "No scores yet" in text_of(page)
    assert "Its parts" not in page  # one part is the whole

    by_length = [row | {"sbo_accuracy": None} for row in SCORES["by_span_length"]]
    scores = SCORES | {"sbo_loss": None, "sbo_accuracy": None, "by_span_length": by_length}
    page = page_of(write_run(tmp_path, [logged(1000, sbo_loss=None)], results | {"held_out": scores}))
    assert "SBO loss" not in text_of(page)
    assert len(svgs(page)[-1].findall("rect")) == 4


def test_what_is_not_finite_is_left_out_and_skipped_updates_are_placed(tmp_path):
    lines = [
        logged(1),
        logged(2, grad_norm=None, skipped_updates=1),
        logged(3, skipped_updates=1),
        logged(10, loss=math.nan, mlm_loss=math.inf, skipped_updates=4),
    ]
    page = page_of(write_run(tmp_path, lines))
    text = text_of(page)
    assert "in 4 of 10 updates: 1 in step 2; 3 in steps 4 to 10." in text
    assert text.count("Left out, not finite: 1 of 4 logged values.") == 2
    assert "nan" not in page.lower() and not re.search(r"\binf\b", page)


def test_the_places_of_many_skipped_updates_are_cut():
    lines = [logged(step, skipped_updates=step) for step in range(1, 31)]
    assert report.skipped_updates(lines).endswith("1 in step 20; and 10 more places.")


def test_a_long_run_is_drawn_by_means_of_buckets_and_says_so(tmp_path):
    page = page_of(write_run(tmp_path, [logged(step) for step in range(10, 50_000, 10)]))
    assert "Drawn: means of 5 logged values each." in text_of(page)
    for svg in svgs(page):
        for line in svg.iter("polyline"):
            assert 900 <= len(line.get("points").split()) <= MAX_POINTS
    assert len(page) < 200_000

    points = [(step, float(step % 7)) for step in range(1, 2501)]
    means = bucket_means(points)
    assert len(means) == 834 and means[0] == (2.0, 2.0) and means[-1] == points[-1]
    assert bucket_means(points[:MAX_POINTS]) == points[:MAX_POINTS]


def test_a_curve_lies_where_its_axes_say():
    svg = svg_curve("made up", {"loss": [(0, 2.0), (50, 1.5), (100, 1.0)]}, "nats")
    assert corners(svg) == [(LEFT, TOP), ((LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2), (RIGHT, BOTTOM)]
    texts = {(text.get("x"), text.get("y")): text.text for text in ElementTree.fromstring(svg).iter("text")}  # noqa: S314
    assert texts[str(LEFT - 6), str(BOTTOM + 4.0)] == "1.0" and texts[str(LEFT - 6), str(TOP + 4.0)] == "2.0"
    assert texts[str(float(RIGHT)), str(BOTTOM + 18)] == "100"
    assert {"nats", "step"} <= set(texts.values())

    from_zero = corners(svg_curve("made up", {"loss": [(0, 2.0), (100, 1.0)]}, "nats", from_zero=True))
    assert from_zero == [(LEFT, TOP), (RIGHT, (TOP + BOTTOM) / 2)]


@pytest.mark.parametrize(
    "points", [[(1, 0.0)], [(7, 3.5)], [(0, 1.0)], [(1, -2.0), (2, -2.0)], [(1, 1e-300), (2, 1e300)], [(1, 5e-324)]]
)
def test_a_curve_stays_inside_its_axes(points):
    for from_zero in (False, True):
        for x, y in corners(svg_curve("made up", {"name": points}, "unit", from_zero=from_zero)):
            assert LEFT <= x <= RIGHT and TOP <= y <= BOTTOM


def test_each_of_many_curves_has_a_line_of_its_own_in_chart_and_legend():
    curves = {f"curve {number}": [(0, 1.0), (1, float(number))] for number in range(12)}
    curves["guess"] = [(0, 2.0)]
    svg = ElementTree.fromstring(svg_curve("made up", curves, "nats", dashed=["guess"], legend=True))  # noqa: S314
    lines = [(line.get("stroke"), line.get("stroke-dasharray")) for line in svg.iter("polyline")]
    assert len(set(lines)) == 13 and lines[-1][0] == "currentColor"
    named = [
        (line.get("stroke"), line.get("stroke-dasharray"))
        for line in svg.iter("line")
        if not line.get("stroke-opacity")
    ]
    assert named == lines
    assert len(list(svg.iter("circle"))) == 24  # but for what others are compared with


def test_a_chart_of_nothing_is_nothing():
    assert svg_curve("made up", {"loss": []}, "nats") == ""
    assert svg_bars("made up", ["1"], {"MLM": [None]}, "%", "length") == ""


def test_bars_stand_on_the_axis_as_high_as_their_values():
    svg = svg_bars("made up", ["1", "<2"], {"MLM": [10.0, 5.0], "SBO": [2.5, None]}, "%", "length", reference=5.0)
    bars = [(float(bar.get("y")), float(bar.get("height"))) for bar in ElementTree.fromstring(svg).iter("rect")]  # noqa: S314
    area = BOTTOM - TOP
    assert bars == [(BOTTOM - share * area, share * area) for share in (1, 0.5, 0.25)]
    assert "&lt;2" in svg and "stroke-dasharray" in svg


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (12.7, 14.04, ["12.5", "13.0", "13.5", "14.0", "14.5"]),
        (0, 900, ["0", "200", "400", "600", "800", "1,000"]),
        (0, 0.003, ["0.000", "0.001", "0.002", "0.003"]),
        (0, 1e-4, ["0", "2e-05", "4e-05", "6e-05", "8e-05", "0.0001"]),
        (5, 5, ["4.4", "4.6", "4.8", "5.0", "5.2", "5.4", "5.6"]),
        (0, 2_400_000, ["0", "500,000", "1,000,000", "1,500,000", "2,000,000", "2,500,000"]),
    ],
)
def test_ticks_are_round_and_enclose_what_is_drawn(low, high, expected):
    found = ticks(low, high)
    assert found[0] <= low and high <= found[-1] * (1 + 1e-9)
    assert labels(found) == expected


def test_the_command_writes_the_report_and_says_where_it_is(tmp_path, capsys):
    report.main([str(write_run(tmp_path, [logged(1)]))])
    assert capsys.readouterr().out == f"the report is in {tmp_path / 'report.html'}\n"


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "is not the folder of a run: it has no run.json; give its --output_dir"),
        ("{", "run.json is damaged: Expecting property name"),
        ("5", "run.json is not of a run: it has no model_id"),
        ("[]", "run.json is not of a run: it has no model_id"),
        ('{"model_id": "x"}', "run.json is not of a run: it has no command"),
        (json.dumps(dict.fromkeys(report.OF_RUN, 1)), "not of one run: TypeError("),
        (json.dumps({name: {} for name in report.OF_RUN}), "not of one run: KeyError('stop_after_step')"),
    ],
)
def test_what_is_not_a_run_is_told_in_one_line(tmp_path, capsys, content, message):
    if content:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(SystemExit) as caught:
        report.main([str(tmp_path)])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not (tmp_path / "report.html").exists()
