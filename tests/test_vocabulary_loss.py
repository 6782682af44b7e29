"""The fused cross entropy of the vocabulary heads equals torch's, in value and in every gradient."""

import pytest
import torch
from torch.nn import functional as F

from modeling_spanbert import vocabulary_loss
from modeling_spanbert.vocabulary_loss import padded_vocabulary, vocabulary_losses


NUM_HEADS, NUM_TARGETS, HIDDEN, VOCABULARY = 2, 7, 16, 50


def inputs(num_targets: int = NUM_TARGETS) -> tuple[torch.Tensor, ...]:
    """hidden (K, N, H), weight (V, H), bias (K, V), targets (K, N); two targets are ignored."""
    torch.manual_seed(0)
    hidden = torch.randn(NUM_HEADS, num_targets, HIDDEN, requires_grad=True)
    weight = torch.randn(VOCABULARY, HIDDEN, requires_grad=True)
    bias = torch.randn(NUM_HEADS, VOCABULARY, requires_grad=True)
    targets = torch.randint(VOCABULARY, (NUM_HEADS, num_targets))
    if num_targets:
        targets[0, 1] = targets[1, 5] = -100
    return hidden, weight, bias, targets


def torch_losses(hidden, weight, bias, targets) -> torch.Tensor:
    return torch.stack(
        [
            F.cross_entropy(F.linear(hidden[head], weight, bias[head]).float(), targets[head], reduction="sum")
            for head in range(NUM_HEADS)
        ]
    )


def value_and_gradients(losses, arguments, weights=(1.0, 0.3)) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Of losses that are weighed differently, as when one of them is used alone."""
    values = losses(*arguments)
    return values, torch.autograd.grad((values * torch.tensor(weights)).sum(), arguments[:3])


@pytest.mark.parametrize("block_size", [1, 3 * VOCABULARY, 2**19])
def test_losses_and_gradients_are_torchs(block_size, monkeypatch):
    monkeypatch.setattr(vocabulary_loss, "BLOCK_SIZE", block_size)
    expected, expected_gradients = value_and_gradients(torch_losses, inputs())
    values, gradients = value_and_gradients(vocabulary_losses, inputs())
    torch.testing.assert_close(values, expected)
    for gradient, of_torch in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, of_torch)


def test_without_gradients_the_losses_are_the_same():
    with torch.no_grad():
        torch.testing.assert_close(vocabulary_losses(*inputs()), torch_losses(*inputs()))


def test_under_autocast_gradients_are_those_of_torch_but_for_bf16():
    exact, exact_gradients = value_and_gradients(torch_losses, inputs())
    with torch.autocast("cpu", torch.bfloat16):
        _, expected_gradients = value_and_gradients(torch_losses, inputs())
        values, gradients = value_and_gradients(vocabulary_losses, inputs())
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, exact, rtol=0.02, atol=0)
    for gradient, of_torch, exactly in zip(gradients, expected_gradients, exact_gradients, strict=True):
        assert gradient.dtype == of_torch.dtype
        error, error_of_torch = (gradient - exactly).norm(), (of_torch - exactly).norm()
        assert error < 2 * error_of_torch


def test_scores_far_apart_give_no_infinity():
    hidden, weight, bias, targets = (tensor.detach() for tensor in inputs())
    hidden = (hidden * 1000).requires_grad_()
    expected = torch_losses(hidden, weight, bias, targets)
    losses = vocabulary_losses(hidden, weight, bias, targets)
    assert expected.min() > 1000
    torch.testing.assert_close(losses, expected)
    assert torch.autograd.grad(losses.sum(), hidden)[0].isfinite().all()


def test_without_targets_losses_and_gradients_are_zero():
    values, gradients = value_and_gradients(vocabulary_losses, inputs(num_targets=0))
    assert values.tolist() == [0, 0] and not gradients[1].any() and not gradients[2].any()


@pytest.mark.parametrize("size", [50, 64, 65])
def test_a_vocabulary_padded_for_the_product_changes_neither_losses_nor_gradients(size):
    torch.manual_seed(0)
    hidden, _, _, targets = inputs()
    weight = torch.randn(size, HIDDEN, requires_grad=True)
    bias = torch.randn(NUM_HEADS, size, requires_grad=True)
    padded_weight, padded_bias = padded_vocabulary(weight, bias)
    assert len(padded_weight) == padded_bias.shape[1] == -(-size // 64) * 64
    assert torch.equal(padded_weight[:size], weight) and torch.equal(padded_bias[:, :size], bias)

    arguments = (hidden, weight, bias, targets)
    expected, expected_gradients = value_and_gradients(torch_losses, arguments)
    for losses in (torch_losses, vocabulary_losses):
        values = losses(hidden, padded_weight, padded_bias, targets)
        gradients = torch.autograd.grad((values * torch.tensor((1.0, 0.3))).sum(), arguments[:3], retain_graph=True)
        torch.testing.assert_close(values, expected)
        torch.testing.assert_close(gradients, expected_gradients)
