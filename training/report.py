"""A run as one page: `report.html` in its folder, of what it wrote about itself. No script, no other host.

    python -m training.report runs/spanbert-base-cased

writes it for a run that goes on or was stopped; `training/pretrain.py` and `training/finetune.py` do so at their end.
"""

import argparse
import math
import os
import statistics
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from eval.charts import MAX_POINTS, Points, figure, styles, svg_bars, svg_curve, swatch
from training import report_of_task
from training.arguments import one_line_errors


TEMPLATE = Path(__file__).with_suffix(".html.jinja")
REPORT = "report.html"
OF_RUN = ("model_id", "command", "arguments", "versions", "hardware", "data")
OF_RESULTS = ("step", "num_tokens_seen", "num_passes", "wall_seconds")
DAMAGED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, jinja2.UndefinedError)
NOT_MEASURED = "-"
PARTS = {"MLM": "mlm_loss", "SBO": "sbo_loss", "NSP": "nsp_loss"}
LOSS, HELD_OUT_LOSS, ACCURACY = "nats a masked token", "nats a predicted token", "accuracy (%)"
UNIGRAM, AT_MASK = "unigram guess", "MLM at [MASK]"
Chart = tuple[str, dict[str, Points], str, bool]  # title, curves by name, what y measures, whether y starts at 0
ACCURACIES = {
    "MLM": "accuracy",
    AT_MASK: "mask_token_accuracy",
    "SBO": "sbo_accuracy",
    "NSP": "nsp_accuracy",
    UNIGRAM: "unigram_accuracy",
}


def write_report(output_dir: str | os.PathLike) -> Path:
    """Makes `output_dir`/report.html of its run.json and, as far as they are there, metrics.jsonl and results.json.

    Raises as `read_run`.
    """
    return write_page(render(*read_run(output_dir)), output_dir)


def read_run(output_dir: str | os.PathLike) -> tuple[dict, list[dict], dict | None]:
    """What `render` takes.

    Raises FileNotFoundError where `output_dir` is not the folder of a run, and ValueError for a file that is damaged;
    lines of metrics.jsonl that are not whole are passed over, since a run may be writing them.
    """
    output_dir = Path(output_dir)
    if not (output_dir / "run.json").is_file():
        raise FileNotFoundError(f"{output_dir} is not the folder of a run: it has no run.json; give its --output_dir")
    run = _read_json(output_dir / "run.json", OF_RUN)
    lines = list(_metrics(output_dir / "metrics.jsonl"))
    last_step = lines[-1]["step"] if lines else 0
    results = None
    if (output_dir / "results.json").is_file():
        results = _read_json(output_dir / "results.json", OF_RESULTS)
        if results["step"] < last_step:
            results = None  # of an earlier end: the run went on
    return run, lines, results


def write_page(page: str, output_dir: str | os.PathLike) -> Path:
    path = Path(output_dir) / REPORT
    beside = path.with_name(REPORT + ".partial")
    beside.write_text(page, encoding="utf-8")
    os.replace(beside, path)
    return path


def render(run: dict, lines: list[dict], results: dict | None) -> str:
    """The page. `run` and `results` are those of `training/record.py`, `lines` those of metrics.jsonl by step."""
    logged = [line for line in lines if "loss" in line]
    evaluations = {line["step"]: line["eval"] for line in lines if line.get("eval")}
    if results and results.get("held_out"):
        evaluations[results["step"]] = results["held_out"]
    scores_step, scores = max(evaluations.items(), default=(0, {}))
    of_task = "task" in run
    held_out = [{"step": step, **scores} for step, scores in sorted(evaluations.items())]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["combine"] = lambda first, second: first | second
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        run=run,
        summary=summary(run, logged, results),
        of_task=of_task,
        scores_step=results["best_step"] if of_task and results else scores_step,
        scores=report_of_task.score_rows(scores, results) if of_task else score_rows(scores),
        curves=curves(logged, report_of_task.charts(run, held_out) if of_task else held_out_charts(held_out)),
        lengths=masked_lengths(run),
        spans=span_lengths(scores) if scores and not of_task else None,
        data=report_of_task.data_facts(run) if of_task else data_facts(run),
        skipped_updates=skipped_updates(logged),
        arguments={name: as_typed(value) for name, value in run["arguments"].items()},
    )


