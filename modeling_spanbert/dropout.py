"""Dropout that costs little on a CPU, where torch's own takes an eighth of a training step."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class SpanBertDropout(nn.Dropout):
    """`dropout` as a module."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return dropout(inputs, self.p, self.training)


def dropout(inputs: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """`inputs` with a share of `p` set to 0 and the others scaled by 1 / (1 - p), in training; else `inputs`.

    On a CPU p is rounded to a multiple of 2^-16 and the scale to match: 16 random bits an element, where torch draws
    a number for each. With the gradient it takes a third of the time; `torch.manual_seed` keys it as it keys torch's.
    On other devices, in compiled and in exported graphs it is torch's.
    """
    num_dropped = number_dropped(inputs, p, training)
    if num_dropped is None:
        return F.dropout(inputs, p, training)
    return DropoutOf16Bits.apply(inputs, num_dropped)


def dropout_product(weights: torch.Tensor, value: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """`dropout(weights)` (…, T, T) @ `value` (…, T, d), without keeping the former for the gradient."""
    num_dropped = number_dropped(weights, p, training)
    if num_dropped is None:
        return torch.matmul(F.dropout(weights, p, training), value)
    return ProductAfterDropoutOf16Bits.apply(weights, value, num_dropped)


def number_dropped(inputs: torch.Tensor, p: float, training: bool) -> int | None:
    """Of the 2^16 values of 16 bits; None where torch's dropout is used."""
    num_dropped = round(p * 2**16)
    if not training or not 0 < num_dropped < 2**16 or inputs.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    return num_dropped


def draw_kept(inputs: torch.Tensor, num_dropped: int) -> torch.Tensor:
    """1 for what stays of `inputs`, 0 for a share of `num_dropped` / 2^16, as the 16 bits that were drawn.

    Comparing in place and converting later are vectorised; booleans are made and multiplied one by one. The bits are
    numpy's, keyed by torch's generator, whose own take twice as long.
    """
    key = torch.empty((), dtype=torch.int64).random_().item()
    draws = np.random.Generator(np.random.SFC64(key)).integers(
        -(2**63), 2**63 - 1, size=-(-inputs.numel() // 4), endpoint=True
    )
    draws = draws.view(np.int16)[: inputs.numel()].reshape(inputs.shape)
    return torch.from_numpy(draws).ge_(num_dropped - 2**15)


class DropoutOf16Bits(torch.autograd.Function):
    """`dropout` of `num_dropped` / 2^16 of the elements."""

    @staticmethod
    def forward(ctx, inputs: torch.Tensor, num_dropped: int) -> torch.Tensor:
        kept = draw_kept(inputs, num_dropped)
        ctx.save_for_backward(kept)
        ctx.scale = 2**16 / (2**16 - num_dropped)
        return (inputs * kept.to(inputs.dtype)).mul_(ctx.scale)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (kept,) = ctx.saved_tensors
        return gradient * kept.to(gradient.dtype) * ctx.scale, None


class ProductAfterDropoutOf16Bits(torch.autograd.Function):
    """`dropout_product`; what is left of the weights is computed again for the gradient."""

    @staticmethod
    def forward(ctx, weights: torch.Tensor, value: torch.Tensor, num_dropped: int) -> torch.Tensor:
        kept = draw_kept(weights, num_dropped)
        ctx.save_for_backward(weights, value, kept)
        ctx.scale = 2**16 / (2**16 - num_dropped)
        return torch.matmul(weights * kept.to(weights.dtype), value).mul_(ctx.scale)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        weights, value, kept = ctx.saved_tensors
        kept = kept.to(weights.dtype)
        gradient = gradient * ctx.scale
        of_weights = torch.matmul(gradient, value.transpose(-1, -2)).mul_(kept)
        return of_weights, torch.matmul((weights * kept).transpose(-1, -2), gradient), None
