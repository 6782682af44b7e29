"""Held-out scores, by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from card_facts import RESULTS

from eval.held_out import held_out_scores, held_out_sums, span_lengths
from training.summary import summary


MASK = 9


def test_each_masked_token_knows_the_length_of_its_span():
    masked = torch.tensor([[0, 1, 1, 0, 1, 0, 1, 1, 1], [0] * 9, [1] * 9]).bool()
    assert span_lengths(masked).tolist() == [[0, 2, 2, 0, 1, 0, 3, 3, 3], [0] * 9, [9] * 9]


class Model(torch.nn.Module):
    """Gives fixed logits for the masked tokens of each batch."""

    def __init__(self, *outputs):
        super().__init__()
        self.outputs = iter(outputs)

    def forward(self, **batch):
        assert not self.training
        predictions, boundaries, *nsp = next(self.outputs)
        return SimpleNamespace(
            prediction_logits=predictions,
            boundary_logits=boundaries,
            nsp_loss=torch.zeros(()) if nsp else None,
            seq_relationship_logits=nsp[0] if nsp else None,
        )


def certain(*ids: int) -> torch.Tensor:
    """Logits (N, 4) that give probability 1/2 to each id and 1/6 to each other one."""
    return torch.eye(4)[list(ids)] * math.log(3)


def test_scores_against_counts_by_hand():
    first = {
        "input_ids": torch.tensor([[0, 9, 9, 0, 3, 0]]),  # the span of 1 is seen
        "labels": torch.tensor([[-100, 1, 2, -100, 3, -100]]),  # spans of 2 and of 1
        "span_position": torch.tensor([[-1, 0, 1, -1, -1, -1]]),
    }
    second = {
        "input_ids": torch.tensor([[0, *[9] * 6, *[2] * 6, 0]]),  # half of it hidden
        "labels": torch.tensor([[-100, *[1] * 12, -100]]),  # one of 12
        "span_position": torch.tensor([[-1, *range(12), -1]]),
    }
    model = Model((certain(1, 0, 3), certain(1, 2)), (certain(*[1] * 12), certain(*[0] * 12))).train()
    counts = np.array([0, 5, 1, 2])  # + 1 each: 1, 6, 2, 3 of 12; id 1 is the most frequent
    scores = held_out_scores(held_out_sums(model, [first, second], counts, MASK))

    assert model.training
    assert scores["num_masked_tokens"] == 15
    assert scores["accuracy"] == pytest.approx(14 / 15) and scores["unigram_accuracy"] == pytest.approx(13 / 15)
    assert scores["mlm_loss"] == pytest.approx((14 * math.log(2) + math.log(6)) / 15)
    assert scores["unigram_entropy"] == pytest.approx((13 * math.log(2) + math.log(6) + math.log(4)) / 15)
    assert scores["mask_token_accuracy"] == pytest.approx(7 / 8)
    assert scores["mask_token_loss"] == pytest.approx((7 * math.log(2) + math.log(6)) / 8)
    assert scores["sbo_accuracy"] == pytest.approx(2 / 14)
    assert scores["sbo_loss"] == pytest.approx((2 * math.log(2) + 12 * math.log(6)) / 14)
    assert scores["by_span_length"] == [
        {"length": 1, "num_masked_tokens": 1, "accuracy": 1, "mask_token_accuracy": None, "sbo_accuracy": None},
        {"length": 2, "num_masked_tokens": 2, "accuracy": 0.5, "mask_token_accuracy": 0.5, "sbo_accuracy": 1},
        {"length": "11+", "num_masked_tokens": 12, "accuracy": 1, "mask_token_accuracy": 1, "sbo_accuracy": 0},
    ]


def test_without_a_boundary_head_its_scores_are_none_and_without_masks_nothing_divides_by_zero():
    labels = torch.tensor([[-100, 1, -100]])
    batch = {"input_ids": labels, "labels": labels, "span_position": torch.full((1, 3), -1)}
    scores = held_out_scores(held_out_sums(Model((certain(1), None)), [batch], np.ones(4), MASK))
    assert scores["sbo_loss"] is None and scores["sbo_accuracy"] is None and scores["accuracy"] == 1
    assert scores["nsp_loss"] is None and scores["nsp_accuracy"] is None
    assert held_out_scores(held_out_sums(Model(), [], np.ones(4), MASK))["accuracy"] == 0


def test_next_sentence_prediction_is_scored_by_row():
    batch = {
        "input_ids": torch.full((3, 2), MASK),
        "labels": torch.tensor([[-100, 1], [-100, 2], [-100, -100]]),
        "span_position": torch.full((3, 2), -1),
        "next_sentence_label": torch.tensor([1, 0, 0]),
    }
    logits = torch.eye(2)[[1, 1, 0]] * math.log(3)  # 3/4 for what is said
    scores = held_out_scores(held_out_sums(Model((certain(1, 2), None, logits)), [batch], np.ones(4), MASK))
    assert scores["nsp_accuracy"] == pytest.approx(2 / 3)
    assert scores["nsp_loss"] == pytest.approx((2 * math.log(4 / 3) + math.log(4)) / 3)
    assert scores["num_masked_tokens"] == 2 and scores["by_span_length"][0]["num_masked_tokens"] == 2


def test_sums_add_up_over_batches_and_processes():
    generator = torch.Generator().manual_seed(0)
    batches, outputs = [], []
    for _ in range(4):
        labels = torch.randint(0, 4, (2, 9), generator=generator)
        labels[torch.rand(2, 9, generator=generator) < 0.6] = -100
        input_ids = torch.where(torch.rand(2, 9, generator=generator) < 0.5, MASK, labels)
        batches.append({"input_ids": input_ids, "labels": labels, "span_position": torch.where(labels == -100, -1, 0)})
        count = int((labels != -100).sum())
        outputs.append(tuple(torch.randn(count, 4, generator=generator) for _ in range(2)))
    counts = np.arange(4)
    whole = held_out_sums(Model(*outputs), batches, counts, MASK)
    parts = [held_out_sums(Model(*outputs[n::2]), batches[n::2], counts, MASK) for n in range(2)]
    assert torch.allclose(whole, parts[0] + parts[1])


def test_the_last_line_tells_of_the_heads_that_there_are():
    scores = RESULTS["held_out"]
    with_sbo = "MLM 19.9%, SBO 12.3%, unigram guess 5.1%; loss in nats: MLM 4.99, SBO 5.43, unigram entropy 6.70"
    assert summary(scores) == f"held-out accuracy at [MASK]: {with_sbo}"
    without = "MLM 19.9%, unigram guess 5.1%; loss in nats: MLM 4.99, unigram entropy 6.70"
    assert summary(scores | {"sbo_loss": None, "sbo_accuracy": None}) == f"held-out accuracy at [MASK]: {without}"
