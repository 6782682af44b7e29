"""What all that is shown shares: the page around it, its colours, and text that steers neither terminal nor page."""

import os
import re
import sys
from html import escape


# Signs that steer a terminal or turn the direction of what follows; white space is none.
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

# Of what is shown; it touches nothing outside of a `.shown`, so that it may stand in a page of others.
STYLE = """
.shown h2 { line-height: 1.2; margin: 2.2rem 0 0.8rem; border-bottom: 1px solid rgba(128, 128, 128, 0.5); }
.shown h2, .shown .text, .shown li, .shown p { overflow-wrap: anywhere; }
.shown .text { white-space: pre-wrap; line-height: calc(1.7em + var(--depth, 1) * 5px); }
.shown mark {
  color: inherit; background: hsl(var(--hue) 80% 50% / 0.13); border-bottom: 2px solid hsl(var(--hue) 75% 40%);
  padding-bottom: calc(var(--inside, 0) * 5px); border-radius: 2px;
  -webkit-box-decoration-break: clone; box-decoration-break: clone;
}
.shown mark > sub, .shown li > b { font-weight: 600; line-height: 0; color: hsl(var(--hue) 80% 30%); }
.shown mark > sub { font-size: 0.7em; padding: 0 0.15em; user-select: none; }
.shown li > b { font-size: 0.85em; margin-inline-end: 0.4em; }
.shown ol { list-style: none; padding: 0; margin: 1rem 0; }
.shown li { padding-inline-start: 0.6rem; border-inline-start: 4px solid hsl(var(--hue) 75% 40%); margin: 0.35rem 0; }
.shown details { margin-top: 1rem; }
.shown summary { cursor: pointer; }
.shown .more { opacity: 0.7; }
.shown .prediction { font-size: 1.15em; font-weight: 600; margin: 0 0 0.8rem; }
.shown .scored { position: relative; isolation: isolate; }
.shown .scored::before {
  content: ""; position: absolute; z-index: -1; inset-block: 0; inset-inline-start: 0;
  width: calc(var(--score) * 100%); background: hsl(var(--hue) 80% 50% / 0.13);
}
.shown h3 { font-size: 1em; margin: 1.4rem 0 0.4rem; }
.shown u { text-decoration: underline dotted; text-underline-offset: 0.25em; }
.shown .read { font-size: 0.9em; }
.shown .wide { overflow-x: auto; }
.shown table { border-collapse: collapse; font-size: 0.85em; line-height: 1.7; }
.shown th { text-align: start; font-weight: 600; }
.shown th, .shown td { padding: 0 0.9em 0 0; vertical-align: top; }
@media (max-width: 30rem) {
  .shown table { font-size: 0.8em; }
  .shown th, .shown td { padding-right: 0.35em; }
}
@media (prefers-color-scheme: dark) {
  .shown mark { background: hsl(var(--hue) 70% 60% / 0.2); border-bottom-color: hsl(var(--hue) 70% 62%); }
  .shown mark > sub, .shown li > b { color: hsl(var(--hue) 75% 75%); }
  .shown li { border-inline-start-color: hsl(var(--hue) 70% 62%); }
}
"""
PAGE_START = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ line-height: 1.2; overflow-wrap: anywhere; }}{style}@media print {{
  body {{ font-size: 11px; max-width: none; margin: 0; }}
}}
</style>
</head>
<body>
<h1>{title}</h1>
"""
PAGE_END = "</body>\n</html>\n"


def page_start(title: str) -> str:
    """What comes before the parts of a page that is written part by part; `PAGE_END` comes after them."""
    return PAGE_START.format(title=escaped(title), style=STYLE)


def page_of(title: str, *parts: str) -> str:
    """A whole page of HTML, which needs nothing but itself, of parts in HTML."""
    return "".join([page_start(title), *parts, PAGE_END])


def without_controls(text: str) -> str:
    return CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def escaped(text: str) -> str:
    """For HTML, between tags and in attributes."""
    return escape(without_controls(text))


def wants_colour() -> bool:
    """Whether to print in colours: on a terminal, unless the variable NO_COLOR (https://no-color.org) is set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def painted(text: str, codes: str) -> str:
    """In the colours of a terminal (SGR codes, as "38;5;33"), line by line: pagers forget them at the end of one."""
    return "\n".join(f"\x1b[{codes}m{line}\x1b[0m" if line else line for line in text.split("\n"))


def count_of(number: int, thing: str) -> str:
    """ "1 cluster", "2 clusters"."""
    return f"{number} {thing}{'s' * (number != 1)}"
