"""What a run writes down about itself: run.json at its start, results.json at its end; the card is made of both."""

import json
import platform
import shlex
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase

from modeling_spanbert import SpanBertConfig
from training.arguments import (
    MaskingArguments,
    OptimizationArguments,
    RunArguments,
    resolved,
)
from training.blocks import Blocks
from training.hardware import describe_hardware
from training.loop import TrainerState


PACKAGES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy", "safetensors", "huggingface_hub")


def identity(
    run: RunArguments,
    optimization: OptimizationArguments,
    masking: MaskingArguments,
    blocks: Blocks,
    config: SpanBertConfig,
) -> dict:
    """What a run and the one that resumes it must share, or the second would not be the first continued."""
    return {
        "seed": run.seed,
        "global_batch_size": optimization.global_batch_size,
        "data_fingerprint": blocks.fingerprint,
        "masking": asdict(masking),
        "config": config.to_diff_dict(),
    }


def run_record(argv: list[str], arguments: tuple, accelerator: Accelerator, blocks: Blocks) -> dict:
    """The content of run.json; `arguments` are the five of `training/pretrain.py`, in its order."""
    data, architecture, _, _, run = arguments
    started_from = architecture.config_name or Path(architecture.model_name_or_path).name
    reported = ("num_documents", "num_tokens", "num_rows", "padding_share", "skipped_documents", "skipped_shards")
    counts = {name: blocks.report[name] for name in reported}
    return {
        "model_id": run.hub_model_id or f"spanbert-{Path(started_from).name}-cased",
        "command": shlex.join(["accelerate", "launch", "training/pretrain.py", *argv]),
        "arguments": resolved(*arguments),
        "versions": {"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
        "hardware": describe_hardware(accelerator.num_processes),
        "seed": run.seed,
        "data": {"files": data.train_file or [data.dataset_name], **counts, "fingerprint": blocks.fingerprint},
    }


def results_record(state: TrainerState, optimization: OptimizationArguments, blocks: Blocks) -> dict:
    """The content of results.json: how far the run came, in what time, and its last scores."""
    rows = state.step * optimization.global_batch_size
    return {
        "step": state.step,
        "num_tokens_seen": round(rows * blocks.max_seq_length * (1 - blocks.report["padding_share"])),
        "num_passes": rows / len(blocks),
        "wall_seconds": state.seconds,
        "skipped_updates": state.skipped_updates,
        "held_out": state.evaluation or None,
    }


def checkpoint_files(config: SpanBertConfig, tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """What makes a checkpoint's tensors a model: its configuration and tokenizer, by file name."""
    return {"config.json": config.to_json_string(), "tokenizer.json": tokenizer.backend_tokenizer.to_str()}


def write_json(record: dict, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
