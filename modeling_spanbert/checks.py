"""What every predictor asks of its settings and texts."""


def check_counts(**counts: int) -> None:
    """Raises ValueError, with one line, for what is no whole number of at least 1."""
    for name, count in counts.items():
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"{name}={count!r}: expected a whole number, at least 1")


def check_unicode(text: str, name: str) -> None:
    """Raises ValueError, with one line, for a text that no file could hold, and no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start} of {name} is {text[error.start]!r}, half of a surrogate pair: decode it anew"
        ) from None
