"""Scores against the paper's: tables, plots, and the metadata of a model's card, from what eval/run.py wrote.

    python -m eval.report scores/squad_v2 scores/cola/results.json --output_dir report
    python -m eval.report --model spanbert-base scores/base/* --model bert-base scores/bert/* --output_dir report

Runs that name the same model are its seeds: the report has their mean and standard deviation. `--model` says so of
runs that name different ones, since each task and seed has a fine-tuned model of its own. Writes report.md and
report.html, and where the report is of one model also metadata.yaml and .eval_results/ for its repository on the Hub.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from markupsafe import Markup

from eval.card_metadata import metadata_files
from eval.charts import styles, svg_bars, swatch
from eval.command_line import Parser, one_line_errors
from eval.paper_scores import Column, Table, load_tables
from eval.results import COUNTS, NOT_PERCENT, Figure, Key, Run, by_model, figures_of, read_run
from eval.run import check_output_dir


TEMPLATE = Path(__file__).with_suffix(".html.jinja")
UNDEFINED = "-"
OTHER_SPLIT = (
    "Where the published split stands behind ours, the two are different examples: there the difference is not one of "
    "the models alone."
)

Models = dict[str, dict[Key, Figure]]  # the figures of each model, by its name


@dataclass(frozen=True)
class Plot:
    """An SVG, its legend (swatch, name) and what it shows."""

    svg: Markup
    legend: list[tuple[Markup, str]]
    caption: str


@dataclass(frozen=True)
class Section:
    """A table under a title, in the order of `header`; `notes` stand below it. Text is plain: writers escape it."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)


def sections(runs: dict[str, list[Run]]) -> list[Section]:
    """The paper's tables that any figure of ours belongs to, all other figures, and the runs. `runs` by model."""
    models = {model: figures_of(of_model) for model, of_model in runs.items()}
    tables = list(load_tables().values())
    shown = [section for table in tables if (section := paper_section(table, models))]
    in_tables = {(column.task, column.metric) for table in tables for column in table.columns}
    others = other_section(models, in_tables)
    return [*shown, *([others] if others.rows else []), runs_section(runs)]


def paper_section(table: Table, models: Models) -> Section | None:
    """Ours, the difference to the paper's `compared` system in points, and the paper's systems; None without ours."""
    rows, notes = [], [f"Percent; a difference is that of the model to its left from {table.compared}, in points."]
    for number, column in enumerate(table.columns):
        paper = {system: table.scores[system][number] for system in table.systems}
        for split in splits_of(column, models):
            ours = [figures.get((column.task, column.metric, split)) for figures in models.values()]
            cells = [cell for each in ours for cell in (shown(each), difference(each, paper[table.compared]))]
            where = split if split == column.split else f"{split}; published: {column.split}"
            rows.append([column.label, where, *cells, *map(printed, paper.values())])
            if split != column.split and OTHER_SPLIT not in notes:
                notes.append(OTHER_SPLIT)
    if not rows:
        return None
    notes += [table.note] if table.note else []
    of_model = [name for model in models for name in (model, "difference")]
    header = ["", "split", *of_model, *map(published, table.systems)]
    plots = [plot for model, figures in models.items() if (plot := paper_plot(table, model, figures))]
    return Section(f"{table.title} ({table.size})", header, rows, notes, plots)


def splits_of(column: Column, models: Models) -> list[str]:
    """Our splits that have a column's figure, the paper's first."""
    found = {
        split
        for figures in models.values()
        for task, metric, split in figures
        if (task, metric) == (column.task, column.metric)
    }
    return sorted(found, key=lambda split: (split != column.split, split))


def paper_plot(table: Table, model: str, figures: dict[Key, Figure]) -> Plot | None:
    """A model beside the paper's `compared` and `baseline`, on the paper's split or else our first; None without any.

    Bars start at 0: a figure below, which a correlation may be, has none.
    """
    groups, splits = [], set()
    bars = {model: [], published(table.compared): [], published(table.baseline): []}
    for number, column in enumerate(table.columns):
        split = next(iter(splits_of(column, {model: figures})), None)
        ours = figures[column.task, column.metric, split].mean if split else None
        if column.bar is None or ours is None:
            continue
        groups.append(column.bar)
        splits.add(split if split == column.split else f"{split} (published: {column.split})")
        values = (ours, table.scores[table.compared][number], table.scores[table.baseline][number])
        for of_system, value in zip(bars.values(), values, strict=True):
            of_system.append(value if value is not None and value >= 0 else None)
    if not groups:
        return None
    legend = [(swatch(*style), name) for name, style in styles(bars).items()]
    return Plot(svg_bars(table.title, groups, bars, "percent", ""), legend, f"Split: {', '.join(sorted(splits))}.")


