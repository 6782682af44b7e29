"""FSDP2 over gloo trains as data parallelism does, from and to the same checkpoints; where it cannot it is refused."""

import json
from types import SimpleNamespace

import pytest
import torch
from accelerate import DistributedType, FullyShardedDataParallelPlugin
from finetune_helpers import LEARNT, TinyFinetuning
from run_helpers import TinyRun, kill_at, shard_on_cpu, without_clean_process
from safetensors.torch import load_file
from torch.distributed.fsdp import FSDPModule

from modeling_spanbert import SpanBertConfig, SpanBertForPreTraining
from training import finish, loop
from training.hardware import check_launch


NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
WAYS = {
    "with_accumulation": {"per_device_train_batch_size": 4},
    "with_gradient_checkpointing": {"gradient_checkpointing": "true"},
    "in_bf16": {"mixed_precision": "bf16"},
    "from_weights": {"config_name": None},
}


@pytest.fixture(scope="module")
def clean():
    exported = finish.export
    without_clean_process()
    yield
    finish.export = exported


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory, clean):
    return TinyRun(tmp_path_factory.mktemp("run"))


def tensors(tiny_run, run: str, step: int | None = None) -> torch.Tensor:
    """All weights of the export, or weights and moments of a checkpoint, as one vector."""
    folder = tiny_run.folder / run
    paths = [folder / "export" / "model.safetensors"]
    if step is not None:
        checkpoint = folder / "checkpoints" / f"step_{step:08d}"
        paths = [checkpoint / "model.safetensors", checkpoint / "optimizer.safetensors"]
    return torch.cat([tensor.flatten() for path in paths for _, tensor in sorted(load_file(path).items())])


def assert_close(tiny_run, run: str, other: str, rel: float = 1e-6):
    """But for the order of sums."""
    for line, of_other in zip(tiny_run.losses(run), tiny_run.losses(other), strict=True):
        assert line.keys() == of_other.keys()
        for name in ("step", "loss", "lr", "grad_norm", "skipped_updates"):
            if line.get(name) is not None:
                assert line[name] == pytest.approx(of_other[name], rel=rel), f"{name} of step {line['step']}"
        if "mlm_loss" in line.get("eval", {}):
            assert line["eval"]["mlm_loss"] == pytest.approx(of_other["eval"]["mlm_loss"], rel=rel)
    weights, other_weights = tensors(tiny_run, run), tensors(tiny_run, other)
    assert (weights - other_weights).norm() <= rel * other_weights.norm()


def without_a_finite_gradient(steps: tuple[int, ...]):
    """Makes the loss of one process of two Inf in the updates after `steps` others."""
    original = loop.update

    def update(accelerator, model, *args):
        forward = model.forward
        if args[2] in steps and accelerator.process_index == 1:

            def infinite(*batch, **more):
                output = forward(*batch, **more)
                output.loss = output.loss * torch.inf
                return output

            model.forward = infinite
        try:
            return original(accelerator, model, *args)
        finally:
            model.forward = forward

    loop.update = update


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_shards_train_as_data_parallelism_does(tiny_run, way):
    def record_shares(rank):
        shard_on_cpu()
        original = loop.update

        def recorded(accelerator, model, optimizer, *args):
            updated = original(accelerator, model, optimizer, *args)
            for_each = [list(model.parameters()), [state["exp_avg"] for state in optimizer.state.values()]]
            shares = [sum(t.to_local().numel() for t in of) / sum(t.numel() for t in of) for of in for_each]
            groups = [type(module).__name__ for module in model.modules() if isinstance(module, FSDPModule)]
            (tiny_run.folder / f"{way}.{rank}.json").write_text(json.dumps([shares, groups]))
            return updated

        loop.update = recorded

    changes = WAYS[way]
    if way == "from_weights":
        start = tiny_run.folder / "start"
        SpanBertForPreTraining(SpanBertConfig.from_pretrained(tiny_run.folder / "config")).save_pretrained(start)
        changes = changes | {"model_name_or_path": start}
    assert tiny_run.run_in_processes(f"plain_{way}", **changes) == [0, 0]
    assert tiny_run.run_in_processes(f"shards_{way}", record_shares, **changes) == [0, 0]
    for rank in range(2):
        shares, groups = json.loads((tiny_run.folder / f"{way}.{rank}.json").read_text())
        assert groups == ["FSDPSpanBertForPreTraining", *["FSDPSpanBertLayer"] * 2]
        assert shares == [pytest.approx(0.5, abs=0.02)] * 2  # of weights and of moments; those of odd size are uneven
    assert_close(tiny_run, f"shards_{way}", f"plain_{way}", 1e-3 if way == "in_bf16" else 1e-6)


@pytest.mark.slow
def test_all_shards_skip_an_update_that_is_not_finite_in_one_process(tiny_run):
    def plain(rank):
        without_a_finite_gradient((4, 5))

    def shards(rank):
        shard_on_cpu()
        plain(rank)

    assert tiny_run.run_in_processes("plain", plain) == [0, 0]
    assert tiny_run.run_in_processes("shards", shards) == [0, 0]
    assert_close(tiny_run, "shards", "plain")
    assert tiny_run.losses("shards")[-2]["skipped_updates"] == 2


