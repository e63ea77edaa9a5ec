"""The pages that people read."""

from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Page:
    """A Markdown file of the repository."""

    name: str
    text: str

    def blocks(self, language: str) -> list[str]:
        """What stands in its fenced blocks of a language."""
        return [block.split("\n```")[0] for block in self.text.split(f"\n```{language}\n")[1:]]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def pages() -> dict[str, Page]:
    """All pages by their paths."""
    paths = (*ROOT.glob("*.md"), ROOT / "demo" / "README.md", *(ROOT / "docs").glob("*.md"))
    names = [path.relative_to(ROOT).as_posix() for path in paths]
    return {name: Page(name=name, text=(ROOT / name).read_text("utf-8")) for name in sorted(names)}
