"""What a newcomer sees at the end of a run: how good the model is, and what it fills into masked spans."""

import torch
from transformers import AutoModelForMaskedLM, PreTrainedTokenizerBase

from eval.held_out import span_lengths


CONTEXT = 10  # tokens shown on each side


def summary(scores: dict) -> str:
    """A line on what both heads know of hidden pieces, beside guessing by frequency."""
    accuracies, losses = [f"MLM {scores['mask_token_accuracy']:.1%}"], [f"MLM {scores['mask_token_loss']:.2f}"]
    if scores["sbo_loss"] is not None:
        accuracies.append(f"SBO {scores['sbo_accuracy']:.1%}")
        losses.append(f"SBO {scores['sbo_loss']:.2f}")
    return (
        f"held-out accuracy at [MASK]: {', '.join(accuracies)}, unigram guess {scores['unigram_accuracy']:.1%}; "
        f"loss in nats: {', '.join(losses)}, unigram entropy {scores['unigram_entropy']:.2f}"
    )


def filled_spans(model_dir: str, tokenizer: PreTrainedTokenizerBase, batch: dict, count: int = 3) -> list[str]:
    """Up to `count` lines "before [span -> what AutoModelForMaskedLM fills in] after", of a collated held-out `batch`.

    One span of 2 to 4 tokens a row is hidden, everything else is visible; each of its places is filled with the best
    piece there.
    """
    model = AutoModelForMaskedLM.from_pretrained(model_dir).eval()
    input_ids = torch.where(batch["labels"] == -100, batch["input_ids"], batch["labels"])  # (B, T), as in the text
    lines = []
    for row, lengths in enumerate(span_lengths(batch["labels"] != -100)):
        places = ((lengths >= 2) & (lengths <= 4)).nonzero().flatten().tolist()
        if not places or len(lines) == count:
            continue
        start = places[0]
        end = start + int(lengths[start])  # exclusive
        of_sequence = batch["attention_mask"][row] == 1
        if "sequence_ids" in batch:  # packed
            of_sequence = batch["sequence_ids"][row] == batch["sequence_ids"][row, start]
        first, last = of_sequence.nonzero().flatten()[[0, -1]].tolist()
        hidden = input_ids[row].clone()
        hidden[start:end] = tokenizer.mask_token_id
        with torch.inference_mode():
            types = batch["token_type_ids"][row, None, first : last + 1]
            logits = model(hidden[None, first : last + 1], token_type_ids=types).logits[0]  # (T, V)
        guess = logits[start - first : end - first].argmax(-1)
        before, span, after = (
            tokenizer.decode(ids)
            for ids in (
                input_ids[row, max(first + 1, start - CONTEXT) : start],
                input_ids[row, start:end],
                input_ids[row, end : min(last, end + CONTEXT)],
            )
        )
        lines.append(f"… {before} [{span} -> {tokenizer.decode(guess)}] {after} …")
    return lines
