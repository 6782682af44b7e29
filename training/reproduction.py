"""docs/reproduction.md: for every figure of the paper's Tables 1 to 7 the commands that give it, and what they cost.

    python -m training.reproduction docs/reproduction.md

takes docs/reproduction.md.jinja, the words; figures come from eval/paper_scores.yaml, commands and costs from the
recipes.
"""

import functools
import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import jinja2

from eval.paper_scores import Column, Table, load_tables
from eval.results import ALIASES, GLUE_METRICS, MRQA_TASKS
from modeling_spanbert import SIZES, SpanBertConfig
from training.arguments import RECIPES, one_line_errors, parse_recipe, read_recipe
from training.estimate import MACHINES, Machine, estimate
from training.finetuning_arguments import FINETUNING, TaskArguments
from training.progress import flops_per_token
from training.sweep import grid


# The recipe of each row of the tables; None for what is nobody's pre-training.
SYSTEMS = {
    "SpanBERT": "spanbert_large_cased",
    "Our BERT-1seq": "bert_large_1seq",
    "Our BERT": "bert_large_2seq_nsp",
    "Google BERT": "google_bert_large",
    "Human": None,
    "Lee et al. (2018)": None,
    "BERT_EM": None,
    "BERT_EM+MTB": None,
    "Subword tokens": "ablations/subwords",
    "Whole words": "ablations/whole_words",
    "Named entities": "ablations/named_entities",
    "Noun phrases": "ablations/noun_phrases",
    "Geometric spans": "ablations/geometric_spans",
    "Span masking (2seq) + NSP": "ablations/geometric_spans",
    "Span masking (1seq)": "ablations/geometric_spans_1seq",
    "Span masking (1seq) + SBO": "ablations/geometric_spans_1seq_sbo",
}
# Of several recipes of a task the paper's.
OF_LARGE = {"ontonotes_coref": "ontonotes_coref_large", "tacred": "tacred"}
AVERAGES = {"mrqa": MRQA_TASKS, "glue": tuple(task for task in GLUE_METRICS if task != "wnli")}
# Test sets that nobody can download, and those that their server alone can score.
HIDDEN, SUBMITTED = ("squad_v1", "squad_v2"), AVERAGES["glue"]
OWN_COPIES = {  # of licensed data: files by split
    "ontonotes_coref": {
        "train": "ontonotes/train.english.v4_gold_conll",
        "validation": "ontonotes/dev.english.v4_gold_conll",
        "test": "ontonotes/test.english.v4_gold_conll",
    },
    "tacred": {"train": "tacred/train.json", "validation": "tacred/dev.json", "test": "tacred/test.json"},
}
COST = re.compile(r"# Cost: ([\d,]+) \w+ of (\d+) tokens a pass, ([\d,]+) of (\d+) an evaluation\b")
CORES, GPU, GPUS = (
    next(each for each in MACHINES if each.name == name) for name in ("2 CPU cores, bf16", "1 x H100", "8 x H100")
)


class Cost(NamedTuple):
    """Of a sweep: its runs, and the operations of one, with its evaluations on the development set."""

    num_runs: int
    flops: float

    def shown(self, machine: Machine, unit: float) -> str:
        """Time on `machine`, in `unit` seconds: of a run, and of all."""
        of_run = self.flops / (machine.flops * machine.share) / unit
        return f"{self.num_runs} x {_rounded(of_run)} = {_rounded(self.num_runs * of_run)}"


def _rounded(number: float) -> str:
    """To two digits, without an exponent."""
    return f"{float(f'{number:.2g}'):g}"


def stated_rows(recipe: str) -> tuple[int, int, int, int]:
    """What the header of a fine-tuning recipe says: rows and tokens a row, of a pass and of an evaluation."""
    found = COST.search((RECIPES / "finetune" / f"{recipe}.yaml").read_text(encoding="utf-8"))
    if not found:
        raise ValueError(f"{recipe}: its header does not say # Cost: N rows of N tokens a pass, N of N an evaluation")
    return tuple(int(number.replace(",", "")) for number in found.groups())


def finetuning_cost(recipe: str) -> Cost:
    """Of the sweep of a fine-tuning recipe, at large."""
    data, _, epochs, run, sweep = parse_recipe(FINETUNING, [f"{RECIPES}/finetune/{recipe}.yaml", "--output_dir", "-"])
    config = SpanBertConfig(**SIZES["large"])
    num_rows, length, num_evaluated, evaluated_length = stated_rows(recipe)
    eval_steps = run.eval_steps or epochs.eval_steps(num_rows)
    num_evaluations = epochs.schedule(num_rows).max_train_steps // eval_steps
    trained = epochs.num_train_epochs * num_rows * length * _flops_per_token(data, config, length)
    forward = num_evaluated * evaluated_length * _flops_per_token(data, config, evaluated_length) / 3
    return Cost(len(grid(epochs, run, sweep)), trained + num_evaluations * forward)


def _flops_per_token(data: TaskArguments, config: SpanBertConfig, length: int) -> float:
    """Forward and backward. Of the heads coreference's alone counts, for the pairs of mentions that it scores."""
    flops = flops_per_token(config, min(length, data.max_seq_length), mask_ratio=0)
    if data.coref_depth is None:
        return flops
    pairs = config.top_span_ratio * config.max_top_antecedents * data.coref_depth
    return flops + 3 * pairs * 2 * (3 * config.hidden_size + config.feature_emb_size) * config.ffnn_size


