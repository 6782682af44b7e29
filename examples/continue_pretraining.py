"""Your own text -> a model that knows its words better: continued pre-training, and what it has brought.

    python examples/continue_pretraining.py runs/tiny/export my_texts/ runs/mine --max_train_steps 200

The first is any BERT or SpanBERT, the second text (.txt with blank lines between documents, .jsonl, or a folder of
these), the third a new folder. What follows are fields of training/pretrain.py in place of those of the recipe
training/recipes/pretrain/continue.yaml, which is for a GPU. Interrupted and started again, it goes on where it was.

Prints the loss on held-out documents before and after, in nats for a masked piece.
"""

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from training.pretrain import main as pretrain


RECIPE = Path(__file__).parent.parent / "training" / "recipes" / "pretrain" / "continue.yaml"


# A step too small to change a weight.
NO_TRAINING = ["--max_train_steps", "1", "--learning_rate", "1e-30", "--num_warmup_steps", "0"]


def held_out_loss(model: str, text: str, output_dir: str, fields: list[str]) -> float:
    """The MLM loss on held-out documents after a run of training/pretrain.py.

    Raises SystemExit with its status where it ends before its last step, and has said why.
    """
    start = ["--model_name_or_path", model, "--tokenizer_name", model, "--train_file", text]
    start += ["--resume_from_checkpoint", "auto"]
    status = pretrain([str(RECIPE), *start, *fields, "--output_dir", output_dir])
    if status:
        raise SystemExit(status)
    return json.loads((Path(output_dir) / "results.json").read_text(encoding="utf-8"))["held_out"]["mlm_loss"]


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("model", help="folder or repository of the Hub")
    parser.add_argument("text", help="file or folder")
    parser.add_argument("output_dir", help="new folder, or that of a run to go on with")
    arguments, fields = parser.parse_known_args(argv)
    with TemporaryDirectory() as folder:
        before = held_out_loss(arguments.model, arguments.text, folder, [*fields, *NO_TRAINING])
    after = held_out_loss(arguments.model, arguments.text, arguments.output_dir, fields)
    print(f"held-out MLM loss: {before:.3f} nats before, {after:.3f} after")


if __name__ == "__main__":
    main(sys.argv[1:])
