"""Batches of a task: of like lengths, in an order that is a function of the step; and rows kept as arrays."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.finetuning_arguments import EpochArguments
from training.task_batches import LengthGroupedBatches, PadToLongest, Rows


def made_up(num_rows: int, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    return [
        {"input_ids": [number, *rng.integers(5, 60, rng.integers(1, 40)).tolist()], "labels": number % 3}
        for number in range(num_rows)
    ]


def batches_of(num_rows: int, batch: int = 8, rows: int = 8, seed: int = 3, **process) -> LengthGroupedBatches:
    arguments = EpochArguments(global_batch_size=batch, per_device_train_batch_size=rows)
    return LengthGroupedBatches(Rows(made_up(num_rows)), PadToLongest(0), arguments, seed, **process)


def numbers(batches: LengthGroupedBatches, steps) -> list[int]:
    return [int(ids[0]) for step in steps for micro in batches[step] for ids in micro["input_ids"]]


@settings(max_examples=30, deadline=None)
@given(num_rows=st.integers(1, 70), batch=st.sampled_from([1, 4, 8, 16]), epoch=st.integers(0, 5))
def test_each_pass_has_every_row_once(num_rows, batch, epoch):
    order = batches_of(num_rows, batch, batch).order(epoch)
    assert sorted(order.tolist()) == list(range(num_rows))


def test_passes_follow_on_each_other_in_full_batches():
    batches = batches_of(20, batch=8)
    taken = numbers(batches, range(5))  # two passes
    assert sorted(taken[:20]) == sorted(taken[20:]) == list(range(20))
    assert taken[:20] != taken[20:]
    assert taken == numbers(batches_of(20, batch=8), range(5))
    assert taken != numbers(batches_of(20, batch=8, seed=4), range(5))


def test_batches_have_rows_of_like_lengths_also_where_a_pass_is_no_whole_number_of_them():
    batches = batches_of(1001, batch=8)  # 125 batches and a row
    for steps in (range(1, 125), range(126, 249)):  # but those that two passes share
        padding = [1 - batches[step][0]["attention_mask"].float().mean() for step in steps]
        assert np.mean(padding) < 0.05
    shuffled = np.random.default_rng(0).permutation(1001)[:1000].reshape(-1, 8)
    lengths = batches.lengths[shuffled]
    assert 1 - (lengths.mean(1) / lengths.max(1)).mean() > 0.3  # what it is without grouping


def test_batches_are_shuffled_and_meet_other_company_in_each_pass():
    batches = batches_of(800, batch=8)
    first, second = ([frozenset(numbers(batches, [step])) for step in range(n, n + 100)] for n in (0, 100))
    means = [batches.lengths[list(rows)].mean() for rows in first]
    assert abs(np.corrcoef(means, range(100))[0, 1]) < 0.3  # not from short to long
    assert len(set(first) & set(second)) < 10


def test_processes_share_the_rows_of_a_step():
    whole = batches_of(50, batch=16, rows=4)
    shares = [batches_of(50, batch=16, rows=4, process_index=index, num_processes=2) for index in range(2)]
    for step in range(7):
        assert sorted(numbers(whole, [step])) == sorted(n for share in shares for n in numbers(share, [step]))
        assert [len(share[step]) for share in shares] == [2, 2]


def test_rows_come_back_as_they_were_and_are_padded_to_the_longest():
    rows = [
        {"input_ids": [5, 6, 7], "token_type_ids": [0, 0, 1], "labels": [-100, 3, -100], "start_positions": 1},
        {"input_ids": [5], "token_type_ids": [0], "labels": [300], "start_positions": 70_000},
    ]
    kept = Rows(rows)
    assert len(kept) == 2 and kept.lengths.tolist() == [3, 1]
    for row, again in zip(rows, kept, strict=True):
        assert {name: np.asarray(value).tolist() for name, value in again.items()} == row
    batch = PadToLongest(9)(list(kept))
    assert {name: values.tolist() for name, values in batch.items()} == {
        "input_ids": [[5, 6, 7], [5, 9, 9]],
        "token_type_ids": [[0, 0, 1], [0, 0, 0]],
        "labels": [[-100, 3, -100], [300, -100, -100]],
        "start_positions": [1, 70_000],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
    }
    assert all(values.dtype == torch.int64 for values in batch.values())
    assert PadToLongest(9)([{"input_ids": [1], "labels": 2.5}])["labels"].dtype == torch.float32


def test_rows_take_two_bytes_a_token_and_their_fingerprint_is_of_their_content():
    rows = made_up(100)
    for row in rows:
        row["input_ids"][0] = 30_000
    kept = Rows(rows)
    assert kept._columns["input_ids"].dtype.itemsize == 2
    assert Rows(made_up(100)).fingerprint() == Rows(made_up(100)).fingerprint()
    others = made_up(100), made_up(100), made_up(100)[::-1], made_up(99)
    others[0][50]["labels"] = 1 + others[0][50]["labels"]
    others[1][50]["input_ids"].append(5)
    assert len({Rows(each).fingerprint() for each in (made_up(100), *others)}) == 5


@pytest.mark.parametrize(
    ("fields", "num_rows", "steps", "warmup", "eval_steps"),
    [
        ({"num_train_epochs": 4}, 87_599, 10_950, 1095, 273),  # SQuAD 1.1, one window each
        ({"num_train_epochs": 0.5}, 65, 2, 0, 1),  # 32.5 rows: the last update begins what is left
        ({"num_train_epochs": 3, "warmup_ratio": 0.0}, 10, 1, 0, 1),
    ],
)
def test_passes_become_steps(fields, num_rows, steps, warmup, eval_steps):
    arguments = EpochArguments(**fields, evaluations_per_epoch=10)
    schedule = arguments.schedule(num_rows)
    assert (schedule.max_train_steps, schedule.num_warmup_steps) == (steps, warmup)
    assert arguments.eval_steps(num_rows) == eval_steps
    assert schedule.weight_decay == 0.01 and schedule.learning_rate == 2e-5
