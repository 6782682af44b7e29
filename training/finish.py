"""The end of a run: results.json, the export and its push, and what a person wants to see."""

import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from eval.card_metadata import eval_result_files
from eval.results import read_run
from modeling_spanbert.export import export
from modeling_spanbert.hub import PushError, push
from training.arguments import RunArguments
from training.disk import is_disk_full
from training.loop import Outcome
from training.progress import write_status
from training.record import write_json
from training.report import write_report


DIVERGED, DISK_FULL, NOT_PUSHED = 1, 3, 4


def exit_status(outcome: Outcome) -> int:
    """0 after the last step; else why the run stopped before it (see `training/pretrain.py`)."""
    if outcome.state == "stopped":
        return 128 + signal.Signals[outcome.signal or "SIGTERM"]
    return {"finished": 0, "diverged": DIVERGED, "disk_full": DISK_FULL}[outcome.state]


def listed_scores(record: dict, output_dir: Path) -> dict[str, str]:
    """What the Hub shows of the scores in results.json: files by their place in the repository.

    Only of a fine-tuned model, and only where its examples are those of the Hub.
    """
    if "task" not in record or not record["data"]["hub"]:
        return {}
    run = read_run(str(output_dir))
    return eval_result_files([run], {task: "the weights were chosen on them" for task, _ in run.num_examples})


def finish(
    outcome: Outcome,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    record: dict,
    results: dict,
    run: RunArguments,
    opens: str,
    closing: Callable[[Path], Iterable[str]],
) -> int:
    """After the last step: exports the model, says how good it is, and pushes it where the run asks for it.

    `opens` is what takes the export's folder as a string, and `closing(folder)` gives lines about the model in it.
    Returns the exit status; a run that ended before its last step only gets its status.json, and so does one whose
    export does not fit on the disk.
    """
    output_dir = Path(run.output_dir)
    if outcome.state != "finished":
        write_status(output_dir, outcome.state, results["step"], signal=outcome.signal)
        return exit_status(outcome)
    try:
        write_json(results, output_dir / "results.json")
        listed = listed_scores(record, output_dir)
        folder = export(model, tokenizer, output_dir / "export", record, results, files=listed)
        write_status(output_dir, "finished", results["step"])
        report = write_report(output_dir)
    except Exception as error:  # that of safetensors is no OSError
        if not is_disk_full(error):
            raise
        write_status(output_dir, "disk_full", results["step"])
        print(
            f"error: no space left for the export in {output_dir}; checkpoints are intact: "
            "free some, then --resume_from_checkpoint auto",
            file=sys.stderr,
        )
        return DISK_FULL
    for line in closing(folder):
        print(line)
    print(f"the report is in {report}")
    print(f"the model is in {folder}: {opens}({str(folder)!r})")
    if run.push_to_hub:
        try:
            url = push(folder, run.hub_model_id, private=run.hub_private_repo or None, revision=run.hub_revision)
        except PushError as error:
            print(f"error: {error}", file=sys.stderr)
            return NOT_PUSHED
        print(f"pushed to {url}")
    return 0
