"""A run with torch_compile is the run without it, and resumes as exactly; another backend than inductor is quicker."""

import signal
from functools import partialmethod
from types import SimpleNamespace

import pytest
import torch
from run_helpers import TinyRun, kill_at, without_clean_process
from safetensors.torch import load

from modeling_spanbert import SpanBertForPreTraining
from training import hardware, loop
from training.arguments import OptimizationArguments
from training.batches import KeyedBatches


CHANGES = {"torch_compile": True, "max_train_steps": 5, "checkpointing_steps": 2, "eval_steps": 2}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    return TinyRun(tmp_path_factory.mktemp("run"))


def compiled_once():
    without_clean_process()
    SpanBertForPreTraining.compile = partialmethod(torch.nn.Module.compile, backend="eager")
    torch._dynamo.config.error_on_recompile = True


def killed():
    compiled_once()
    kill_at(loop, "update", 4)


@pytest.mark.slow
def test_a_killed_compiled_run_ends_as_if_it_had_not_been(tiny_run):
    assert tiny_run.run_in_child("unbroken", compiled_once, **CHANGES) == 0
    assert tiny_run.run_in_child("killed", killed, **CHANGES) == -signal.SIGKILL
    assert tiny_run.run_in_child("killed", compiled_once, resume_from_checkpoint="auto", **CHANGES) == 0
    assert tiny_run.losses("killed") == tiny_run.losses("unbroken")
    assert tiny_run.weights("killed") == tiny_run.weights("unbroken")


@pytest.mark.slow
@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_compiling_changes_neither_losses_nor_names_of_tensors(tiny_run, mixed_precision):
    changes = CHANGES | NO_DROPOUT | {"mixed_precision": mixed_precision, "per_device_train_batch_size": 4}
    plain, compiled = f"plain_{mixed_precision}", f"compiled_{mixed_precision}"
    assert tiny_run.run_in_child(compiled, compiled_once, **changes) == 0
    assert tiny_run.run_in_child(plain, without_clean_process, **changes | {"torch_compile": False}) == 0
    tolerance = 1e-4 if mixed_precision == "no" else 0.02
    for one, other in zip(tiny_run.losses(compiled), tiny_run.losses(plain), strict=True):
        assert one.keys() == other.keys()
        if "loss" in one:
            assert one["loss"] == pytest.approx(other["loss"], rel=tolerance)
    shapes = [
        {name: tensor.shape for name, tensor in load(tiny_run.weights(run)).items()} for run in (compiled, plain)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("masking_scheme", ["geometric_spans", "subwords"])
def test_no_batch_of_a_run_is_beyond_its_limits(tiny_run, masking_scheme):
    """Without a graph the model itself refuses one that is."""
    objectives = {"objectives": "mlm"} if masking_scheme == "subwords" else {}
    changes = CHANGES | objectives | {"masking_scheme": masking_scheme, "eval_steps": None, "max_train_steps": 12}

    def uncompiled():
        without_clean_process()
        SpanBertForPreTraining.compile = lambda *args, **kwargs: None

    def run(name: str, **more) -> list[float]:
        assert tiny_run.run_in_child(f"{name}_{masking_scheme}", uncompiled, **changes | more) == 0
        return [line["loss"] for line in tiny_run.losses(f"{name}_{masking_scheme}") if "loss" in line]

    assert run("limits") == pytest.approx(run("none", torch_compile=False), rel=1e-4)


def test_sequences_of_a_batch_are_within_the_limit():
    class Rows:
        max_seq_length, max_sequences = 10, 2

        def __len__(self):
            return 8

    collator = SimpleNamespace(mask_ratio=0.15, seed=0)
    optimization = OptimizationArguments(global_batch_size=8, per_device_train_batch_size=4)
    limits = KeyedBatches(Rows(), collator, optimization).limits()
    assert limits == {"max_masked_tokens": 4 * 2, "max_sequences": 4 * 3}  # 2: ceil(1.5); 3: padding is one


def test_check_plans_a_compiled_run(tiny_run, monkeypatch, capsys):
    monkeypatch.setattr(SpanBertForPreTraining, "compile", partialmethod(torch.nn.Module.compile, backend="eager"))
    assert tiny_run.run("checked", check=True, **CHANGES) == 0
    printed = capsys.readouterr().out
    assert "note: torch_compile makes training slower on a CPU" in printed and "tokens a step" in printed


@pytest.mark.parametrize(
    ("device", "mixed_precision", "is_installed", "expected"),
    [
        ("cpu", "bf16", True, "eager"),
        ("cuda", "bf16", True, "flash_attention_2"),
        ("cuda", "no", True, "sdpa"),
        ("cuda", "bf16", False, "sdpa"),
    ],
)
def test_attention_is_chosen_by_device_precision_and_what_is_installed(
    device, mixed_precision, is_installed, expected, monkeypatch
):
    monkeypatch.setattr(hardware, "is_flash_attn_2_available", lambda: is_installed)
    assert hardware.attention_form(torch.device(device), mixed_precision) == expected
