"""Filling blanks: whole words, exact places in the text, and the two objectives together as documented."""

import itertools
import logging

import numpy as np
import pytest
import torch
from helpers import WORDS, tiny_config, tiny_tokenizer
from transformers import BertConfig, BertForMaskedLM

from modeling_spanbert import DataCollatorForSpanMasking, SpanBertForPreTraining, SpanBertModel, SpanFiller
from modeling_spanbert.__main__ import main
from modeling_spanbert.span_filling import Blank, Hypothesis, candidate_lengths, may_follow, scores_of


TOKENIZER = tiny_tokenizer(f"{WORDS} [unused1]")
TEXT = "the old [BLANK] of the city won ."


def random_model(seed: int = 0, **kwargs) -> SpanBertForPreTraining:
    torch.manual_seed(seed)
    model = SpanBertForPreTraining(tiny_config(vocab_size=len(TOKENIZER), initializer_range=0.5, **kwargs))
    return model.eval()


def filler(seed: int = 0, **kwargs) -> SpanFiller:
    return SpanFiller(random_model(seed), TOKENIZER, **kwargs)


def ids(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def around(before: str = "the old", after: str = "of the city") -> Blank:
    return Blank(ids(before), ids(after))


def pieces(filling) -> list[str]:
    return TOKENIZER.convert_ids_to_tokens(filling)


# What a filling is


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("before", "blank", "after"),
    [
        ("the king ", "[BLANK]", " the war ."),
        ("\u00dcn\u00ef \U0001f600 e\u0301 \u2014 \u201c", "[MASK] [MASK]", "\u201d\u2026 \U0001d54f\n\n\u4e2d"),
        ("\u4e2d", "[MASK][MASK]  [MASK]", "\u6587 [SEP] [CLS]"),
        ("", "[BLANK]", ""),
    ],
)
def test_a_filling_is_words_at_its_characters_and_nothing_else_changes(seed, before, blank, after):
    found = filler(seed)(before + blank + after, top_k=4, max_span_length=3)
    assert len({each["filling"] for each in found}) == 4
    for each in found:
        assert each["text"] == before + each["filling"] + after
        assert each["text"][each["start"] : each["end"]] == each["filling"] != ""
        assert "##" not in each["filling"] and not {*TOKENIZER.all_special_tokens, "[unused1]"} & set(ids_of(each))
    scores = [each["score"] for each in found]
    assert scores == sorted(scores, reverse=True) and 0 < scores[-1] and scores[0] <= 1


def ids_of(result: dict) -> list[str]:
    return pieces(ids(result["filling"]))


def test_a_filling_never_holds_what_the_model_likes_best_where_that_is_no_word():
    model = random_model()
    with torch.no_grad():
        for head in (model.cls.predictions, model.cls.span_boundary):
            head.bias[[*TOKENIZER.all_special_ids, *TOKENIZER.convert_tokens_to_ids(["[unused1]"])]] = 100.0
            head.bias[TOKENIZER.convert_tokens_to_ids("##ing")] = 50.0
    fill = SpanFiller(model, TOKENIZER)
    [[best, *_]] = fill.search([around()], [[3]], None, 5)
    assert pieces(best.pieces)[1:] == ["##ing", "##ing"] and not pieces(best.pieces)[0].startswith("##")
    assert fill("the [MASK] [MASK] won", top_k=1)[0]["filling"].endswith("ing")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("num_words", "lengths"), [(1, [1, 2, 3]), (2, [2, 4]), (3, [3, 5])])
def test_a_blank_gets_the_words_and_pieces_that_it_is_given(seed, num_words, lengths):
    [found] = filler(seed).search([around()], [lengths], num_words, 6)
    assert {each.length for each in found} == set(lengths)
    for each in found:
        starts = [not piece.startswith("##") for piece in pieces(each.pieces)]
        assert starts[0] and sum(starts) == each.num_words == num_words and len(starts) == each.length


def test_what_may_follow_lets_every_filling_of_so_many_words_and_no_other():
    for length, num_words in itertools.product(range(1, 6), range(1, 6)):
        reached = [Hypothesis(0, length)]
        for place in range(length):
            reached = [
                each._replace(pieces=(*each.pieces, int(starts)), num_words=each.num_words + starts)
                for each in reached
                for starts, may in zip((True, False), may_follow(each, num_words), strict=True)
                if may
            ]
            assert all(len(each.pieces) == place + 1 for each in reached)
        patterns = itertools.product((0, 1), repeat=length)
        assert {each.pieces for each in reached} == {p for p in patterns if p[0] and sum(p) == num_words}


