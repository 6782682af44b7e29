"""Tables of Markdown, for the pages and summaries that are made of results."""


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a table, its first column to the left, the others, which are figures, to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(row)} |" for row in (header, rule, *rows)]
