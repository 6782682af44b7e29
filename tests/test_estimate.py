"""`python -m training.estimate`: its activations are what autograd keeps, and docs/scaling.md has its tables."""

from dataclasses import replace

import pytest
import torch
from helpers import ROOT

from modeling_spanbert import SpanBertConfig, SpanBertForPreTraining, dropout
from training.estimate import PAPER, estimate, main
from training.progress import flops_per_token


ROWS, LENGTH, HIDDEN = 3, 50, 128


def bytes_kept(num_layers: int, gradient_checkpointing: bool) -> int:
    """What autograd keeps of a forward pass in bf16 with fused attention, without weights and their copies."""
    config = SpanBertConfig(
        vocab_size=100,
        hidden_size=HIDDEN,
        num_hidden_layers=num_layers,
        num_attention_heads=2,
        intermediate_size=4 * HIDDEN,
        attention_probs_dropout_prob=0.0,  # on a CPU torch has no fused attention with dropout
        objectives=["mlm"],
    )
    model = SpanBertForPreTraining(config).train()
    model.set_attn_implementation("sdpa")
    if gradient_checkpointing:
        model.activation_checkpointing_enable()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    shapes = {shape for p in model.parameters() if p.dim() == 2 for shape in (tuple(p.shape), tuple(p.T.shape))}
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        is_copy = tensor.dtype == torch.bfloat16 and tuple(tensor.shape) in shapes
        if storage.data_ptr() not in weights and not is_copy:
            kept[storage.data_ptr()] = storage.nbytes(), tensor  # which is held, so that no other takes its place
        return tensor

    ids = torch.randint(0, 100, (ROWS, LENGTH))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        model(input_ids=ids, labels=ids)
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_the_activations_of_a_layer_are_what_autograd_keeps(monkeypatch, gradient_checkpointing):
    monkeypatch.setattr(dropout, "number_dropped", lambda *args: None)  # torch's, as on a GPU
    measured = (bytes_kept(4, gradient_checkpointing) - bytes_kept(2, gradient_checkpointing)) / 2
    two, four = (
        replace(estimate(PAPER[0]), num_layers=num_layers, hidden_size=HIDDEN, max_seq_length=LENGTH)
        for num_layers in (2, 4)
    )
    expected = (four.activations(ROWS, gradient_checkpointing) - two.activations(ROWS, gradient_checkpointing)) / 2
    # torch keeps which elements are dropped in a byte on a GPU, in two on a CPU in bf16: two dropouts a layer.
    of_masks = 0 if gradient_checkpointing else 2 * ROWS * LENGTH * HIDDEN
    assert measured == pytest.approx(expected + of_masks, rel=0.01)  # statistics of LayerNorms and softmax beside


def test_the_paper_s_schedules_are_estimated_as_its_recipes_say(capsys):
    base, large = map(estimate, PAPER)
    assert (base.name, large.name) == ("base", "large")
    assert large.steps == 2_400_000 and large.tokens_per_step == 256 * 512
    config = SpanBertConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)
    assert large.flops == flops_per_token(config, 512, 0.15) * 2_400_000 * 256 * 512
    with torch.device("meta"):
        assert large.num_parameters == sum(p.numel() for p in SpanBertForPreTraining(config).parameters())
    assert large.states() == 18 * large.num_parameters and large.states(8) == 4 * large.num_parameters
    assert large.exchanged(2) == 4 * large.num_parameters == large.exchanged(2, sharded=True) / 1.5

    assert main([]) == 0
    document = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    for table in capsys.readouterr().out.strip().split("\n\n"):
        assert table in document


def test_a_recipe_that_has_no_size_is_refused(tmp_path, capsys):
    recipe = tmp_path / "continue.yaml"
    recipe.write_text("model_name_or_path: weights\n")
    with pytest.raises(SystemExit) as stopped:
        main([str(recipe)])
    assert stopped.value.code == 2
    assert "config_name=None; expected one of tiny, mini, small, base, large" in capsys.readouterr().err
