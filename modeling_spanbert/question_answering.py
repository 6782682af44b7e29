# Copyright 2026 The SpanBERT on Hugging Face authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Extractive question answering: questions and contexts -> windows -> logits -> answers (Section 4.1; run_squad.py).

    answerer = QuestionAnswerer.from_pretrained("your-org/spanbert-base-cased-squad")
    answerer(question="Who built the port?", context="Batamay, a port built by two brothers.")

A context longer than the model is cut into windows that overlap. Each is scored alone, and an answer may start only
where its window has the most context of all windows ("max context"), so that nothing is judged where it is cut off.

Shapes: W windows, of one or of many questions; T tokens of a window; P tokens of [CLS] question [SEP]; N tokens of a
context. Ranges are first and stop, stop exclusive, in tokens of the context (from 0) or in its characters.
"""

import logging
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np
import torch
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    Pipeline,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pipelines import PIPELINE_REGISTRY

from .checks import check_counts, check_unicode
from .modeling_spanbert import SpanBertForQuestionAnswering


TASK = "span-question-answering"  # "question-answering" is refused by transformers, which has removed it
STRIDE_MODES = ("step", "overlap")
BATCH_SIZE = 16
WINDOWS_AT_ONCE = 1024  # whose logits are ranked together
# Texts that are tokenized together, and so in memory: their windows are sorted by length.
TEXTS_AT_ONCE, CHARACTERS_AT_ONCE = 256, 2_000_000
logger = logging.getLogger(__name__)


# Answers that are given


def locate_answer(context: str, text: str, answer_start: int) -> tuple[int, int]:
    """The characters (start, stop) of a SQuAD answer.

    An `answer_start` that is some characters off is put right, as by run_squad.py: `text`, in which white space stands
    for any, is looked for in the words that it would touch from `answer_start` on; the nearest place counts.

    Raises `ValueError` where it is not there.
    """
    if not text.strip() or not 0 <= answer_start < len(context):
        raise ValueError(f"answer {text[:60]!r} at character {answer_start}: expected text inside of {len(context)}")
    first, stop = answer_start, min(answer_start + len(text), len(context))
    if context[first:stop] == text.strip():
        return first, stop
    while first > 0 and not context[first - 1].isspace():
        first -= 1
    while stop < len(context) and not context[stop].isspace():
        stop += 1
    pattern = re.compile(r"\s+".join(map(re.escape, text.split())))
    found = [match.span() for match in pattern.finditer(context, first, stop)]
    if not found:
        raise ValueError(f"answer {text[:60]!r} is not at character {answer_start}: {context[first:stop][:60]!r} is")
    return min(found, key=lambda span: abs(span[0] - answer_start))


def first_detected_answer(context: str, detected_answers: Sequence[dict]) -> tuple[int, int]:
    """The characters (start, stop) of an MRQA answer to train on: the first of all `char_spans` (run_mrqa.py).

    The ends of `char_spans` are inclusive. Raises `ValueError` for none, or for one that is not in the context.
    """
    spans = [tuple(span) for answer in detected_answers for span in answer["char_spans"]]
    wrong = [span for span in spans if not 0 <= span[0] <= span[1] < len(context)]
    if wrong or not spans:
        raise ValueError(
            f"detected_answers: expected char_spans in 0 to {len(context) - 1}, got {wrong[:1] or 'none'}"
        )
    start, last = min(spans)
    return start, last + 1


# Windows


@dataclass(frozen=True, eq=False)
class QuestionFeatures:
    """A question and its W windows `[CLS] question [SEP] part of the context [SEP]`.

    `features[w]` is the `input_ids` and `token_type_ids` of window w. They are made when they are asked for, and
    questions about one context share its tokens.
    """

    context: str
    prefix_ids: np.ndarray  # (P,), [CLS] question [SEP]
    context_ids: np.ndarray  # (N,)
    offsets: np.ndarray  # (N, 2), the characters of each token
    sep_token_id: int
    windows: np.ndarray  # (W, 2), the tokens of each window
    max_context: np.ndarray  # (W, 2), those of them that have their max context there

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, window: int) -> dict[str, list[int]]:
        first, stop = self.windows[window]
        part = [*self.context_ids[first:stop].tolist(), self.sep_token_id]
        return {
            "input_ids": self.prefix_ids.tolist() + part,
            "token_type_ids": [0] * len(self.prefix_ids) + [1] * len(part),
        }

    def label_positions(self, answer: tuple[int, int] | None) -> np.ndarray:
        """`start_positions` and `end_positions` (W, 2) of an answer at characters (start, stop), or of none (None).

        They are the first and the last token that the answer touches; 0, that is [CLS], in a window that does not have
        all of it. run_squad.py compares the pieces of the answer instead of characters. So it differs where an answer
        begins or ends inside of a piece (there it takes the whole words, with their punctuation), or has the same
        pieces as an earlier part of its first word (there it takes that): about one answer of SQuAD 1.1 in a thousand.

        Raises `ValueError` for an answer outside of the context or without any token.
        """
        labels = np.zeros((len(self), 2), dtype=np.int64)
        if answer is None:
            return labels
        start, stop = answer
        if not 0 <= start < stop <= len(self.context):
            raise ValueError(f"answer at characters {start} to {stop}: expected some of 0 to {len(self.context)}")
        first = self.offsets[:, 1].searchsorted(start, side="right")
        last = self.offsets[:, 0].searchsorted(stop, side="left") - 1
        if first > last:
            raise ValueError(f"answer {self.context[start:stop][:60]!r} has no token")
        inside = (self.windows[:, 0] <= first) & (last < self.windows[:, 1])
        labels[inside] = len(self.prefix_ids) + np.array([first, last]) - self.windows[inside, :1]
        return labels


def encode_questions(
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    contexts: Sequence[str],
    max_seq_length: int = 512,
    doc_stride: int = 128,
    max_query_length: int = 64,
    stride_mode: str = "step",
) -> list[QuestionFeatures]:
    """The windows of each question over its context, as run_squad.py and run_mrqa.py make them.

    Args:
        tokenizer: any fast one with a class and a separator token; the layout is BERT's whatever its own is. With a
            BERT vocabulary the tokens are those of the originals, which cut words between white space into pieces.
        max_seq_length: T, at most.
        doc_stride: with `stride_mode="step"`, as in the paper, a window begins so many tokens after the one before it;
            with "overlap", as in transformers, they share so many.
        max_query_length: the tokens of a question after these are left out, and a warning says so.

    An empty context has one window, with no token of it. Raises `ValueError` where no windows can be made.
    """
    if stride_mode not in STRIDE_MODES:
        raise ValueError(f"unknown stride_mode {stride_mode!r}; known: {', '.join(STRIDE_MODES)}")
    check_counts(max_seq_length=max_seq_length, doc_stride=doc_stride, max_query_length=max_query_length)
    if not tokenizer.is_fast or tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
        lacking = "class or separator token" if tokenizer.is_fast else "fast form (tokenizer.json)"
        raise ValueError(f"the tokenizer has no {lacking}; give the one that the model was trained with")
    if not questions:
        return []

    question_ids = [ids for ids, _ in tokenize(tokenizer, questions)]
    cut = [question for question, ids in zip(questions, question_ids, strict=True) if len(ids) > max_query_length]
    if cut:
        logger.warning(
            "%d of %d questions have more than max_query_length=%d tokens and are cut off there; the first: %r",
            *(len(cut), len(questions), max_query_length, cut[0][:60]),
        )
    unique = list(dict.fromkeys(contexts))
    tokens = dict(zip(unique, tokenize(tokenizer, unique), strict=True))

    features = []
    for ids, context in zip(question_ids, contexts, strict=True):
        ids = ids[:max_query_length]
        room = max_seq_length - len(ids) - 3  # for tokens of the context
        step = doc_stride if stride_mode == "step" else room - doc_stride
        if room < 1:
            raise ValueError(
                f"max_seq_length={max_seq_length} has no room for the context after a question of {len(ids)} tokens; "
                "give more, or a smaller max_query_length"
            )
        if step < 1:
            raise ValueError(
                f"doc_stride={doc_stride} tokens of overlap, in windows of {room} tokens of the context; give less, "
                "or a larger max_seq_length"
            )
        context_ids, offsets = tokens[context]
        windows = window_ranges(len(context_ids), room, step)
        features.append(
            QuestionFeatures(
                context=context,
                prefix_ids=np.array([tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]),
                context_ids=context_ids,
                offsets=offsets,
                sep_token_id=tokenizer.sep_token_id,
                windows=windows,
                max_context=max_context_ranges(windows),
            )
        )
    return features


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The ids (N,) and character offsets (N, 2) of each text, however long, without special tokens."""
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        padding=False,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_offsets_mapping=True,
        verbose=False,
    )
    return [
        (np.array(ids, dtype=np.int64), np.array(offsets, dtype=np.int64).reshape(-1, 2))
        for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]


