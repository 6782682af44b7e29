"""What a recipe takes, by arithmetic alone: memory of a process, and the time of the whole schedule on known machines.

    python -m training.estimate [RECIPE.yaml ...]

Prints the tables of docs/scaling.md, of the paper's two models by default. What a run takes on the machine at hand is
what its own `--check` measures.
"""

import math
import sys
from dataclasses import dataclass
from typing import NamedTuple

from training.arguments import PRETRAINING, RECIPES, one_line_errors, parse_recipe
from training.markdown import table


PAPER = [str(RECIPES / "pretrain" / f"spanbert_{size}_cased.yaml") for size in ("base", "large")]
VOCABULARY = 28_996  # of the paper
NUM_PROCESSES = (1, 8, 32)
GB = 1e9
DAY = 24 * 60 * 60


class Machine(NamedTuple):
    """`flops` a second of all its devices together, at the peak, and the share of it that a step reaches."""

    name: str
    flops: float
    share: float
    basis: str


MACHINES = (
    Machine("2 CPU cores, bf16", 0.405e12, 0.57, "measured, benchmarks/README.md"),
    Machine("1 x A100", 312e12, 0.40, "assumed"),
    Machine("1 x H100", 989e12, 0.40, "assumed"),
    Machine("8 x H100", 8 * 989e12, 0.40, "assumed"),
    Machine("32 x H100", 32 * 989e12, 0.40, "assumed"),
    Machine("32 x V100", 32 * 125e12, 0.12, "from the paper's 15 days"),
)


@dataclass
class Estimate:
    """Bytes, FLOPs and updates of a recipe; a row is of `max_seq_length` tokens, each process has a replica.

    States, in bytes a parameter: weights 4, gradients 4, moments 8, in fp32; 2 for the copy that bf16 computes with.

    Activations on a GPU in bf16, kept for the gradient, in bytes a token, H being the hidden size. A layer: the inputs
    of query, key and value in three copies 6 H, the three 6 H, what attention gives 2 H, the inputs of both LayerNorms
    8 H and their dropout 2 H, the input of the feed-forward part 2 H, before and after its GELU 16 H: 42 H, without
    attention's T x T, which fused attention does not keep. With gradient checkpointing 4 H, its input, and 42 H once.
    A logit of the heads, at the peak: 14, in bf16 and, in fp32, as score, with its bias, and as log-probability.
    """

    name: str
    num_parameters: int
    num_layers: int
    hidden_size: int
    logits_per_token: float
    max_seq_length: int
    global_batch_size: int
    rows_at_a_time: int
    steps: int
    flops_per_token: float

    @property
    def tokens_per_step(self) -> int:
        return self.global_batch_size * self.max_seq_length

    @property
    def flops(self) -> float:
        """Of the whole schedule."""
        return self.flops_per_token * self.tokens_per_step * self.steps

    def states(self, num_shards: int = 1) -> float:
        """Bytes of weights, gradients and moments in a process, or in each of `num_shards` under FSDP2.

        The copies in bf16 are whole there too: they are kept for the gradient.
        """
        return self.num_parameters * (16 / num_shards + 2)

    def activations(self, rows: int, gradient_checkpointing: bool = False) -> float:
        """Bytes of `rows` in a forward pass."""
        layers = (4 * self.num_layers + 42) if gradient_checkpointing else 42 * self.num_layers
        return rows * self.max_seq_length * (layers * self.hidden_size + 14 * self.logits_per_token)

    def exchanged(self, num_processes: int, sharded: bool = False) -> float:
        """Bytes that a process sends an update: gradients there and back, or weights twice and gradients once."""
        return (3 if sharded else 2) * 4 * self.num_parameters * (num_processes - 1) / num_processes

    def seconds_per_step(self, machine: Machine) -> float:
        return self.flops_per_token * self.tokens_per_step / (machine.flops * machine.share)


