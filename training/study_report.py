"""The report of studies, docs/study.md and its figures, of the results that they have left.

    python -m training.study_report docs/study

takes docs/study/report.md.jinja, the words, and a folder for each study beside it, docs/study/table7 with the results
of table7.yaml, which lies in docs/study or in training/studies. Every number of the report is one of theirs, or the
paper's.
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
from training.study_summary import (
    figure,
    held_out_of,
    markdown,
    read_results,
    runs_of,
    scores_by_task,
    summarize,
    with_interval,
)


TEMPLATE, FIGURES = "report.md.jinja", "figures"
STUDIES = Path(__file__).parent / "studies"
METHODS = {"mlm": "MLM head", "sbo": "SBO head", "both": "both heads"}
HEADS = {"MLM head at [MASK]": "mask_token_accuracy", "SBO head": "sbo_accuracy"}  # both do not see the piece


class Study:
    """The results of the study `name` in the folder of a report, and what the report says of them.

    What has no result is a ValueError, in one line.
    """

    def __init__(self, folder: Path, name: str):
        self.name, self.figures = name, folder / FIGURES
        self.study = read_study(study_file(folder, name))
        self.arms = list(self.study["arms"])
        self.results = read_results(folder / name, self.study)
        self.summary = summarize(self.results, self.study)
        begun = {each["arm"] for each in self.results}
        self.begun = [arm for arm in self.arms if arm in begun]

    def progress(self) -> str:
        """A table of how many runs of each arm have a result, of how many; none is open after a divergence."""
        rows = []
        for arm, own in self.study["arms"].items():
            runs = len(names_of(self.study, arm))
            done = sum(each["arm"] == arm for each in self.results)
            what = ", ".join(
                f"{name} {' '.join(value) if isinstance(value, list) else value}" for name, value in own.items()
            )
            if self.summary["pretraining"].get(arm, {}).get("diverged"):
                what, runs = f"{what}; its pre-training diverged", done
            rows.append([f"`{arm}`: {what}", str(done), str(runs)])
        return "\n".join(table(["arm", "has run", "runs"], rows))

    def tables(self) -> str:
        return markdown(self.summary, self.arms)

    def each_seed(self) -> str:
        """A table of the scores that the means are made of, in the order of the study's seeds; "-": has not run."""
        found = scores_by_task(self.results, self.study)
        arms = [arm for arm in self.begun if any(arm in of_arms for of_arms in found.values())]

        def scores(of_seeds: dict[int, float | str | None]) -> str:
            texts = [f"{each:.1f}" if isinstance(each, float) else each or "-" for each in of_seeds.values()]
            return ", ".join(texts) or "-"

        rows = [[arm, *(scores(of_arms.get(arm, {})) for of_arms in found.values())] for arm in arms]
        return "\n".join(table(["each seed", *found], rows))

    def score(self, task: str, arm: str) -> str:
        found = self.summary["tasks"].get(task, {"arms": {}})["arms"].get(arm)
        return with_interval(self._given(found, f"score of {task} of {arm}"))

    def difference(self, task: str, first: str, second: str) -> str:
        """The second less the first."""
        differences = self.summary["tasks"].get(task, {"differences": []})["differences"]
        found = next((each for each in differences if each["arms"] == [first, second]), None)
        return with_interval(self._given(found, f"difference on {task} of {first} and {second}"), True)

    def num(self, task: str) -> str:
        """How many development examples the task's scores are of."""
        rows = [row for run in runs_of(self.results, task) for row in run["results"].get("results", [])]
        return f"{self._given(rows, f'number of development examples of {task}')[0]['n']:,}"

    def num_training(self, task: str) -> str:
        runs = runs_of(self.results, task)
        return f"{self._given(runs, f'number of training examples of {task}')[0]['num_training_examples']:,}"

    def held_out(self, arm: str, name: str) -> str:
        return figure(self._pretraining(arm, name))

    def passes(self, arm: str) -> str:
        """How often an arm's pre-training has read its text."""
        return f"{self._pretraining(arm, 'num_passes'):.1f}"

    def pieces(self, *arms: str) -> str:
        """How many pieces the pre-training of each of `arms` has read: "6.4 M" or "6.4 to 6.5 M"."""
        seen = [self._pretraining(arm, "num_tokens_seen") / 1e6 for arm in arms]
        low, high = f"{min(seen):.1f}", f"{max(seen):.1f}"
        return f"{low} M" if low == high else f"{low} to {high} M"

    def measured(self, arm: str) -> dict[str, Any] | None:
        """What benchmarks/span_filling.py found for an arm; None: it has not run."""
        return next(
            (each["results"] for each in self.results if each["arm"] == arm and each["name"] == "span_filling"), None
        )

    def filling(self, arm: str, method: str, name: str) -> str:
        return figure(self._filled(arm, method, name)["all"][name])

    def scores_figure(self, task: str) -> str:
        """A figure of a task's scores, as Markdown."""
        found = self._given(self.summary["tasks"].get(task), f"score of {task}")
        intervals = {
            arm: (each["mean"], each["half_width"]) for arm, each in found["arms"].items() if each["mean"] is not None
        }
        image = svg_intervals(f"{task}: {found['metric']}", intervals, f"{found['metric']}, 95 % interval over seeds")
        return self._figure(task, image, f"{found['metric']} of {task} by arm, with 95 % intervals over the seeds")

    def lengths_figure(self, name: str, what: str, chosen: list[tuple[str, str]], percent: bool = False) -> str:
        """A figure of `name` of span filling by the length of the span in words, a curve for each (arm, method).

        `what` is its title and the label of its axis; `percent` is for shares.
        """
        factor, curves = 100 if percent else 1, {}
        for arm, method in chosen:
            by_length = self._filled(arm, method, name)["by_length"]
            points = [(int(length), factor * found[name]) for length, found in by_length.items()]
            curves[f"{arm}, {METHODS[method]}"] = points
        image = svg_curve(what, curves, what, "words of the span", legend=True)
        return self._figure(f"span_filling_{name}", image, f"{what} by the length of the span: {'; '.join(curves)}")

    def lengths_table(self, name: str, digits: int, percent: bool = False) -> str:
        """The figures of `lengths_figure` as a table, of all arms, and how many pieces they are of."""
        factor = 100 if percent else 1
        found = {
            f"{arm}, {METHODS[method]}": {**of_method["by_length"], "all": of_method["all"]}
            for arm in self.begun
            if (measured := self.measured(arm))
            for method, of_method in measured["methods"].items()
        }
        rows = [
            [label, *(f"{factor * each[name]:.{digits}f}" for each in by_length.values())]
            for label, by_length in found.items()
        ]
        counted = next((by_length for by_length in found.values() if "num_pieces" in by_length["all"]), None)
        if counted:
            rows.append(["number of pieces", *(f"{each['num_pieces']:,}" for each in counted.values())])
        return "\n".join(table(["words of the span", *next(iter(found.values()), ())], rows))

    def boundary_figure(self, arm: str) -> str:
        """A figure of the held-out accuracy of an arm's heads by the length of the masked span in pieces."""
        lengths = [each for each in self._by_span_length(arm) if isinstance(each["length"], int)]  # not "11+"
        curves = {
            name: [(each["length"], 100 * each[key]) for each in lengths if each.get(key) is not None]
            for name, key in HEADS.items()
        }
        guess = "unigram guess"
        curves[guess] = [(each["length"], 100 * self.held_out_of(arm)["unigram_accuracy"]) for each in lengths]
        what = f"{arm}: accuracy at masked tokens (%)"
        image = svg_curve(what, curves, "%", "pieces of the masked span", True, [guess], legend=True)
        return self._figure(f"boundaries_{arm}", image, f"{what} by the length of the span: {', '.join(curves)}")

    def boundary_table(self, arm: str) -> str:
        """The figures of `boundary_figure` as a table, in percent, and those of longer spans; "-": not measured."""
        lengths = self._by_span_length(arm)
        rows = [
            [name, *("-" if each.get(key) is None else f"{100 * each[key]:.1f}" for each in lengths)]
            for name, key in HEADS.items()
        ]
        rows.append(["masked tokens", *(f"{each['num_masked_tokens']:,}" for each in lengths)])
        return "\n".join(table(["pieces of the span", *(str(each["length"]) for each in lengths)], rows))

    def held_out_of(self, arm: str) -> dict[str, Any]:
        """The held-out scores of an arm: see `study_summary.held_out_of`."""
        return self._given(held_out_of(self.results, arm) or None, f"held-out scores of {arm}")

    def _by_span_length(self, arm: str) -> list[dict[str, Any]]:
        found = self.held_out_of(arm).get("by_span_length")
        return self._given(found, f"held-out accuracy of {arm} by the length of the span")

    def _filled(self, arm: str, method: str, name: str) -> dict[str, Any]:
        """What span filling by one of METHODS came to, which has `name`."""
        what = f"span filling of {arm}, {METHODS.get(method, method)}"
        found = self._given((self.measured(arm) or {"methods": {}})["methods"].get(method), what)
        self._given(found["all"].get(name), f"{name} of {what}")
        return found

    def _pretraining(self, arm: str, name: str) -> float:
        found = self.summary["pretraining"].get(arm, {}).get(name)
        return self._given(found, f"{name} of the pre-training of {arm}")

    def _given(self, found: Any, what: str) -> Any:
        """`found`. Raises ValueError, with `what` and the study, where it is None or an empty list."""
        if found is None or found == []:
            raise ValueError(f"{self.name} has no {what}")
        return found

    def _figure(self, name: str, image: str, alternative: str) -> str:
        path = self.figures / f"{self.name}_{name}.svg"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = str(image).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        path.write_text(text + "\n", encoding="utf-8")
        return f"![{alternative}]({self.figures.parent.name}/{FIGURES}/{path.name})"


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

    Raises ValueError for a folder without a template, or with one that is none or names what has no results.
    """
    template = folder / TEMPLATE
    if not template.is_file():
        raise ValueError(f"{folder} has no {TEMPLATE}: give the folder of a report, as docs/study")
    names = sorted({path.parent.parent.name for path in folder.glob("*/*/*.json")})
    found = {name: Study(folder, name) for name in names if study_file(folder, name)}
    text = template.read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701 -- Markdown
    try:
        return environment.from_string(text).render(**found, paper_table=paper_table) + "\n"
    except jinja2.TemplateError as error:
        studies = [f"studies with results: {', '.join(found) or 'none'}"]
        studies += [f"no {name}.yaml in {folder} or {STUDIES}" for name in names if name not in found]
        raise ValueError(f"{template}: {error.message} ({'; '.join(studies)})") from None


def study_file(folder: Path, name: str) -> Path | None:
    """The file of a study: in the folder of the report, else in training/studies; None where neither has it."""
    return next((path for place in (folder, STUDIES) if (path := place / f"{name}.yaml").is_file()), None)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    if len(argv) != 1 or argv[0].startswith("-"):
        raise ValueError(f"{' '.join(argv) or 'no arguments'}: expected the folder of a report, as docs/study")
    folder = Path(argv[0])
    path = folder.with_name(f"{folder.name}.md")
    path.write_text(report(folder), encoding="utf-8")
    print(f"{path} and its figures are written")


if __name__ == "__main__":
    sys.exit(main())