def other_section(models: Models, in_tables: set[tuple[str, str]]) -> Section:
    """The figures that no table of the paper has."""
    keys = {key: None for figures in models.values() for key in figures if key[:2] not in in_tables}
    rows = [
        [task, split, metric, "" if metric.endswith(NOT_PERCENT) else "%"]
        + [
            shown(figures.get((task, metric, split)), 0 if metric.endswith(COUNTS) else 2)
            for figures in models.values()
        ]
        for task, metric, split in keys
    ]
    return Section("Other results", ["task", "split", "metric", "unit", *models], rows)


def runs_section(runs: dict[str, list[Run]]) -> Section:
    """What was evaluated on what."""
    rows = [
        [model, run.model, run.revision or UNDEFINED, str(run.seed), task, split, f"{num_examples:,}"]
        for model, of_model in runs.items()
        for run in of_model
        for (task, split), num_examples in run.num_examples.items()
    ]
    notes = [
        "Means and standard deviations (of a sample, n − 1) are over seeds; averages over tasks are of the means."
    ]
    return Section("Runs", ["model", "evaluated", "revision", "seed", "task", "split", "examples"], rows, notes)


def shown(figure: Figure | None, decimals: int = 2) -> str:
    """With the deviation and the number of seeds where they are several; nothing where it was not evaluated."""
    if figure is None:
        return ""
    value = UNDEFINED if figure.mean is None else f"{figure.mean:,.{decimals}f}"
    spread = "" if figure.deviation is None else f" ± {figure.deviation:.{decimals}f}"
    return value + spread + (f" ({figure.num_seeds} seeds)" if figure.num_seeds > 1 else "")


def published(system: str) -> str:
    return f"{system} (published)"


def difference(ours: Figure | None, paper: float | None) -> str:
    """In points, with its sign."""
    if ours is None:
        return ""
    return UNDEFINED if ours.mean is None or paper is None else f"{ours.mean - paper:+.2f}".replace("-", "−")


def printed(score: float | None) -> str:
    """As the paper has it, but for computed averages, which are longer."""
    return UNDEFINED if score is None else f"{score:.1f}" if round(score, 1) == score else f"{score:.2f}"


def markdown(title: str, parts: list[Section]) -> str:
    """The report without its plots: sites that show Markdown drop the SVG and leave its text."""
    lines = [f"# {escaped(title)}", "", "Plots are in report.html."]
    for part in parts:
        lines += ["", f"## {escaped(part.title)}", ""]
        lines += [_line(part.header), _line(["---"] * len(part.header), escape=False), *map(_line, part.rows)]
        lines += [line for note in part.notes for line in ("", escaped(note))]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Plain text for Markdown, in one line: no markup, HTML, link or column of a table."""
    return "".join(f"\\{sign}" if sign in "\\`*[]<>|~#" else sign for sign in " ".join(text.split()))


def _line(cells: list[str], escape: bool = True) -> str:
    return f"| {' | '.join(map(escaped, cells) if escape else cells)} |"


def page(title: str, parts: list[Section]) -> str:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(title=title, sections=parts)


def parse(argv: list[str]) -> argparse.Namespace:
    """Raises ValueError, in one line, for what is unknown, missing or there twice."""
    parser = Parser(
        prog="python -m eval.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("runs", nargs="*", metavar="RUN", help="a results.json, or a folder with one")
    option("--model", nargs="+", action="append", default=[], metavar="NAME RUN", help="name the model of these runs")
    option("--output_dir", required=True, help="a folder that is empty or not there yet")
    arguments = parser.parse_args(argv)
    if not arguments.runs and not arguments.model:
        raise ValueError("no results given; expected a results.json of eval/run.py, or a folder with one")
    for name, *of_model in arguments.model:
        if not of_model:
            raise ValueError(f"--model {name}: no results given; expected --model NAME RUN …")
    return arguments


def read(arguments: argparse.Namespace) -> dict[str, list[Run]]:
    """Runs by model. Raises ValueError or OSError for what cannot be read, and for a name that is there twice."""
    models = by_model([read_run(given) for given in arguments.runs])
    for name, *of_model in arguments.model:
        if name in models:
            raise ValueError(f"--model {name}: there is another model of this name; give them different ones")
        models[name] = [read_run(given) for given in of_model]
    return models


def run(argv: list[str]) -> None:
    """Writes the report. Raises ValueError or OSError, before anything is written, for a user's error."""
    arguments = parse(argv)
    folder = Path(arguments.output_dir)
    check_output_dir(folder)
    models = read(arguments)
    parts = sections(models)
    title = f"Scores of {', '.join(models)}"
    files = {"report.md": markdown(title, parts), "report.html": page(title, parts)}
    if len(models) == 1:
        ((model, of_model),) = models.items()
        files |= metadata_files(model, of_model)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    print(f"the report is in {folder / 'report.html'}")
    if len(models) > 1:
        print("no metadata of a card: it is one model's, and this report is of several")


main = one_line_errors(run)


if __name__ == "__main__":
    main()
