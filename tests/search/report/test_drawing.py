"""A drawn chart: what the page gets of it, and the file of its own."""

import re
from pathlib import Path
from xml.etree import ElementTree

import altair
import pytest

import search.report
from search.report.drawing import LIGHT, Drawing

ROWS = [
    {"x": x, "y": y, "mark": mark, "label": f"{mark} <1>", "href": f"#trial-{mark}", "colour": "var(--good)"}
    for mark, points in {"000": [(1, 1), (2, 3)], "001": [(1, 2), (2, 2)]}.items()
    for x, y in points
]


@pytest.fixture(scope="module")
def drawing() -> Drawing:
    """Two lines that are links, a disc that is none, and crosses that are no marks."""
    colour = altair.Stroke("colour:N", scale=None)
    base = altair.Chart(altair.Data(values=ROWS)).encode(x="x:Q", y="y:Q", stroke=colour)
    disc = altair.Chart(altair.Data(values=[{"x": 1, "y": 1, "label": "a disc"}])).encode(x="x:Q", y="y:Q")
    layers = (
        base.mark_line().encode(detail="mark:N", description="label:N", href="href:N"),
        disc.mark_circle(color="var(--second)").encode(description="label:N"),
        base.mark_point(aria=False),
    )
    return Drawing.of("Lines", "Two lines. " * 15, altair.LayerChart(layer=list(layers)))


def page_svg(drawing: Drawing) -> ElementTree.Element:
    return ElementTree.fromstring(f"<svg>{drawing.content}</svg>")


def test_every_mark_is_one_element_that_the_keyboard_reaches(drawing: Drawing) -> None:
    marks = [element for element in page_svg(drawing).iter() if element.get("class") == "mark"]
    assert [(mark.tag, dict(mark.attrib)) for mark in marks] == [
        ("a", {"class": "mark", "href": "#trial-000", "aria-label": "000 <1>"}),
        ("a", {"class": "mark", "href": "#trial-001", "aria-label": "001 <1>"}),
        ("g", {"class": "mark", "role": "img", "tabindex": "0", "aria-label": "a disc"}),
    ]
    line = marks[0]
    assert [part.get("class") for part in line] == ["reach", None]
    assert line[0].get("d") == line[1].get("d"), "a wide line lies around the visible one"
    assert line[1].get("stroke") == "var(--good)"
    assert [part.get("fill") for part in marks[2]] == ["var(--second)"]


def test_a_screen_reader_hears_marks_and_axes_and_no_containers(drawing: Drawing) -> None:
    page = page_svg(drawing)
    named = [element.get("aria-label", "") for element in page.iter() if "aria-label" in element.attrib]
    assert [name[:6] for name in named] == ["X-axis", "Y-axis", "000 <1", "001 <1", "a disc"]
    assert {element.get("role") for element in page.iter()} == {None, "graphics-symbol", "img"}
    shown = [text.text for text in page.iter("text")]
    assert "x" in shown
    assert "y" in shown
    hidden = [group for group in page.iter("g") if group.get("aria-hidden") == "true"]
    assert sum(path.get("stroke") == "var(--good)" for group in hidden for path in group.iter("path")) == 4


def test_nothing_of_it_needs_a_style_attribute_or_another_host(drawing: Drawing) -> None:
    assert "style=" not in drawing.content, "the page's policy forbids it"
    assert "http" not in drawing.content
    assert "<script" not in drawing.content


def test_a_file_of_its_own_has_literal_colours_and_words_under_the_pointer(drawing: Drawing) -> None:
    text = drawing.as_file()
    namespace = "{http://www.w3.org/2000/svg}"
    picture = ElementTree.fromstring(text)
    assert text.count("http") == 1, "only the name of SVG itself"
    assert "var(" not in text
    assert picture.findtext(f"{namespace}title") == "Lines"
    marks = [group for group in picture.iter(f"{namespace}g") if group.get("class") == "mark"]
    assert [mark.findtext(f"{namespace}title") for mark in marks] == ["000 <1>", "001 <1>", "a disc"]
    assert {path.get("stroke") for mark in marks[:2] for path in mark} == {None, LIGHT["good"]}
    assert list(picture.iter(f"{namespace}a")) == []
    words = [part.text or "" for part in picture.findall(f"{namespace}text")]
    assert words[0] == "Lines"
    assert " ".join(words[1:]) == drawing.caption.strip()
    assert len(words) == 3, "the caption is folded"
    assert float(picture.get("height", "")) == drawing.height + 44 + 2 * 18 + 10


def test_literal_colours_are_the_pages_own_in_light_mode() -> None:
    home = Path(search.report.__file__).parents[1]
    declared: dict[str, str] = {}
    for name in ("voting/templates/page.html", "report/templates/report.html"):
        for colour, value in re.findall(r"--(\w+): (#\w+);", (home / name).read_text("utf-8")):
            declared.setdefault(colour, value)
    assert {name: declared[name] for name in LIGHT} == LIGHT