def window_ranges(num_tokens: int, room: int, step: int) -> np.ndarray:
    """The tokens (W, 2) of windows of at most `room`, each beginning `step` after the one before it."""
    firsts = [0]
    while firsts[-1] + room < num_tokens:
        firsts.append(firsts[-1] + min(step, room))
    return np.array([(first, min(first + room, num_tokens)) for first in firsts])


def max_context_ranges(windows: np.ndarray) -> np.ndarray:
    """The tokens (W, 2) of each window that have their max context there: max over windows of min(left, right).

    As in run_squad.py 0.01 of the window's length is added, and the first of equal windows counts. Of two windows, the
    later one has more context from some token on, so the tokens of each are one range.
    """
    best = np.full(windows[-1, 1], -1.0)
    owner = np.zeros(len(best), dtype=np.int64)
    for window, (first, stop) in enumerate(windows):
        left = np.arange(stop - first)
        score = np.minimum(left, left[::-1]) + 0.01 * len(left)
        better = score > best[first:stop]
        best[first:stop][better] = score[better]
        owner[first:stop][better] = window
    numbers = np.arange(len(windows))
    return np.stack([owner.searchsorted(numbers, side=side) for side in ("left", "right")], axis=1)


# Logits -> answers


class Answer(NamedTuple):
    """`context[start:end]` with the logits of its first and last token; or "" at 0 to 0, with those of [CLS]."""

    text: str
    start: int
    end: int
    start_logit: float
    end_logit: float

    @property
    def logit(self) -> float:
        return self.start_logit + self.end_logit


