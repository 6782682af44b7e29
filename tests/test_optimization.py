"""AdamW and the learning rate (training/optimization.py), against traces of the original's optimizer."""

import json

import pytest
import torch
from helpers import testdata_file
from torch import nn

from training.arguments import OptimizationArguments
from training.optimization import decoupled_adamw, learning_rate_at


@pytest.fixture(scope="module")
def original() -> dict:
    return json.loads(testdata_file("original", "optim.json").read_text())


@pytest.mark.parametrize("name", ["fairseq_adam_lr1e-4_wd0.01_eps1e-8", "fairseq_adam_lr1e-1_wd0.1_eps1e-8"])
def test_adamw_moves_parameters_as_the_original(original, name):
    trace = original[name]
    parameter = nn.Parameter(torch.tensor(trace["initial"]))
    optimizer = decoupled_adamw(
        nn.ParameterList([parameter]),
        OptimizationArguments(
            learning_rate=trace["kwargs"]["lr"],
            weight_decay=trace["kwargs"]["weight_decay"],
            adam_epsilon=trace["kwargs"]["eps"],
            decay_biases_and_layer_norms=True,
        ),
    )
    for gradient, expected in zip(trace["grads"], trace["parameter_after_each_step"], strict=True):
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        torch.testing.assert_close(parameter.detach(), torch.tensor(expected), atol=1e-6, rtol=1e-6)


def test_epsilon_acts_after_the_bias_correction_which_only_tiny_gradients_show():
    learning_rate, epsilon, beta2 = 0.1, 1e-8, 0.999
    for gradient in (1e-2, 1e-8):
        parameter = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = decoupled_adamw(
            nn.ParameterList([parameter]), OptimizationArguments(learning_rate=learning_rate, adam_epsilon=epsilon)
        )
        parameter.grad = torch.full((1,), gradient, dtype=torch.float64)
        optimizer.step()
        ours = -learning_rate * gradient / (gradient + epsilon)
        originals = -learning_rate * gradient / (gradient + epsilon / (1 - beta2) ** 0.5)
        assert parameter.item() == pytest.approx(ours)
        assert (ours == pytest.approx(originals, rel=1e-4)) == (gradient == 1e-2)


def model() -> nn.Module:
    layers = nn.ModuleDict({"embedding": nn.Embedding(5, 4), "dense": nn.Linear(4, 5), "norm": nn.LayerNorm(4)})
    layers["dense"].weight = layers["embedding"].weight  # tied
    layers["frozen"] = nn.Linear(4, 4).requires_grad_(False)
    return layers


def test_biases_and_layer_norms_are_not_decayed_unless_asked():
    decayed, others = decoupled_adamw(model(), OptimizationArguments(weight_decay=0.1)).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert [tuple(p.shape) for p in decayed["params"]] == [(5, 4)]
    assert [tuple(p.shape) for p in others["params"]] == [(5,), (4,), (4,)]

    (everything,) = decoupled_adamw(model(), OptimizationArguments(decay_biases_and_layer_norms=True)).param_groups
    assert len(everything["params"]) == 4
    assert everything["fused"]


@pytest.mark.parametrize(
    ("name", "peak", "total"),
    [
        ("pretrain_lr_large_1e-4_warmup10000_total2400000", 1e-4, 2_400_000),
        ("pretrain_lr_base_5e-4_warmup10000_total300000", 5e-4, 300_000),
    ],
)
def test_the_schedule_is_exactly_the_originals(original, name, peak, total):
    optimization = OptimizationArguments(learning_rate=peak, num_warmup_steps=10_000, max_train_steps=total)
    for after, expected in original[name].items():
        assert learning_rate_at(int(after), optimization) == pytest.approx(expected, rel=1e-9, abs=0)


def test_the_schedule_rises_to_the_peak_and_falls_to_nothing():
    optimization = OptimizationArguments(learning_rate=1.0, num_warmup_steps=4, max_train_steps=12)
    rates = [learning_rate_at(step, optimization) for step in range(14)]
    assert rates == [0, 0.25, 0.5, 0.75, 1, 7 / 12, 6 / 12, 5 / 12, 4 / 12, 3 / 12, 2 / 12, 1 / 12, 0, 0]


@pytest.mark.parametrize(("warmup", "total", "second"), [(0, 10, 0.9), (10, 10, 0.1), (100, 10, 0.01)])
def test_no_warm_up_only_warm_up_and_a_run_inside_its_warm_up(warmup, total, second):
    optimization = OptimizationArguments(learning_rate=1.0, num_warmup_steps=warmup, max_train_steps=total)
    rates = [learning_rate_at(step, optimization) for step in range(total)]
    assert rates[:2] == [float(warmup == 0), second]
    assert all(0 < rate <= 1 for rate in rates[1:])
