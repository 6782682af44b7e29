"""DataCollatorForSpanMasking: its batch, its randomness, and the tokenizers that it works with."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT, tiny_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from modeling_spanbert.data_collator import DataCollatorForSpanMasking, positions, span_boundaries


TEXT = (
    "the old king of the river was at war with a young queen and all her people in that great city "
    "first they lost the small house then the football team played a game and won the world for peace"
)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def examples(tokenizer, lengths=(40, 7, 25, 64, 3)) -> list[dict]:
    rng = np.random.default_rng(0)
    ordinary = [id for id in range(len(tokenizer)) if id not in tokenizer.all_special_ids]
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    return [
        {"input_ids": np.array([cls, *rng.choice(ordinary, length - 2), sep]), "sample_number": 10 + i}
        for i, length in enumerate(lengths)
    ]


def test_each_masked_token_knows_its_boundaries():
    #          [CLS] an american football game an [SEP]
    masked = [[0, 0, 0, 1, 1, 0, 0], [0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 0]]  # the last two touch a special
    special = [[1, 0, 0, 0, 0, 0, 1]] * 3
    left, right, position = span_boundaries(np.array(masked, bool), np.array(special, bool), max_span_positions=20)

    assert left.tolist() == [[0, 0, 0, 2, 2, 0, 0], [0] * 7, [0, 0, 0, 0, 3, 3, 0]]
    assert right.tolist() == [[0, 0, 0, 5, 5, 0, 0], [0, 2, 0, 0, 0, 0, 0], [0, 0, 0, 0, 6, 6, 0]]
    assert position.tolist() == [[-1, -1, -1, 0, 1, -1, -1], [-1] * 7, [-1] * 7]


def test_tokens_far_into_a_span_have_no_boundary_target():
    masked = np.array([[0, 0, 1, 1, 1, 1, 0, 0]], bool)
    _, _, position = span_boundaries(masked, np.zeros_like(masked), max_span_positions=3)
    assert position.tolist() == [[-1, -1, 0, 1, 2, -1, -1, -1]]


def test_a_span_at_the_end_of_a_row_without_specials_has_no_boundary_and_no_target():
    masked = np.array([[1, 0, 0, 1], [1, 1, 1, 1]], bool)  # the runs at the edge of two rows are two spans
    left, right, position = span_boundaries(masked, np.zeros_like(masked), max_span_positions=3)
    assert left.tolist() == [[0, 0, 0, 2], [0, 0, 0, 0]]
    assert right.tolist() == [[1, 0, 0, 0], [0, 0, 0, 0]]
    assert (position == -1).all()


def test_a_batch_has_the_documented_keys_shapes_and_types(tokenizer):
    rows = examples(tokenizer)
    batch = DataCollatorForSpanMasking(tokenizer, seed=1, pad_to_multiple_of=32)(rows)
    keys = [
        "input_ids",
        "attention_mask",
        "token_type_ids",
        "labels",
        "left_boundary",
        "right_boundary",
        "span_position",
    ]
    assert set(batch) == set(keys)
    for key in keys:
        assert batch[key].shape == (5, 64) and batch[key].dtype == torch.int64
    assert batch["attention_mask"].sum(1).tolist() == [40, 7, 25, 64, 3]
    assert not batch["token_type_ids"].any()
    for i, row in enumerate(rows):
        ids, labels = torch.tensor(row["input_ids"]), batch["labels"][i]
        masked = labels != -100
        length = len(ids)
        assert not masked[length:].any() and (batch["input_ids"][i, length:] == tokenizer.pad_token_id).all()
        assert (labels[:length][masked[:length]] == ids[masked[:length]]).all()
        assert (batch["input_ids"][i, :length][~masked[:length]] == ids[~masked[:length]]).all()
        assert not masked[0] and not masked[length - 1]


@pytest.mark.parametrize("scheme", ["geometric_spans", "whole_words", "subwords"])
def test_boundaries_are_visible_and_those_of_the_span(tokenizer, scheme):
    collator = DataCollatorForSpanMasking(tokenizer, scheme, mask_ratio=0.4, seed=2)
    for _ in range(5):
        batch = {key: value.numpy() for key, value in collator(examples(tokenizer, (64,) * 8)).items()}
        masked, position = batch["labels"] != -100, batch["span_position"]
        assert not (position[~masked] >= 0).any()
        assert not batch["left_boundary"][~masked].any() and not batch["right_boundary"][~masked].any()
        for row, token in np.argwhere(masked):
            left, right = batch["left_boundary"][row, token], batch["right_boundary"][row, token]
            assert not masked[row, left] and not masked[row, right] and masked[row, left + 1 : right].all()
            touches_special = left == 0 or right == 63
            assert position[row, token] == (
                -1 if scheme == "subwords" or touches_special or token - left - 1 >= 20 else token - left - 1
            )


def test_packed_sequences_keep_their_numbers_and_positions_restart(tokenizer):
    cls, sep, pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
    rows = [
        {"input_ids": [cls, 70, 71, sep, cls, 72, sep], "sequence_ids": [1, 1, 1, 1, 2, 2, 2]},
        {"input_ids": [cls, 73, sep], "sequence_ids": [1, 1, 1]},
    ]
    batch = DataCollatorForSpanMasking(tokenizer, pad_to_multiple_of=8)(rows)
    assert batch["sequence_ids"].tolist() == [[1, 1, 1, 1, 2, 2, 2, 0], [1, 1, 1, 0, 0, 0, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2, 0], [0, 1, 2, 0, 0, 0, 0, 0]]
    assert batch["input_ids"][1, 3:].tolist() == [pad] * 5
    assert positions(np.array([[0, 0, 1, 2, 2]])).tolist() == [[0, 0, 0, 0, 1]]


def test_a_span_never_reaches_into_the_next_packed_sequence(tokenizer):
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    row = {"input_ids": [cls, 70, 71, 72, sep] * 6, "sequence_ids": np.repeat(np.arange(1, 7), 5)}
    collator = DataCollatorForSpanMasking(tokenizer, mask_ratio=0.6, seed=0)
    batch = collator([row | {"sample_number": n} for n in range(50)])
    masked = batch["labels"] != -100
    assert not masked[:, ::5].any() and not masked[:, 4::5].any()
    assert (masked.sum(1) == 11).all()  # ceil(0.6 * 18): the budget is the row's
    assert ((batch["right_boundary"] - batch["left_boundary"])[masked] <= 4).all()


def test_two_sequence_blocks_keep_their_types_and_label(tokenizer):
    row = {"input_ids": [2, 70, 3, 71, 3], "token_type_ids": [0, 0, 0, 1, 1], "next_sentence_label": 1}
    batch = DataCollatorForSpanMasking(tokenizer)([row, row | {"next_sentence_label": 0}])
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 1, 1]] * 2
    assert batch["next_sentence_label"].tolist() == [1, 0] and batch["next_sentence_label"].dtype == torch.int64


def test_eighty_ten_ten_is_one_draw_a_span_and_for_subwords_one_a_token(tokenizer):
    rows = [examples(tokenizer, (64,))[0] | {"sample_number": n} for n in range(1500)]
    ids = torch.tensor(rows[0]["input_ids"])
    for scheme in ("geometric_spans", "subwords"):
        batch = DataCollatorForSpanMasking(tokenizer, scheme, seed=4)(rows)
        masked = batch["labels"] != -100
        hidden = batch["input_ids"] == tokenizer.mask_token_id
        share = hidden[masked].float().mean()
        same = (batch["input_ids"] == ids)[masked].float().mean()
        inside = masked[:, 1:] & masked[:, :-1]
        mixed = inside & (hidden[:, 1:] != hidden[:, :-1])
        error = 4 * np.sqrt(0.8 * 0.2 / (1500 * (2 if scheme == "geometric_spans" else 10)))
        assert share == pytest.approx(0.8, abs=error)
        assert same == pytest.approx(0.1 + 0.1 / len(tokenizer), abs=error)
        assert bool(mixed.any()) == (scheme == "subwords")


def random_tokens(collator, rows) -> list[int]:
    batch = collator(rows)
    replaced = (batch["labels"] != -100) & (batch["input_ids"] != batch["labels"])
    return [id for id in batch["input_ids"][replaced].tolist() if id != collator.tokenizer.mask_token_id]


def test_random_tokens_follow_the_corpus_and_are_never_special(tokenizer):
    rows = [examples(tokenizer, (64,))[0] | {"sample_number": n} for n in range(1000)]
    counts = np.ones(len(tokenizer), dtype=np.int64)
    counts[60], counts[61:] = 300, 0
    drawn = random_tokens(DataCollatorForSpanMasking(tokenizer, seed=0, random_token_counts=counts), rows)
    assert set(drawn) <= set(range(5, 61))
    assert drawn.count(60) > 0.7 * len(drawn)
    assert counts.sum() == 360 and counts[0] == 1, "the caller's counts stay as they are"

    uniform = random_tokens(DataCollatorForSpanMasking(tokenizer, seed=0), rows)
    assert not set(uniform) & set(tokenizer.all_special_ids)
    assert len(set(uniform)) > 0.95 * (len(tokenizer) - 5)


def test_the_mask_depends_on_seed_and_sample_number_and_on_nothing_else(tokenizer):
    rows = examples(tokenizer)
    collator = DataCollatorForSpanMasking(tokenizer, seed=1)
    together = collator(rows)
    padded = DataCollatorForSpanMasking(tokenizer, seed=1, pad_to_multiple_of=128)(rows[::-1])
    for i, row in enumerate(rows):
        length = len(row["input_ids"])
        alone = collator([row])
        for key, value in alone.items():
            assert value[0].tolist() == together[key][i, :length].tolist() == padded[key][-1 - i, :length].tolist()

    def shown(seed, number):
        return DataCollatorForSpanMasking(tokenizer, seed=seed)([rows[3] | {"sample_number": number}])[
            "labels"
        ].tolist()

    assert shown(1, 5) == shown(1, 5)
    assert len({str(shown(seed, number)) for seed in range(4) for number in range(10)}) == 40


class Rows(torch.utils.data.Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4")
def test_four_workers_make_the_same_batches_as_none(tokenizer):
    rows = Rows([examples(tokenizer, (50,))[0] | {"sample_number": n} for n in range(24)])
    collator = DataCollatorForSpanMasking(tokenizer, seed=6)
    batches = [
        torch.cat([batch["input_ids"] for batch in DataLoader(rows, 3, collate_fn=collator, num_workers=workers)])
        for workers in (0, 4)
    ]
    assert torch.equal(*batches)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4")
def test_workers_without_a_seed_do_not_repeat_each_other(tokenizer):
    rows = Rows(examples(tokenizer, (500,)) * 8)
    for collator in (DataCollatorForSpanMasking(tokenizer), DataCollatorForSpanMasking(tokenizer, seed=None)):
        np.random.seed(0)
        torch.manual_seed(0)
        batches = list(DataLoader(rows, 2, collate_fn=collator, num_workers=4))
        masks = {str(row.tolist()) for batch in batches for row in batch["labels"]}
        assert len(masks) == 8


def test_another_process_draws_the_same_masks(tokenizer):
    program = (
        "import hashlib; from helpers import tiny_tokenizer; from test_data_collator import examples;"
        "from modeling_spanbert.data_collator import DataCollatorForSpanMasking;"
        "tokenizer = tiny_tokenizer(); batch = DataCollatorForSpanMasking(tokenizer, seed=9)(examples(tokenizer));"
        "print(hashlib.sha256(batch['input_ids'].numpy().tobytes()).hexdigest())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT / "tests",
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "HF_HUB_OFFLINE": "1", "PATH": ""},
    ).stdout.strip()
    batch = DataCollatorForSpanMasking(tokenizer, seed=9)(examples(tokenizer))
    assert printed == hashlib.sha256(batch["input_ids"].numpy().tobytes()).hexdigest()


def test_static_masks_come_back_every_k_passes(tokenizer):
    row = examples(tokenizer, (64,))[0]
    collator = DataCollatorForSpanMasking(tokenizer, seed=1, num_static_masks=3)

    def mask(pass_number, i):
        return str(collator([row | {"sample_number": pass_number * 7 + i, "num_samples": 7}])["labels"].tolist())

    assert len({mask(pass_number, i) for pass_number in range(9) for i in range(7)}) == 3 * 7
    assert mask(0, 2) == mask(3, 2) != mask(1, 2)
    dynamic = DataCollatorForSpanMasking(tokenizer, seed=1)([row | {"sample_number": 9}])
    assert str(dynamic["labels"].tolist()) == mask(1, 2)


def wrapped(backend: Tokenizer) -> PreTrainedTokenizerFast:
    names = {
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "mask_token": "[MASK]",
    }
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def wordpiece() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.train_from_iterator([TEXT], trainers.WordPieceTrainer(vocab_size=60, special_tokens=SPECIALS))
    return wrapped(backend)


def byte_level_bpe() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=60, special_tokens=SPECIALS))
    return wrapped(backend)


def unigram() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=SPECIALS, unk_token="[UNK]")
    backend.train_from_iterator([TEXT], trainer)
    return wrapped(backend)


def metaspace_bpe() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=SPECIALS)
    backend.train_from_iterator(TEXT.split(), trainer)
    return wrapped(backend)


@pytest.mark.parametrize("build", [wordpiece, byte_level_bpe, unigram, metaspace_bpe])
def test_words_are_whole_with_any_fast_tokenizer(build):
    tokenizer = build()
    ids = tokenizer(TEXT, add_special_tokens=False, return_offsets_mapping=True)
    word_of = [  # a piece that is only the space belongs to the word after it
        (TEXT[:end] if TEXT[start:end].isspace() else TEXT[:end].rstrip()).count(" ")
        for start, end in ids["offset_mapping"]
    ]
    assert len(word_of) > 1.5 * len(TEXT.split()), "a tokenizer that cuts words"
    row = [tokenizer.cls_token_id, *ids["input_ids"], tokenizer.sep_token_id]
    batch = DataCollatorForSpanMasking(tokenizer, seed=0)([{"input_ids": row, "sample_number": n} for n in range(40)])
    masked = (batch["labels"] != -100)[:, 1:-1].numpy()
    budget = int(np.ceil(0.15 * len(word_of)))
    assert masked.sum(1).max() <= budget and masked.sum(1).mean() > 0.9 * budget
    for mask in masked:
        hidden = {word for word, here in zip(word_of, mask, strict=True) if here}
        assert not hidden & {word for word, here in zip(word_of, mask, strict=True) if not here}


def test_an_unknown_token_is_a_word_and_is_masked_like_one(tokenizer):
    unknown = tokenizer.unk_token_id
    row = {"input_ids": [tokenizer.cls_token_id, *[unknown] * 20, tokenizer.sep_token_id]}
    batch = DataCollatorForSpanMasking(tokenizer, "whole_words", seed=0)(
        [row | {"sample_number": n} for n in range(20)]
    )
    assert ((batch["labels"] == unknown).sum(1) == 3).all()


def test_added_tokens_start_words_and_added_specials_are_never_masked():
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<entity>"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    entity, turn = tokenizer.convert_tokens_to_ids(["<entity>", "<turn>"])
    collator = DataCollatorForSpanMasking(tokenizer, mask_ratio=0.9, seed=0)
    batch = collator([{"input_ids": [2, entity, 70, turn, entity, 71, 3], "sample_number": n} for n in range(20)])
    assert (batch["labels"] != -100).sum(0).tolist() == [0, 20, 20, 0, 20, 20, 0]


def test_rows_of_padding_are_left_alone(tokenizer):
    batch = DataCollatorForSpanMasking(tokenizer)([{"input_ids": [0] * 4}, {"input_ids": [2, 70, 71, 3]}])
    assert not batch["attention_mask"][0].any() and (batch["labels"][0] == -100).all()
    assert (batch["labels"][1] != -100).sum() == 1


@pytest.mark.parametrize("ids", [np.array([2, 70, 3], np.uint16), torch.tensor([2, 70, 3]), [2, 70, 3], (2, 70, 3)])
def test_ids_come_as_any_integers(tokenizer, ids):
    batch = DataCollatorForSpanMasking(tokenizer)([{"input_ids": ids}])
    assert batch["labels"].tolist() == [[-100, 70, -100]]
