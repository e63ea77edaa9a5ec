"""User attributes of a trial in the study."""

from __future__ import annotations

SETTINGS = "settings"
"""Its training settings, where they are not its parameters because of a ratio."""

SAME_AS = "same_as"
"""Of a duplicate: the number of the trial whose result it was told by."""

FOREIGN = "foreign"
"""Of a result that an earlier search has found: a trial of the study, but none of this search."""
