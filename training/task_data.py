"""The data of a fine-tuning run, and what run.json and results.json say of them and of the scores."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from eval.paper_scores import published
from eval.run import rows_of
from eval.tasks.task import Task, sample
from modeling_spanbert import SpanBertConfig
from training.arguments import WeightsArguments
from training.document_batches import Documents
from training.finetuning_arguments import TaskArguments
from training.loop import TrainerState
from training.record import default_model_id
from training.task_batches import Rows
from training.vocabulary import load_tokenizer


@dataclass
class Examples:
    """What a run trains on and is scored on, with a note for all that was left out or put right."""

    training: list[dict]
    validation: list[dict]
    notes: list[str]

    def summary(self, rows: Rows | Documents) -> str:
        """What there is to train on, in a phrase."""
        return (
            f"{len(self.training):,} examples in {len(rows):,} rows of {rows.lengths.mean():.1f} tokens on average, "
            f"{len(self.validation):,} examples to choose on"
        )

    def describe(self, rows: Rows | Documents, max_seq_length: int) -> str:
        return f"train: {self.summary(rows)}; rows of at most {max_seq_length} tokens"


SAMPLE_SEED = 42  # as eval/run.py's; of no run in particular, so that runs with other seeds have the same examples


def load_examples(task: Task, data: TaskArguments) -> Examples:
    """Both sets, or samples of them. Raises ValueError or OSError for what cannot be read, or with `data.strict`."""
    found, notes = [], []
    for file, split, size, training in (
        (data.train_file, data.train_split, data.max_train_samples, True),
        (data.validation_file, data.validation_split, data.max_eval_samples, False),
    ):
        loaded = task.load(file, split, training=training)
        if data.strict:
            loaded.refuse(file or split)
        if not loaded.examples:
            raise ValueError(f"{file or split} holds nothing to learn from: {'; '.join(loaded.notes())}")
        notes += [f"{file or split}: {note}" for note in loaded.notes()]
        found.append(sample(loaded.examples, size, SAMPLE_SEED))
    return Examples(*found, notes)


def task_fields(task: Task, examples: Examples, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What the configuration says of the task, and nothing that it said of another one before."""
    names = ("id2label", "label2id", "problem_type", "null_score_diff_threshold")
    defaults = SpanBertConfig()
    of_heads = (
        *("relation_input", "relation_pooling", "entity_token_map"),
        *("max_segment_length", "max_training_sentences", "coref_depth", "restore_brackets", "mention_loss_coef"),
    )
    fresh = {name: getattr(defaults, name) for name in (*names, *of_heads)}
    return fresh | task.config_fields(examples.training, tokenizer)


def tokenizer_of(data: TaskArguments, weights: WeightsArguments) -> PreTrainedTokenizerBase:
    """`data.tokenizer_name`'s, or that of the weights that the run starts from."""
    name = data.tokenizer_name or weights.model_name_or_path
    if name is None:
        raise ValueError("no tokenizer: give --model_name_or_path, or --tokenizer_name with --config_name")
    return load_tokenizer(name)


def task_model_id(task: Task, weights: WeightsArguments) -> str:
    """`spanbert-base-cased-squad_v2`: the model and what it was fine-tuned on."""
    return f"{default_model_id(weights)}-{task.name}"


def task_record(
    task: Task, examples: Examples, rows: Rows | Documents, config: SpanBertConfig, data: TaskArguments
) -> dict:
    """What run.json says of the task and its data."""
    digest = hashlib.sha256(rows.fingerprint().encode())
    digest.update(_digest(examples.validation).encode())  # on it hangs which weights are the best
    return {
        "task": {
            "name": task.name,
            "pipeline_tag": task.pipeline_tag,
            "metric": task.main_metric(examples.validation),
            "settings": data.settings(),
        },
        "usage": task.usage(config),
        "data": {
            "files": [data.train_file, data.validation_file] if data.train_file else None,
            "hub": None if data.train_file else list(task.hub),
            "splits": [data.train_split, data.validation_split],
            "num_examples": len(examples.training),
            "num_validation_examples": len(examples.validation),
            "num_rows": len(rows),
            "mean_length": round(float(rows.lengths.mean()), 1),
            "notes": examples.notes,
            "fingerprint": digest.hexdigest(),
            "examples_fingerprint": _digest([examples.training, examples.validation]),  # whatever the vocabulary
        },
    }


def _digest(examples: list) -> str:
    return hashlib.sha256(json.dumps(examples, sort_keys=True).encode()).hexdigest()


def task_scores(task: Task, examples: Examples, state: TrainerState, record: dict) -> dict[str, Any]:
    """What results.json says of the best weights: also in the rows of eval/run.py's results.json."""
    metric = record["task"]["metric"]
    baseline = task.score(task.baseline(examples.training, examples.validation), examples.validation)
    common = {"task": task.name, "split": record["data"]["splits"][1], "n": len(examples.validation)}
    return {
        "best_step": state.best_step,
        "model": record["model_id"],
        "revision": None,
        "seed": record["seed"],
        "versions": record["versions"],
        "results": rows_of(state.evaluation, **common),
        "baseline": rows_of(baseline, **common),
        "paper": published(task.name),
        "summary": f"{task.name}, {common['n']:,} examples of {common['split']}: {metric} "
        f"{state.evaluation[metric]:.4g}, at step {state.best_step:,}; baseline: {baseline[metric]:.4g}",
    }
