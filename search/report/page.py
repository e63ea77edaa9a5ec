"""How templates become pages and pictures: everything is escaped, and what is missing is an error."""

from __future__ import annotations

import jinja2


def page_environment() -> jinja2.Environment:
    """Of the templates in `search/report/templates`; the frame of every page, `page.html`, is the voting page's."""
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader("search.report"), jinja2.PackageLoader("search.voting")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
