"""Pre-trains SpanBERT (Sections 3 and 4.2), from scratch, from any BERT or SpanBERT checkpoint, or resumed.

    accelerate launch training/pretrain.py training/recipes/pretrain/spanbert_base_cased.yaml \
        --train_file wiki.txt --tokenizer_name vocab.txt --output_dir runs/spanbert-base-cased

Exit status: 0 finished; 1 training diverged; 2 something given cannot work; 3 the disk is full; 4 the export could not
be pushed; 128 + n stopped by signal n, with a checkpoint to resume from.
"""

import contextlib
import sys
from datetime import timedelta
from pathlib import Path

from training.arguments import PRETRAINING, one_line_errors, parse_recipe


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Runs with `argv` (default: the command line); returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    data, architecture, masking, optimization, run = arguments = parse_recipe(PRETRAINING, argv, __doc__)

    # Only now, so that --help and a misspelt field answer at once.
    import transformers
    from accelerate import Accelerator, InitProcessGroupKwargs
    from accelerate.utils import broadcast_object_list

    from training.batches import HeldOut, KeyedBatches, make_collator
    from training.blocks import scratch_cache
    from training.checkpoint import check_output_dir, claim_output_dir
    from training.finish import exit_status, finish
    from training.hardware import check_launch, launch_notes, use_fast_cpu_paths
    from training.initial_model import initial_model
    from training.loop import resume, train
    from training.optimization import decoupled_adamw
    from training.plan import plan
    from training.prepare import describe, prepare, tokenizer_of
    from training.processes import check_same, release, together
    from training.progress import Progress, flops_per_token, running
    from training.record import checkpoint_files, identity, results_record, run_record, write_json
    from training.span_lengths import span_lengths_record

    accelerator = Accelerator(
        mixed_precision=optimization.mixed_precision,
        log_with=run.report_to,
        project_dir=run.output_dir,
        # The other processes wait while one tokenizes, exports or pushes.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=2))],
    )
    transformers.utils.logging.disable_progress_bar()
    is_main = accelerator.is_main_process
    with contextlib.ExitStack() as stack:
        stack.callback(accelerator.end_training)
        scratch = None
        with together(accelerator):
            check_launch(accelerator)
            if accelerator.device.type == "cpu":
                use_fast_cpu_paths()
            if run.report_to and not accelerator.log_with:
                raise ValueError(f"report_to={run.report_to} is not installed; run: pip install {run.report_to}")
            optimization.gradient_accumulation_steps(accelerator.num_processes)  # refused before the text is read
            if run.check and run.output_dir:
                check_output_dir(run.output_dir, run.resume_from_checkpoint)
            if run.check and is_main:
                scratch = stack.enter_context(scratch_cache(data.cache_dir))
            elif is_main:
                stack.enter_context(claim_output_dir(run.output_dir, run.resume_from_checkpoint))
        if run.check:
            data.cache_dir = broadcast_object_list([scratch])[0]

        # The others read what the main process prepares. The model comes before the text, whose preparation may take
        # hours: what is wrong with it shows at once.
        with together(accelerator, main_first=True):
            tokenizer = tokenizer_of(data)
            model, notes = initial_model(architecture, tokenizer, data.max_seq_length, run.seed, accelerator.device)
            config = model.config
            masking.check(config.objectives, data)
            if run.gradient_checkpointing:
                model.activation_checkpointing_enable()
            _, blocks, validation_blocks = prepare(data, tokenizer, config.objectives, masking.annotation)
            collator = make_collator(tokenizer, masking, config, blocks, run.seed)
            process = accelerator.process_index, accelerator.num_processes
            batches = KeyedBatches(blocks, collator, optimization, *process)
            held_out = validation_blocks and HeldOut(
                accelerator, validation_blocks, collator, run.per_device_eval_batch_size
            )
        if is_main:
            print(
                describe("train", blocks),
                *(f"note: {note}" for note in [*notes, *optimization.notes(), *launch_notes(accelerator)]),
                sep="\n",
            )
            if held_out:
                print(describe("held-out", validation_blocks))

        # No scheduler is prepared: the learning rate is a function of the step.
        model, optimizer = accelerator.prepare(model, decoupled_adamw(model, optimization))
        stack.callback(release, model)
        if run.check:
            accelerator.print(plan(accelerator, model, optimizer, batches, masking.mask_ratio, optimization, run))
            return 0
        same = identity(run, optimization, masking, blocks, config)
        with together(accelerator):
            state, notes = resume(accelerator, model, optimizer, run, same)
        check_same(accelerator, {"step": state.step, **same})
        with together(accelerator):
            record = run_record(argv, arguments, accelerator, blocks)
            if is_main:
                record["span_lengths"] = span_lengths_record(batches, tokenizer, masking, optimization)
                write_json(record, Path(run.output_dir, "run.json"))
            if run.report_to:
                accelerator.init_trackers("pretrain")
            progress = Progress(
                run.output_dir,
                optimization.last_step,
                state.step,
                flops_per_token(config, data.max_seq_length, masking.mask_ratio),
                is_main,
                accelerator.log if run.report_to else None,
            )
            for note in notes:
                progress.say(note)
            if is_main:
                stack.enter_context(running(run.output_dir, state))
        files = checkpoint_files(config, tokenizer)
        outcome = train(accelerator, model, optimizer, batches, state, optimization, run, progress, held_out, files)
        status = exit_status(outcome)
        with together(accelerator):
            if is_main:
                model = accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # exported in fp32, as it is saved
                results = results_record(state, optimization, blocks)
                status = finish(outcome, model, tokenizer, record, results, run, held_out)
        return status


if __name__ == "__main__":
    sys.exit(main())