def test_the_lengths_that_are_tried():
    assert list(candidate_lengths(None, None, 3, "text")) == [1, 2, 3]
    assert list(candidate_lengths(4, None, 3, "text")) == list(candidate_lengths(4, 2, 3, "text")) == [4]
    assert list(candidate_lengths(None, 1, 3, "text")) == [1, 2]
    assert list(candidate_lengths(None, 4, 3, "text")) == [4, 5, 6, 7]


# What a filling scores


def test_lengths_are_weighed_as_spans_are_drawn():
    found = [Hypothesis(0, 1, (5,), 1, (np.log(0.5),)), Hypothesis(0, 2, (5, 6), 2, (np.log(0.9), np.log(0.4)))]
    # Geo(0.2) of 1 and 2: 0.2 and 0.16, which is 5 : 4; means: 0.5 and sqrt(0.36)
    assert scores_of(found) == pytest.approx([5 / 9 * 0.5, 4 / 9 * 0.6])
    assert scores_of(found[1:]) == pytest.approx([0.6])


@pytest.mark.parametrize("sbo_weight", [0.0, 0.3, 1.0])
def test_both_objectives_are_multiplied_as_their_weights_say(sbo_weight):
    model = random_model()
    fill = SpanFiller(model, TOKENIZER, sbo_weight=sbo_weight)
    first = ids("king")
    found = fill.next_log_probs([(around(), first, 3)])[0]

    row = [TOKENIZER.cls_token_id, *ids("the old king"), *[TOKENIZER.mask_token_id] * 2, *ids("of the city")]
    input_ids = torch.tensor([[*row, TOKENIZER.sep_token_id]])
    with torch.no_grad():
        hidden = model.bert(input_ids).last_hidden_state  # [CLS] the old king [MASK] [MASK] of ...
        mlm = model.cls.predictions(hidden[0, 4])[fill.pieces].softmax(-1)
        sbo = model.cls.span_boundary(hidden[:, 3], hidden[:, 6], torch.tensor([0]))[0, fill.pieces].softmax(-1)
    expected = mlm ** (1 - sbo_weight) * sbo**sbo_weight
    torch.testing.assert_close(found.exp(), expected / expected.sum(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("before", "after", "used"), [("", "won", False), ("the", "", False), ("the", "won", True)])
def test_the_span_boundary_objective_is_not_asked_at_the_ends_of_a_text(before, after, used):
    context = [(around(before, after), [], 2)]
    mlm, sbo = (filler(sbo_weight=weight).next_log_probs(context) for weight in (0.0, 1.0))
    assert torch.allclose(mlm, sbo) is not used


def test_a_wide_beam_finds_the_best_of_all_fillings():
    fill = filler()
    [found] = fill.search([around()], [[2]], None, len(fill.pieces))
    best = max(found, key=lambda each: each.log_prob)

    starts = fill.pieces[fill.starts_word]
    every = list(itertools.product(starts.tolist(), fill.pieces.tolist()))
    first = fill.next_log_probs([(around(), [], 2)])[0]
    second = [row for start in starts.tolist() for row in fill.next_log_probs([(around(), [start], 2)])]
    totals = torch.cat([first[fill.starts_word][i] + row for i, row in enumerate(second)])
    assert best.pieces == every[int(totals.argmax())]
    assert best.log_prob == pytest.approx(float(totals.max()), abs=1e-4)
    [of_best] = fill.piece_log_probs([around()], [best.pieces])
    assert of_best == pytest.approx(best.log_probs, abs=1e-4)


def test_texts_are_filled_alike_whatever_is_beside_them():
    texts = [TEXT, "a [MASK]", f"{'the city of peace and war was ' * 9}[MASK] [MASK] in it", "[BLANK] won"]
    together = filler(batch_size=64)(texts, max_span_length=4)
    for text, found in zip(texts, together, strict=True):
        alone = filler(batch_size=1)(text, max_span_length=4)
        assert [each["text"] for each in alone] == [each["text"] for each in found]
        assert [each["score"] for each in alone] == pytest.approx([each["score"] for each in found], rel=1e-3)
    assert filler()([]) == []


def test_a_long_text_is_seen_around_its_blank():
    fill = filler(max_seq_length=20)
    before, after = "a " * 500 + "king and queen ", " won the war" + " of" * 500
    blank = fill.blank(before, after, 4)  # 20 - [CLS] - [SEP] - 4 = 14: seven on either side
    assert blank == Blank(ids("a a a a king and queen"), ids("won the war of of of of"))
    assert fill.blank("the ", after, 4) == Blank(ids("the"), ids("won the war" + " of" * 10))
    result = fill(f"{before}[MASK]{after}")[0]
    assert result["text"] == before + result["filling"] + after and result["start"] == len(before)


def test_what_was_learnt_is_filled_in():
    words = "the old king of this small state won the last war in one night and two people lost it ."
    model = SpanBertForPreTraining(tiny_config(vocab_size=len(TOKENIZER), hidden_dropout_prob=0.0))
    collator = DataCollatorForSpanMasking(TOKENIZER, mask_ratio=0.25, seed=0)
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    row = TOKENIZER(words)["input_ids"]
    for step in range(60):
        batch = collator([{"input_ids": row, "sample_number": 8 * step + i} for i in range(8)])
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    fill = SpanFiller(model, TOKENIZER)
    assert fill(words.replace("small state", "[BLANK]"), num_words=2)[0]["text"] == words
    assert fill(words.replace("the last war", "[MASK] [MASK] [MASK]"))[0]["filling"] == "the last war"


# Checkpoints


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("with-both-heads")
    random_model().save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


def test_a_checkpoint_fills_by_both_objectives(checkpoint, caplog):
    fill = SpanFiller.from_pretrained(checkpoint, device="cpu", batch_size=3)
    assert fill.sbo_weight == 0.8 and not caplog.records
    assert [each["text"] for each in fill(TEXT)] == [each["text"] for each in filler()(TEXT)]


def without(checkpoint, folder, *, head: str | None = None, objectives: list[str] | None = None):
    """A copy of a checkpoint without a head: in its weights, or said by its config."""
    model = SpanBertForPreTraining.from_pretrained(checkpoint)
    if objectives:
        model = random_model(objectives=objectives)
    weights = {key: value for key, value in model.state_dict().items() if head is None or head not in key}
    model.save_pretrained(folder, state_dict=weights)
    TOKENIZER.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("case", [{"head": "span_boundary"}, {"objectives": ["mlm"]}, {"objectives": ["mlm", "nsp"]}])
def test_without_a_span_boundary_head_masked_language_modeling_is_alone_and_that_is_said(
    checkpoint, tmp_path, caplog, case
):
    folder = without(checkpoint, tmp_path, **case)
    with caplog.at_level(logging.WARNING, "modeling_spanbert.span_filling"):
        fill = SpanFiller.from_pretrained(folder)
    said = [record.getMessage() for record in caplog.records if record.name == "modeling_spanbert.span_filling"]
    assert len(said) == 1 and "has no span boundary head" in said[0]
    alone = SpanFiller.from_pretrained(folder, sbo_weight=0)
    assert fill(TEXT) == alone(TEXT) and fill.sbo_weight == 0
    if "head" in case:
        assert [each["text"] for each in fill(TEXT)] == [each["text"] for each in filler(sbo_weight=0.0)(TEXT)]
    with pytest.raises(ValueError, match=r"sbo_weight=0.5 needs a head of the span boundary objective"):
        SpanFiller.from_pretrained(folder, sbo_weight=0.5)


def test_a_plain_bert_fills_as_its_own_head_says(tmp_path):
    sizes = {name: getattr(random_model().config, name) for name in ("hidden_size", "num_hidden_layers")}
    torch.manual_seed(0)
    bert = BertForMaskedLM(
        BertConfig(vocab_size=len(TOKENIZER), num_attention_heads=2, intermediate_size=64, **sizes)
    ).eval()
    bert.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    fill = SpanFiller.from_pretrained(tmp_path)
    [best] = fill("the old [MASK] won", top_k=1)
    with torch.no_grad():
        logits = bert(**TOKENIZER("the old [MASK] won", return_tensors="pt")).logits[0, 3]
    probabilities = logits[fill.pieces].softmax(-1).numpy() * fill.starts_word
    assert best["filling"] == TOKENIZER.decode(fill.pieces[probabilities.argmax()])
    assert best["score"] == pytest.approx(probabilities.max(), rel=1e-3)


def test_an_encoder_alone_is_refused(tmp_path):
    SpanBertModel(tiny_config(vocab_size=len(TOKENIZER))).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"cannot fill blanks \(no cls.predictions.bias\): expected a checkpoint of"):
        SpanFiller.from_pretrained(tmp_path)


