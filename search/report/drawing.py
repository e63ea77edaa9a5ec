"""A chart as SVG, drawn once: for the report's page, and for a file of its own.

Vega draws it without a browser and without the network, and says every mark's values (`aria-label`). What is left to do
here is to make each mark one element that the keyboard reaches and a finger hits.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import altair
import vl_convert

from search.report.page import page_environment

NAMESPACE = "http://www.w3.org/2000/svg"
GROUP, LINK, PATH, TITLE = (f"{{{NAMESPACE}}}{name}" for name in ("g", "a", "path", "title"))
ElementTree.register_namespace("", NAMESPACE)

LINE_LENGTH = 110
"""Letters of a caption that fit below a chart in a file of its own."""

LIGHT = {
    "card": "#fff",
    "ink": "#1f2328",
    "quiet": "#5a6068",
    "line": "#d5d7da",
    "accent": "#0b57d0",
    "good": "#1a7f37",
    "middling": "#9a6700",
    "poor": "#b3261e",
    "second": "#8250df",
}
"""The page's colours in light mode: a file of its own has a white ground, whatever is around it."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A chart, drawn."""

    title: str
    caption: str
    """What its marks are."""
    width: float
    height: float
    content: str
    """Of an SVG element of this size; colours are variables of the page's style."""

    @classmethod
    def of(cls, title: str, caption: str, chart: altair.LayerChart) -> Drawing:
        """Draw a chart; every mark that has a description is reached by keyboard, and with an `href` it is a link."""
        root = ElementTree.fromstring(vl_convert.vegalite_to_svg(chart.to_dict(), allowed_base_urls=[]))
        parts = [part for group in root.findall(GROUP) for part in _tidied(group)]
        content = "".join(ElementTree.tostring(part, encoding="unicode") for part in parts)
        width, height = (float(root.get(name, "")) for name in ("width", "height"))
        content = content.replace(f' xmlns="{NAMESPACE}"', "")  # It is the surrounding element's.
        return cls(title=title, caption=caption, width=width, height=height, content=content)

    def as_file(self) -> str:
        """SVG that stands alone: it fetches nothing, and a mark shows its values under the pointer."""
        caption = textwrap.wrap(self.caption, LINE_LENGTH)
        picture = page_environment().get_template("drawing.svg").render(drawing=self, caption=caption)
        root = ElementTree.fromstring(re.sub(r"var\(--(\w+)\)", lambda found: LIGHT[found[1]], picture))
        for mark in [element for element in root.iter() if element.get("class") == "mark"]:
            SubElement(mark, TITLE).text = mark.get("aria-label")
            mark.tag, mark.attrib = GROUP, {"class": "mark"}
        return ElementTree.tostring(root, encoding="unicode")


def _tidied(element: Element) -> list[Element]:
    """The element, or only what is in it: a screen reader would announce each of Vega's many groups."""
    if element.get("class") in ("background", "foreground"):
        return []
    if element.tag == LINK or (element.tag == PATH and "aria-label" in element.attrib):
        return [_mark(element)]
    inner = [part for child in element for part in _tidied(child)]
    wrapper = element.tag == GROUP and element.get("transform", "translate(0,0)") == "translate(0,0)"
    if (wrapper and not {"aria-hidden", "aria-label"} & set(element.attrib)) or (element.tag == GROUP and not inner):
        return inner
    element[:] = inner
    element.attrib.pop("class", None)
    return [element]


def _mark(element: Element) -> Element:
    """A link to a trial's row, or a picture; a line gets a wide, invisible one below it."""
    shape = element[0] if element.tag == LINK else element
    kind = shape.get("aria-roledescription")
    label = shape.get("aria-label", "")
    for name in ("aria-label", "aria-roledescription", "role"):
        del shape.attrib[name]
    if element.tag == LINK:
        (address,) = element.attrib.values()
        mark = Element(LINK, {"class": "mark", "href": f"#{address.partition('#')[2]}", "aria-label": label})
    else:
        mark = Element(GROUP, {"class": "mark", "role": "img", "tabindex": "0", "aria-label": label})
    if kind == "line mark":
        SubElement(mark, PATH, {"class": "reach", "d": shape.get("d", "")})
    mark.append(shape)
    return mark
