"""What a command prints, on terminals of any encoding."""

import io
import sys


def escape_what_cannot_be_shown() -> None:
    """From now on this process prints characters that the terminal's encoding lacks as `\\u0444`.

    A name in another script is no reason to end a command where the locale has only Western letters.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
