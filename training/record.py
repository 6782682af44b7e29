"""What a run writes down about itself: run.json at its start, results.json at its end; the card is made of both."""

import contextlib
import json
import os
import platform
import shlex
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase

from modeling_spanbert import SIZES, SpanBertConfig
from modeling_spanbert.files import decode_json, written
from training.arguments import DataArguments, RunArguments, UpdateArguments, WeightsArguments, resolved
from training.blocks import Blocks
from training.hardware import describe_hardware
from training.loop import TrainerState


PACKAGES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy", "safetensors", "huggingface_hub")


def identity(
    run: RunArguments, optimization: UpdateArguments, data_fingerprint: str, config: SpanBertConfig, **more: dict
) -> dict:
    """What a run and the one that resumes it must share, or the second would not be the first continued."""
    return {
        "seed": run.seed,
        "global_batch_size": optimization.global_batch_size,
        "data_fingerprint": data_fingerprint,
        "config": config.to_diff_dict(),
        **more,
    }


def default_model_id(architecture: WeightsArguments) -> str:
    """`spanbert-SIZE-cased`, or after the configuration or weights that the run starts from."""
    if architecture.config_name in SIZES:
        return f"spanbert-{architecture.config_name}-cased"
    name = start_name(architecture.config_name or architecture.model_name_or_path)
    return name if name.lower().startswith("spanbert") else f"spanbert-{name}"


def start_name(model_name_or_path: str | None) -> str | None:
    """What weights are called: what an export says of itself, else the last folder of a path or of a Hub id."""
    if model_name_or_path is None:
        return None
    path = Path(os.path.abspath(model_name_or_path))  # links keep their names
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(decode_json((path / "results.json").read_bytes())["run"]["model_id"]).split("/")[-1]
    return path.parent.name if path.name in ("config.json", "export") else path.name


def run_record(script: str, argv: list[str], arguments: tuple, accelerator: Accelerator, model_id: str) -> dict:
    """The content of run.json, but for the data; `arguments` are all dataclasses of the run."""
    fields = resolved(*arguments)
    return {
        "model_id": model_id,
        "command": shlex.join([*_launcher(accelerator), script, *argv]),
        "arguments": fields,
        "versions": {"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
        "hardware": describe_hardware(accelerator),
        "seed": fields["seed"],
    }


def data_record(data: DataArguments, blocks: Blocks) -> dict:
    """What run.json says of the text of a pre-training run."""
    reported = (
        "num_documents",
        "num_tokens",
        "num_rows",
        "padding_share",
        "skipped_documents",
        "skipped_shards",
        "num_cut_sentences",  # of packed sequences
        "num_truncated_tokens",  # of pairs
        "warnings",
    )
    counts = {name: blocks.report[name] for name in reported if name in blocks.report}
    return {"files": data.train_file or [data.dataset_name], **counts, "fingerprint": blocks.fingerprint}


def _launcher(accelerator: Accelerator) -> list[str]:
    """What starts as many processes again, whatever started these."""
    if accelerator.num_processes == 1:
        return ["accelerate", "launch"]
    machines, on_this_one = (int(os.environ.get(f"{name}_WORLD_SIZE", 1)) for name in ("GROUP", "LOCAL"))
    variables = ["ACCELERATE_USE_CPU=true"] if accelerator.device.type == "cpu" else []
    if accelerator.is_fsdp2:
        variables += ["ACCELERATE_USE_FSDP=true", "FSDP_VERSION=2"]
    nodes = ["--nnodes", str(machines)] if machines > 1 else []
    return [*variables, "torchrun", *nodes, "--nproc_per_node", str(on_this_one)]


def results_record(state: TrainerState, optimization: UpdateArguments, num_rows: int) -> dict:
    """The content of results.json, but for the scores: how far the run came, in what time."""
    return {
        "step": state.step,
        "num_tokens_seen": state.num_tokens,
        "num_passes": state.step * optimization.global_batch_size / num_rows,
        "wall_seconds": state.seconds,
        "skipped_updates": state.skipped_updates,
    }


def checkpoint_files(config: SpanBertConfig, tokenizer: PreTrainedTokenizerBase) -> dict[str, bytes]:
    """What makes a checkpoint's tensors a model: its configuration and tokenizer, by file name."""
    with TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.suffix in (".json", ".txt")}


def write_json(record: dict, path: Path) -> None:
    """Whole, or as it was before: who is killed while writing leaves nothing that cannot be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written(path) as file:
        file.write(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