def estimate(recipe: str) -> Estimate:
    """Raises ValueError for a recipe that does not start from scratch at a named size."""
    data, architecture, masking, optimization, _ = parse_recipe(PRETRAINING, [recipe, "--check"])
    import torch

    from modeling_spanbert import SIZES, SpanBertConfig, SpanBertForPreTraining
    from training.progress import flops_per_token

    if architecture.config_name not in SIZES:
        raise ValueError(f"{recipe}: config_name={architecture.config_name}; expected one of {', '.join(SIZES)}")
    fields = SIZES[architecture.config_name] | {"vocab_size": VOCABULARY}
    if architecture.objectives:
        fields["objectives"] = architecture.objectives
    config = SpanBertConfig(**fields)
    with torch.device("meta"):
        model = SpanBertForPreTraining(config)
    num_heads = len({"mlm", "sbo"} & set(config.objectives))
    return Estimate(
        name=architecture.config_name,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        num_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        logits_per_token=num_heads * masking.mask_ratio * config.vocab_size,
        max_seq_length=data.max_seq_length,
        global_batch_size=optimization.global_batch_size,
        rows_at_a_time=optimization.per_device_train_batch_size,
        steps=optimization.last_step,
        flops_per_token=flops_per_token(config, data.max_seq_length, masking.mask_ratio),
    )


def tables(estimates: list[Estimate]) -> str:
    """Of memory and of time, as Markdown."""
    names = [each.name for each in estimates]
    memory = {
        "parameters": [f"{each.num_parameters:,}" for each in estimates],
        "a checkpoint, GB": [f"{12 * each.num_parameters / GB:.2f}" for each in estimates],
        "weights, gradients, moments, GB": [f"{each.states() / GB:.2f}" for each in estimates],
        "the same under FSDP2 in 8 processes, GB": [f"{each.states(8) / GB:.2f}" for each in estimates],
        "activations of a row, GB": [f"{each.activations(1) / GB:.3f}" for each in estimates],
        "the same with gradient_checkpointing, GB": [f"{each.activations(1, True) / GB:.3f}" for each in estimates],
    }
    for number in NUM_PROCESSES:
        rows = [min(each.rows_at_a_time, each.global_batch_size // number) for each in estimates]
        in_all = [(each.states() + each.activations(of)) / GB for each, of in zip(estimates, rows, strict=True)]
        memory[
            f"rows at a time, GB in all: each of {number}" if number > 1 else "rows at a time, GB in all: alone"
        ] = [f"{of}, {size:.1f}" for of, size in zip(rows, in_all, strict=True)]
    for number in NUM_PROCESSES[1:]:
        memory[f"GB sent an update, by data parallelism, by FSDP2: each of {number}"] = [
            f"{each.exchanged(number) / GB:.2f}, {each.exchanged(number, True) / GB:.2f}" for each in estimates
        ]
    memory["FLOPs: an update, the schedule"] = [
        f"{each.flops_per_token * each.tokens_per_step:.2g}, {each.flops:.2g}" for each in estimates
    ]
    lines = table(["", *names], [[name, *values] for name, values in memory.items()])
    times = [
        [
            machine.name,
            f"{machine.flops / 1e12:,.1f}",
            f"{machine.share:.0%}, {machine.basis}",
            *(
                f"{_seconds(each.seconds_per_step(machine))}, {_days(each.seconds_per_step(machine) * each.steps)}"
                for each in estimates
            ),
        ]
        for machine in MACHINES
    ]
    header = [
        "machine",
        "TFLOP/s at the peak",
        "share reached",
        *(f"{name}: an update, the schedule" for name in names),
    ]
    return "\n".join([*lines, "", *table(header, times)])


def _seconds(seconds: float) -> str:
    return f"{seconds:,.{max(0, 1 - int(math.log10(seconds)))}f} s" if seconds >= 1 else f"{1000 * seconds:,.0f} ms"


def _days(seconds: float) -> str:
    days = seconds / DAY
    return f"{days / 365:,.0f} years" if days > 3650 else f"{days:,.{max(0, 1 - int(math.log10(days)))}f} days"


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    print(tables([estimate(recipe) for recipe in argv or PAPER]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
