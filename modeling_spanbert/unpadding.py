"""Encoding without padding: the real tokens of a batch laid end to end, each row attending to itself alone."""

from typing import NamedTuple

import torch


WORTH_IT = 0.9  # share of real tokens: above it, attention in one piece saves more than the padding costs


class RealTokens(NamedTuple):
    """Where the N real tokens of B rows of T are, and how many each row has.

    `places` (N,): among all B T tokens, in row-major order; `lengths`: of the rows that have any.
    """

    places: torch.Tensor
    lengths: list[int]
    shape: tuple[int, int]

    def pick(self, tensor: torch.Tensor) -> torch.Tensor:
        """(B, T, …) -> (1, N, …)."""
        return tensor.flatten(0, 1).index_select(0, self.places)[None]

    def put_back(self, tensor: torch.Tensor) -> torch.Tensor:
        """(1, N, …) -> (B, T, …), with 0 at padding."""
        padded = tensor.new_zeros(self.shape[0] * self.shape[1], *tensor.shape[2:])
        return padded.index_copy(0, self.places, tensor[0]).unflatten(0, self.shape)

    def attention_arguments(self, implementation: str) -> dict:
        """What tells the attention function `implementation` where a row ends."""
        if "flash" not in implementation:
            return {"sequence_lengths": self.lengths}
        offsets = torch.tensor([0, *self.lengths], device=self.places.device).cumsum(0, dtype=torch.int32)
        longest = max(self.lengths)
        return {
            "cu_seq_lens_q": offsets,
            "cu_seq_lens_k": offsets,
            "max_length_q": longest,
            "max_length_k": longest,
        }


def real_tokens(attention_mask: torch.Tensor | None, shape: tuple[int, int], implementation: str) -> RealTokens | None:
    """Those where `attention_mask` is not 0, or None where the batch of `shape` (B, T) is better encoded as it is.

    That is where little of it is padding, all of it, or the mask is not (B, T); where a graph is recorded, whose
    shapes must not follow the values; and on accelerators without flash attention, where a call a row costs more.
    """
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if attention_mask is None or attention_mask.shape != shape or recorded:
        return None
    if attention_mask.device.type != "cpu" and "flash" not in implementation:
        return None
    real = attention_mask != 0
    lengths = [length for length in real.sum(1).tolist() if length]
    if not lengths or sum(lengths) > WORTH_IT * attention_mask.numel():
        return None
    return RealTokens(real.flatten().nonzero().flatten(), lengths, tuple(attention_mask.shape))
