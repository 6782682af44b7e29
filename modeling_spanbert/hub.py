"""An export -> a repository of the Hub.

    push("runs/tiny/export", "your-org/spanbert-tiny-cased")

Whatever goes wrong is one line: what happened, that the export is safe, and the command that tries again.
"""

import os
import re
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2  # what huggingface_hub speaks with
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import DEFAULT_IGNORE_PATTERNS, filter_repo_objects

from .export import readdress


PASSING = {408, 429, 500, 502, 503, 504}  # answers of the Hub that the next try may not get
NOT_SENT = ["*.partial"]  # of a `write_whole` that was killed
ANSWERS = {  # of the Hub, and what they mean for a push
    401: "no valid token (`hf auth login`, or the variable HF_TOKEN)",
    403: "the token has no right to write to {name}",
    404: "{endpoint} has no {name}, or not for this token",
    409: "another upload to {name} is going on",
    412: "{name} was changed by another upload meanwhile",
    413: "{endpoint} takes no file as large as one of these",
    429: "{endpoint} has had too many requests; wait some minutes",
}


class PushError(OSError):
    """The Hub did not take an export, which is still where it was."""


def push(
    export_dir: str | os.PathLike,
    hub_model_id: str,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """Uploads an export to the Hub, which may already have it in part, and returns its address.

    The card is rendered anew to name that repository, unless it was edited by hand.

    Raises:
        FileNotFoundError: `export_dir` is not an export.
        PushError: the Hub did not take it; one line with the cause, where the export is, and how to try again.
    """
    export_dir = export_at(export_dir)
    # The uploads of hf_xet would otherwise wait up to five minutes; so they take about as long as all others.
    os.environ.setdefault("HF_XET_CLIENT_RETRY_BASE_DELAY", "1s")
    api = HfApi(token=token)
    try:
        repository = with_back_off(lambda: api.create_repo(hub_model_id, private=private, exist_ok=True))
        hub_model_id = repository.repo_id
        if private and not with_back_off(lambda: api.repo_info(hub_model_id)).private:
            raise PermissionError(
                f"{hub_model_id} exists and is public; make it private first, or push without --private"
            )
        if revision:
            with_back_off(lambda: api.create_branch(hub_model_id, branch=revision, exist_ok=True))
        readdress(export_dir, hub_model_id)
        api.upload_folder(
            repo_id=hub_model_id,
            folder_path=export_dir,
            revision=revision,
            commit_message="Upload SpanBERT export",
            ignore_patterns=NOT_SENT,
        )
    except Exception as error:  # whatever it was, the user has to hear that nothing is lost
        again = ["spanbert", "push", str(export_dir), "--hub_model_id", hub_model_id]
        again += (["--private"] if private else []) + (["--revision", revision] if revision else [])
        reason = cause(error, hub_model_id, api.endpoint, token or get_token())
        raise PushError(
            f"push failed: {reason}; the export is safe in {export_dir}; try again: {shlex.join(again)}"
        ) from error
    return f"{api.endpoint}/{hub_model_id}" + (f"/tree/{revision}" if revision else "")


def planned(
    export_dir: str | os.PathLike,
    hub_model_id: str,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> list[str]:
    """What `push` would send, and where to, line by line. Nothing is written or sent.

    The Hub is only asked whether the repository is there; where it cannot be asked, that is what is said.

    Raises FileNotFoundError if `export_dir` is not an export.
    """
    export_dir = export_at(export_dir)
    api = HfApi(token=token)
    files = sorted(path.relative_to(export_dir).as_posix() for path in export_dir.rglob("*") if path.is_file())
    files = list(filter_repo_objects(files, ignore_patterns=[*NOT_SENT, *DEFAULT_IGNORE_PATTERNS]))
    sizes = [(export_dir / name).stat().st_size for name in files]
    return [
        f"{hub_model_id} on {api.endpoint}, branch {revision or 'main'}: {presence(api, hub_model_id, private)}",
        *(f"{size:>15,}  {name}" for name, size in zip(files, sizes, strict=True)),
        f"{sum(sizes):>15,}  bytes in {len(files)} files; nothing was sent",
    ]


def presence(api: HfApi, hub_model_id: str, private: bool | None) -> str:
    """Whether a repository is there, as far as one try tells. Raises ValueError for what cannot be a name."""
    try:
        name = hub_model_id if "/" in hub_model_id else f"{api.whoami()['name']}/{hub_model_id}"
        found = api.repo_info(name, timeout=5)
    except HFValidationError:
        raise
    except Exception as error:
        if isinstance(error, RepositoryNotFoundError):  # the Hub does not tell what others may not see
            return f"not there, or not for this token; a push makes it {'private' if private else 'public'}"
        return f"whether it is there is not known ({cause(error, hub_model_id, api.endpoint, get_token())})"
    kind = "private" if found.private else "public"
    return f"it is there, and {kind}" + (": a push with --private is refused" if private and not found.private else "")


def export_at(export_dir: str | os.PathLike) -> Path:
    """The folder, once it is sure that an export is in it."""
    export_dir = Path(export_dir)
    for name in ("config.json", "model.safetensors", "README.md"):
        if not (export_dir / name).is_file():
            raise FileNotFoundError(f"{export_dir} is not an export: it has no {name}")
    return export_dir


def with_back_off(request: Callable, num_retries: int = 5):
    """What `request` returns, tried again after 1, 2, 4, 8, 8 s, as huggingface_hub does for uploads only."""
    for retry in range(num_retries + 1):
        try:
            return request()
        except (HfHubHTTPError, httpx2.TransportError) as error:
            response = getattr(error, "response", None)
            if retry == num_retries or (response is not None and response.status_code not in PASSING):
                raise
        time.sleep(min(2**retry, 8))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it was raised from: the uploads of huggingface_hub wrap what happened."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def status_of(error: Exception) -> int | None:
    """What the Hub answered; None where it did not. hf_xet tells it in words alone."""
    for each in chain(error):
        if isinstance(each, LocalTokenNotFoundError):
            return 401
        if (status := getattr(getattr(each, "response", None), "status_code", None)) is not None:
            return status
        if told := re.search(r"HTTP status \w+ error \((\d{3})", str(each)):
            return int(told[1])
    return None


def cause(error: Exception, hub_model_id: str, endpoint: str, token: str | None) -> str:
    """Why a push failed, in a few words, without the token."""
    if (status := status_of(error)) is not None:
        return ANSWERS.get(status, f"{{endpoint}} answered {status}").format(name=hub_model_id, endpoint=endpoint)
    said = " ".join(str(error).split())
    lost = any(isinstance(each, httpx2.TransportError) for each in chain(error)) or "error sending request" in said
    if lost and not isinstance(error, OfflineModeIsEnabled):
        return f"{endpoint} cannot be reached"
    return said.replace(token, "TOKEN") if token else said
