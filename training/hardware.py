"""The machine: what it is called in run.json, and what of a launch does not fit it."""

import os
import platform
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils import parse_flag_from_env
from torch.distributed.fsdp import CPUOffloadPolicy
from transformers.utils import is_flash_attn_2_available


def describe_hardware(accelerator: Accelerator) -> str:
    """A phrase for the model card: the accelerators or the CPU, and how many of them work."""
    if accelerator.device.type == "cuda":
        return f"{accelerator.num_processes} x {torch.cuda.get_device_name()}"
    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    return f"CPU ({cpu}), {accelerator.num_processes} x {torch.get_num_threads()} threads"


def attention_form(device: torch.device, mixed_precision: str) -> str:
    """The fastest attention that has dropout, of those that are installed; flex attention has none.

    On a CPU the products of eager attention beat torch's fused one, in bf16 by more than twice. Flash attention
    computes nothing between the sequences of packed rows, and in bf16 only.
    """
    if device.type == "cpu":
        return "eager"
    return "flash_attention_2" if mixed_precision == "bf16" and is_flash_attn_2_available() else "sdpa"


def launch_notes(accelerator: Accelerator) -> list[str]:
    """What the launcher decided without being asked, where it makes the run slow."""
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    if accelerator.device.type != "cpu" or threads * accelerator.num_processes >= cores:
        return []
    return [
        f"{threads} x {accelerator.num_processes} of {cores} CPU threads at work (accelerate's default is one a "
        f"process): accelerate launch --num_cpu_threads_per_process {cores // accelerator.num_processes} uses more"
    ]


def check_sharding(plugin: FullyShardedDataParallelPlugin) -> None:
    """Raises ValueError for settings of FSDP with which a run would not be what it is without FSDP."""
    expected = {
        f"FSDP {plugin.fsdp_version}": (plugin.fsdp_version != 2, "FSDP2: --fsdp_version 2, or FSDP_VERSION=2"),
        "fsdp_activation_checkpointing": (
            plugin.activation_checkpointing,  # its second forward pass draws another dropout
            "the recipe's: --gradient_checkpointing true",
        ),
        "fsdp_offload_params": (
            isinstance(plugin.cpu_offload, CPUOffloadPolicy),
            "weights that stay on the GPUs: leave it out, or give more GPUs",
        ),
    }
    for given, (is_wrong, instead) in expected.items():
        if is_wrong:
            raise ValueError(f"accelerate was launched for {given}; expected {instead}")


def check_launch(accelerator: Accelerator) -> None:
    """Raises ValueError for a launch that this loop does not know, or that is not what it looks like."""
    known = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU, DistributedType.FSDP)
    if accelerator.distributed_type not in known or accelerator.parallelism_config is not None:
        more = "" if accelerator.parallelism_config is None else " with a parallelism_config"
        raise ValueError(
            f"accelerate was launched for {accelerator.distributed_type.value}{more}; expected one process, data "
            "parallelism (--multi_gpu) or FSDP2 (--use_fsdp --fsdp_version 2)"
        )
    on_cpus = "on CPUs launch with ACCELERATE_USE_CPU=true torchrun --nproc_per_node"
    if accelerator.distributed_type == DistributedType.FSDP:
        check_sharding(accelerator.state.fsdp_plugin)
    elif parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise ValueError(
            f"FSDP was asked for, but accelerate shards on GPUs alone, in processes that torchrun or its launcher "
            f"starts, and would train {accelerator.num_processes} x {accelerator.device.type} without it: {on_cpus} N"
        )
    started = int(os.environ.get("WORLD_SIZE", 1))
    if started != accelerator.num_processes:
        raise ValueError(
            f"{started} processes were started, but each sees {accelerator.num_processes}: {on_cpus} {started}"
        )
    # `accelerate launch` tells one process where to meet others, and its own settings, but no number of them.
    if "WORLD_SIZE" not in os.environ and {"MASTER_ADDR", "ACCELERATE_DYNAMO_BACKEND"} <= os.environ.keys():
        raise ValueError(
            f"accelerate launch was given num_processes > 1, but started one: {on_cpus} N, on GPUs add --multi_gpu "
            "(if one was meant: unset MASTER_ADDR)"
        )
