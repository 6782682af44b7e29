"""The report of studies, docs/study.md and its figures, of the results that they have left.

    python -m training.study_report docs/study

takes docs/study/report.md.jinja, the words, and a folder for each study beside it, docs/study/table7 with the results
of training/studies/table7.yaml. Every number of the report is one of theirs, or the paper's.
"""

import sys
from pathlib import Path
from typing import Any

import jinja2

from eval.charts import svg_curve, svg_intervals
from eval.paper_scores import load_tables
from training.arguments import one_line_errors
from training.markdown import table
from training.study_file import names_of, read_study
from training.study_summary import figure, markdown, read_results, scores_by_task, summarize, with_interval


TEMPLATE, FIGURES = "report.md.jinja", "figures"
STUDIES = Path(__file__).parent / "studies"
METHODS = {"mlm": "MLM head", "sbo": "SBO head", "both": "both heads"}
HEADS = {"MLM head at [MASK]": "mask_token_accuracy", "SBO head": "sbo_accuracy"}  # both do not see the piece


class Study:
    """The results of a study in `folder`, and what a report says of them."""

    def __init__(self, folder: Path, figures: Path):
        study = read_study(STUDIES / f"{folder.name}.yaml")
        self.name, self.arms, self.figures = folder.name, list(study["arms"]), figures
        self.study = study
        self.results = read_results(folder, study)
        self.summary = summarize(self.results, self.arms, study["comparisons"])
        begun = {each["arm"] for each in self.results}
        self.begun = [arm for arm in self.arms if arm in begun]

    def progress(self) -> str:
        """A table of how many runs of each arm have a result, of how many."""
        rows = []
        for arm, own in self.study["arms"].items():
            runs = len(names_of(self.study, arm))
            done = sum(each["arm"] == arm for each in self.results)
            what = ", ".join(
                f"{name} {' '.join(value) if isinstance(value, list) else value}" for name, value in own.items()
            )
            rows.append([f"`{arm}`: {what}", str(done), str(runs)])
        return "\n".join(table(["arm", "has run", "runs"], rows))

    def tables(self) -> str:
        return markdown(self.summary, self.arms)

    def each_seed(self) -> str:
        """A table of the scores that the means are made of, in the order of the seeds."""
        found = scores_by_task(self.results)
        arms = [arm for arm in self.begun if any(arm in of_arms for of_arms in found.values())]

        def scores(of_seeds: dict[int, float | None]) -> str:
            return ", ".join("diverged" if score is None else f"{score:.1f}" for score in of_seeds.values()) or "-"

        rows = [[arm, *(scores(of_arms.get(arm, {})) for of_arms in found.values())] for arm in arms]
        return "\n".join(table(["each seed", *found], rows))

    def score(self, task: str, arm: str) -> str:
        return with_interval(self.summary["tasks"][task]["arms"][arm])

    def difference(self, task: str, first: str, second: str) -> str:
        """The second less the first."""
        found = self.summary["tasks"][task]["differences"]
        return next(with_interval(each, True) for each in found if each["arms"] == [first, second])

    def held_out(self, arm: str, name: str) -> str:
        return figure(self.summary["pretraining"][arm][name])

    def measured(self, arm: str) -> dict[str, Any] | None:
        """What benchmarks/span_filling.py found for an arm."""
        return next(
            (each["results"] for each in self.results if each["arm"] == arm and each["name"] == "span_filling"), None
        )

    def filling(self, arm: str, method: str, name: str) -> str:
        return figure(self.measured(arm)["methods"][method]["all"][name])

    def scores_figure(self, task: str) -> str:
        """A figure of a task's scores, as Markdown."""
        found = self.summary["tasks"][task]
        intervals = {
            arm: (each["mean"], each["half_width"]) for arm, each in found["arms"].items() if each["mean"] is not None
        }
        image = svg_intervals(f"{task}: {found['metric']}", intervals, f"{found['metric']}, 95 % interval over seeds")
        return self._figure(task, image, f"{found['metric']} of {task} by arm, with 95 % intervals over the seeds")

    def lengths_figure(self, name: str, what: str, chosen: list[tuple[str, str]]) -> str:
        """A figure of `name` of span filling by the length of the span in words, a curve for each (arm, head)."""
        curves = {
            f"{arm}, {METHODS[method]}": [
                (int(length), of_length[name])
                for length, of_length in self.measured(arm)["methods"][method]["by_length"].items()
            ]
            for arm, method in chosen
        }
        image = svg_curve(what, curves, what, "words of the span", legend=True)
        return self._figure(f"span_filling_{name}", image, f"{what} by the length of the span: {'; '.join(curves)}")

    def lengths_table(self, name: str, digits: int) -> str:
        """The figures of `lengths_figure` as a table."""
        rows = [
            (f"{arm}, {METHODS[method]}", found)
            for arm in self.begun
            if (measured := self.measured(arm))
            for method, found in measured["methods"].items()
        ]
        lengths = list(rows[0][1]["by_length"]) if rows else []
        return "\n".join(
            table(
                ["words of the span", *map(str, lengths), "all"],
                [
                    [
                        label,
                        *(f"{found['by_length'][length][name]:.{digits}f}" for length in lengths),
                        f"{found['all'][name]:.{digits}f}",
                    ]
                    for label, found in rows
                ],
            )
        )

    def boundary_figure(self, arm: str) -> str:
        """A figure of the held-out accuracy of an arm's heads by the length of the masked span in pieces."""
        held_out = self.held_out_of(arm)
        lengths = [each for each in held_out["by_span_length"] if isinstance(each["length"], int)]  # not "11+"
        curves = {name: [(each["length"], 100 * each[key]) for each in lengths] for name, key in HEADS.items()}
        guess = "unigram guess"
        curves[guess] = [(each["length"], 100 * held_out["unigram_accuracy"]) for each in lengths]
        what = f"{arm}: accuracy at masked tokens (%)"
        image = svg_curve(what, curves, "%", "pieces of the masked span", True, [guess], legend=True)
        return self._figure(f"boundaries_{arm}", image, f"{what} by the length of the span: {', '.join(curves)}")

    def boundary_table(self, arm: str) -> str:
        """The figures of `boundary_figure` as a table, in percent, and those of longer spans."""
        lengths = self.held_out_of(arm)["by_span_length"]
        rows = [[name, *(f"{100 * each[key]:.1f}" for each in lengths)] for name, key in HEADS.items()]
        rows.append(["masked tokens", *(f"{each['num_masked_tokens']:,}" for each in lengths)])
        return "\n".join(table(["pieces of the span", *(str(each["length"]) for each in lengths)], rows))

    def held_out_of(self, arm: str) -> dict[str, Any]:
        """The held-out scores of an arm's pre-training."""
        return next(
            each["results"]["held_out"]
            for each in self.results
            if each["arm"] == arm and each["kind"] == "pretraining"
        )

    def _figure(self, name: str, image: str, alternative: str) -> str:
        path = self.figures / f"{self.name}_{name}.svg"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = str(image).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        path.write_text(text + "\n", encoding="utf-8")
        return f"![{alternative}](study/{FIGURES}/{path.name})"