def summary(run: dict, logged: list[dict], results: dict | None) -> dict[str, str]:
    """How far the run came, in what time."""
    arguments = run["arguments"]
    step = results["step"] if results else logged[-1]["step"] if logged else 0
    last_step = run.get("last_step") or arguments["stop_after_step"] or arguments["max_train_steps"]
    facts = {"steps": f"{step:,} of {last_step:,}" + ("" if results else " (the run has not finished)")}
    if results:
        facts["tokens seen"] = f"{results['num_tokens_seen']:,} ({results['num_passes']:.2f} passes over the text)"
        facts["time"] = f"{timedelta(seconds=round(results['wall_seconds']))} of training and evaluation (h:mm:ss)"
    speeds = [speed for _, speed in points(logged, "tokens_per_second")]
    if speeds:
        facts["speed"] = f"{statistics.median(speeds):,.0f} tokens/s (median)"
    losses = points(logged, "loss")
    if losses:
        facts["training loss"] = f"{figure(losses[-1][1])} {loss_unit(run)}, at step {losses[-1][0]:,}"
    return facts


def score_rows(scores: dict) -> list[tuple[str, str, str]]:
    """The name of each held-out score, the model's and that of the unigram guess."""
    rows = [
        ("MLM loss (nats)", "{:.3f}".format, "mlm_loss", None),
        ("MLM loss at [MASK] (nats)", "{:.3f}".format, "mask_token_loss", "unigram_entropy"),
        ("SBO loss (nats)", "{:.3f}".format, "sbo_loss", None),
        ("MLM accuracy", percent, "accuracy", None),
        ("MLM accuracy at [MASK]", percent, "mask_token_accuracy", "unigram_accuracy"),
        ("SBO accuracy", percent, "sbo_accuracy", None),
        ("NSP loss (nats)", "{:.3f}".format, "nsp_loss", None),
        ("NSP accuracy", percent, "nsp_accuracy", None),
    ]
    return [
        (name, form(scores[ours]), form(scores[guess]) if guess else NOT_MEASURED)
        for name, form, ours, guess in rows
        if scores.get(ours) is not None
    ]


def loss_unit(run: dict) -> str:
    return "a label" if "task" in run else LOSS


def held_out_charts(held_out: list[dict]) -> list[Chart]:
    """The charts of the scores on held-out text, by step."""

    def shares(name: str) -> Points:
        return [(step, 100 * value) for step, value in points(held_out, name)]

    losses = {name: points(held_out, key) for name, key in (PARTS | {AT_MASK: "mask_token_loss"}).items()}
    accuracies = {name: shares(key) for name, key in ACCURACIES.items()}
    return [
        ("Held-out loss", losses | {UNIGRAM: points(held_out, "unigram_entropy")}, HELD_OUT_LOSS, False),
        ("Held-out accuracy", accuracies, ACCURACY, True),
    ]


