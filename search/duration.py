"""Durations as people read them."""


def duration(seconds: float) -> str:
    """`9:05` or `1:02:03`.

    Args:
        seconds: At least 0; rounded to whole ones.
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
