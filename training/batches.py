"""Batches as a function of the step: nothing to skip, restore or keep in step when a run resumes.

Sample number n = step x global batch + slot; epoch, i = divmod(n, N); row = permutation(seed, epoch)[i]. Masks follow
from (seed, n) in the collator. Process r of R takes the slots m x (R x rows) + r x rows + 0, 1, … of micro-batch m: a
run that goes on with another number of processes goes on at the right sample.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from itertools import chain

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerBase

from eval.held_out import held_out_scores, held_out_sums
from modeling_spanbert import DataCollatorForSpanMasking, SpanBertConfig
from training.arguments import MaskingArguments, OptimizationArguments, UpdateArguments
from training.blocks import Blocks


ROWS_AT_ONCE = 64  # are masked together: more cost hardly less a row
HELD_OUT_SEED = 0  # of no run in particular, so that runs are compared on the same masks


class Batches(Dataset, ABC):
    """`batches[step]` is the list of this process's micro-batches of the update after `step` updates.

    Of `rows` (a sequence of examples) each pass has every one once, in an order of its own; `collate` makes a batch of
    a list of them. Raises ValueError where the global batch does not divide.
    """

    nothing_to_predict = "nothing to predict"
    held_out_name = "held-out"
    steps_at_once = 1  # that are made together, where `__getitems__` makes them so

    def __init__(
        self,
        rows: Sequence[dict],
        collate: Callable[[list[dict]], dict[str, torch.Tensor]],
        optimization: UpdateArguments,
        seed: int,
        process_index: int = 0,
        num_processes: int = 1,
    ):
        optimization.gradient_accumulation_steps(num_processes)  # refuses what does not divide
        self.rows = rows
        self.collate = collate
        self.seed = seed
        self.global_batch_size = optimization.global_batch_size
        self.per_device_batch_size = optimization.per_device_train_batch_size
        self.process_index = process_index
        self.num_processes = num_processes
        self._order = lru_cache(maxsize=2)(self.order)

    def order(self, epoch: int) -> np.ndarray:
        """The rows of a pass, a function of (seed, epoch)."""
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))

    @abstractmethod
    def counts(self, batch: dict[str, torch.Tensor]) -> dict[str, int]:
        """By what a batch's losses are divided, by keyword of the model, `num_items_in_batch` at least.

        The loop adds them up over an update, whose sum of losses they divide.
        """

    def __getstate__(self):  # for data workers that are spawned
        return {name: value for name, value in self.__dict__.items() if name != "_order"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._order = lru_cache(maxsize=2)(self.order)

    def sample_numbers(self, step: int) -> list[range]:
        """The sample numbers of each micro-batch of this process."""
        rows = self.per_device_batch_size
        start = step * self.global_batch_size + self.process_index * rows
        stop = (step + 1) * self.global_batch_size
        return [range(n, n + rows) for n in range(start, stop, self.num_processes * rows)]

    def __getitem__(self, step: int) -> list[dict[str, torch.Tensor]]:
        return [self.collate([self._example(n) for n in numbers]) for numbers in self.sample_numbers(step)]

    def _example(self, sample_number: int) -> dict:
        epoch, i = divmod(sample_number, len(self.rows))
        return self.rows[int(self._order(epoch)[i])]

    def from_step(self, first_step: int, last_step: int, num_workers: int) -> Iterator[list[dict[str, torch.Tensor]]]:
        """The batches of the steps from `first_step` up to `last_step`, the same whatever the number of workers."""
        loader = DataLoader(
            self,
            sampler=range(first_step, last_step),
            batch_size=self.steps_at_once,
            collate_fn=list,  # steps stay steps
            num_workers=num_workers,
            pin_memory=torch.cuda.is_available(),
        )
        return chain.from_iterable(loader)


class KeyedBatches(Batches):
    """Batches of blocks, masked by (seed, sample number).

    Raises ValueError also where the corpus makes fewer rows than one update takes.
    """

    nothing_to_predict = "no masked token"

    def __init__(
        self,
        blocks: Blocks,
        collator: DataCollatorForSpanMasking,
        optimization: OptimizationArguments,
        process_index: int = 0,
        num_processes: int = 1,
    ):
        super().__init__(blocks, collator, optimization, collator.seed, process_index, num_processes)
        if len(blocks) < optimization.global_batch_size:
            raise ValueError(
                f"the corpus makes {len(blocks)} rows of {blocks.max_seq_length} tokens, fewer than one update takes "
                f"(global_batch_size={optimization.global_batch_size}): lower global_batch_size, or give more text"
            )

    @property
    def steps_at_once(self) -> int:
        """Those of small batches, whose time goes into calls of numpy, not into its arithmetic, are made together."""
        if self.collate.pad_to_multiple_of != self.rows.max_seq_length:
            return 1  # each micro-batch is as wide as its longest row
        return max(1, ROWS_AT_ONCE // (self.global_batch_size // self.num_processes))

    def __getitems__(self, steps: list[int]) -> list[list[dict[str, torch.Tensor]]]:
        """`self[step]` of each step: a row's mask is a function of the row and its sample number, in any batch."""
        if self.steps_at_once == 1:
            return [self[step] for step in steps]
        numbers = [micro_batch for step in steps for micro_batch in self.sample_numbers(step)]
        together = self.collate([self._example(n) for n in chain.from_iterable(numbers)])
        tensors = zip(*(tensor.split(self.per_device_batch_size) for tensor in together.values()), strict=True)
        micro_batches = [dict(zip(together, values, strict=True)) for values in tensors]
        accumulated = len(numbers) // len(steps)
        return [micro_batches[first : first + accumulated] for first in range(0, len(numbers), accumulated)]

    def counts(self, batch: dict[str, torch.Tensor]) -> dict[str, int]:
        """Masked tokens, and rows for next sentence prediction."""
        labels = batch["labels"]
        return {"num_items_in_batch": int((labels != -100).sum()), "num_sequences_in_batch": len(labels)}

    def limits(self) -> dict[str, int]:
        """The most that a batch of the run can have, by keyword of the model: what its shapes follow from then."""
        budget = math.ceil(self.collate.mask_ratio * self.rows.max_seq_length)  # of a row without specials
        return {
            "max_masked_tokens": self.per_device_batch_size * budget,
            "max_sequences": self.per_device_batch_size * (self.rows.max_sequences + 1),  # 1: a row's padding
        }

    def _example(self, sample_number: int) -> dict:
        epoch, i = divmod(sample_number, len(self.rows))
        row = int(self._order(epoch)[i])
        if self.collate.num_static_masks is not None:
            sample_number = epoch * len(self.rows) + row  # masks come back to a row, wherever a pass has it
        return {**self.rows[row], "sample_number": sample_number, "num_samples": len(self.rows)}