# What cannot be filled


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("the king", {}, "text 0 has 0 blanks: expected 1, written [BLANK] or as a run of [MASK]"),
        ("the [MASK] of [BLANK]", {}, "text 0 has 2 blanks"),
        ("the [MASK] [BLANK]", {}, "text 0 has 2 blanks"),
        (["the [MASK]", "un[MASK] it"], {}, "text 1: the blank touches 'n', a part of a word"),
        ("the [BLANK]s", {}, "text 0: the blank touches 's'"),
        ("the e\u0301[BLANK]", {}, "text 0: the blank touches '\u0301'"),
        (["a [MASK]", None], {}, "text 1: expected a string, got NoneType"),
        (3, {}, "expected a text or a list of texts, got int"),
        ("the [MASK] [MASK]", {"num_words": 3}, "text 0: a blank of 2 pieces cannot hold num_words=3"),
        ("the [MASK]", {"num_words": 0}, "num_words=0: expected a whole number, at least 1"),
        ("the [MASK]", {"top_k": 0}, "top_k=0: expected"),
        ("the [BLANK]", {"max_span_length": 62}, "a blank of 62 pieces leaves no room for its text"),
        ("the " + "[MASK] " * 62, {}, "max_seq_length=64; expected at most 61"),
    ],
)
def test_a_text_that_cannot_be_filled_is_refused_in_a_line(text, options, message):
    with pytest.raises(ValueError) as error:
        filler()(text, **options)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sbo_weight": 1.5}, "sbo_weight=1.5: expected 0"),
        ({"sbo_weight": float("nan")}, "sbo_weight=nan: expected 0"),
        ({"num_beams": 0}, "num_beams=0: expected"),
        ({"batch_size": 0}, "batch_size=0: expected"),
        ({"max_seq_length": 65}, "max_seq_length=65: the model takes at most 64"),
    ],
)
def test_settings_that_do_not_go_with_the_model_are_refused(options, message):
    with pytest.raises(ValueError) as error:
        filler(**options)
    assert message in str(error.value)


