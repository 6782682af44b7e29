"""Dropout that costs little on a CPU, where torch's own takes an eighth of a training step."""

import torch
from torch import nn
from torch.nn import functional as F


class SpanBertDropout(nn.Dropout):
    """`dropout` as a module."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return dropout(inputs, self.p, self.training)


def dropout(inputs: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """`inputs` with a share of `p` set to 0 and the others scaled by 1 / (1 - p), in training; else `inputs`.

    On a CPU p is rounded to a multiple of 2^-16 and the scale to match: 16 random bits an element, from torch's own
    generator, where torch draws a number for each; five times as fast. On other devices, in compiled and in exported
    graphs it is torch's.
    """
    num_dropped = round(p * 2**16)  # of the values of 16 bits
    if not training or not 0 < num_dropped < 2**16 or inputs.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(inputs, p, training)
    return DropoutOf16Bits.apply(inputs, num_dropped)


class DropoutOf16Bits(torch.autograd.Function):
    """Zeroes `num_dropped` / 2^16 of the elements.

    The mask is kept as the 16 bits it was drawn as, 0 or 1: comparing in place and converting are vectorised, while
    booleans are made and multiplied one by one.
    """

    @staticmethod
    def forward(ctx, inputs: torch.Tensor, num_dropped: int) -> torch.Tensor:
        draws = torch.empty(-(-inputs.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = draws.view(torch.int16)[: inputs.numel()].view(inputs.shape).ge_(num_dropped - 2**15)
        ctx.save_for_backward(kept)
        ctx.scale = 2**16 / (2**16 - num_dropped)
        return (inputs * kept.to(inputs.dtype)).mul_(ctx.scale)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (kept,) = ctx.saved_tensors
        return gradient * kept.to(gradient.dtype) * ctx.scale, None
