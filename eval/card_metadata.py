"""The scores of one model as metadata of its card: the Hub's `model-index`, and its files `.eval_results/*.yaml`."""

from collections.abc import Mapping

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData, eval_result_entries_to_yaml

from eval.results import NOT_PERCENT, Figure, Run, figures_of
from eval.tasks import TASKS
from eval.tasks.task import Task


def metadata_files(model: str, runs: list[Run]) -> dict[str, str]:
    """metadata.yaml and .eval_results/<task>.yaml, by their place in the model's repository, as text.

    metadata.yaml has every figure of the tasks of `TASKS` that is defined and percent; for the others see
    `eval_result_files`. Without any figure there is no file.
    """
    results = []
    for task, metric, split, figure in _figures(runs):
        dataset, config = _dataset(task)
        results.append(
            EvalResult(
                task_type=task.pipeline_tag,
                dataset_type=dataset or task.name,
                dataset_name=task.name,
                dataset_config=config,
                dataset_split=_hub_split(task, split),
                metric_type=metric,
                metric_value=round(figure.mean, 2),
                metric_name=f"{metric} (percent, {_seeds(figure)})",
            )
        )
    if not results:
        return {}
    card = ModelCardData(model_name=model, eval_results=results)
    return {"metadata.yaml": card.to_yaml() + "\n"} | eval_result_files(runs)


def eval_result_files(runs: list[Run], remarks: Mapping[str, str] | None = None) -> dict[str, str]:
    """.eval_results/<task>.yaml, by their place in the model's repository, as text: what the Hub's pages show.

    A file has a task's main figure, in percent, and exists for tasks that have a data set on the Hub, which its
    entries must name. Their notes say on how many examples it was scored; `remarks`, by task, are added to them.
    """
    entries = {}
    for task, metric, split, figure in _figures(runs):
        dataset, config = _dataset(task)
        if not dataset or metric != task.main_metric([]):
            continue
        sizes = {run.num_examples[task.name, split] for run in runs if (task.name, split) in run.num_examples}
        examples = " or ".join(f"{size:,}" for size in sorted(sizes))
        notes = f"{metric} in percent, split {_hub_split(task, split)}, {examples} examples, {_seeds(figure)}"
        if remark := (remarks or {}).get(task.name):
            notes += f"; {remark}"
        value = round(figure.mean, 2)
        entry = EvalResultEntry(dataset_id=dataset, task_id=config or "default", value=value, notes=notes)
        entries.setdefault(f".eval_results/{task.name}.yaml", []).append(entry)
    return {
        path: yaml.safe_dump(eval_result_entries_to_yaml(of_task), sort_keys=False)
        for path, of_task in entries.items()
    }


def _figures(runs: list[Run]) -> list[tuple[Task, str, str, Figure]]:
    """(task, metric, split, figure) of the tasks of `TASKS`, where the figure is defined and percent."""
    return [
        (TASKS[name], metric, split, figure)
        for (name, metric, split), figure in figures_of(runs).items()
        if name in TASKS and figure.mean is not None and not metric.endswith(NOT_PERCENT)
    ]


def _dataset(task: Task) -> tuple[str | None, str | None]:
    """The task's data set on the Hub, and which part of it; None where there is none."""
    dataset, config = (*task.hub, None, None)[:2]
    return dataset, config or getattr(task, "subset", None)


def _hub_split(task: Task, split: str) -> str:
    return split if split == "train" else split + getattr(task, "hub_suffix", "")


def _seeds(figure: Figure) -> str:
    return f"mean of {figure.num_seeds} seeds" if figure.num_seeds > 1 else "one seed"
