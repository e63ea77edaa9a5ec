"""Loading without what diffusers and transformers write meanwhile, which would mix with the search's own output."""

from collections.abc import Iterator
from contextlib import contextmanager

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging


@contextmanager
def quiet_loading(*, errors_only: bool = False) -> Iterator[None]:
    """Hides the libraries' loading bars, and their warnings if `errors_only`; afterwards all is shown as before."""
    libraries = (diffusers_logging, transformers_logging)
    shown = [library.is_progress_bar_enabled() for library in libraries]
    levels = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.disable_progress_bar()
        if errors_only:
            library.set_verbosity_error()
    try:
        yield
    finally:
        for library, was_shown, level in zip(libraries, shown, levels, strict=True):
            library.set_verbosity(level)
            if was_shown:
                library.enable_progress_bar()