@dataclass(frozen=True)
class NBest:
    """At most `n_best_size` answers of different texts, best first; and `null`, which says that there is none."""

    answers: list[Answer]
    null: Answer
    n_best_size: int

    @property
    def score_difference(self) -> float:
        """How much more no answer scores than the best one, in logits; infinite where nothing can be an answer.

        The question counts as impossible where this is above `null_score_diff_threshold`.
        """
        return self.null.logit - self.answers[0].logit if self.answers else math.inf

    def ranked(self, handle_impossible_answer: bool = False) -> list[tuple[Answer, float]]:
        """The answers with their probabilities, a softmax over this list; and no answer among them, if asked for.

        As in run_squad.py, no answer takes the place of the last one where it is not itself behind it; but the best
        text always stays.
        """
        ranked = self.answers
        if handle_impossible_answer:
            better = sum(answer.logit >= self.null.logit for answer in ranked)
            ranked = [*ranked[:better], self.null, *ranked[better : max(better, self.n_best_size - 1, 1)]]
        weights = [math.exp(answer.logit - ranked[0].logit) for answer in ranked]
        total = sum(weights)
        return [(answer, weight / total) for answer, weight in zip(ranked, weights, strict=True)]


class Spans(NamedTuple):
    """K candidates for answers: the window, the first and the last token in the context, and their logits; (K,) each.

    `reserve` marks those for questions that have no other.
    """

    window: np.ndarray
    start: np.ndarray
    end: np.ndarray
    start_logit: np.ndarray
    end_logit: np.ndarray
    reserve: np.ndarray


