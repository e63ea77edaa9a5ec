"""What pages point at: each other, files, pictures and headings; and the site that is made of them."""

import re
import subprocess
import sys
from pathlib import Path

from tests.docs.conftest import Page

README_BYTES = 10_000


def test_readme_fits_on_one_page(root: Path) -> None:
    assert (root / "README.md").stat().st_size <= README_BYTES


def test_links_lead_somewhere(root: Path, pages: dict[str, Page]) -> None:
    followed = 0
    for page in pages.values():
        for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(page.text)):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            path = ((root / page.name).parent / file).resolve() if file else root / page.name
            assert path.exists(), f"{page.name} links to {target}"
            if anchor:
                there = pages[path.relative_to(root).as_posix()]
                assert anchor in _anchors(there.text), f"{page.name} links to {target}, a heading that is not there"
            followed += 1
    assert followed > 50


def test_the_site_is_built_and_asks_no_other_host(root: Path, tmp_path: Path) -> None:
    """Strictly: a dead link, a page without a place in the navigation or a heading that is not there is an error."""
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    made = {path.relative_to(tmp_path / "site").parent.as_posix() for path in tmp_path.glob("site/**/index.html")}
    assert made == {path.stem.replace("index", ".") for path in (root / "docs").glob("*.md")}
    for path in tmp_path.glob("site/**/*.html"):
        fetched = re.findall(
            r"<(?:script|link|img|iframe)[^>]*?(?:src|href)=[\"']?(https?://[^\"'\s>]+)", path.read_text()
        )
        assert fetched == []


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _without_code(text, spans=False), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _without_code(text: str, spans: bool = True) -> str:
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text) if spans else text