def paper_table(name: str) -> str:
    """A table of the paper, in percent."""
    paper = load_tables()[name]
    return "\n".join(
        table(
            [f"{paper.title}, {paper.size}", *(column.label for column in paper.columns)],
            [
                [system, *("-" if score is None else f"{score:.1f}" for score in scores)]
                for system, scores in paper.scores.items()
            ],
        )
    )


def report(folder: Path) -> str:
    """The text of the report of `folder`; writes its figures.

    Raises ValueError for a folder without a template, or with one that is none or names a study without results.
    """
    template = folder / TEMPLATE
    if not template.is_file():
        raise ValueError(f"{folder} has no {TEMPLATE}: give the folder of a report, as docs/study")
    found = {name: Study(folder / name, folder / FIGURES) for name in studies_in(folder)}
    text = template.read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701 -- Markdown
    try:
        return environment.from_string(text).render(**found, paper_table=paper_table) + "\n"
    except jinja2.TemplateError as error:
        raise ValueError(f"{template}: {error.message} (studies with results: {', '.join(found) or 'none'})") from None


def studies_in(folder: Path) -> list[str]:
    """The studies that have left results in `folder`."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml") if list((folder / path.stem).glob("*/*.json")))


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    if len(argv) != 1 or argv[0].startswith("-"):
        raise ValueError(f"{' '.join(argv) or 'no arguments'}: expected the folder of a report, as docs/study")
    folder = Path(argv[0])
    path = folder.with_suffix(".md")
    path.write_text(report(folder), encoding="utf-8")
    print(f"{path} and its figures are written")


if __name__ == "__main__":
    sys.exit(main())
