"""The tables of the paper and the figures of the authors' README, from paper_scores.yaml, which says what they are."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from eval.results import ALIASES, averages


PAPER_SCORES = Path(__file__).with_suffix(".yaml")
ABLATIONS = ("table_6", "table_7")


@dataclass(frozen=True)
class Column:
    """What a figure is, by our names; `bar`, its short name, is None where plots leave it out."""

    label: str
    task: str
    metric: str
    split: str
    bar: str | None = None
    printed: bool = True


@dataclass(frozen=True)
class Table:
    """`scores` are, for each system, percent in the order of `columns`; None where there is none."""

    title: str
    size: str
    compared: str
    baseline: str
    columns: list[Column]
    scores: dict[str, list[float | None]]
    note: str | None = None

    @property
    def systems(self) -> list[str]:
        """The one that ours are compared with, then the others in the paper's order."""
        return [self.compared, *(name for name in self.scores if name != self.compared)]


def load_tables() -> dict[str, Table]:
    """table_1 to table_7 and readme_base, with the columns that are not printed computed from the others."""
    content = yaml.safe_load(PAPER_SCORES.read_text(encoding="utf-8"))
    return {name: _table(**fields) for name, fields in content.items()}


def published(task: str) -> list[dict]:
    """A task's figures in the paper's main tables and the authors' README, one a metric: rows for results.json.

    `scores` are percent, of SpanBERT and of the BERT that it is compared with. Without the ablations, Tables 6 and 7.
    """
    return [
        {
            "source": f"{table.title} ({table.size})",
            "split": column.split,
            "metric": column.metric,
            "scores": {system: table.scores[system][number] for system in (table.compared, table.baseline)},
        }
        for name, table in load_tables().items()
        if name not in ABLATIONS
        for number, column in enumerate(table.columns)
        if column.task == ALIASES.get(task, task)
    ]


def _table(columns: list[dict], scores: dict[str, list], **fields) -> Table:
    columns = [Column(**column) for column in columns]
    printed = [column for column in columns if column.printed]
    whole = {}
    for system, values in scores.items():
        known = {(column.task, column.metric): value for column, value in zip(printed, values, strict=True)}
        known = averages(known) | known
        whole[system] = [known[column.task, column.metric] for column in columns]
    return Table(columns=columns, scores=whole, **fields)
