"""docs/reproduction.md: for every figure of the paper's Tables 1 to 7 the commands that give it, and what they cost.

    python -m training.reproduction docs/reproduction.md

takes docs/reproduction.md.jinja, the words; figures come from eval/paper_scores.yaml, commands and costs from the
recipes.
"""

import shlex
import sys
from pathlib import Path

import jinja2

from eval.paper_scores import Column, Table, load_tables
from eval.results import ALIASES
from training.arguments import RECIPES, one_line_errors, read_recipe
from training.estimate import MACHINES, estimate


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
AVERAGES = ("mrqa", "glue")


AT_HAND, HOPED = (next(each for each in MACHINES if each.name == name) for name in ("2 CPU cores, bf16", "8 x H100"))


def stated_cost(recipe: str) -> str:
    """What the header of a fine-tuning recipe says of its cost."""
    header = (RECIPES / "finetune" / f"{recipe}.yaml").read_text(encoding="utf-8").split("\n\n")[0]
    lines = [line.removeprefix("#").strip() for line in header.splitlines() if line.startswith("#")]
    text = " ".join(lines[next(nth for nth, line in enumerate(lines) if line.startswith("Cost: ")) :])
    return text.removeprefix("Cost: ").rstrip(".")


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


def task_rows(tables: dict[str, Table]) -> list[dict[str, str]]:
    """For each task of Tables 1 to 7: its figures, the commands of fine-tuning and scoring, and what they cost."""
    rows: dict[tuple[str, str], dict] = {}
    for name, table in tables.items():
        for column in table.columns:
            if column.task in AVERAGES:
                continue
            row = rows.setdefault((column.task, column.split), {"figures": []})
            row["figures"].append(f"{name.removeprefix('table_')}: {column.label}")
    for (task, split), row in rows.items():
        recipe = recipe_of(task)
        folder = f"runs/tasks/{recipe}"
        row |= {
            "task": task,
            "tuning": f"accelerate launch training/finetune.py training/recipes/finetune/{recipe}.yaml --sweep "
            f"--model_name_or_path EXPORT --output_dir {folder}",
            "scoring": scoring(task, split, folder),
            "cost": stated_cost(recipe),
        }
    return list(rows.values())


def scoring(task: str, split: str, folder: str) -> str:
    words = ["accelerate", "launch", "eval/run.py", "--task", task, "--model_name_or_path", f"{folder}/BEST/export"]
    return shlex.join([*words, "--split", split, "--output_dir", f"scores/{task}"])


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
            at_hand=AT_HAND,
            hoped=HOPED,
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
