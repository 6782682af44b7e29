"""What is computed without padding equals what is computed with it."""

import pytest
import torch
from helpers import tiny_config

from modeling_spanbert import SpanBertForQuestionAnswering, SpanBertModel, unpadding
from modeling_spanbert.unpadding import real_tokens


LENGTHS = (3, 9, 1, 0, 5)


def ragged_batch() -> dict[str, torch.Tensor]:
    """Rows of LENGTHS, one with nothing; the second has a hole, as where tokens are hidden from the model."""
    torch.manual_seed(0)
    attention_mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    attention_mask[1, 4] = 0
    shape = attention_mask.shape
    return {
        "input_ids": torch.randint(5, 20, shape),
        "attention_mask": attention_mask,
        "token_type_ids": torch.randint(2, shape),
    }


def padded(monkeypatch) -> None:
    monkeypatch.setattr(unpadding, "WORTH_IT", 0.0)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("embedded", [False, True])
def test_the_encoder_gives_the_same_with_and_without_padding(attention, embedded, monkeypatch):
    model = SpanBertModel(tiny_config(), add_pooling_layer=True).eval()
    model.set_attn_implementation(attention)
    batch = ragged_batch()
    if embedded:
        batch["inputs_embeds"] = model.embeddings.word_embeddings(batch.pop("input_ids"))
    seen = []
    model.encoder.layer[0].register_forward_hook(lambda layer, inputs, output: seen.append(output.shape[:2]))
    output = model(**batch)
    padded(monkeypatch)
    expected = model(**batch)
    assert seen == [(1, sum(LENGTHS) - 1), (5, 9)]
    real = batch["attention_mask"] == 1
    torch.testing.assert_close(output.last_hidden_state[real], expected.last_hidden_state[real], rtol=0, atol=1e-5)
    assert not output.last_hidden_state[~real].any()
    rows = real[:, 0]
    torch.testing.assert_close(output.pooler_output[rows], expected.pooler_output[rows], rtol=0, atol=1e-5)


def test_losses_and_gradients_are_the_same_with_and_without_padding(monkeypatch):
    model = SpanBertForQuestionAnswering(
        tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    ).train()
    model.set_attn_implementation("eager")
    batch = {key: value[:3] for key, value in ragged_batch().items()}
    batch |= {"start_positions": torch.tensor([0, 5, 0]), "end_positions": torch.tensor([2, 8, 0])}

    def loss_and_gradients() -> list[torch.Tensor]:
        loss = model(**batch).loss
        return [loss, *torch.autograd.grad(loss, list(model.parameters()))]

    without = loss_and_gradients()
    padded(monkeypatch)
    for given, expected in zip(without, loss_and_gradients(), strict=True):
        torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("asked", ["output_hidden_states", "output_attentions"])
def test_what_is_asked_for_by_layer_has_the_shape_of_the_batch(asked):
    model = SpanBertModel(tiny_config()).eval()
    model.set_attn_implementation("eager")
    output = model(**ragged_batch(), **{asked: True})
    shapes = {tensor.shape[0] for tensor in output[asked.removeprefix("output_")]}
    assert shapes == {len(LENGTHS)}


def test_only_what_is_worth_it_is_unpadded():
    mask = ragged_batch()["attention_mask"]
    assert real_tokens(mask, mask.shape, "sdpa").lengths == [3, 8, 1, 5]
    assert real_tokens(None, mask.shape, "sdpa") is None
    for other in (mask[:, :-1], mask[:, None, None]):
        assert real_tokens(other, mask.shape, "sdpa") is None
    little_padding = torch.ones(2, 10)
    little_padding[0, 9] = 0
    for mask in (torch.ones(2, 9), torch.zeros(2, 9), little_padding):
        assert real_tokens(mask, mask.shape, "sdpa") is None


def test_a_mask_of_another_shape_is_refused_as_before():
    batch = ragged_batch()
    batch["attention_mask"] = batch["attention_mask"][:, :-1]
    with pytest.raises((ValueError, RuntimeError)):
        SpanBertModel(tiny_config()).eval()(**batch)


def test_flash_attention_is_told_where_sequences_end():
    mask, flash = ragged_batch()["attention_mask"], "flash_attention_2"
    arguments = real_tokens(mask, mask.shape, flash).attention_arguments(flash)
    assert arguments["cu_seq_lens_q"].tolist() == arguments["cu_seq_lens_k"].tolist() == [0, 3, 11, 12, 17]
    assert arguments["max_length_q"] == arguments["max_length_k"] == 8
