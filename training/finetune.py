"""Fine-tunes any BERT or SpanBERT on a task of the paper (Section 4.1, appendix B) and keeps the best on its dev set.

    accelerate launch training/finetune.py training/recipes/finetune/squad_v2.yaml \
        --model_name_or_path DIR_OR_HUB_ID --output_dir runs/squad_v2

The data are the Hub's, or --train_file and --validation_file in the task's format. With --sweep each combination of
the recipe's learning rates, batch sizes and seeds is a run. Exit status: as training/pretrain.py.
"""

import contextlib
import sys
from dataclasses import replace

from training.arguments import one_line_errors, parse_recipe
from training.finetuning_arguments import FINETUNING


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Runs with `argv` (default: the command line); returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    *arguments, sweep = parse_recipe(FINETUNING, argv, __doc__)
    if sweep.sweep:
        from training.sweep import run_sweep

        return run_sweep(argv, arguments, sweep, finetune)
    return finetune(argv, tuple(arguments))


def finetune(argv: list[str], arguments: tuple, keep_processes: bool = False) -> int:
    """One run; `arguments` are those of `FINETUNING` but the last. Returns the exit status.

    With `keep_processes` another run can follow in the same processes.
    """
    data, weights, epochs, run = arguments
    # Only now, so that --help and a misspelt field answer at once.
    from eval.tasks import find_task
    from eval.tasks.task import configured, row_length
    from training.best import Best
    from training.checkpoint import load_model_tensors
    from training.finish import exit_status, finish
    from training.hardware import launch_notes
    from training.initial_model import initial_model
    from training.loop import train
    from training.optimization import decoupled_adamw
    from training.plan import TextFacts, plan
    from training.processes import release, together
    from training.progress import flops_per_token
    from training.record import checkpoint_files, identity, results_record, run_record, start_name
    from training.session import begin, take_up
    from training.sharding import prepare_model, whole_model
    from training.task_batches import DevelopmentScores, batches_of, featurize
    from training.task_data import (
        load_examples,
        task_fields,
        task_model_id,
        task_record,
        task_scores,
        tokenizer_of,
    )

    with contextlib.ExitStack() as stack:
        accelerator = begin(stack, run, epochs, keep_processes)
        is_main = accelerator.is_main_process
        # The others find what the main process has downloaded.
        with together(accelerator, main_first=True):
            [task] = configured([find_task(data.task)], data.settings())
            tokenizer = tokenizer_of(data, weights)
            examples = load_examples(task, data)
        with together(accelerator):
            fields = task_fields(task, examples, tokenizer)
            model, notes = initial_model(
                weights, tokenizer, data.max_seq_length or 0, run.seed, accelerator.device, task.model_class, fields
            )
            task.prepare_model(model, tokenizer)
            config = model.config
            if run.gradient_checkpointing:
                model.activation_checkpointing_enable()
            task.check(examples.validation, tokenizer, config)
            features = featurize(task, examples.training, tokenizer, config)
            process = accelerator.process_index, accelerator.num_processes
            batches = batches_of(features, tokenizer, config, epochs, run.seed, *process)
            rows = batches.rows
            optimization = epochs.schedule(len(rows))
            run = replace(run, eval_steps=run.eval_steps or epochs.eval_steps(len(rows)))
            run = replace(run, checkpointing_steps=run.checkpointing_steps or epochs.steps_per_epoch(len(rows)))
            scores = DevelopmentScores(
                accelerator, task, tokenizer, examples.validation, run.per_device_eval_batch_size
            )
            best = Best(task.main_metric(examples.validation))
        if is_main:
            print(
                examples.describe(rows, row_length(task, config)),
                *(f"note: {note}" for note in [*examples.notes, *notes, *launch_notes(accelerator)]),
                sep="\n",
            )

        # No scheduler is prepared: the learning rate is a function of the step.
        model, optimizer = prepare_model(accelerator, model, decoupled_adamw(model, optimization))
        stack.callback(release, model)
        mean_length = float(rows.lengths.mean())
        flops = flops_per_token(config, mean_length, mask_ratio=0)  # the heads of tasks are small
        if run.check:
            facts = TextFacts(examples.summary(rows), mean_length, flops, keeps_best=True)
            accelerator.print(plan(accelerator, model, optimizer, batches, optimization, run, facts))
            return 0
        with together(accelerator):
            model_id = run.hub_model_id or task_model_id(task, weights)
            record = run_record("training/finetune.py", argv, arguments, accelerator, model_id)
            record |= task_record(task, examples, rows, config, data)
            record |= {"last_step": optimization.last_step, "start": start_name(weights.model_name_or_path)}
        same = identity(run, optimization, record["data"]["fingerprint"], config, task=data.settings())
        state, progress = take_up(
            stack, accelerator, model, optimizer, run, same, record, optimization.last_step, flops, best
        )
        files = checkpoint_files(config, tokenizer)
        outcome = train(
            accelerator, model, optimizer, batches, state, optimization, run, progress, scores, files, best
        )
        status = exit_status(outcome)
        if outcome.state == "finished":
            # In fp32, as they are exported: what eval/run.py finds for the export.
            model = whole_model(accelerator, model, in_fp32=True)
            load_model_tensors(model, best.tensors, "the best weights")
            state.evaluation = scores(model)
        with together(accelerator):
            if is_main:
                results = results_record(state, optimization, len(rows))
                if outcome.state == "finished":
                    results |= task_scores(task, examples, state, record)
                opens = f"{task.model_class.__name__}.from_pretrained"
                status = finish(outcome, model, tokenizer, record, results, run, opens, lambda _: [results["summary"]])
        return status


if __name__ == "__main__":
    sys.exit(main())
