"""The batches of a run: a function of the step, however many are made together, by whom, and from where on."""

import pytest
import torch
from helpers import tiny_tokenizer
from test_blocks import write_corpus

from modeling_spanbert import DataCollatorForSpanMasking
from training.arguments import OptimizationArguments
from training.batches import ROWS_AT_ONCE, KeyedBatches
from training.blocks import prepare_blocks


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batches")
    write_corpus(folder / "corpus.txt", 40)
    return prepare_blocks(str(folder / "corpus.txt"), tiny_tokenizer(), 32, cache_dir=folder / "cache")


def batches_of(blocks, process_index: int = 0, num_processes: int = 1, **collator) -> KeyedBatches:
    optimization = OptimizationArguments(global_batch_size=8, per_device_train_batch_size=2)
    collator = DataCollatorForSpanMasking(tiny_tokenizer(), seed=1, **collator)
    return KeyedBatches(blocks, collator, optimization, process_index, num_processes)


def equal(ours: list[dict], theirs: list[dict]) -> bool:
    return len(ours) == len(theirs) and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize(("process_index", "num_processes"), [(0, 1), (1, 2)])
def test_steps_made_together_are_those_made_one_by_one(blocks, process_index, num_processes):
    batches = batches_of(blocks, process_index, num_processes, pad_to_multiple_of=32)
    assert batches.steps_at_once == ROWS_AT_ONCE // 8 * num_processes
    first, last = 3, 3 + 2 * batches.steps_at_once + 1  # the last of them alone
    steps = list(batches.from_step(first, last, num_workers=0))
    assert len(steps) == last - first and all(len(step) == 4 // num_processes for step in steps)
    assert all(equal(step, batches[number]) for number, step in enumerate(steps, first))


def test_rows_that_are_padded_to_the_longest_stay_with_their_step(blocks):
    batches = batches_of(blocks)
    assert batches.steps_at_once == 1
    steps = list(batches.from_step(0, 5, num_workers=0))
    assert all(equal(step, batches[number]) for number, step in enumerate(steps))
    together = batches_of(blocks, pad_to_multiple_of=32)
    assert {batch["input_ids"].shape[1] for step in steps for batch in step} != {32}
    assert {batch["input_ids"].shape[1] for batch in together[0]} == {32}


def test_a_batch_as_large_as_what_is_masked_together_is_made_alone(blocks):
    optimization = OptimizationArguments(global_batch_size=len(blocks), per_device_train_batch_size=len(blocks))
    collator = DataCollatorForSpanMasking(tiny_tokenizer(), seed=1, pad_to_multiple_of=32)
    assert len(blocks) > ROWS_AT_ONCE / 2 and KeyedBatches(blocks, collator, optimization).steps_at_once == 1


def test_a_run_goes_on_from_any_step(blocks):
    batches = batches_of(blocks, pad_to_multiple_of=32)
    first = 10**8
    assert equal(next(batches.from_step(first, first + 1, num_workers=0)), batches[first])
    assert not equal(batches[first], batches[0])


def test_a_row_has_other_masks_in_each_pass_or_as_many_as_are_asked_for(blocks):
    optimization = OptimizationArguments(global_batch_size=len(blocks), per_device_train_batch_size=len(blocks))

    def masks(num_static_masks: int | None, pass_number: int) -> dict[tuple, tuple]:
        """By row, a step being a pass."""
        collator = DataCollatorForSpanMasking(tiny_tokenizer(), seed=1, num_static_masks=num_static_masks)
        [batch] = KeyedBatches(blocks, collator, optimization)[pass_number]
        masked = batch["labels"] != -100
        rows = torch.where(masked, batch["labels"], batch["input_ids"])
        return {tuple(row): tuple(mask) for row, mask in zip(rows.tolist(), masked.tolist(), strict=True)}

    first, second, third = (masks(None, number) for number in range(3))
    static = [masks(2, number) for number in range(3)]
    assert first.keys() == second.keys() == static[0].keys() and len(first) == len(blocks)
    for one, other in [(first, second), (first, third), (second, third), static[:2]]:
        assert sum(one[row] != other[row] for row in one) > 0.9 * len(one)
    assert static[0] == static[2]