@pytest.mark.slow
def test_a_run_goes_on_with_and_without_shards_in_any_number_of_processes(tiny_run):
    def killed(arrange=lambda rank: None):
        def arranged(rank=0):
            arrange(rank)
            kill_at(loop, "update", 5)

        return arranged

    kept = {**NO_DROPOUT, "per_device_train_batch_size": 4, "checkpoints_total_limit": "none"}
    resumed = {**kept, "resume_from_checkpoint": "auto"}
    assert tiny_run.run_in_child("unbroken", **kept) == 0
    assert 0 not in tiny_run.run_in_processes("broken", killed(shard_on_cpu), **kept)  # to step 3
    assert 0 not in tiny_run.run_in_processes("broken", killed(), **resumed)  # to step 6
    # Of four processes some have nothing of the smallest tables.
    assert 0 not in tiny_run.run_in_processes("broken", killed(shard_on_cpu), num_processes=4, **resumed)  # to step 9
    assert tiny_run.run_in_child("broken", **resumed) == 0
    assert_close(tiny_run, "broken", "unbroken")
    for step in (3, 6, 9, 12):
        found, expected = tensors(tiny_run, "broken", step), tensors(tiny_run, "unbroken", step)
        assert (found - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.slow
def test_a_run_of_shards_that_is_killed_goes_on_bit_for_bit(tiny_run):
    def killed(rank):
        shard_on_cpu()
        if rank == 1:
            kill_at(loop, "update", 8)

    assert tiny_run.run_in_processes("whole", shard_on_cpu) == [0, 0]
    assert 0 not in tiny_run.run_in_processes("killed", killed)
    assert tiny_run.run_in_processes("killed", shard_on_cpu, resume_from_checkpoint="auto") == [0, 0]
    assert tiny_run.losses("killed") == tiny_run.losses("whole")
    assert tiny_run.weights("killed") == tiny_run.weights("whole")
    command = json.loads((tiny_run.folder / "killed" / "run.json").read_text())["command"]
    assert command.startswith("ACCELERATE_USE_CPU=true ACCELERATE_USE_FSDP=true FSDP_VERSION=2 torchrun ")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["squad_v2", "ontonotes_coref"])
def test_fine_tuning_of_shards_keeps_the_same_best_weights(tmp_path_factory, clean, task):
    """Processes evaluate shares of unequal size, and the threshold of no answer gets into the export."""
    finetuning = TinyFinetuning(tmp_path_factory.mktemp(task))
    changes = {"task": task, **LEARNT[task], **NO_DROPOUT, "evaluations_per_epoch": 1}
    if task == "ontonotes_coref":
        changes |= {"num_train_epochs": 4, "eval_steps": 3, "global_batch_size": 2}
    assert finetuning.run_in_processes("plain", **changes) == [0, 0], finetuning.said("plain", 0)
    assert finetuning.run_in_processes("shards", shard_on_cpu, **changes) == [0, 0], finetuning.said("shards", 0)
    assert_close(finetuning, "shards", "plain", 1e-4)
    results, configs = (
        [json.loads((finetuning.folder / run / file).read_text()) for run in ("plain", "shards")]
        for file in ("results.json", "export/config.json")
    )
    assert results[0]["best_step"] == results[1]["best_step"]
    threshold = "null_score_diff_threshold"
    if task == "squad_v2":
        assert configs[0].pop(threshold) == pytest.approx(configs[1].pop(threshold), rel=1e-3)
    assert configs[0] == configs[1]


def test_shards_that_accelerate_would_not_make_are_refused(tiny_run, monkeypatch, capsys):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    with pytest.raises(SystemExit) as stopped:
        tiny_run.run("refused")
    assert stopped.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: FSDP was asked for, but accelerate shards on GPUs alone") and "\n" not in error
    assert "ACCELERATE_USE_CPU=true torchrun --nproc_per_node" in error
    assert not (tiny_run.folder / "refused").exists()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"fsdp_version": 1}, "FSDP 1; expected FSDP2: --fsdp_version 2"),
        ({"activation_checkpointing": True}, "fsdp_activation_checkpointing; expected the recipe's: --gradient_check"),
        ({"cpu_offload": True}, "fsdp_offload_params; expected weights that stay on the GPUs"),
    ],
)
def test_shards_of_another_kind_are_refused(settings, message):
    plugin = FullyShardedDataParallelPlugin(**{"fsdp_version": 2} | settings)
    accelerator = SimpleNamespace(
        distributed_type=DistributedType.FSDP,
        parallelism_config=None,
        state=SimpleNamespace(fsdp_plugin=plugin),
        num_processes=1,
    )
    with pytest.raises(ValueError, match=message):
        check_launch(accelerator)


@pytest.mark.slow
def test_compiled_steps_of_shards_are_refused(tiny_run):
    assert tiny_run.run_in_processes("compiled", shard_on_cpu, torch_compile="true") == [2, 2]
    assert "torch_compile=true under FSDP2" in tiny_run.said("compiled", 0)
    assert not (tiny_run.folder / "compiled").exists()
