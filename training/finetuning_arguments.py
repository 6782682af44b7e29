"""What a fine-tuning run takes beside what `training/arguments.py` has: the task, passes instead of steps, a sweep."""

# ruff: noqa: RUF009 -- `option` makes a dataclass field

from dataclasses import dataclass, fields, replace
from typing import Any

from training.arguments import (
    OptimizationArguments,
    RunArguments,
    UpdateArguments,
    WeightsArguments,
    at_least,
    option,
    require,
)


@dataclass
class TaskArguments:
    """The task and its data."""

    task: str | None = option(None, "A task of eval/tasks, such as squad_v2, tacred, rte or ner.")
    train_file: str | None = option(None, "Training data in the task's format, .gz or not; none: the Hub's.")
    validation_file: str | None = option(None, "Development data, likewise; the best model is chosen on it.")
    train_split: str = option("train", "Split of the Hub's data set to train on.")
    validation_split: str = option(
        "validation", "Split to choose on; dev-half: half of MRQA's, the other one is the test set."
    )
    max_train_samples: int | None = option(None, "Trains on so many examples, the same in every run.")
    max_eval_samples: int | None = option(None, "Evaluates on so many examples, the same in every run.")
    tokenizer_name: str | None = option(None, "Tokenizer: a folder, a Hub id or a vocab.txt; none: the model's own.")
    max_seq_length: int | None = option(None, "Tokens of a row, [CLS] and [SEP] included; none: the task's.")
    doc_stride: int | None = option(None, "Question answering: pieces from one window of a context to the next.")
    negative_label: str | None = option(None, "Relation extraction: the relation that is none.")
    relation_input: str | None = option(None, "Relation extraction: how entities are shown; none: entity_mask.")
    relation_pooling: str | None = option(None, "Relation extraction: cls or entity_start; none: cls.")
    coref_depth: int | None = option(None, "Coreference: 1, or more for antecedents of a higher order; none: 2.")
    max_training_sentences: int | None = option(None, "Coreference: segments of a document in training; none: 3.")
    restore_brackets: bool | None = option(
        None, "Coreference: reads -LRB- of OntoNotes as the bracket of other texts; none: false."
    )
    ffnn_size: int | None = option(None, "Coreference: hidden units of the scorers; none: the configuration's.")
    mention_loss_coef: float | None = option(
        None, "Coreference: weight of the loss of mentions alone, for data with singletons; none: 0."
    )
    strict: bool = option(False, "Refuses data with anything that is left out or put right, instead of counting it.")

    def __post_init__(self):
        require(self.task is not None, "task is missing: give --task NAME, or a recipe that has it")
        require(
            (self.train_file is None) == (self.validation_file is None),
            f"train_file={self.train_file}, validation_file={self.validation_file}: give both, or none for the Hub's",
        )
        at_least(self, 1, "max_train_samples", "max_eval_samples", "doc_stride", "coref_depth")
        at_least(self, 1, "max_training_sentences", "ffnn_size")
        at_least(self, 0, "mention_loss_coef")
        at_least(self, 4, "max_seq_length")

    def settings(self) -> dict[str, Any]:
        """What is set in the task, by the names of its fields."""
        names = (
            *("max_seq_length", "doc_stride", "negative_label", "relation_input", "relation_pooling"),
            *("coref_depth", "max_training_sentences", "restore_brackets", "ffnn_size", "mention_loss_coef"),
        )
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass
class EpochArguments(UpdateArguments):
    """Updates: AdamW with linear warm-up and decay over some passes (appendix B)."""

    learning_rate: float = option(2e-5, "Peak of the schedule.")
    global_batch_size: int = option(32, "Rows an update, over all processes and accumulation.")
    weight_decay: float = option(0.01, "Decoupled weight decay; not of biases and LayerNorms.")
    adam_epsilon: float = option(1e-6, "Adam's epsilon.")
    num_train_epochs: float = option(3.0, "Passes over the training data.")
    warmup_ratio: float = option(0.1, "Share of the updates with a rising learning rate.")
    head_learning_rate: float | None = option(
        None, "Peak of all but the encoder, then without warm-up and weight decay (coreference); none: the same."
    )
    evaluations_per_epoch: int = option(1, "Evaluations in each pass; the best weights are kept.")

    def __post_init__(self):
        super().__post_init__()
        require(0 < self.num_train_epochs < 10_000, f"num_train_epochs={self.num_train_epochs}: must be positive")
        require(0 <= self.warmup_ratio <= 1, f"warmup_ratio={self.warmup_ratio}: must be from 0 to 1")
        at_least(self, 1, "evaluations_per_epoch")
        rate = self.head_learning_rate
        require(rate is None or rate > 0, f"head_learning_rate={rate}: must be positive")

    def schedule(self, num_rows: int) -> "EpochSchedule":
        """The updates of `num_train_epochs` passes over `num_rows` rows; the last one may begin another pass."""
        max_train_steps = max(1, -int(-self.num_train_epochs * num_rows // self.global_batch_size))
        common = {f.name: getattr(self, f.name) for f in fields(UpdateArguments)}
        warmup = round(self.warmup_ratio * max_train_steps)
        schedule = EpochSchedule(**common, num_warmup_steps=warmup, max_train_steps=max_train_steps)
        if self.head_learning_rate is not None:
            plain = {"learning_rate": self.head_learning_rate, "weight_decay": 0.0, "adam_epsilon": 1e-8}
            schedule.head = replace(schedule, **plain, num_warmup_steps=0)
        return schedule

    def steps_per_epoch(self, num_rows: int) -> int:
        return max(1, num_rows // self.global_batch_size)

    def eval_steps(self, num_rows: int) -> int:
        """Updates from one evaluation to the next, as in the released code."""
        return max(1, self.steps_per_epoch(num_rows) // self.evaluations_per_epoch)


@dataclass
class EpochSchedule(OptimizationArguments):
    """The updates of a fine-tuning run: linear from 0 to the peak and back to 0, as in the released code.

    `head` is the schedule of all but the encoder, where that is another one: of coreference, plain Adam (its epsilon
    1e-8) without warm-up, as in mandarjoshi90/coref.
    """

    head: "EpochSchedule | None" = None

    def parts(self, model: Any) -> list[tuple[OptimizationArguments, list]]:
        if self.head is None:
            return super().parts(model)
        named = list(model.named_parameters())
        encoder = [each for each in named if each[0].startswith("bert.")]
        head = [each for each in named if not each[0].startswith("bert.")]
        return [(self, encoder), (self.head, head)]

    def decay(self, step: int) -> float:
        """The share of the peak that is left after `step` updates, the warm-up being over: all of it at first."""
        steps = max(1, self.max_train_steps - self.num_warmup_steps)
        return max(0, self.max_train_steps - step) / steps


@dataclass
class SweepArguments:
    """A sweep: each combination is a run of its own."""

    sweep: bool = option(False, "Runs each combination of what follows, in folders of output_dir.")
    sweep_learning_rates: list[float] | None = option(None, "Learning rates; none: learning_rate alone.")
    sweep_batch_sizes: list[int] | None = option(None, "Global batch sizes; none: global_batch_size alone.")
    sweep_seeds: list[int] | None = option(None, "Seeds; none: seed alone.")


# What a fine-tuning run takes, in the order in which `parse_recipe` returns it.
FINETUNING = (TaskArguments, WeightsArguments, EpochArguments, RunArguments, SweepArguments)