def make_collator(
    tokenizer: PreTrainedTokenizerBase, masking: MaskingArguments, config: SpanBertConfig, blocks: Blocks, seed: int
) -> DataCollatorForSpanMasking:
    """The collator of a run: rows of constant length, random tokens as frequent as in the training text."""
    return DataCollatorForSpanMasking(
        tokenizer,
        **asdict(masking),
        max_span_positions=config.max_span_positions,
        random_token_counts=blocks.token_counts,
        seed=seed,
        pad_to_multiple_of=blocks.max_seq_length,
    )


class HeldOut:
    """Held-out text, masked the same way in every evaluation and every run: `held_out(model)` gives its scores."""

    def __init__(
        self, accelerator: Accelerator, blocks: Blocks, collator: DataCollatorForSpanMasking, batch_size: int
    ):
        self.accelerator = accelerator
        self.blocks = blocks
        self.collator = replace(collator, seed=HELD_OUT_SEED, num_static_masks=None)
        self.batch_size = batch_size

    def batches(self) -> Iterator[dict[str, torch.Tensor]]:
        """This process's share of the rows."""
        rows = range(self.accelerator.process_index, len(self.blocks), self.accelerator.num_processes)
        for start in range(0, len(rows), self.batch_size):
            examples = [{**self.blocks[row], "sample_number": row} for row in rows[start : start + self.batch_size]]
            batch = self.collator(examples)
            yield {key: value.to(self.accelerator.device) for key, value in batch.items()}

    def __call__(self, model: torch.nn.Module) -> dict:
        """`eval.held_out.held_out_scores` over all processes."""
        mask_token_id = self.collator.tokenizer.mask_token_id
        sums = held_out_sums(model, self.batches(), self.collator.random_token_counts, mask_token_id)
        if self.accelerator.num_processes > 1:
            sums = self.accelerator.reduce(sums.to(self.accelerator.device), "sum")
        return held_out_scores(sums)
