"""`spanbert push`: an export to the Hub."""

import argparse
import sys

from .arguments import add_command


def add(commands) -> None:
    command = add_command(
        commands,
        "push",
        run,
        help="upload an export to the Hub, or finish an upload that failed",
        description="Uploads an export to the Hub; files that are there already are not sent again. The card is\n"
        "rendered anew to name the repository, unless it was edited by hand.\n"
        "The token is that of `hf auth login` or of the variable HF_TOKEN.",
        example="spanbert push runs/tiny/export --hub_model_id your-org/spanbert-tiny-cased --private",
    )
    command.add_argument("export_dir", help="folder that training wrote, with config.json and model.safetensors")
    command.add_argument("--hub_model_id", required=True, help="NAME or ORGANISATION/NAME of the repository")
    command.add_argument("--private", action="store_true", default=None, help="for a new repository: not public")
    command.add_argument("--revision", help="branch to push to, made when it is not there; default: main")
    command.add_argument(
        "--dry_run",
        action="store_true",
        help="list what would be sent and where, and send nothing; needs no network",
    )


def run(args: argparse.Namespace) -> int:
    from ..hub import PushError, planned, push

    where = {"private": args.private, "revision": args.revision}
    if args.dry_run:
        print("\n".join(planned(args.export_dir, args.hub_model_id, **where)))
        return 0
    try:
        print(push(args.export_dir, args.hub_model_id, **where))
    except PushError as error:
        print(f"error: {error}", file=sys.stderr)
        return 4
    return 0
