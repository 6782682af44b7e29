"""What a task is: files -> examples -> features -> predictions -> scores. One family a file, a dataset is a row."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import datasets
import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from modeling_spanbert import SpanBertConfig


@dataclass
class Loaded:
    """Examples in the order of their file, and `counts`: what was remarkable in reading them -> where (ids, lines)."""

    examples: list[dict]
    counts: dict[str, list[str]] = field(default_factory=dict)

    def count(self, what: str, where: str) -> None:
        self.counts.setdefault(what, []).append(where)

    def notes(self) -> Iterator[str]:
        """One line for each entry of `counts`, with the first three places."""
        for what, places in self.counts.items():
            yield f"{what}: {len(places)} ({', '.join(places[:3])}{', …' if len(places) > 3 else ''})"

    def refuse(self, source: str) -> None:
        """Raises ValueError where anything was remarkable: what `--strict` asks for."""
        if self.counts:
            raise ValueError(f"{source}: {next(self.notes())}; put it right, or leave out --strict")


class Task(Protocol):
    """A dataset and what is done with it. Evaluation and fine-tuning know no more than this of any of them.

    All methods raise ValueError or OSError, in one line, for what a user gave wrong.
    """

    name: str
    model_class: ClassVar[type[PreTrainedModel]]
    pipeline_tag: ClassVar[str]  # the Hub's name of what its models do
    max_seq_length: int | None  # of a row, or what the model takes if that is less; None: `config.max_segment_length`
    hub: tuple[str, ...] = ()  # its data set on the Hub, and the configuration there; none: the user's own copy

    def load(self, data_file: str | None, split: str, training: bool = False) -> Loaded:
        """The examples of a file in the task's format, or of the Hub's data set (`data_file` None).

        In training, what cannot be learnt from is left out and counted.
        """

    def config_fields(self, examples: list[dict], tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """What the configuration of a new model needs of its training examples: labels by name, and the like."""

    def prepare_model(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Adds to a new model and its tokenizer what the task needs in the vocabulary."""
        return None

    def check(self, examples: list[dict], tokenizer: PreTrainedTokenizerBase, config: SpanBertConfig) -> None:
        """Raises ValueError for examples that a model of this configuration cannot be asked about."""
        return None

    def featurize(
        self, examples: list[dict], tokenizer: PreTrainedTokenizerBase, config: SpanBertConfig
    ) -> list[dict[str, Any]]:
        """What the model is trained on: rows (lists of ids, unpadded) with their labels."""

    def predict(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: list[dict], batch_size: int
    ) -> list:
        """A prediction for each example, in their order; batches hold rows of like lengths."""

    def calibrate(self, model: PreTrainedModel, predictions: list, examples: list[dict]) -> list:
        """Sets in the model's config what is found on development data; the `predictions`, as they are with it."""
        return predictions

    def baseline(self, training: list[dict], examples: list[dict]) -> list:
        """What one predicts for `examples` without a model: what is most frequent in `training`, or little more."""

    def score(self, predictions: list, examples: list[dict]) -> dict[str, float]:
        """The figures of `eval/metrics`, by the names and on the scale of the task's official scorer."""

    def main_metric(self, examples: list[dict]) -> str:
        """The key of `score` by which the best of several models is kept; more is better."""

    def write(self, predictions: list, examples: list[dict], folder: Path, split: str) -> None:
        """Writes `predictions_<name>` into `folder`, as the official scorer reads it."""

    def usage(self, config: SpanBertConfig) -> str:
        """Python that tries a fine-tuned model, whose place stands in it as {model}."""


def configured(tasks: list[Task], settings: dict[str, Any]) -> list[Task]:
    """The tasks with those of `settings` that each has. Raises ValueError for one that none of them has."""
    for name, value in settings.items():
        able = [name in {field.name for field in fields(task)} for task in tasks]
        if not any(able):
            raise ValueError(f"{name}={value}: {', '.join(task.name for task in tasks)} has no such setting")
        tasks = [replace(task, **{name: value}) if can else task for task, can in zip(tasks, able, strict=True)]
    return tasks


