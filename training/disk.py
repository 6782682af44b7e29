"""A full disk must not end a run: what it is told by, and what is done without the write."""

import errno

from safetensors import SafetensorError


class DiskFull(OSError):
    """Something did not fit. What was written before is intact; training can go on and try again later."""


def is_disk_full(error: BaseException) -> bool:
    """Also of safetensors, whose errors carry the system's number only as text; a quota or a size limit is as full."""
    full = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    if isinstance(error, SafetensorError):
        return any(f"(os error {number})" in str(error) for number in full)
    return isinstance(error, OSError) and error.errno in full