def best_spans(
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    prefix_lengths: np.ndarray,
    windows: np.ndarray,
    max_context: np.ndarray,
    n_best_size: int = 20,
    max_answer_length: int = 30,
) -> Spans:
    """All pairs of the `n_best_size` best starts and ends of each window that can be answers (run_squad.py).

    A start is a token of the context that has its max context in this window; an end is one at most
    `max_answer_length` tokens long behind it. The best are those of all T tokens, the question's too; of equal ones
    the first. The original also ranks padding, here it has -inf. Where no pair of a window can be an answer (the
    original then says "empty"), the best of all that can, whatever their ranks, is the reserve.

    Args:
        start_logits, end_logits: (W, T), -inf for padding.
        prefix_lengths: (W,), P of each window.
        windows, max_context: (W, 2), as in `QuestionFeatures`.

    Raises `ValueError` for NaN, or for less than one of a number.
    """
    check_counts(n_best_size=n_best_size, max_answer_length=max_answer_length)
    if np.isnan(start_logits).any() or np.isnan(end_logits).any():
        raise ValueError("the logits hold NaN; load the model with dtype=torch.float32, or mend its weights")
    shift = (windows[:, 0] - prefix_lengths)[:, None]  # from a token's place in the window to that in the context
    starts = np.argsort(-start_logits, axis=1, kind="stable")[:, :n_best_size]  # (W, n)
    ends = np.argsort(-end_logits, axis=1, kind="stable")[:, :n_best_size]  # (W, n)
    start_logit = np.take_along_axis(start_logits, starts, axis=1).astype(np.float64)
    end_logit = np.take_along_axis(end_logits, ends, axis=1).astype(np.float64)
    starts, ends = starts + shift, ends + shift
    can_start = (max_context[:, :1] <= starts) & (starts < max_context[:, 1:])
    can_end = (windows[:, :1] <= ends) & (ends < windows[:, 1:])
    distance = ends[:, None, :] - starts[:, :, None]  # (W, n, n)
    valid = (distance >= 0) & (distance < max_answer_length) & can_start[:, :, None] & can_end[:, None, :]

    window, i, j = valid.nonzero()
    common = np.zeros(len(window), dtype=bool)
    spans = Spans(window, starts[window, i], ends[window, j], start_logit[window, i], end_logit[window, j], common)
    reserve = []
    for w in np.flatnonzero(~valid.any(axis=(1, 2)) & (max_context[:, 0] < max_context[:, 1])):
        first, stop = max_context[w] - shift[w]
        start, end = best_span(
            start_logits[w, first:stop], end_logits[w, first : windows[w, 1] - shift[w, 0]], max_answer_length
        )
        logits = (start_logits[w, first + start], end_logits[w, first + end])
        reserve.append((w, max_context[w, 0] + start, max_context[w, 0] + end, *logits, True))
    return concatenate([spans, Spans(*map(np.array, zip(*reserve, strict=True)))]) if reserve else spans


def best_span(start_logits: np.ndarray, end_logits: np.ndarray, max_answer_length: int) -> tuple[int, int]:
    """The best pair start <= end < start + max_answer_length of logits (S,) and (E,) that begin at the same token."""
    distance = np.arange(len(end_logits)) - np.arange(len(start_logits))[:, None]  # (S, E)
    scores = np.where((distance >= 0) & (distance < max_answer_length), start_logits[:, None] + end_logits, -np.inf)
    start, end = np.unravel_index(scores.argmax(), scores.shape)
    return int(start), int(end)


