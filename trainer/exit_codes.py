"""Exit codes of all commands; 0 is success, 2 what command lines answer to a wrong option as well."""

FAILED = 1
"""Begun, but without the result: no usable candidate, training diverged, a full disk, MLflow still behind."""

BAD_INPUT = 2
"""Something that the user gave cannot be used; nothing was begun."""

INTERRUPTED = 130
"""Stopped by Ctrl-C or a signal; 128 + SIGINT, as shells have it."""
