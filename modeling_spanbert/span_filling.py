"""Filling blanks: the words that may stand in a blank of a text, by both of SpanBERT's objectives together.

    fill = SpanFiller.from_pretrained("your-org/spanbert-base-cased")
    fill("The [BLANK] of the United States spoke.", num_words=2)  # a blank of two words
    fill("The [MASK] [MASK] of the United States spoke.")  # of two pieces of the vocabulary, as in fill-mask
    fill("The [BLANK] of the United States spoke.")  # of any length up to 10 pieces

A blank of L pieces is L [MASK]s to the model. They are filled from left to right: a piece is predicted and put in its
place, and the model is run again. For the first of the masks s to e that are left there are two distributions: that of
masked language modeling, from the vector of the mask itself, and that of the span boundary objective (Section 3.2),
from the vectors of x_{s-1}, which is the text or the piece before, and x_{e+1}. Their weighted product is taken:

    p(x_s) ~ p_mlm(x_s)^(1 - w) * p_sbo(x_s)^w

w being `sbo_weight`, and x_s any piece that words are made of: no special token, and none that the vocabulary keeps
unused. The span boundary objective has no targets in a span that touches [CLS] or [SEP]. So where the masks that are
left touch one of the two ends of the text, masked language modeling is alone, as with w = 0.

The original code has nothing of this kind, and the released weights lack both heads.
"""

import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from .checks import check_counts, check_unicode
from .files import numbered_lines
from .masking import GeometricSpanMasking
from .masking.word_starts import required_special_ids, word_start_table
from .modeling_spanbert import SpanBertForPreTraining
from .opening import open_checkpoint
from .question_answering import groups, longest_window, pad
from .relations import fit


BLANK = "[BLANK]"
BATCH_SIZE = 32
NUM_BEAMS = 5
SBO_WEIGHT = 0.8  # of the highest likelihood on held-out text, by benchmarks/span_filling.py
UNUSED = re.compile(r"\[unused\d+\]")
# What a checkpoint may lack, by the beginnings of its keys.
SBO_KEYS = "cls.span_boundary."
NOT_NEEDED = (SBO_KEYS, "cls.seq_relationship.", "bert.pooler.")
logger = logging.getLogger(__name__)


class Blank(NamedTuple):
    """What the model sees before and after a blank, as ids without special tokens."""

    before: list[int]
    after: list[int]


class Hypothesis(NamedTuple):
    """The first pieces of a filling of `length` pieces for the blank of that number, and log p of each of them."""

    blank: int
    length: int
    pieces: tuple[int, ...] = ()
    num_words: int = 0
    log_probs: tuple[float, ...] = ()

    @property
    def log_prob(self) -> float:
        return sum(self.log_probs)


