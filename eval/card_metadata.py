"""The scores of one model as metadata of its card: the Hub's `model-index`, and its files `.eval_results/*.yaml`."""

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData, eval_result_entries_to_yaml

from eval.results import NOT_PERCENT, Figure, Key
from eval.tasks import TASKS
from eval.tasks.task import Task


def metadata_files(model: str, figures: dict[Key, Figure]) -> dict[str, str]:
    """metadata.yaml and .eval_results/<task>.yaml, by their place in the model's repository, as text.

    metadata.yaml has every figure of the tasks of `TASKS` that is defined and percent. The others have a task's main
    figure and exist for tasks that have a data set on the Hub, which their entries must name. Without any figure
    there is no file.
    """
    results, entries = [], {}
    for (name, metric, split), figure in figures.items():
        task = TASKS.get(name)
        if task is None or figure.mean is None or metric.endswith(NOT_PERCENT):
            continue
        seeds = f"mean of {figure.num_seeds} seeds" if figure.num_seeds > 1 else "one seed"
        value = round(figure.mean, 2)
        dataset, config = _dataset(task)
        hub_split = split + getattr(task, "hub_suffix", "") if split != "train" else split
        results.append(
            EvalResult(
                task_type=task.pipeline_tag,
                dataset_type=dataset or name,
                dataset_name=name,
                dataset_config=config,
                dataset_split=hub_split,
                metric_type=metric,
                metric_value=value,
                metric_name=f"{metric} (percent, {seeds})",
            )
        )
        if dataset and metric == task.main_metric([]):
            notes = f"{metric} in percent, split {hub_split}, {seeds}"
            entry = EvalResultEntry(dataset_id=dataset, task_id=config or "default", value=value, notes=notes)
            entries.setdefault(f".eval_results/{name}.yaml", []).append(entry)
    if not results:
        return {}
    card = ModelCardData(model_name=model, eval_results=results)
    listed = {
        path: yaml.safe_dump(eval_result_entries_to_yaml(of_task), sort_keys=False)
        for path, of_task in entries.items()
    }
    return {"metadata.yaml": card.to_yaml() + "\n"} | listed


def _dataset(task: Task) -> tuple[str | None, str | None]:
    """The task's data set on the Hub, and which part of it; None where there is none."""
    dataset, config = (*task.hub, None, None)[:2]
    return dataset, config or getattr(task, "subset", None)