def curves(logged: list[dict], of_scores: list[Chart]) -> list[tuple[str, Markup, list, list[str]]]:
    """Title, SVG, legend (swatch, name, what it came to) and notes of each chart that has a point."""
    parts = {name: points(logged, key) for name, key in PARTS.items()}
    charts = [
        ("Training loss", {"loss": points(logged, "loss")}, LOSS if parts["MLM"] else "a label", False),
        ("Its parts", parts if sum(map(bool, parts.values())) > 1 else {}, LOSS, False),
        *of_scores,
        ("Learning rate", {"learning rate": points(logged, "lr")}, "learning rate", True),
        ("Gradient norm", {"gradient norm": points(logged, "grad_norm")}, "norm, before clipping", True),
        ("Throughput", {"tokens/s": points(logged, "tokens_per_second")}, "tokens/s, all processes", True),
    ]
    shown = []
    for title, named, y_label, from_zero in charts:
        named = {name: of_name for name, of_name in named.items() if of_name}
        if not named:
            continue
        swatches = {name: swatch(*style) for name, style in styles(named, [UNIGRAM]).items()}
        legend = [(swatches[name], name, course(of_name)) for name, of_name in named.items()]
        longest = max(map(len, named.values()))
        notes = [f"Drawn: means of {-(-longest // MAX_POINTS)} logged values each."] if longest > MAX_POINTS else []
        lost = len(logged) - longest if title in ("Training loss", "Gradient norm") else 0
        notes += [f"Left out, not finite: {lost:,} of {len(logged):,} logged values."] if lost else []
        shown.append((title, svg_curve(title, named, y_label, from_zero=from_zero, dashed=[UNIGRAM]), legend, notes))
    return shown


def course(of_name: Points) -> str:
    """What a curve came to, with the steps of its extremes, which the means of a long run would hide."""
    (low_step, low), (high_step, high) = (best(of_name, key=lambda point: point[1]) for best in (min, max))
    last = f"last {figure(of_name[-1][1])}"
    if low == high:
        return last
    return f"{last}, lowest {figure(low)} (step {low_step:,}), highest {figure(high)} (step {high_step:,})"


def masked_lengths(run: dict) -> dict[str, Any] | None:
    """Shares of the masked spans by length, beside those that are drawn; None where an older run.json lacks them.

    Bars as SVG, the legend (swatch, name, mean), the unit, the number of rows and of spans, whether any are drawn.
    """
    record = run.get("span_lengths")
    if not record or not sum(record["counts"]):
        return None
    counts, drawn, unit = record["counts"], record["drawn"], record["unit"]
    last = max(len(drawn or []), 10)
    num_spans = sum(counts)
    shown = counts[:last] + [0] * (last - len(counts)) + [sum(counts[last:])]
    bars = {"drawn (theory)": [100 * share for share in drawn] + [None] * (last + 1 - len(drawn))} if drawn else {}
    bars["in the masks"] = [100 * count / num_spans for count in shown]
    means = {"in the masks": sum(length * count for length, count in enumerate(counts, 1)) / num_spans}
    if drawn:
        means["drawn (theory)"] = sum(length * share for length, share in enumerate(drawn, 1))
    groups = [str(length) for length in range(1, last + 1)] + [f"{last + 1}+"]
    return {
        "svg": svg_bars("Lengths of masked spans", groups, bars, "spans (%)", f"length of the span ({unit})"),
        "legend": [(swatch(*style), name, f"mean {means[name]:.2f} {unit}") for name, style in styles(bars).items()],
        "unit": unit,
        "num_rows": f"{record['num_rows']:,}",
        "num_spans": f"{num_spans:,}",
        "drawn": bool(drawn),
    }


def span_lengths(scores: dict) -> dict[str, Any]:
    """Held-out accuracy by span length: bars of the heads as SVG, the legend (swatch, name), the rows of a table."""
    by_length = scores["by_span_length"]
    keys = {"MLM": "accuracy", AT_MASK: "mask_token_accuracy", "SBO": "sbo_accuracy"}
    heads = {name: [row.get(key) for row in by_length] for name, key in keys.items()}
    bars = {
        name: [None if share is None else 100 * share for share in shares]
        for name, shares in heads.items()
        if any(share is not None for share in shares)
    }
    lengths = [str(row["length"]) for row in by_length]
    guess = f"{UNIGRAM}, all lengths"
    title, x_label = "Held-out accuracy by span length", "length of the masked span (tokens)"
    return {
        "svg": svg_bars(title, lengths, bars, ACCURACY, x_label, 100 * scores["unigram_accuracy"]),
        "legend": [(swatch(*style), name, "") for name, style in styles([*bars, guess], [guess]).items()],
        "table": [
            (row["length"], f"{row['num_masked_tokens']:,}", *(percent(row.get(key)) for key in keys.values()))
            for row in by_length
        ],
    }