class SpanFiller:
    """Fills the blank of a text with whole words.

    Args:
        model: a pre-trained model with its heads; it is put in eval mode.
        tokenizer: the one it was trained with, a WordPiece one.
        batch_size: hypotheses that are run together.
        max_seq_length: tokens that the model sees, the blank in their middle; 512 by default, or what the model takes
            if that is less.
        sbo_weight: the weight w of the span boundary objective, from 0 (masked language modeling alone) to 1 (the span
            boundary objective alone, where it has targets). By default 0.8, or 0 for a model without that objective.
        num_beams: hypotheses of each length that are kept, or as many as the fillings that are asked for.

    Raises ValueError for settings that do not go with the model.
    """

    def __init__(
        self,
        model: SpanBertForPreTraining,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int = BATCH_SIZE,
        max_seq_length: int | None = None,
        sbo_weight: float | None = None,
        num_beams: int = NUM_BEAMS,
    ):
        check_counts(batch_size=batch_size, num_beams=num_beams)
        objectives = model.config.objectives
        if sbo_weight is None:
            sbo_weight = SBO_WEIGHT if "sbo" in objectives else 0.0
        if not isinstance(sbo_weight, Real) or not 0 <= sbo_weight <= 1:
            raise ValueError(f"sbo_weight={sbo_weight!r}: expected 0 (masked language modeling alone) to 1")
        if sbo_weight and "sbo" not in objectives:
            raise ValueError(
                f"sbo_weight={sbo_weight} needs a head of the span boundary objective, but the model has only "
                f"{', '.join(objectives)}: give sbo_weight=0, or a checkpoint with that head"
            )
        check_word_piece(tokenizer)
        self.max_seq_length = longest_window(model, tokenizer, max_seq_length)
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.sbo_weight = sbo_weight
        self.num_beams = num_beams
        self.pieces = word_pieces(tokenizer)  # (K,) ids
        self.starts_word = word_start_table(tokenizer)[self.pieces]  # (K,)

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        batch_size: int = BATCH_SIZE,
        max_seq_length: int | None = None,
        sbo_weight: float | None = None,
        num_beams: int = NUM_BEAMS,
        **kwargs,
    ) -> "SpanFiller":
        """Opens a folder or a repository of the Hub, with the tokenizer in it.

        `open_checkpoint` says what it takes. A checkpoint without the head of the span boundary
        objective, as any BERT, fills by masked language modeling alone, which a warning says.

        Raises `OSError` where there is no model, and `ValueError` for one without the head of masked language modeling
        (the released SpanBERT weights), and for a `sbo_weight` above 0 where the other head is missing.
        """
        model, tokenizer, missing = open_checkpoint(SpanBertForPreTraining, name, device, dtype, **kwargs)
        needed = [key for key in missing if not key.startswith(NOT_NEEDED)]
        if needed:
            raise ValueError(
                f"{name} cannot fill blanks (no {needed[0]}): expected a checkpoint of pre-training with its heads"
            )
        if any(key.startswith(SBO_KEYS) for key in missing):
            model.config.objectives = [each for each in model.config.objectives if each != "sbo"]
        if "sbo" not in model.config.objectives and sbo_weight is None:
            logger.warning("%s has no span boundary head: blanks are filled by masked language modeling alone", name)
        return cls(model, tokenizer, batch_size, max_seq_length, sbo_weight, num_beams)

    def __call__(
        self, text: str | Sequence[str], num_words: int | None = None, top_k: int = 5, max_span_length: int = 10
    ) -> list[dict] | list[list[dict]]:
        """The `top_k` best fillings of a text's blank, the best first; for a list of texts a list of these.

        Each is `{"text", "filling", "start", "end", "score"}`: the text with the filling in it, of which
        `text[start:end]` is the filling, and all else is as it was.

        The blank is written [BLANK], or as a run of the tokenizer's [MASK]s, one for each piece. A filling is whole
        words: pieces that continue a word follow others of the filling, and the blank may not touch a word outside.
        With `num_words` it has that many of them, each sign being one ("don't" is three); there is no such filling of
        fewer [MASK]s. Without, a [BLANK] gets 1 to `max_span_length` pieces.

        The score is P(L) p(filling)^(1/L): the geometric mean of the probabilities of its pieces, times that of their
        number L, which is 1 where it is given and else that of spans in masking (Section 3.1): Geo(0.2), truncated.

        A filling of L pieces costs L forward passes, the first of one row, the others of `num_beams`; those of all
        lengths, and of texts as many as are in memory together, are run in common batches. Without a length that is
        235 rows.

        Raises ValueError, with one line, for what is no string, a text that does not have one blank, a blank beside a
        letter, and one that is longer than the model can take.
        """
        check_counts(top_k=top_k, max_span_length=max_span_length)
        if num_words is not None:
            check_counts(num_words=num_words)
        if not isinstance(text, str | list | tuple):
            raise ValueError(f"expected a text or a list of texts, got {type(text).__name__}")
        texts = [text] if isinstance(text, str) else text
        surroundings, lengths = [], []
        for number, each in enumerate(texts):
            before, after, num_pieces = split_at_blank(each, self.tokenizer.mask_token, f"text {number}")
            lengths.append(candidate_lengths(num_pieces, num_words, max_span_length, f"text {number}"))
            surroundings.append((before, after))
        results = []
        for part in groups(map(len, texts)):
            blanks = [
                self.blank(*around, own_lengths[-1], f"text {number}")
                for number, (around, own_lengths) in enumerate(
                    zip(surroundings[part], lengths[part], strict=True), start=part.start
                )
            ]
            found = self.search(blanks, lengths[part], num_words, max(top_k, self.num_beams))
            results += [
                self._results(*around, hypotheses, top_k)
                for around, hypotheses in zip(surroundings[part], found, strict=True)
            ]
        return results[0] if isinstance(text, str) else results

    def blank(self, before: str, after: str, longest: int, name: str = "text") -> Blank:
        """What the model sees around a blank of up to `longest` pieces.

        Raises ValueError where that leaves no room for any text, and where the blank touches a word.
        """
        room = self.max_seq_length - 2 - longest
        if room < 1:
            raise ValueError(
                f"{name}: a blank of {longest} pieces leaves no room for its text in max_seq_length="
                f"{self.max_seq_length}; expected at most {self.max_seq_length - 3}"
            )
        for beside in (before[-1:], after[:1]):
            if beside and len(set(self._tokenize(f"a{beside}a").word_ids())) == 1:
                raise ValueError(
                    f"{name}: the blank touches {beside!r}, a part of a word, but whole words are filled in: put a "
                    "space between"
                )
        before_ids, after_ids = (self._tokenize(part)["input_ids"] for part in (before, after))
        before_ids, _, after_ids = fit(before_ids, [], after_ids, room)
        return Blank(before_ids, after_ids)

    def _tokenize(self, text: str):
        """The [SEP] of a text is letters and brackets, not the token."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)

    def search(
        self, blanks: Sequence[Blank], lengths: Sequence[Sequence[int]], num_words: int | None, num_beams: int
    ) -> list[list[Hypothesis]]:
        """For each blank up to `num_beams` finished hypotheses of each of its `lengths`, in pieces, in no order.

        Beam search, a length a beam. Raises ValueError where the model's scores are not finite.
        """
        found = [[] for _ in blanks]
        active = [Hypothesis(number, length) for number, each in enumerate(lengths) for length in each]
        while active:
            grown = self._grow(blanks, active, num_words, num_beams)
            active = [each for each in grown if len(each.pieces) < each.length]
            for hypothesis in grown:
                if len(hypothesis.pieces) == hypothesis.length:
                    found[hypothesis.blank].append(hypothesis)
        return found

    def _grow(
        self, blanks: Sequence[Blank], hypotheses: list[Hypothesis], num_words: int | None, num_beams: int
    ) -> list[Hypothesis]:
        """The `num_beams` best of each blank and length, with one piece more."""
        beams = defaultdict(list)
        starts_word = torch.from_numpy(self.starts_word).to(self.model.device)  # (K,)
        may_start, may_continue = torch.tensor([may_follow(each, num_words) for each in hypotheses]).T
        contexts = [(blanks[each.blank], each.pieces, each.length) for each in hypotheses]
        for numbers, log_probs in self._batches(contexts):
            start, go_on = (
                may[numbers, None].to(log_probs.device) for may in (may_start, may_continue)
            )  # (R, 1) each
            log_probs = log_probs.masked_fill(~torch.where(starts_word, start, go_on), -torch.inf)  # (R, K)
            best = log_probs.topk(min(num_beams, len(self.pieces)))  # (R, num_beams)
            for number, values, places in zip(numbers, best.values.tolist(), best.indices.tolist(), strict=True):
                old = hypotheses[number]
                beams[old.blank, old.length] += [
                    old._replace(
                        pieces=(*old.pieces, int(self.pieces[place])),
                        num_words=old.num_words + int(self.starts_word[place]),
                        log_probs=(*old.log_probs, value),
                    )
                    for value, place in zip(values, places, strict=True)
                    if value > -torch.inf
                ]
        return [each for beam in beams.values() for each in sorted(beam, key=lambda h: -h.log_prob)[:num_beams]]

    def piece_log_probs(self, blanks: Sequence[Blank], fillings: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """log p of each piece of a filling of each blank, given the pieces before it (L,).

        The fillings are ids of `self.pieces`; other ids raise ValueError.
        """
        columns = {id: column for column, id in enumerate(self.pieces.tolist())}
        unknown = {id for filling in fillings for id in filling} - set(columns)
        if unknown:
            raise ValueError(f"piece {min(unknown)} is none that a blank is filled with")
        places = [(number, place) for number, filling in enumerate(fillings) for place in range(len(filling))]
        found = [np.empty(len(filling)) for filling in fillings]
        contexts = [(blanks[number], fillings[number][:place], len(fillings[number])) for number, place in places]
        for rows, log_probs in self._batches(contexts):
            for row, of_row in zip(rows, log_probs, strict=True):
                number, place = places[row]
                found[number][place] = of_row[columns[fillings[number][place]]]
        return found

    def _batches(self, contexts: list[tuple[Blank, Sequence[int], int]]) -> Iterator[tuple[list[int], torch.Tensor]]:
        """The numbers of the contexts in each batch, and `next_log_probs` of them (R, K); rows of like length."""
        sizes = [len(before) + length + len(after) for (before, after), _, length in contexts]
        order = sorted(range(len(contexts)), key=sizes.__getitem__, reverse=True)  # so that each fits where one was
        for first in range(0, len(order), self.batch_size):
            numbers = order[first : first + self.batch_size]
            yield numbers, self.next_log_probs([contexts[number] for number in numbers])

    @torch.no_grad()
    def next_log_probs(self, contexts: Sequence[tuple[Blank, Sequence[int], int]]) -> torch.Tensor:
        """log p (R, K) of `self.pieces` as the next of a blank, given its first pieces, and its length in pieces."""
        rows, place, num_left = [], [], []
        for (before, after), pieces, length in contexts:
            known = [self.tokenizer.cls_token_id, *before, *pieces]
            place.append(len(known))
            num_left.append(length - len(pieces))
            masks = [self.tokenizer.mask_token_id] * num_left[-1]
            rows.append({"input_ids": [*known, *masks, *after, self.tokenizer.sep_token_id]})
        batch = pad(rows, self.tokenizer.pad_token_id)
        if self.model.config.type_vocab_size < 2:
            del batch["token_type_ids"]
        place, num_left = torch.tensor(place), torch.tensor(num_left)  # (R,) each
        last = batch["attention_mask"].sum(1) - 1  # (R,), of [SEP]
        has_sbo = (place > 1) & (place + num_left < last) & (self.sbo_weight > 0)  # (R,)

        def at_place(values: torch.Tensor, elsewhere: int) -> torch.Tensor:
            return torch.full_like(batch["input_ids"], elsewhere).scatter_(
                1, place[:, None], values[:, None]
            )  # (R, T)

        batch["labels"] = at_place(
            torch.zeros_like(place), -100
        )  # any id: it asks for the logits there, and only there
        if self.sbo_weight:
            batch["left_boundary"] = at_place(place - 1, 0)
            batch["right_boundary"] = at_place(place + num_left, 0)
            batch["span_position"] = at_place(torch.where(has_sbo, 0, -1), -1)
        output = self.model(**{name: tensor.to(self.model.device) for name, tensor in batch.items()})

        columns = torch.from_numpy(self.pieces).to(self.model.device)
        log_probs = output.prediction_logits[:, columns].float().log_softmax(-1)  # (R, K)
        if has_sbo.any():
            of_sbo = output.boundary_logits[:, columns].float().log_softmax(-1)
            product = (1 - self.sbo_weight) * log_probs[has_sbo] + self.sbo_weight * of_sbo
            log_probs[has_sbo] = product.log_softmax(-1)
        if not log_probs.isfinite().all():
            raise ValueError(
                f"the model's scores are not finite in {self.model.dtype}: give dtype='float32', or other weights"
            )
        return log_probs

    def _results(self, before: str, after: str, hypotheses: list[Hypothesis], top_k: int) -> list[dict]:
        """What `__call__` returns; of hypotheses that read the same, in other pieces, the best alone."""
        scores = scores_of(hypotheses)
        results = {}
        for number in np.argsort(-scores, kind="stable").tolist():
            filling = self.tokenizer.decode(hypotheses[number].pieces, clean_up_tokenization_spaces=True)
            if filling not in results:
                results[filling] = {
                    "text": before + filling + after,
                    "filling": filling,
                    "start": len(before),
                    "end": len(before) + len(filling),
                    "score": float(scores[number]),
                }
        return list(results.values())[:top_k]


def read_blanks(text_or_file: str) -> list[str]:
    """The lines with text of a .txt file; of anything else, that text. Raises as `numbered_lines`, and for no line."""
    if not text_or_file.endswith(".txt"):
        return [text_or_file]
    lines = [line for _, line in numbered_lines(text_or_file) if line.strip()]
    if not lines:
        raise ValueError(f"{text_or_file} holds no text")
    return lines


def check_word_piece(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises ValueError for a tokenizer that is not a fast WordPiece one with BERT's special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if type(getattr(backend, "model", None)).__name__ != "WordPiece":
        raise ValueError(
            f"{type(tokenizer).__name__} is no fast WordPiece tokenizer, whose pieces blanks are filled with"
        )
    required_special_ids(tokenizer)


def word_pieces(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """The ids, sorted, of the pieces that words are made of: neither special nor unused."""
    special = set(tokenizer.all_special_ids)
    special |= {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= {id for piece, id in tokenizer.get_vocab().items() if UNUSED.fullmatch(piece)}
    return np.array(sorted(set(tokenizer.get_vocab().values()) - special))


def split_at_blank(text: str, mask_token: str, name: str) -> tuple[str, str, int | None]:
    """What is before and after the blank of `text`, and its length in pieces where it is written as [MASK]s.

    Raises ValueError for what is no string and for a text that does not have one blank.
    """
    if not isinstance(text, str):
        raise ValueError(f"{name}: expected a string, got {type(text).__name__}")
    check_unicode(text, name)
    mask = re.escape(mask_token)
    blanks = [*re.finditer(rf"{re.escape(BLANK)}|{mask}(?:\s*{mask})*", text)]
    if len(blanks) != 1:
        raise ValueError(
            f"{name} has {len(blanks)} blanks: expected 1, written {BLANK} or as a run of {mask_token}, one for each "
            "piece"
        )
    start, end = blanks[0].span()
    num_pieces = None if blanks[0].group() == BLANK else blanks[0].group().count(mask_token)
    return text[:start], text[end:], num_pieces


def candidate_lengths(num_pieces: int | None, num_words: int | None, max_span_length: int, name: str) -> Sequence[int]:
    """The lengths, in pieces, that are tried; for `num_words` n those from n to 3n/2 + 1, which nearly all text has.

    Raises ValueError where `num_words` are not to be made of `num_pieces`.
    """
    if num_pieces is not None:
        if num_words is not None and num_words > num_pieces:
            raise ValueError(f"{name}: a blank of {num_pieces} pieces cannot hold num_words={num_words}")
        return [num_pieces]
    if num_words is not None:
        return range(num_words, num_words + num_words // 2 + 2)
    return range(1, max_span_length + 1)


def may_follow(hypothesis: Hypothesis, num_words: int | None) -> tuple[bool, bool]:
    """Whether the next piece may start a word, and whether it may continue one, so that `num_words` can be reached."""
    may_continue = bool(hypothesis.pieces)
    if num_words is None:
        return True, may_continue
    to_start = num_words - hypothesis.num_words
    num_after = hypothesis.length - len(hypothesis.pieces) - 1
    return 1 <= to_start <= num_after + 1, may_continue and to_start <= num_after


def scores_of(hypotheses: Sequence[Hypothesis]) -> np.ndarray:
    """P(L) p(filling)^(1/L) of finished hypotheses of one blank; P(L) is Geo(0.2) over their lengths, renormalised."""
    lengths = np.array([each.length for each in hypotheses], dtype=int)
    tried, place = np.unique(lengths, return_inverse=True)
    prior = GeometricSpanMasking(max_span_length=max(tried.tolist(), default=1)).length_probabilities[tried - 1]
    means = np.array([each.log_prob for each in hypotheses]) / lengths
    return (prior / prior.sum())[place] * np.exp(means)
