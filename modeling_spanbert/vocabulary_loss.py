"""Cross entropy over the vocabulary for several heads that share one table of output embeddings.

Shapes: K heads, N predicted tokens, H hidden size, V vocabulary.
"""

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


IGNORED = -100
VOCABULARY_MULTIPLE = 64
BLOCK_SIZE = 2**19  # logits that are worked on at a time: 2 MB in fp32, which stay in a core's cache


def vocabulary_losses(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """For each head the sum (K,), in fp32, of the cross entropy of its logits `hidden` @ `weight`.T + `bias`.

    `hidden` (K, N, H), `weight` (V, H), `bias` (K, V), `targets` (K, N) with -100 where nothing is predicted. The
    heads share one product in each direction.
    """
    if hidden.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return VocabularyCrossEntropy.apply(hidden, weight, bias, targets)
    if hidden.device.type == "cuda":
        weight, bias = padded_vocabulary(weight, bias)
    logits = F.linear(hidden, weight).float() + bias[:, None]  # (K, N, V)
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=IGNORED)
    return losses.view(targets.shape).sum(1)


def padded_vocabulary(weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`weight` (V, H) and `bias` (K, V) with V rounded up to a multiple of 64, the tile of a GPU's product.

    The entries that are added have probability 0, and no gradient.
    """
    missing = -len(weight) % VOCABULARY_MULTIPLE
    return F.pad(weight, (0, 0, 0, missing)), F.pad(bias, (0, missing), value=-torch.inf)


class VocabularyCrossEntropy(torch.autograd.Function):
    """`vocabulary_losses` with one copy of the logits, which their gradients replace, a block of rows at a time.

    torch builds three to five such copies, each wider than a CPU's caches: a tenth of the time of a small model's
    training step. The products are in autocast's dtype, as torch's would be; what is
    between is in fp32.
    """

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets) -> torch.Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        rows, table = hidden.flatten(0, 1).to(dtype), weight.to(dtype)  # (K N, H), (V, H)
        with torch.autocast(device, enabled=False):
            logits = rows @ table.T  # (K N, V)
        losses = torch.zeros(len(hidden), device=hidden.device)
        bias_gradient = torch.zeros_like(bias, dtype=torch.float32)
        num_rows = max(1, BLOCK_SIZE // len(weight))
        for head, (of_head, targets_of_head) in enumerate(
            zip(logits.view(*targets.shape, len(weight)), targets, strict=True)
        ):
            for block, block_targets in zip(of_head.split(num_rows), targets_of_head.split(num_rows), strict=True):
                known = (block_targets != IGNORED).float()[:, None]  # (rows, 1)
                target = block_targets.clamp(min=0)[:, None]
                scores = block.float().add_(bias[head])  # (rows, V)
                probabilities = scores.softmax(-1)
                # The largest one does not underflow: log Z follows from it, without a pass of logarithms.
                log_normalizer = scores.amax(-1, keepdim=True) - probabilities.amax(-1, keepdim=True).log()
                losses[head] += ((log_normalizer - scores.gather(1, target)) * known).sum()
                gradient = probabilities.scatter_add_(1, target, -torch.ones_like(known)).mul_(known)
                bias_gradient[head] += gradient.sum(0)
                block.copy_(gradient)
        ctx.save_for_backward(logits, rows, table, bias_gradient)
        ctx.dtypes = hidden.dtype, weight.dtype, bias.dtype
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx, of_losses: torch.Tensor) -> tuple:
        gradients, rows, table, bias_gradient = ctx.saved_tensors  # of the sums of CE, (K N, V); rows (K N, H)
        num_heads, num_targets = len(of_losses), len(rows) // len(of_losses)
        scale = of_losses.repeat_interleave(num_targets)[:, None]  # (K N, 1)
        of_hidden = (gradients @ table).mul(scale).view(num_heads, num_targets, rows.shape[1])
        of_weight = gradients.T @ (rows * scale).to(rows.dtype)
        of_bias = bias_gradient * of_losses[:, None]
        of_inputs = zip((of_hidden, of_weight, of_bias), ctx.dtypes, strict=True)
        return *(gradient.to(dtype) for gradient, dtype in of_inputs), None