def sample(examples: list[dict], size: int | None, seed: int) -> list[dict]:
    """`size` of the examples, in their order; all where they are fewer."""
    if size is None or size >= len(examples):
        return examples
    numbers = sorted(random.Random(seed).sample(range(len(examples)), size))
    return [examples[number] for number in numbers]


def needs_own_copy(name: str) -> ValueError:
    return ValueError(f"task {name} needs your own copy of its data: give --data_file")


def load_from_hub(name: str, hub: tuple[str, ...], split: str) -> datasets.Dataset:
    """A split of a data set of the Hub (path, or path and configuration), or of a folder in datasets' own layout.

    Raises ValueError where it cannot be had, or where the task has none (`hub` empty).
    """
    if not hub:
        raise needs_own_copy(name)
    try:
        return datasets.load_dataset(*hub, split=split)
    except Exception as error:  # of httpx, huggingface_hub, datasets, pyarrow …
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
        raise ValueError(f"cannot load split {split!r} of {'/'.join(hub)} ({why}); give --data_file") from None


def open_model(
    task: Task, name: str, revision: str | None = None, device: str | torch.device = "cpu"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model fine-tuned for `task`, in float32 and eval mode, and its tokenizer; of a folder or of the Hub.

    Raises OSError where there is none or it is damaged, and ValueError for one without the task's head.
    """
    try:
        model, info = task.model_class.from_pretrained(
            name, revision=revision or "main", dtype=torch.float32, output_loading_info=True
        )
    except (OSError, SafetensorError) as error:
        raise OSError(f"cannot open model {name} ({str(error).strip().splitlines()[0]})") from None
    if missing := sorted(info["missing_keys"]):
        listed = ", ".join(missing[:2])
        raise ValueError(f"{name} is not fine-tuned for {task.name} (it has no {listed}); fine-tune it first")
    # With the config, because a repository with only vocab.txt is cased where the config is SpanBERT's.
    tokenizer = AutoTokenizer.from_pretrained(name, config=model.config, revision=revision or "main")
    if len(tokenizer) > model.config.vocab_size:
        raise ValueError(
            f"{name}: its tokenizer has {len(tokenizer)} pieces, its model {model.config.vocab_size}: not its own"
        )
    return model.to(device).eval(), tokenizer


@torch.no_grad()
def logits_of(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[dict[str, list[int]]], batch_size: int
) -> list[torch.Tensor]:
    """The logits of each row (keys other than the model's inputs are left out), in their order.

    Rows of like lengths are run together and padded to the longest of them; of the logits of tokens those of padding
    are cut off. Raises ValueError for logits that are not finite.
    """
    names = [name for name in ("input_ids", "token_type_ids") if rows and name in rows[0]]
    by_length = sorted(range(len(rows)), key=lambda number: -len(rows[number]["input_ids"]))
    found: list[Any] = [None] * len(rows)
    for first in range(0, len(rows), batch_size):
        numbers = by_length[first : first + batch_size]
        inputs = [{name: rows[number][name] for name in names} for number in numbers]
        batch = tokenizer.pad(inputs, return_tensors="pt").to(model.device)
        logits = model(**batch).logits.float().cpu()
        if not logits.isfinite().all():
            raise ValueError("the model's scores are not finite: its weights are damaged")
        for number, of_row in zip(numbers, logits, strict=True):
            found[number] = of_row[: len(rows[number]["input_ids"])] if of_row.dim() == 2 else of_row
    return found


def row_length(task: Task, config: SpanBertConfig) -> int:
    """`task.max_seq_length`, or what the model takes if that is less."""
    return min(task.max_seq_length or config.max_segment_length, config.max_position_embeddings)