@functools.cache
def recipe_of(task: str) -> str:
    """The fine-tuning recipe of a task of the tables. Raises LookupError where there is none."""
    names = {task, *(name for name, other in ALIASES.items() if other == task), task.removesuffix("_mismatched")}
    stems = {path.stem for path in (RECIPES / "finetune").glob("*.yaml") if read_recipe(path)["task"] in names}
    if task in OF_LARGE:
        return OF_LARGE[task]
    [stem] = stems
    return stem


def pretraining_rows(tables: dict[str, Table]) -> list[dict[str, str]]:
    """For each pre-training of Tables 1 to 7: its systems and tables, command, tokens and operations."""
    rows: dict[str, dict] = {}
    for name, table in tables.items():
        for system in table.scores:
            if (recipe := SYSTEMS[system]) is None:
                continue
            row = rows.setdefault(recipe, {"systems": [], "tables": []})
            for key, value in (("systems", system), ("tables", name.removeprefix("table_"))):
                if value not in row[key]:
                    row[key].append(value)
    for recipe, row in rows.items():
        folder = f"runs/{recipe.split('/')[-1]}"
        words = ["accelerate", "launch", "training/pretrain.py", f"training/recipes/pretrain/{recipe}.yaml"]
        words += ["--train_file", "text.jsonl.gz", "--tokenizer_name", "vocab.txt", "--output_dir", folder]
        if recipe.split("/")[-1] in ("named_entities", "noun_phrases"):
            words += ["--annotation_file", "spans.jsonl.gz"]
        row |= {
            "command": shlex.join(words),
            "cost": estimate(str(RECIPES / "pretrain" / f"{recipe}.yaml")),
        }
    return list(rows.values())


def task_rows(tables: dict[str, Table]) -> list[dict]:
    """For each recipe of a task of Tables 1 to 7: its figures, the commands that tune and score it, and the cost.

    They score also what averages are made of.
    """
    rows: dict[str, dict] = {}
    for name, table in tables.items():
        for column in table.columns:
            for task in AVERAGES.get(column.task, [column.task]):
                row = rows.setdefault(recipe_of(task), {"task": task, "figures": [], "scorings": {}})
                split = public_split(task, column.split)
                row["scorings"][task, split] = scoring(task, split)
                if task == column.task:
                    row["figures"].append(f"{name.removeprefix('table_')}: {column.label}")
    return [
        row | {"recipe": recipe, "tuning": tuning(recipe, row["task"]), "cost": finetuning_cost(recipe)}
        for recipe, row in rows.items()
    ]


def public_split(task: str, split: str) -> str:
    """`split`, or the development set for a hidden test set."""
    return "validation" if split == "test" and task in HIDDEN else split


def tuning(recipe: str, task: str) -> str:
    files = OWN_COPIES.get(task, {})
    given = [f"--{name}_file {files[name]}" for name in ("train", "validation") if files]
    return " ".join(
        [
            f"accelerate launch training/finetune.py training/recipes/finetune/{recipe}.yaml --sweep",
            *given,
            f"--mixed_precision bf16 --model_name_or_path $START --output_dir runs/tasks/$SYSTEM/{recipe}",
        ]
    )


def scoring(task: str, split: str) -> str:
    """What is for a server goes into a folder apart: eval/report.py takes all of `scores`."""
    files = OWN_COPIES.get(task, {})
    given = [f"--data_file {files[split]}"] if files else []
    folder = "submissions" if split == "test" and task in SUBMITTED else "scores"
    return " ".join(
        [
            f'python -m eval.run --task {task} --model_name_or_path "$(best {recipe_of(task)})"',
            *given,
            f"--split {split} --output_dir {folder}/$SYSTEM/{task}-{split}",
        ]
    )


def averages(tables: dict[str, Table]) -> list[tuple[str, Column]]:
    """The figures that are means of others, by table."""
    return [
        (name.removeprefix("table_"), column)
        for name, table in tables.items()
        for column in table.columns
        if column.task in AVERAGES or not column.printed
    ]


def report(template: Path) -> str:
    """The text of docs/reproduction.md."""
    tables = {name: table for name, table in load_tables().items() if name.startswith("table_")}
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701 -- Markdown
    return (
        environment.from_string(template.read_text(encoding="utf-8")).render(
            cores=CORES,
            gpu=GPU,
            gpus=GPUS,
            quoted=[system for system, recipe in SYSTEMS.items() if recipe is None],
            pretrainings=pretraining_rows(tables),
            tasks=task_rows(tables),
            averages=averages(tables),
        )
        + "\n"
    )


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    path = Path(argv[0]) if len(argv) == 1 else None
    if path is None or not path.with_name(f"{path.name}.jinja").is_file():
        raise ValueError(f"{' '.join(argv) or 'no arguments'}: expected docs/reproduction.md, with a .jinja beside it")
    path.write_text(report(path.with_name(f"{path.name}.jinja")), encoding="utf-8")
    print(f"{path} is written")


if __name__ == "__main__":
    sys.exit(main())
