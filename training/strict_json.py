"""JSON that any program can read: what is not finite becomes null, for which Python would write NaN."""

import json
import math
from typing import Any


def dumps(values: Any, indent: int | None = None) -> str:
    """`values` as a line of JSON, or as an indented text where `indent` is given; ends with a newline."""
    return json.dumps(_finite(values), indent=indent, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(member) for member in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