def test_weights_that_give_no_numbers_are_refused():
    model = random_model()
    torch.nn.init.constant_(model.cls.predictions.bias, float("nan"))
    with pytest.raises(ValueError, match="scores are not finite in torch.float32"):
        SpanFiller(model, TOKENIZER)(TEXT)


# The command


def test_the_command_prints_the_fillings_of_each_line_of_a_file(checkpoint, tmp_path, capsys):
    path = tmp_path / "blanks.txt"
    path.write_text(f"{TEXT}\n\nwar and [MASK]\n", encoding="utf-8")
    options = ["--model_name_or_path", str(checkpoint), "--num_words", "1", "--top_k", "2"]
    assert main(["predict", "fill", str(path), *options]) == 0
    fillings = SpanFiller.from_pretrained(checkpoint)([TEXT, "war and [MASK]"], num_words=1, top_k=2)
    expected = [[f"{each['score']:.4f}  {each['text']}" for each in found] for found in fillings]
    printed = capsys.readouterr().out
    assert printed == "\n\n".join("\n".join(lines) for lines in expected) + "\n"
    assert main(["predict", "fill", TEXT, *options]) == 0
    assert printed.startswith(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no blank", "text 0 has 0 blanks"),
        ("absent.txt", "file not found: absent.txt"),
        ("empty.txt", "holds no text"),
    ],
)
def test_the_command_says_in_a_line_what_it_cannot_fill(checkpoint, tmp_path, monkeypatch, capsys, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n")
    assert main(["predict", "fill", text, "--model_name_or_path", str(checkpoint)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error
