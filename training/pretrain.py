"""Pre-trains SpanBERT (Sections 3 and 4.2), from scratch, from any BERT or SpanBERT checkpoint, or resumed.

    accelerate launch training/pretrain.py training/recipes/pretrain/spanbert_base_cased.yaml \
        --train_file wiki.txt --tokenizer_name vocab.txt --output_dir runs/spanbert-base-cased

Exit status: 0 finished; 1 training diverged; 2 something given cannot work; 3 the disk is full; 4 the export could not
be pushed; 128 + n stopped by signal n, with a checkpoint to resume from.
"""

import contextlib
import sys
from dataclasses import asdict
from pathlib import Path

from training.arguments import PRETRAINING, one_line_errors, parse_recipe


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Runs with `argv` (default: the command line); returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    data, architecture, masking, optimization, run = arguments = parse_recipe(PRETRAINING, argv, __doc__)

    # Only now, so that --help and a misspelt field answer at once.
    import torch
    from accelerate.utils import broadcast_object_list

    from training.batches import HeldOut, KeyedBatches, make_collator
    from training.blocks import scratch_cache
    from training.finish import exit_status, finish
    from training.hardware import launch_notes
    from training.initial_model import initial_model
    from training.loop import train
    from training.optimization import decoupled_adamw
    from training.plan import TextFacts, plan
    from training.prepare import describe, prepare, text_facts, tokenizer_of
    from training.processes import release, together
    from training.progress import flops_per_token
    from training.record import (
        checkpoint_files,
        data_record,
        default_model_id,
        identity,
        results_record,
        run_record,
    )
    from training.session import begin, take_up
    from training.sharding import prepare_model, whole_model
    from training.span_lengths import span_lengths_record
    from training.summary import filled_spans, summary

    with contextlib.ExitStack() as stack:
        accelerator = begin(stack, run, optimization)
        is_main = accelerator.is_main_process
        if run.check:
            with together(accelerator):
                scratch = stack.enter_context(scratch_cache(data.cache_dir)) if is_main else None
            data.cache_dir = broadcast_object_list([scratch])[0]

        # The others read what the main process prepares. The model comes before the text, whose preparation may take
        # hours: what is wrong with it shows at once.
        with together(accelerator, main_first=True):
            tokenizer = tokenizer_of(data)
            precision = optimization.mixed_precision
            model, notes = initial_model(
                architecture, tokenizer, data.max_seq_length, run.seed, accelerator.device, mixed_precision=precision
            )
            config = model.config
            masking.check(config.objectives, data)
            if run.gradient_checkpointing:
                model.activation_checkpointing_enable()
            if optimization.torch_compile:
                model.compile(fullgraph=True, dynamic=False)  # in place: tensors keep their names
                if accelerator.device.type == "cpu":
                    notes.append("torch_compile makes training slower on a CPU, by a tenth or more")
            _, blocks, validation_blocks = prepare(data, tokenizer, config.objectives, masking.annotation)
            collator = make_collator(tokenizer, masking, config, blocks, run.seed)
            process = accelerator.process_index, accelerator.num_processes
            batches = KeyedBatches(blocks, collator, optimization, *process)
            held_out = validation_blocks and HeldOut(
                accelerator, validation_blocks, collator, run.per_device_eval_batch_size
            )
            has_limits = optimization.torch_compile or accelerator.device.type != "cpu"
            limits = batches.limits() if has_limits else None
        if is_main:
            print(
                describe("train", blocks),
                *(f"note: {note}" for note in [*notes, *optimization.notes(), *launch_notes(accelerator)]),
                sep="\n",
            )
            if held_out:
                print(describe("held-out", validation_blocks))

        # No scheduler is prepared: the learning rate is a function of the step.
        model, optimizer = prepare_model(accelerator, model, decoupled_adamw(model, optimization))
        stack.callback(release, model)
        flops = flops_per_token(config, data.max_seq_length, masking.mask_ratio)
        if run.check:
            facts = TextFacts(text_facts(blocks), data.max_seq_length, flops)
            accelerator.print(plan(accelerator, model, optimizer, batches, optimization, run, facts, limits))
            return 0
        with together(accelerator):
            model_id = run.hub_model_id or default_model_id(architecture)
            record = run_record("training/pretrain.py", argv, arguments, accelerator, model_id)
            record["data"] = data_record(data, blocks)
            if is_main:
                record["span_lengths"] = span_lengths_record(batches, tokenizer, masking, optimization)
        same = identity(run, optimization, blocks.fingerprint, config, masking=asdict(masking))
        state, progress = take_up(
            stack, accelerator, model, optimizer, run, same, record, optimization.last_step, flops
        )
        files = checkpoint_files(config, tokenizer)
        outcome = train(
            accelerator, model, optimizer, batches, state, optimization, run, progress, held_out, files, limits=limits
        )
        stack.enter_context(torch.compiler.set_stance("force_eager"))  # only steps of training are compiled
        status = exit_status(outcome)
        model = whole_model(accelerator, model, in_fp32=True)  # exported as it is saved
        with together(accelerator):
            if is_main:
                results = results_record(state, optimization, len(blocks)) | {"held_out": state.evaluation or None}

                def closing(folder: Path) -> list[str]:
                    if not held_out:
                        return []
                    shown = filled_spans(str(folder), tokenizer, next(held_out.batches()))
                    return [summary(results["held_out"]), *shown]

                opens = "AutoModelForPreTraining.from_pretrained"
                status = finish(outcome, model, tokenizer, record, results, run, opens, closing)
        return status


if __name__ == "__main__":
    sys.exit(main())
