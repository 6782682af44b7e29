"""From examples to one masked batch: which tokens are hidden, by what, and from where the boundary head predicts them.

Shapes: B rows, T tokens a row; in the batch, M masked tokens in S spans.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from .masking import MASKING_SCHEMES, GeometricSpanMasking
from .masking.scheme import MaskingScheme, check_integer
from .masking.word_starts import required_special_ids, word_start_table


IGNORED = -100  # the label of a token that is not predicted
MASKED, RANDOM = 0.8, 0.1  # shares of spans; the rest keeps its tokens


@dataclass
class DataCollatorForSpanMasking:
    """Masks the examples and records, for each masked token, what the span boundary objective needs.

    Takes B examples: dicts of `input_ids` (tokens with their specials, a 1-d array or list) and optionally of
    `token_type_ids` and `sequence_ids` (1, 2, … per packed sequence) of the same length, and of the integers
    `next_sentence_label`, `sample_number`, `num_samples`. The schemes `named_entities` and `noun_phrases` also need
    `entity_spans` or `noun_phrase_spans`: first and last places (K, 2), both inclusive, of K >= 0 spans. Returns int64
    tensors (B, T), T being the longest row, rounded up to `pad_to_multiple_of`:

    - `input_ids`: 80 % of spans as [MASK], 10 % as random tokens, 10 % as they are; one draw for a whole span, as in
      the paper (BERT, and so the scheme `subwords`, draws for each token);
    - `attention_mask`, `token_type_ids` (0 where not given);
    - `labels`: the original id where masked, -100 elsewhere;
    - `left_boundary`, `right_boundary`, `span_position`: see `span_boundaries`;
    - `sequence_ids`, `position_ids` (restarting at 0 in each sequence, 0 for padding), where examples have the former;
    - `next_sentence_label` (B,), where examples have it.

    With a `seed`, the mask of an example with a `sample_number` n is a function of (`seed`, n) alone, whatever the
    other examples, the padding, the workers, the process. Without either, masks come from fresh entropy, in each
    worker its own.

    With `num_static_masks` k, an example has only k masks, as in Google's BERT: pass n // N over the N =
    `num_samples` examples repeats the masks of pass (n // N) % k.

    Args:
        tokenizer: a fast tokenizer with [MASK], [PAD], [CLS] and [SEP]; its own marker tells where words start.
        masking_scheme: a name in `MASKING_SCHEMES`.
        mask_ratio, p, max_span_length, complete_words: options of the schemes (Section 3.1: 0.15, 0.2, 10, True).
        max_span_positions: tokens further into a span than this have no span boundary target.
        random_token_counts: how often each id occurs in the corpus (V,). Random tokens follow it, as in the released
            code; without, they are uniform over the vocabulary. Specials are never drawn.

    Raises ValueError, with one line, for an option or an example that cannot be right.
    """

    tokenizer: PreTrainedTokenizerBase
    masking_scheme: str = "geometric_spans"
    mask_ratio: float = 0.15
    p: float = 0.2
    max_span_length: int = 10
    max_span_positions: int = 20
    complete_words: bool = True
    random_token_counts: np.ndarray | None = None
    seed: int | None = None
    pad_to_multiple_of: int | None = None
    num_static_masks: int | None = None

    def __post_init__(self):
        check_integer("max_span_positions", self.max_span_positions, minimum=1)
        if self.pad_to_multiple_of is not None:
            check_integer("pad_to_multiple_of", self.pad_to_multiple_of, minimum=1)
        if self.num_static_masks is not None:
            check_integer("num_static_masks", self.num_static_masks, minimum=1)
            if self.seed is None:
                raise ValueError(
                    f"num_static_masks={self.num_static_masks} needs a seed to repeat masks; got seed=None"
                )
        if self.seed is not None:
            check_integer("seed", self.seed, minimum=0)

        scheme = MASKING_SCHEMES[self.masking_scheme]
        options = {field.name: getattr(self, field.name) for field in fields(GeometricSpanMasking)}
        GeometricSpanMasking(**options)  # checks them all, also those that this scheme does not use
        self._scheme = scheme(**{field.name: getattr(self, field.name) for field in fields(scheme)})
        check_span_length(self._scheme, self.tokenizer.model_max_length)

        special_ids = required_special_ids(self.tokenizer)
        vocabulary = self.tokenizer.get_vocab()
        self._vocab_size = max(vocabulary.values()) + 1
        self._is_special = np.zeros(self._vocab_size, dtype=bool)
        self._is_special[special_ids] = True
        self._is_word_start = word_start_table(self.tokenizer)
        self._random_tokens = self._cumulative_unigrams(list(vocabulary.values()))

    def __call__(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        self._check_examples(examples)
        input_ids = self._pad(examples, "input_ids", fill=self.tokenizer.pad_token_id)
        self._check_ids(input_ids)

        rngs = self._rngs(examples)
        maskable = ~self._is_special.take(input_ids)
        annotated_spans = self._annotated_spans(examples, maskable)
        masked = self._scheme(self._is_word_start.take(input_ids), maskable, rngs, annotated_spans)
        left_boundary, right_boundary, span_position = span_boundaries(masked, ~maskable, self.max_span_positions)
        if not self._scheme.whole_spans:
            span_position.fill(-1)
        attention_mask = (input_ids != self.tokenizer.pad_token_id).astype(np.int64)
        right_boundary[right_boundary >= attention_mask.sum(1, keepdims=True)] = 0  # padding is no boundary

        batch = {
            "input_ids": self._replace(input_ids, masked, rngs),
            "attention_mask": attention_mask,
            "labels": np.where(masked, input_ids, IGNORED),
            "left_boundary": left_boundary,
            "right_boundary": right_boundary,
            "span_position": span_position,
        }
        if "token_type_ids" in examples[0]:
            batch["token_type_ids"] = self._pad(examples, "token_type_ids", fill=0)
        else:
            batch["token_type_ids"] = np.zeros_like(input_ids)
        if "sequence_ids" in examples[0]:
            batch["sequence_ids"] = self._pad(examples, "sequence_ids", fill=0)
            batch["position_ids"] = positions(batch["sequence_ids"])
        if "next_sentence_label" in examples[0]:
            batch["next_sentence_label"] = np.array(
                [int(value_of(examples, row, "next_sentence_label")) for row in range(len(examples))]
            )
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def _annotated_spans(self, examples: list[dict], maskable: np.ndarray) -> list[np.ndarray] | None:
        """What the scheme's `annotation` names: first and last places (K, 2) in each row."""
        name = self._scheme.annotation
        if name is None:
            return None
        annotated_spans = []
        for row, example in enumerate(examples):
            if name not in example:
                raise ValueError(
                    f"example {row} has no {name!r}, which masking_scheme={self.masking_scheme!r} masks: "
                    "give first and last places (K, 2), or an empty list where there is none"
                )
            try:
                spans = np.asarray(example[name])
            except ValueError:  # lists of several lengths
                spans = np.array(0)
            spans = spans.reshape(0, 2).astype(np.intp) if not spans.size else spans
            inside = spans.ndim == 2 and spans.shape[1] == 2 and spans.dtype.kind in "iu"
            inside = inside and spans.min(initial=0) >= 0 and spans.max(initial=0) < len(example["input_ids"])
            if not inside or (spans[:, 0] > spans[:, 1]).any() or not maskable[row, spans].all():
                raise ValueError(
                    f"{name} of example {row} must be first and last places (K, 2), both inclusive, among its "
                    f"{len(example['input_ids'])} tokens and not special; got "
                    f"{' '.join(repr(example[name]).split()):.200}"
                )
            annotated_spans.append(spans.astype(np.intp))
        return annotated_spans

    def _replace(self, input_ids: np.ndarray, masked: np.ndarray, rngs: list[np.random.Generator]) -> np.ndarray:
        """The ids that the model sees (B, T): 80/10/10, one draw a span (Section 3.1) or, for `subwords`, a token."""
        places, _, sizes = runs(masked)
        draws = [rng.random((count, 2)) for rng, count in zip(rngs, masked.sum(1).tolist(), strict=True)]
        kind, token = np.concatenate(draws).T  # (M,) each
        if self._scheme.whole_spans:
            kind = np.repeat(kind[sizes.cumsum() - sizes], sizes)  # that of the span's first token

        shown = input_ids.copy()
        shown.ravel()[places[kind < MASKED]] = self.tokenizer.mask_token_id
        random = (kind >= MASKED) & (kind < MASKED + RANDOM)
        shown.ravel()[places[random]] = np.searchsorted(self._random_tokens, token[random], side="right")
        return shown

    def _rngs(self, examples: list[dict]) -> list[np.random.Generator]:
        """A generator a row: keyed (`seed`, sample number), or one of fresh entropy for all rows that cannot be."""
        fresh = None
        rngs = []
        for row, example in enumerate(examples):
            if self.seed is None or (self.num_static_masks is None and "sample_number" not in example):
                fresh = fresh or np.random.default_rng()
                rngs.append(fresh)
            else:
                key = self._sample_key(row, example)
                rngs.append(np.random.Generator(np.random.Philox(Key((self.seed, key)))))
        return rngs

    def _sample_key(self, row: int, example: dict) -> int:
        """What keys a row's generator: its sample number; with static masks, that of the pass that it repeats."""
        if self.num_static_masks is None:
            check_integer(f"sample_number of example {row}", example["sample_number"], minimum=0)
            return int(example["sample_number"])
        for name, minimum in (("sample_number", 0), ("num_samples", 1)):
            if name not in example:
                raise ValueError(
                    f"example {row} has no {name!r}, which num_static_masks={self.num_static_masks} needs: "
                    "give each example its 'sample_number' and 'num_samples', the number of examples in a pass"
                )
            check_integer(f"{name} of example {row}", example[name], minimum)
        pass_number, index = divmod(int(example["sample_number"]), int(example["num_samples"]))
        return pass_number % self.num_static_masks * int(example["num_samples"]) + index

    def _pad(self, examples: list[dict], name: str, fill: int) -> np.ndarray:
        """One field of all examples as (B, T) int64."""
        longest = max(len(example["input_ids"]) for example in examples)
        multiple = self.pad_to_multiple_of or 1
        padded = np.full((len(examples), -(-longest // multiple) * multiple), fill, dtype=np.int64)
        for row, example in enumerate(examples):
            tokens = np.asarray(value_of(examples, row, name))
            if tokens.ndim != 1 or not tokens.size or tokens.dtype.kind not in "iu":
                raise ValueError(
                    f"{name} of example {row} has shape {tokens.shape} and type {tokens.dtype}; "
                    "expected a list or 1-d array of one integer or more"
                )
            if len(tokens) != len(example["input_ids"]):
                raise ValueError(
                    f"{name} of example {row} has {len(tokens)} entries, its input_ids {len(example['input_ids'])}"
                )
            padded[row, : len(tokens)] = tokens
        return padded

    def _check_examples(self, examples: list[dict]) -> None:
        if len(examples) == 0:
            raise ValueError("a batch needs at least one example; got 0")
        for row, example in enumerate(examples):
            if not hasattr(example, "keys") or "input_ids" not in example:
                found = sorted(example.keys()) if hasattr(example, "keys") else type(example).__name__
                raise ValueError(f"example {row} must be a dict with 'input_ids'; found {found}")
            ids = example["input_ids"]
            if not hasattr(ids, "__len__") or getattr(ids, "ndim", 1) == 0:
                raise ValueError(f"input_ids of example {row} has shape (); expected a list or 1-d array of integers")

    def _check_ids(self, input_ids: np.ndarray) -> None:
        if input_ids.min() < 0 or input_ids.max() >= self._vocab_size:
            row, place = np.argwhere((input_ids < 0) | (input_ids >= self._vocab_size))[0]
            raise ValueError(
                f"input_ids of example {row} hold {input_ids[row, place]} at place {place}; "
                f"the tokenizer's ids are 0 to {self._vocab_size - 1}: was the text tokenized with another tokenizer?"
            )

    def _cumulative_unigrams(self, ids: list[int]) -> np.ndarray:
        """The distribution of random tokens, summed up (V,): `searchsorted` in it never finds a special token."""
        counts = np.zeros(self._vocab_size)
        if self.random_token_counts is None:
            counts[ids] = 1
        else:
            given = np.asarray(self.random_token_counts)
            if given.shape != counts.shape:
                raise ValueError(
                    f"random_token_counts has shape {given.shape}; expected ({len(counts)},), a count for each id"
                )
            if given.dtype.kind not in "iuf" or not np.isfinite(given).all() or given.min() < 0:
                raise ValueError("random_token_counts must be numbers >= 0; found a negative or non-finite one")
            counts += given
        counts[self.tokenizer.all_special_ids] = 0
        if not counts.any():
            raise ValueError("random_token_counts is 0 for every token that is not special; expected corpus counts")
        cumulative = counts.cumsum()
        return cumulative / cumulative[-1]


class Key(np.random.bit_generator.ISeedSequence):
    """Gives Philox its key as it is: `Philox(Key(k))` equals `Philox(key=k)`, at a quarter of its cost."""

    def __init__(self, key: tuple[int, int]):
        self.key = np.array(key, dtype=np.uint64)

    def generate_state(self, n_words: int, dtype: type = np.uint32) -> np.ndarray:
        assert n_words == 2 and dtype == np.uint64, "Philox asks for two 64-bit words"
        return self.key


def value_of(examples: list[dict], row: int, name: str):
    """What an example has under a name that the first example has."""
    if name not in examples[row]:
        raise ValueError(f"example {row} has no {name!r}; every example of a batch needs it, or none")
    return examples[row][name]


def runs(masked: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs of True in the rows of `masked` (B, T): flat places of their tokens (M,) and starts (S,), sizes (S,)."""
    starts, ends = masked.copy(), masked.copy()
    starts[:, 1:] &= ~masked[:, :-1]
    ends[:, :-1] &= ~masked[:, 1:]
    start = np.flatnonzero(starts)
    return np.flatnonzero(masked), start, np.flatnonzero(ends) - start + 1


def span_boundaries(
    masked: np.ndarray, special: np.ndarray, max_span_positions: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`left_boundary`, `right_boundary` and `span_position` (B, T) of a mask (B, T), whose spans are its runs of True.

    For a token i of a span (s, e): s-1, e+1 and i-s. `span_position` is -1 where there is no boundary target: outside
    spans, in a span that touches one of the `special` tokens (B, T) or an end of its row, and from the token numbered
    `max_span_positions` on, all as in the released code. A boundary that does not exist is 0, as outside spans.
    """
    row_length = masked.shape[1]
    places, starts, sizes = runs(masked)
    before, after = starts % row_length - 1, (starts + sizes - 1) % row_length + 1  # (S,)
    exists = (before >= 0) & (after < row_length)
    special = special.ravel()
    visible = exists & ~special[starts - 1] & ~special[(starts + sizes) % special.size]
    after[after == row_length] = 0

    position = np.arange(len(places)) - np.repeat(sizes.cumsum() - sizes, sizes)  # (M,)
    position[(position >= max_span_positions) | ~np.repeat(visible, sizes)] = -1
    left_boundary, right_boundary = np.zeros((2, *masked.shape), dtype=np.int64)
    left_boundary.ravel()[places] = np.repeat(np.maximum(before, 0), sizes)
    right_boundary.ravel()[places] = np.repeat(after, sizes)
    span_position = np.full(masked.shape, -1, dtype=np.int64)
    span_position.ravel()[places] = position
    return left_boundary, right_boundary, span_position


def positions(sequence_ids: np.ndarray) -> np.ndarray:
    """Each token's place in its own sequence (B, T), 0 for padding, from `sequence_ids` (B, T), 0 = padding."""
    place = np.broadcast_to(np.arange(sequence_ids.shape[1]), sequence_ids.shape)
    goes_on = np.zeros(sequence_ids.shape, dtype=bool)
    goes_on[:, 1:] = sequence_ids[:, 1:] == sequence_ids[:, :-1]
    start = np.maximum.accumulate(np.where(goes_on, 0, place), axis=1)
    return np.where(sequence_ids > 0, place - start, 0)


def check_span_length(scheme: MaskingScheme, max_seq_length: int) -> None:
    """Raises ValueError where a span is, on average, longer than a sequence of `max_seq_length` tokens."""
    if scheme.mean_span_length > max_seq_length:
        raise ValueError(
            f"p={scheme.p} and max_span_length={scheme.max_span_length} give spans of {scheme.mean_span_length:.1f} "
            f"words on average, longer than a sequence of {max_seq_length} tokens; raise p or lower max_span_length"
        )
