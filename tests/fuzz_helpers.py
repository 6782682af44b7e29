"""Damaged files for the tests of readers: bytes that are changed, and JSON or YAML whose structure is."""

import faulthandler
import gzip
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st


SECONDS = 5  # of computing, that a small file may take
HUNG_SECONDS = 300  # by the clock
DEEP = "[" * 2000 + "]" * 2000
LONG = "9" * 5000

# What no format expects: ends of lines of other kinds, marks of encodings, halves of surrogate pairs, brackets.
ODD = [
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    "\u2028".encode(),
    "\u0085".encode(),
    b"\xed\xa0\x80",
    b"\xff",
    b"\r",
    b"\r\n",
    b"\n",
    b"\n\n",
    b"\t",
    b" ",
    b'"',
    b"\\",
    b"\\ud800",
    b"\\u2028",
    b"-",
    b"[",
    b"}",
    b"(",
    b"|",
    b":",
    b"&a ",
    b"*a",
    b"!!int ",
    LONG.encode(),
    b"[" * 2000,
    b'{"a":' * 2000,
    "e\u0301\U0001f600".encode(),
]
# What stands in the place of a value: JSON, and so YAML too, but for what Python reads beside it.
VALUES = [
    *("null", "true", "false", "0", "-1", "1", "3", "1.5", "1e999", "-1e-999", "NaN", "Infinity", "1e5"),
    *("18446744073709551616", "-9223372036854775809", LONG, f"-{LONG}", "9" * 400),
    *('""', '" "', '"a"', r'"\ud800"', r'"x\udc00y"', r'"\u2028"', r'"\u0000"', r'"a\nb"', r'"a\tb"', '"none"'),
    *("[]", "{}", "[[]]", "[null]", '[1, "a"]', '{"": 0}', '[0, 0, "PERSON"]', "[[0, 1]]", "[true, true]"),
    *("[0.5, 1.5]", '{"a": {"b": [1]}}', DEEP, '{"a":' * 2000 + "1" + "}" * 2000, "[" * 90 + "]" * 90),
    json.dumps("z" * 10_000),
]
YAML_VALUES = [
    *("2024-01-31", "2024-13-45", "12:30", "1:99:99", "0x" + "f" * 5000, "0b", "0o8", "1_000", ".inf", ".nan", "~"),
    *("!!int x", "!!float x", "!!bool x", "!!timestamp x", "!!binary é", "!!null x", "!!python/object:os.system x"),
    *("!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]", "!!map [1]", "!!seq {}", "!!str [1]", "!<x> 1", "! 1"),
    *("&a [*a]", "&a {b: *a}", "*a", "{<<: {seed: 1}}", "{<<: [1]}", "{? [1, 2] : 3}", "{? {a: 1} : 3}", "=", "<<"),
    *("{a: 1, a: 2}", "|\n  text", "yes", "no", "[a, [b], {c: d}]", '"\\x00"', '"\\ud800"', "%YAML 9.9"),
]


@st.composite
def changed_bytes(draw, content: bytes) -> bytes:
    """The content with some bytes changed, left out, repeated or put in."""
    for _ in range(draw(st.integers(1, 3))):
        first = draw(st.integers(0, len(content)))
        stop = min(first + draw(st.integers(1, 40)), len(content))
        match draw(st.sampled_from(["flip", "cut", "delete", "repeat", "insert"])):
            case "flip" if first < len(content):
                flipped = content[first] ^ (1 << draw(st.integers(0, 7)))
                content = content[:first] + bytes([flipped]) + content[first + 1 :]
            case "cut":
                content = content[:first]
            case "delete":
                content = content[:first] + content[stop:]
            case "repeat":
                content = content[:stop] + content[first:stop] * draw(st.integers(1, 3)) + content[stop:]
            case _:
                content = content[:first] + draw(st.sampled_from(ODD)) + content[first:]
    return content


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The way to each value inside of a value, itself first."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in inside:
        yield from places(member, (*path, key))


@st.composite
def changed_structure(draw, value: Any, values: list[str] = VALUES) -> str:
    """The value as JSON, with some values of other kinds in it, left out, added, or deep inside of lists."""
    value, texts = deepcopy(value), {}
    for number in range(draw(st.integers(1, 2))):
        mark = f"mark {number}"
        texts[json.dumps(mark)] = draw(st.sampled_from(values))
        path = draw(st.sampled_from(list(places(value))))
        if not path:
            value = mark
            continue
        *way, last = path
        parent = value
        for key in way:
            parent = parent[key]
        match draw(st.sampled_from(["replace", "replace", "replace", "delete", "add", "repeat", "wrap"])):
            case "delete":
                del parent[last]
            case "add" if isinstance(parent, dict):
                parent[draw(st.sampled_from(["", "a", "header", "a\nb", "x" * 500, "id", "extends"]))] = mark
            case "add":
                parent.insert(last, mark)
            case "repeat" if isinstance(parent, list):
                parent.append(deepcopy(parent[last]))
            case "wrap":
                parent[last] = [parent[last]]
            case _:
                parent[last] = mark
    text = json.dumps(value)
    for mark, given in texts.items():
        text = text.replace(mark, given)
    return text


@st.composite
def damaged(draw, content: bytes, kind: str) -> bytes:
    """A file whose bytes or, where it is of "json", "jsonl" or "yaml", whose values are other ones."""
    how = draw(st.sampled_from(["bytes", "structure", "structure", "structure", "anything", "gzip"]))
    if how == "anything":
        return draw(st.binary(max_size=200))
    if how == "structure" and kind in ("json", "yaml"):
        values = VALUES + YAML_VALUES if kind == "yaml" else VALUES
        return draw(changed_structure(json.loads(content), values)).encode()
    if how == "structure" and kind == "jsonl":
        lines = content.decode().splitlines()
        number = draw(st.integers(0, len(lines) - 1))
        lines[number] = draw(changed_structure(json.loads(lines[number])))
        return "\n".join(lines).encode()
    if how == "gzip" and kind != "binary":
        content = gzip.compress(content, mtime=0)
    return draw(changed_bytes(content))


class TooSlow(Exception):
    pass


@contextmanager
def time_limit(seconds: float = SECONDS) -> Iterator[None]:
    """Raises TooSlow where what is inside computes longer: not by the clock, which runs on a busy machine too.

    Code in C that does not come back, which no signal stops, ends the tests with a traceback of where it is.
    """

    def stop(*_):
        raise TooSlow(f"more than {seconds} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    faulthandler.dump_traceback_later(HUNG_SECONDS, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
