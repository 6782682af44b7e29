"""What a model does to look at, in the terminal's colours and on a page of HTML: a file for each kind.

    print(colour_clusters(result.text, result.clusters(), colour=wants_colour()))
    Path("clusters.html").write_text(clusters_page([("Ada", result.text, result.clusters())]), encoding="utf-8")

A page needs nothing but itself; `STYLE` and the parts of pages (`document_html`, …) may stand in another one.
"""

from .answers import ABOUT_ANSWERS, AnsweredQuestion, answer_html, colour_answer, scores_html
from .clusters import ABOUT_CLUSTERS, clusters_page, colour_clusters, document_html, marked_html
from .mask_tokenizer import MaskTokenizer
from .masked_rows import MaskedRow, find_spans, mask_rows
from .masks import ABOUT_MASKS, colour_masks, masks_html, summary
from .page import PAGE_END, STYLE, count_of, page_of, page_start, wants_colour


__all__ = [
    "ABOUT_ANSWERS",
    "ABOUT_CLUSTERS",
    "ABOUT_MASKS",
    "PAGE_END",
    "STYLE",
    "AnsweredQuestion",
    "MaskTokenizer",
    "MaskedRow",
    "answer_html",
    "clusters_page",
    "colour_answer",
    "colour_clusters",
    "colour_masks",
    "count_of",
    "document_html",
    "find_spans",
    "marked_html",
    "mask_rows",
    "masks_html",
    "page_of",
    "page_start",
    "scores_html",
    "summary",
    "wants_colour",
]
