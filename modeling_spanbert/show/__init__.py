"""What a model does to look at, in the terminal's colours and on a page of HTML: a file for each kind.

print(colour_clusters(result.text, result.clusters(), colour=wants_colour()))
Path("clusters.html").write_text(clusters_page([("Ada", result.text, result.clusters())]), encoding="utf-8")
"""

from .clusters import clusters_page, colour_clusters, document_html, marked_html
from .page import PAGE_END, STYLE, count_of, page_of, page_start, wants_colour


__all__ = [
    "PAGE_END",
    "STYLE",
    "clusters_page",
    "colour_clusters",
    "count_of",
    "document_html",
    "marked_html",
    "page_of",
    "page_start",
    "wants_colour",
]
