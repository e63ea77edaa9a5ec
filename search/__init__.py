"""From a folder of photos to the best adapter: `search.run` is the command, `search.search` the straight line."""

from pathlib import Path

# `python -m search.compare`, `search.sync` and `search.vote`: commands of rooms, under the names that users type.
__path__.append(str(Path(__file__).parent / "report" / "commands"))