def data_facts(run: dict) -> dict[str, str]:
    """What was read, made and skipped; an older run.json does not say what was skipped."""
    data = run["data"]
    facts = {
        "files": ", ".join(map(str, data["files"])),
        "documents": f"{data['num_documents']:,}",
        "tokens (word pieces)": f"{data['num_tokens']:,}",
        f"rows of {run['arguments']['max_seq_length']} tokens": f"{data['num_rows']:,}",
        "padding": f"{data['padding_share']:.2%} of the positions",
        "fingerprint": data["fingerprint"],
    }
    for reason, count in data.get("skipped_documents", {}).items():
        facts[f"skipped documents, {reason.replace('_', ' ')}"] = f"{count:,}"
    if "skipped_shards" in data:
        facts["skipped damaged files"] = ", ".join(data["skipped_shards"]) or "none"
    if "num_truncated_tokens" in data:
        facts["skipped tokens, cut from the ends of two-sequence blocks"] = f"{data['num_truncated_tokens']:,}"
    if "num_cut_sentences" in data:
        facts["sentences that go on in another sequence"] = f"{data['num_cut_sentences']:,}"
    if data.get("warnings"):
        facts["warnings"] = "; ".join(data["warnings"])
    return facts


def skipped_updates(logged: list[dict], most: int = 20) -> str:
    """How many updates were skipped, and where: `skipped_updates` of a line counts from the start of the run."""
    before, step_before, where = 0, 0, []
    for step, count in points(logged, "skipped_updates"):
        if count > before:
            place = f"step {step:,}" if step == step_before + 1 else f"steps {step_before + 1:,} to {step:,}"
            where.append(f"{count - before:,} in {place}")
        before, step_before = count, step
    if not where:
        return "None."
    more = f"; and {len(where) - most:,} more places" if len(where) > most else ""
    reason = "The gradient was not finite, or nothing was to be predicted, in"
    return f"{reason} {before:,} of {step_before:,} updates: {'; '.join(where[:most])}{more}."


def points(lines: list[dict], name: str) -> Points:
    """(step, value) of the lines that have a finite number under `name`."""
    values = ((line["step"], line.get(name)) for line in lines)
    return [(step, value) for step, value in values if isinstance(value, int | float) and math.isfinite(value)]


def percent(share: float | None) -> str:
    return NOT_MEASURED if share is None else f"{share:.2%}"


def as_typed(value: Any) -> str:
    """A field's value as the command line takes it."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _read_json(path: Path, needed: tuple[str, ...]) -> dict:
    from modeling_spanbert.files import decode_json  # only now: with it comes torch, which --help needs not wait for

    try:
        record = decode_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    missing = [name for name in needed if not isinstance(record, dict) or name not in record]
    if missing:
        raise ValueError(f"{path} is not of a run: it has no {missing[0]}")
    if not isinstance(record.get("step", 0), int):
        raise ValueError(f"{path} is damaged: step={record['step']!r:.60}, expected int")
    return record


def _metrics(path: Path) -> Iterator[dict]:
    """The whole lines of metrics.jsonl."""
    from modeling_spanbert.files import decode_json

    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            try:
                line = decode_json(text)
            except ValueError:
                continue
            if isinstance(line, dict) and isinstance(line.get("step"), int):
                yield line


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output_dir", metavar="OUTPUT_DIR", help="folder of the run")
    output_dir = parser.parse_args(argv).output_dir
    found = read_run(output_dir)
    try:
        page = render(*found)
    except DAMAGED as error:  # only here: of what a run gives its own report, it is a bug
        files = "run.json, metrics.jsonl and results.json"
        raise ValueError(f"{output_dir}: {files} are damaged, or not of one run: {error!r:.200}") from error
    print(f"the report is in {write_page(page, output_dir)}")


if __name__ == "__main__":
    sys.exit(main())
