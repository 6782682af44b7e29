"""What a pre-trained model knows: its predictions at masked tokens of held-out text.

Sums are taken first and ratios last, so that batches and processes add up exactly. Units: nats, and fractions 0 to 1.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch.nn import functional as F


LONGEST_SPAN = 10  # longer spans are counted together, as "11+"


def held_out_sums(
    model: torch.nn.Module, batches: Iterable[dict], token_counts: np.ndarray, mask_token_id: int
) -> torch.Tensor:
    """Sums (14, LONGEST_SPAN + 1), float64, over masked tokens of `batches`, by the length of their span in tokens.

    Rows, of the MLM head: masked tokens; cross entropy; right predictions. Of guessing by frequency in the training
    text (`token_counts` (V,), each + 1): right guesses of its most frequent token; cross entropy under its unigram
    distribution. Of the SBO head: tokens with a target; cross entropy; right predictions. Of next sentence prediction,
    in the first column: rows; cross entropy; right predictions. Of the MLM head again, where the model sees [MASK]:
    tokens; cross entropy; right predictions.
    """
    counts = torch.as_tensor(token_counts, dtype=torch.float64) + 1
    unigram, most_frequent = -(counts / counts.sum()).log(), int(counts.argmax())  # (V,)
    sums = torch.zeros(14, LONGEST_SPAN + 1, dtype=torch.float64)

    def add(first_row: int, length: torch.Tensor, *values: torch.Tensor):
        for row, value in enumerate(values, start=first_row):
            sums[row].index_add_(0, length.cpu(), value.double().cpu())

    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for batch in batches:
            output = model(**batch)
            masked = batch["labels"] != -100  # (B, T)
            targets = batch["labels"][masked]  # (N,)
            length = span_lengths(masked)[masked].clamp(max=LONGEST_SPAN + 1) - 1  # (N,)
            scored = _scored(output.prediction_logits, targets)
            add(0, length, *scored)
            add(3, length, targets == most_frequent, unigram[targets.cpu()])
            hidden = batch["input_ids"][masked] == mask_token_id  # (N,)
            add(11, length[hidden], *(each[hidden] for each in scored))
            if output.boundary_logits is not None:
                has_target = batch["span_position"][masked] >= 0
                add(5, length[has_target], *_scored(output.boundary_logits, targets[has_target]))
            if output.nsp_loss is not None:
                labels = batch["next_sentence_label"]
                add(8, torch.zeros_like(labels), *_scored(output.seq_relationship_logits, labels))
    model.train(was_training)
    return sums


def _scored(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each target (N,) under `logits` (N, V): 1, its cross entropy, and whether it was predicted."""
    logits = logits.float()
    return torch.ones_like(targets), F.cross_entropy(logits, targets, reduction="none"), logits.argmax(-1) == targets


def span_lengths(masked: torch.Tensor) -> torch.Tensor:
    """For each True of `masked` (B, T) the length (B, T) of its run of True, in tokens; 0 elsewhere."""
    place = torch.arange(masked.shape[1], device=masked.device).expand_as(masked)
    start = torch.where(masked, -1, place).cummax(1).values  # the last unmasked place
    end = torch.where(masked, masked.shape[1], place).flip(1).cummin(1).values.flip(1)  # the next one
    return torch.where(masked, end - start - 1, 0)


def held_out_scores(sums: torch.Tensor) -> dict:
    """The scores that `held_out_sums` add up to.

    `mlm_loss`, mean cross entropy at masked tokens, and `accuracy`, of MLM, are those of the objective. A tenth of its
    tokens the model sees as they are (Section 3.1), and learns to repeat before it learns anything else; so it is
    `mask_token_loss` and `mask_token_accuracy`, at the tokens that it sees as [MASK], that are to be compared with
    guessing: `unigram_entropy` is what the training text's unigram distribution needs at masked tokens,
    `unigram_accuracy` how often its most frequent token is right. `sbo_loss` and `sbo_accuracy` are
    over the tokens with an SBO target, None without an SBO head; `nsp_loss` and `nsp_accuracy` over the rows, None
    without two-sequence blocks (half of them are random: a guess gets 50 % right, or little more). `by_span_length`
    has a row for spans of each "length" in tokens, 1 to 10 and "11+", with the masked tokens in them and the three
    accuracies.
    """
    sums = sums.cpu()
    num, loss, right, guessed, entropy, num_sbo, sbo_loss, sbo_right, *of_rows = sums.sum(1).tolist()
    num_rows, nsp_loss, nsp_right, num_hidden, hidden_loss, hidden_right = of_rows
    num, num_hidden = max(num, 1), max(num_hidden, 1)
    by_span_length = [
        {
            "length": nth + 1 if nth < LONGEST_SPAN else f"{LONGEST_SPAN + 1}+",
            "num_masked_tokens": int(of_length[0]),
            "accuracy": of_length[2] / of_length[0],
            "mask_token_accuracy": of_length[13] / of_length[11] if of_length[11] else None,
            "sbo_accuracy": of_length[7] / of_length[5] if of_length[5] else None,
        }
        for nth, of_length in enumerate(sums.T.tolist())
        if of_length[0]
    ]
    return {
        "num_masked_tokens": int(sums[0].sum()),
        "mlm_loss": loss / num,
        "unigram_entropy": entropy / num,
        "accuracy": right / num,
        "mask_token_loss": hidden_loss / num_hidden,
        "mask_token_accuracy": hidden_right / num_hidden,
        "unigram_accuracy": guessed / num,
        "sbo_loss": sbo_loss / num_sbo if num_sbo else None,
        "sbo_accuracy": sbo_right / num_sbo if num_sbo else None,
        "nsp_loss": nsp_loss / num_rows if num_rows else None,
        "nsp_accuracy": nsp_right / num_rows if num_rows else None,
        "by_span_length": by_span_length,
    }