def concatenate(parts: Sequence[Spans]) -> Spans:
    return Spans(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def n_best_answers(
    features: Sequence[QuestionFeatures], spans: Spans, null_logits: np.ndarray, n_best_size: int = 20
) -> list[NBest]:
    """The answers to each question, from the spans of all windows of all questions, numbered in their order.

    Of answers of the same text the best counts, and of equally good ones the first. The text is cut out of the context
    at its tokens' own characters, where run_squad.py aligns strings. So it differs at tokens that do not align (as
    [UNK], for which the original gives the words around it), and keeps white space as it is.

    `null_logits` (W, 2): those of [CLS] in each window. The null score is that of the window where it is the lowest,
    since an answer in one window is an answer.
    """
    num_windows = [len(each) for each in features]
    question = np.repeat(np.arange(len(features)), num_windows)[spans.window]  # (K,)
    order = np.lexsort((spans.window, -(spans.start_logit + spans.end_logit), spans.reserve, question))
    spans = Spans(*(array[order] for array in spans))
    bounds = question[order].searchsorted(np.arange(len(features) + 1)).tolist()

    start_logits, end_logits, reserves = (array.tolist() for array in spans[3:])
    results, window = [], 0
    for each, first, stop, count in zip(features, bounds[:-1], bounds[1:], num_windows, strict=True):
        starts, ends = each.offsets[spans.start[first:stop], 0], each.offsets[spans.end[first:stop], 1]
        answers, seen = [], set()
        for i, start, end in zip(range(first, stop), starts.tolist(), ends.tolist(), strict=True):
            if len(answers) == n_best_size or (answers and reserves[i]):
                break
            text = each.context[start:end].strip()
            if not text or text in seen:
                continue
            seen.add(text)
            if len(text) < end - start:  # byte-level tokens begin with the space before them
                start = each.context.index(text, start)
            answers.append(Answer(text, start, start + len(text), start_logits[i], end_logits[i]))
        lowest = null_logits[window : window + count].sum(axis=1).argmin()
        null = Answer("", 0, 0, *null_logits[window + lowest].tolist())
        results.append(NBest(answers, null, n_best_size))
        window += count
    return results


def extract_answers(
    features: Sequence[QuestionFeatures],
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    n_best_size: int = 20,
    max_answer_length: int = 30,
) -> list[NBest]:
    """The answers to each question, from the logits (W, T) of all windows of all questions, in their order.

    Raises `ValueError` for another number of windows, or NaN.
    """
    layout = window_layout(features)
    if not len(start_logits) == len(end_logits) == len(layout[0]):
        raise ValueError(f"logits of {len(start_logits)} and {len(end_logits)} windows: expected {len(layout[0])}")
    parts = []
    for first in range(0, len(start_logits), WINDOWS_AT_ONCE):
        rows = slice(first, first + WINDOWS_AT_ONCE)
        part = best_spans(
            start_logits[rows], end_logits[rows], *(array[rows] for array in layout), n_best_size, max_answer_length
        )
        parts.append(part._replace(window=part.window + first))
    null_logits = np.stack([start_logits[:, 0], end_logits[:, 0]], axis=1).astype(np.float64)
    return n_best_answers(features, concatenate(parts), null_logits, n_best_size) if parts else []


def window_layout(features: Sequence[QuestionFeatures]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`prefix_lengths` (W,), `windows` and `max_context` (W, 2) of all questions, for `best_spans`."""
    if not features:
        return np.empty(0, dtype=np.int64), np.empty((0, 2), dtype=np.int64), np.empty((0, 2), dtype=np.int64)
    return (
        np.repeat([len(each.prefix_ids) for each in features], [len(each) for each in features]),
        np.concatenate([each.windows for each in features]),
        np.concatenate([each.max_context for each in features]),
    )


# Models


@torch.no_grad()
def predict_answers(
    model: PreTrainedModel,
    features: Sequence[QuestionFeatures],
    batch_size: int = BATCH_SIZE,
    pad_token_id: int = 0,
    n_best_size: int = 20,
    max_answer_length: int = 30,
) -> list[NBest]:
    """The answers of a model, as it is (in eval mode, on its device), in batches of windows of like lengths.

    Nothing is kept of a batch but its candidates, whatever the length of the contexts. Raises `ValueError` for NaN.
    """
    check_counts(batch_size=batch_size)
    prefix_lengths, windows, max_context = window_layout(features)
    inputs = [(each, window) for each in features for window in range(len(each))]
    null_logits = np.empty((len(inputs), 2))
    order = np.argsort(prefix_lengths + windows[:, 1] - windows[:, 0], kind="stable")[::-1]
    parts = []
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        batch = pad([inputs[row][0][inputs[row][1]] for row in rows], pad_token_id)
        if getattr(model.config, "type_vocab_size", 2) < 2:
            del batch["token_type_ids"]
        outputs = model(**{name: tensor.to(model.device) for name, tensor in batch.items()})
        padding = batch["attention_mask"].numpy() == 0
        logits = [
            np.where(padding, -np.inf, each.float().cpu().numpy())
            for each in (outputs.start_logits, outputs.end_logits)
        ]
        null_logits[rows] = np.stack([logits[0][:, 0], logits[1][:, 0]], axis=1)
        part = best_spans(
            *logits, prefix_lengths[rows], windows[rows], max_context[rows], n_best_size, max_answer_length
        )
        parts.append(part._replace(window=rows[part.window]))
    return n_best_answers(features, concatenate(parts), null_logits, n_best_size) if parts else []


def groups(num_characters: Iterable[int]) -> Iterator[slice]:
    """The texts of so many characters in parts that are small enough to be tokenized together, in their order."""
    first, pooled, stop = 0, 0, 0
    for stop, characters in enumerate(num_characters, start=1):
        pooled += characters
        if stop - first == TEXTS_AT_ONCE or pooled >= CHARACTERS_AT_ONCE:
            yield slice(first, stop)
            first, pooled = stop, 0
    if first < stop:
        yield slice(first, stop)


def pad(rows: Sequence[dict[str, list[int]]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """`input_ids`, `token_type_ids`, `attention_mask` (B, T) of B windows, T being the longest of them."""
    length = max(len(row["input_ids"]) for row in rows)
    batch = {name: torch.zeros(len(rows), length, dtype=torch.long) for name in ("token_type_ids", "attention_mask")}
    batch["input_ids"] = torch.full((len(rows), length), pad_token_id)
    for i, row in enumerate(rows):
        for name, values in row.items():
            batch[name][i, : len(values)] = torch.tensor(values)
        batch["attention_mask"][i, : len(row["input_ids"])] = 1
    return batch


def to_results(n_best: NBest, top_k: int, handle_impossible_answer: bool, threshold: float) -> dict | list[dict]:
    """`{"answer", "start", "end", "score"}` of the best answer, or a list of the `top_k` best.

    The first is the prediction: with `handle_impossible_answer`, "" where the score difference is above `threshold`,
    else the best text, whatever the order of their scores.
    """
    ranked = n_best.ranked(handle_impossible_answer)
    if handle_impossible_answer:
        predicted = n_best.null if n_best.score_difference > threshold else n_best.answers[0]
        ranked.sort(key=lambda item: item[0] is not predicted)
    results = [
        {"answer": answer.text, "start": answer.start, "end": answer.end, "score": score} for answer, score in ranked
    ] or [{"answer": "", "start": 0, "end": 0, "score": 0.0}]
    return results[0] if top_k == 1 else results[:top_k]


def pair_up(question, context) -> tuple[list[str], list[str], bool]:
    """Questions and contexts in lists of one length, and whether only one of each was given."""
    for name, given in (("question", question), ("context", context)):
        texts = given if isinstance(given, list | tuple) else [given]
        wrong = [text for text in texts if not isinstance(text, str)]
        if wrong:
            raise ValueError(f"{name}: expected a string or a list of strings, got {type(wrong[0]).__name__}")
        for number, text in enumerate(texts):
            check_unicode(text, f"{name} {number}")
    one = isinstance(question, str) and isinstance(context, str)
    size = next((len(given) for given in (question, context) if not isinstance(given, str)), 1)
    questions, contexts = ([given] * size if isinstance(given, str) else list(given) for given in (question, context))
    if len(questions) != len(contexts):
        raise ValueError(
            f"{len(questions)} questions and {len(contexts)} contexts: expected as many, or one of either"
        )
    return questions, contexts, one


def null_score_diff_threshold(model: PreTrainedModel) -> float:
    """Above which score difference a question counts as impossible; fine-tuning stores it in the config."""
    threshold = getattr(model.config, "null_score_diff_threshold", None)
    return 0.0 if threshold is None else threshold


class QuestionAnswerer:
    """Answers questions with the words of a context, of any length.

    Args:
        model: a question answering model, as `SpanBertForQuestionAnswering` or `BertForQuestionAnswering`.
        tokenizer: the one it was trained with.
        batch_size: windows that are run together.
        max_seq_length: 512 by default, or what the model takes if that is less.
        doc_stride, max_query_length, stride_mode: see `encode_questions`.
        n_best_size, max_answer_length: see `best_spans`.

    Raises `ValueError` for settings that do not go with the model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int = BATCH_SIZE,
        max_seq_length: int | None = None,
        doc_stride: int = 128,
        max_query_length: int = 64,
        stride_mode: str = "step",
        n_best_size: int = 20,
        max_answer_length: int = 30,
    ):
        check_counts(batch_size=batch_size, n_best_size=n_best_size, max_answer_length=max_answer_length)
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.encoding = {
            "max_seq_length": longest_window(model, tokenizer, max_seq_length),
            "doc_stride": doc_stride,
            "max_query_length": max_query_length,
            "stride_mode": stride_mode,
        }
        self.decoding = {
            "batch_size": batch_size,
            "pad_token_id": tokenizer.pad_token_id or 0,
            "n_best_size": n_best_size,
            "max_answer_length": max_answer_length,
        }

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
        batch_size: int = BATCH_SIZE,
        **kwargs,
    ) -> "QuestionAnswerer":
        """Opens a folder or a repository of the Hub: any BERT with a question answering head, and its tokenizer.

        `device`: by default the GPU where there is one. `dtype`: by default float32, since the released weights are in
        float16, which a CPU is slow in. `kwargs`: of the constructor, and what of `from_pretrained` finds files
        (`revision`, `token`, …).

        Raises `OSError` where there is no model, and `ValueError` for one without a question answering head.
        """
        settings = (
            "max_seq_length",
            "doc_stride",
            "max_query_length",
            "stride_mode",
            "n_best_size",
            "max_answer_length",
        )
        settings = {key: kwargs.pop(key) for key in settings if key in kwargs}
        model, info = SpanBertForQuestionAnswering.from_pretrained(
            name, dtype=dtype or torch.float32, output_loading_info=True, **kwargs
        )
        missing = sorted(key for key in info["missing_keys"] if key.startswith("qa_outputs"))
        if missing:
            raise ValueError(f"{name} has no question answering head ({', '.join(missing)}); fine-tune it first")
        # With the config, because a repository with only vocab.txt is cased where the config is SpanBERT's.
        tokenizer = AutoTokenizer.from_pretrained(name, config=model.config, **kwargs)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(model.to(device), tokenizer, batch_size, **settings)

    def __call__(
        self,
        question: str | Sequence[str],
        context: str | Sequence[str],
        top_k: int = 1,
        handle_impossible_answer: bool = False,
    ) -> dict | list[dict] | list[list[dict]]:
        """`{"answer", "start", "end", "score"}` for a question and a context; a list of these for lists of either.

        `context[start:end]` is the answer. The score is its probability among the n best. With `top_k` above 1 there
        is a list of up to so many answers of different texts for each question. With `handle_impossible_answer` the
        answer is "", at 0 to 0, where that scores more than `config.null_score_diff_threshold` (0 if there is none)
        above the best text; without, it is "", with score 0, only where the context has no token.

        Raises `ValueError` for what is neither a string nor a list of strings.
        """
        questions, contexts, one = pair_up(question, context)
        check_counts(top_k=top_k)
        threshold = null_score_diff_threshold(self.model)
        results = [
            to_results(n_best, top_k, handle_impossible_answer, threshold)
            for n_best in self._n_best(questions, contexts)
        ]
        return results[0] if one else results

    def n_best(self, questions: Sequence[str], contexts: Sequence[str]) -> list[NBest]:
        """The answers to each question about its context with all their logits, for evaluation."""
        return list(self._n_best(questions, contexts))

    def _n_best(self, questions: Sequence[str], contexts: Sequence[str]) -> Iterator[NBest]:
        for part in groups(map(len, contexts)):
            features = encode_questions(self.tokenizer, questions[part], contexts[part], **self.encoding)
            yield from predict_answers(self.model, features, **self.decoding)


