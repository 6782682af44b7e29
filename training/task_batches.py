"""Features of a task -> batches of like lengths, in an order that is a function of the step; and scores on the way."""

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from eval.tasks.task import Task
from modeling_spanbert import SpanBertConfig
from modeling_spanbert.coreference import EncodedDocument
from training.arguments import UpdateArguments
from training.batches import Batches
from training.document_batches import DocumentBatches, Documents
from training.processes import together


EXAMPLES_AT_ONCE = 1000  # that are featurized together
GROUPED_BATCHES = 64  # whose rows are sorted by length together: little padding, and batches of new company each pass
PADDING = {"labels": -100}  # of lists of a row, beside the tokenizer's padding of input_ids and 0


class Rows(Sequence):
    """Rows of features, kept as arrays: two bytes a token, where Python's lists take eight and more.

    A row is a dict; its lists are of ids or labels, all of one name in each row, and its numbers int or float.
    """

    def __init__(self, rows: Iterable[dict[str, Any]]):
        self._columns: dict[str, array] = {}
        self._ends: dict[str, array] = {}
        for row in rows:
            for name, value in row.items():
                if isinstance(value, list):
                    self._columns.setdefault(name, array("i")).extend(value)
                    self._ends.setdefault(name, array("q", [0])).append(len(self._columns[name]))
                else:
                    kind = "d" if isinstance(value, float) else "q"
                    self._columns.setdefault(name, array(kind)).append(value)
        self._columns = {name: _narrow(np.asarray(values)) for name, values in self._columns.items()}
        self._ends = {name: np.asarray(ends) for name, ends in self._ends.items()}

    def __len__(self) -> int:
        return len(self._ends["input_ids"]) - 1 if self._ends else 0

    def __getitem__(self, number: int) -> dict[str, Any]:
        row = {}
        for name, values in self._columns.items():
            ends = self._ends.get(name)
            row[name] = values[number].item() if ends is None else values[ends[number] : ends[number + 1]]
        return row

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row."""
        return np.diff(self._ends["input_ids"]) if self._ends else np.zeros(0, int)

    def fingerprint(self) -> str:
        """The same for the same rows in the same order, and no others."""
        digest = hashlib.sha256()
        for name, values in sorted([*self._columns.items(), *((f"{name} ends", e) for name, e in self._ends.items())]):
            digest.update(f"{name} {values.dtype} {len(values)}\n".encode())
            digest.update(np.ascontiguousarray(values))
        return digest.hexdigest()


def _narrow(values: np.ndarray) -> np.ndarray:
    """As integers of as few bytes as they need; anything else as it is."""
    if values.dtype.kind != "i" or not len(values):
        return values
    return values.astype(np.promote_types(np.min_scalar_type(values.min()), np.min_scalar_type(values.max())))


def featurize(
    task: Task, examples: list[dict], tokenizer: PreTrainedTokenizerBase, config: SpanBertConfig
) -> Iterator[Any]:
    """The rows of `task.featurize`, of some examples at a time."""
    for first in range(0, len(examples), EXAMPLES_AT_ONCE):
        yield from task.featurize(examples[first : first + EXAMPLES_AT_ONCE], tokenizer, config)


class PadToLongest:
    """Rows -> a batch (B, T), T being the longest of them; numbers of a row become (B,)."""

    def __init__(self, pad_token_id: int):
        self.padding = PADDING | {"input_ids": pad_token_id}

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = {}
        for name, first in rows[0].items():
            values = [row[name] for row in rows]
            if isinstance(first, int | float):
                batch[name] = torch.tensor(values)
                continue
            padded = np.full((len(rows), max(map(len, values))), self.padding.get(name, 0))
            for row, of_row in zip(padded, values, strict=True):
                row[: len(of_row)] = of_row
            batch[name] = torch.from_numpy(padded)
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        batch["attention_mask"] = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        return batch


class LengthGroupedBatches(Batches):
    """Batches of rows of like lengths, padded to the longest of each forward pass alone.

    A pass has every row once. Rows are shuffled, sorted by length within some batches' worth of them, and the batches
    shuffled: all of it by (seed, epoch). Where a pass is not a whole number of batches, the next one completes its
    last batch, with rows that are left out of the sorting, so that all other batches stay of like lengths. (The
    released code sorts once, over all rows, so that a row meets the same company in each pass; and its run_mrqa.py
    does not shuffle the batches.)
    """

    held_out_name = "development set"

    def __init__(
        self,
        rows: Rows,
        collate: PadToLongest,
        optimization: UpdateArguments,
        seed: int,
        process_index: int = 0,
        num_processes: int = 1,
    ):
        super().__init__(rows, collate, optimization, seed, process_index, num_processes)
        self.lengths = rows.lengths

    def order(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, epoch])
        order, size = rng.permutation(len(self.rows)), self.global_batch_size
        first = min(-epoch * len(order) % size, len(order))  # rows that complete the batch of the pass before
        last = first + (len(order) - first) // size * size
        grouped = order[first:last]  # a view: sorted in place
        for start in range(0, len(grouped), GROUPED_BATCHES * size):
            part = grouped[start : start + GROUPED_BATCHES * size]
            part[:] = part[np.argsort(self.lengths[part], kind="stable")]
        grouped[:] = rng.permutation(grouped.reshape(-1, size)).ravel()
        return order

    def counts(self, batch: dict[str, torch.Tensor]) -> dict[str, int]:
        """Labels that are not -100; of questions, which have positions for labels, the rows."""
        labels = batch.get("labels")
        return {"num_items_in_batch": len(batch["input_ids"]) if labels is None else int((labels != -100).sum())}


def batches_of(
    features: Iterable,
    tokenizer: PreTrainedTokenizerBase,
    config: SpanBertConfig,
    optimization: UpdateArguments,
    seed: int,
    *process: int,
) -> Batches:
    """The batches of what `Task.featurize` gives: rows, or documents. Raises ValueError where that is nothing."""
    features = iter(features)
    first = next(features, None)
    if first is None:
        raise ValueError("none of the training examples can be learnt from")
    features = chain([first], features)
    if isinstance(first, EncodedDocument):
        documents = Documents(features)
        return DocumentBatches(documents, tokenizer.pad_token_id, config, optimization, seed, *process)
    return LengthGroupedBatches(Rows(features), PadToLongest(tokenizer.pad_token_id), optimization, seed, *process)


class DevelopmentScores:
    """`scores(model)`: what a task's metric says of the predictions for its development set, over all processes.

    What the task finds on development data is set in the model's config (see `Task.calibrate`).
    """

    def __init__(
        self,
        accelerator: Accelerator,
        task: Task,
        tokenizer: PreTrainedTokenizerBase,
        examples: list[dict],
        batch_size: int,
    ):
        self.accelerator = accelerator
        self.task = task
        self.tokenizer = tokenizer
        self.examples = examples
        self.batch_size = batch_size

    def __call__(self, model: torch.nn.Module) -> dict[str, float]:
        model = self.accelerator.unwrap_model(model)
        return self.task.score(self.predictions(model), self.examples)

    def predictions(self, model: PreTrainedModel) -> list:
        """The predictions for all examples, in their order, in every process; the model is left in its mode."""
        index, count = self.accelerator.process_index, self.accelerator.num_processes
        was_training = model.training
        model.eval()
        predictions = []
        with together(self.accelerator):
            predictions = self.task.predict(model, self.tokenizer, self.examples[index::count], self.batch_size)
        if count > 1:
            shares = gather_object([predictions])
            predictions = [shares[number % count][number // count] for number in range(len(self.examples))]
        model.train(was_training)
        return self.task.calibrate(model, predictions, self.examples)