def longest_window(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_seq_length: int | None) -> int:
    """`max_seq_length`, or what it is by default; raises `ValueError` where the model cannot take the windows."""
    limit = model.config.max_position_embeddings
    if len(tokenizer) > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens, the model {model.config.vocab_size}: not its own"
        )
    if max_seq_length is not None and max_seq_length > limit:
        raise ValueError(f"max_seq_length={max_seq_length}: the model takes at most {limit}")
    return min(512, limit) if max_seq_length is None else max_seq_length


class SpanBertQuestionAnsweringPipeline(Pipeline):
    """`pipeline("span-question-answering", model=…)`: takes and returns what `QuestionAnswerer` does.

    Also takes dictionaries with "question" and "context", one, a list, or a stream (a generator or a data set), as the
    pipeline that transformers has removed; and that one's names of settings (`max_seq_len`, …). But `doc_stride` is
    the step of the windows here, unless `stride_mode="overlap"`.

    `batch_size` is that of transformers, questions that are run together, in batches of at least 16 windows.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True
    default_input_names = "question,context"

    encoding = ("max_seq_length", "doc_stride", "max_query_length", "stride_mode")
    decoding = ("n_best_size", "max_answer_length")
    output = ("top_k", "handle_impossible_answer")
    old_names = {
        "max_seq_len": "max_seq_length",
        "max_question_len": "max_query_length",
        "max_answer_len": "max_answer_length",
    }

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.model.eval()

    def _sanitize_parameters(self, **kwargs) -> tuple[dict, dict, dict]:
        known = (*self.encoding, *self.decoding, *self.output)
        settings = {self.old_names.get(name, name): value for name, value in kwargs.items()}
        unknown = [name for name in settings if name not in known]
        if unknown:
            closest = get_close_matches(unknown[0], known, n=1)
            raise ValueError(
                f"unknown setting {unknown[0]!r}; "
                + (f"closest: {closest[0]}" if closest else f"known: {', '.join(known)}")
            )
        check_counts(**{name: settings[name] for name in ("top_k", *self.decoding) if name in settings})
        return tuple(
            {name: settings[name] for name in names if name in settings}
            for names in (self.encoding, self.decoding, self.output)
        )

    def __call__(self, inputs=None, question=None, context=None, **kwargs):
        if inputs is None:
            questions, contexts, one = pair_up(question, context)
        elif isinstance(inputs, dict | list | tuple):
            one = isinstance(inputs, dict)
            examples = [inputs] if one else inputs
            for example in examples:
                check_example(example)
            questions, contexts = ([example[name] for example in examples] for name in ("question", "context"))
        else:
            return super().__call__(inputs, **kwargs)
        examples = [{"question": q, "context": c} for q, c in zip(questions, contexts, strict=True)]
        results = super().__call__(examples, **kwargs) if examples else []
        return results[0] if one else results

    def preprocess(self, example: dict, max_seq_length: int | None = None, **encoding) -> dict:
        check_example(example)
        encoding["max_seq_length"] = longest_window(self.model, self.tokenizer, max_seq_length)
        [features] = encode_questions(self.tokenizer, [example["question"]], [example["context"]], **encoding)
        return {"features": features}

    def _forward(self, inputs: dict, **decoding) -> dict:
        features = inputs["features"]
        several = features if isinstance(features, list) else [features]
        n_best = predict_answers(
            self.model, several, max(BATCH_SIZE, len(several)), self.tokenizer.pad_token_id or 0, **decoding
        )
        return {"n_best": n_best if isinstance(features, list) else n_best[0]}

    def postprocess(self, outputs: dict, top_k: int = 1, handle_impossible_answer: bool = False) -> dict | list[dict]:
        threshold = null_score_diff_threshold(self.model)
        return to_results(outputs["n_best"], top_k, handle_impossible_answer, threshold)


def check_example(example) -> None:
    """Raises `ValueError` for what is no dictionary of a question and a context."""
    if not isinstance(example, dict) or not {"question", "context"} <= set(example):
        given = f"one of {', '.join(map(repr, example))}" if isinstance(example, dict) else type(example).__name__
        raise ValueError(f"expected a dictionary with 'question' and 'context', got {given}")
    for name in ("question", "context"):
        if not isinstance(example[name], str):
            raise ValueError(f"{name}: expected a string, got {type(example[name]).__name__}")


# Whichever copy of this file was loaded last, this package's or a repository's: a pipeline saves only registered code.
PIPELINE_REGISTRY.supported_tasks.pop(TASK, None)
PIPELINE_REGISTRY.register_pipeline(
    TASK, pipeline_class=SpanBertQuestionAnsweringPipeline, pt_model=AutoModelForQuestionAnswering, type="text"
)
