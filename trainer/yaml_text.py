"""YAML as people write it, read by the rules of YAML 1.2 and by what a key may hold; and written so that it reads back.

YAML 1.1, which PyYAML reads, takes `1:30` for 90, `0123` for 83, `no` for false and `2026-11-27` for a date, and of a
key that is given twice the last. Here the first is text, the second refused, and words, dates and numbers are text
where text is due. (YAML 1.2.2, https://yaml.org/spec/1.2.2/, chapter 10.3.)
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.resolver import Resolver

from trainer.setting_kinds import Kinds, holds_numbers, holds_only_text, holds_text, kinds_below, kinds_within

_TAG = "tag:yaml.org,2002:"
_NULL, _BOOL, _INT, _FLOAT, _TEXT, _MERGE = (_TAG + name for name in ("null", "bool", "int", "float", "str", "merge"))
_STRUCTURES = (_TAG + "map", _TAG + "seq")

_RESOLVERS = (
    (_NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (_BOOL, r"(?i:true|false|yes|no|on|off)", list("tTfFyYnNoO")),
    (_INT, r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)", list("-+0123456789")),
    (
        _FLOAT,
        r"[-+]?(?:(?:[0-9][0-9_]*)?\.[0-9][0-9_]*|[0-9][0-9_]*\.|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    (_MERGE, r"<<", ["<"]),
)
"""Tag, pattern and first characters of plain scalars that are not text; `0123` is none of them (`_LEADING_ZERO`)."""

_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_LONGEST_NUMBER = 20
"""Digits of a whole number; 2**63 has 19."""
_DEEPEST = 50
"""Levels of a document; a configuration has six."""

_NO_IS_TEXT = "{} is text here; for none write null, for the word put it in quotes"


class Misread(yaml.MarkedYAMLError):
    """What is written would not be read as it is meant; the message has the place and the remedy."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own way

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:  # noqa: N803 - PyYAML's name
        # PyYAML's scanner takes the square of the depth.
        if self.flow_level > _DEEPEST:
            raise _too_deep(self.get_mark())
        super().fetch_flow_collection_start(TokenClass)


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would take for anything but text."""

    yaml_implicit_resolvers = {key: list(value) for key, value in yaml.SafeDumper.yaml_implicit_resolvers.items()}  # noqa: RUF012


_BOTH: tuple[type[Resolver], ...] = (_Loader, _Dumper)
for _tag, _pattern, _first in _RESOLVERS:
    for _class in _BOTH:
        _class.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)
_Dumper.add_implicit_resolver(_INT, re.compile(rf"^{_LEADING_ZERO.pattern}$"), list("-+0"))


def parse_yaml(text: str, kinds: Kinds = (), *, source: str = "the text") -> Any:
    """What a YAML text says.

    Args:
        text: one document.
        kinds: what the document may be (`trainer.setting_kinds`); what is not known is read by YAML's rules alone.
        source: where the text is from, for messages.

    Raises:
        yaml.YAMLError: it is no YAML, or would not be read as it is meant (`Misread`).
    """
    return _construct(text, kinds, source)[0]


def parse_value(text: str, kinds: Kinds = ()) -> Any:
    """What a value on the command line says: YAML, but that nothing in it is a comment, and text needs no quotes.

    Raises:
        yaml.YAMLError: as of `parse_yaml`.
    """
    bare = text.strip()
    if holds_only_text(kinds) and not bare.startswith(("'", '"')):
        if type(None) in kinds and re.fullmatch(_RESOLVERS[0][1], bare):
            return None
        if _means_none(bare, kinds):
            raise Misread(problem=_NO_IS_TEXT.format(bare))
        return bare
    value, node = _construct(text, kinds, "the value")
    if node is None:
        return bare or None
    rest = text[node.end_mark.index :].strip()
    if not rest:
        return value
    if isinstance(node, ScalarNode) and node.style is None:
        return bare  # a comment in a file, but there are none on a command line
    raise Misread(problem=f"{rest!r} follows the value's end; leave it out, or put all of it in quotes")


def dump_yaml(values: Any, **options: Any) -> str:
    """YAML that `parse_yaml` and every other reader take for these values. Keys keep their order.

    Args:
        values: of mappings, lists, text, numbers, True, False and None.
        options: of `yaml.dump`.
    """
    return str(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **options))


def _construct(text: str, kinds: Kinds, source: str) -> tuple[Any, Node | None]:
    loader = _Loader(text)
    loader.name = source
    try:
        node = loader.get_single_node()
        if node is None:
            return None, None
        _Reading(loader).settle(node, kinds, "", ())
        return loader.construct_document(node), node
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply; settings lie a few levels deep") from None
    except yaml.YAMLError:
        raise
    except ValueError as error:  # of the reader, on characters that are no text, and of Python, on what is no number
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()


class _Reading:
    """One pass over a document's nodes before values are made of them: what may be text becomes text, and what would
    be read as something else than is meant is refused."""

    def __init__(self, loader: _Loader) -> None:
        self._loader = loader
        self._done: set[int] = set()

    def settle(self, node: Node, kinds: Kinds, place: str, above: tuple[Node, ...]) -> None:
        """Settle a node and all below it.

        Args:
            node: any.
            kinds: what its place may hold.
            place: keys that lead to it, with dots.
            above: the nodes that hold it.
        """
        if any(node is each for each in above):
            raise Misread(problem="this refers to itself; write it out", problem_mark=node.start_mark)
        if len(above) > _DEEPEST:
            raise _too_deep(node.start_mark)
        if id(node) in self._done:  # an alias of what has been settled at its anchor
            return
        self._done.add(id(node))
        if isinstance(node, ScalarNode):
            self._settle_scalar(node, kinds, f"{place}: " if place else "")
            return
        if node.tag not in _STRUCTURES:
            raise _tagged(node)
        if isinstance(node, SequenceNode):
            for element in node.value:
                self.settle(element, kinds_within(kinds), place, (*above, node))
            return
        assert isinstance(node, MappingNode)  # the last of the structures
        self._check_keys(node)
        for key, value in node.value:
            if key.tag == _MERGE:
                for merged in value.value if isinstance(value, SequenceNode) else [value]:
                    self.settle(merged, kinds, place, (*above, node))
            else:
                below = f"{place}.{key.value}" if place else key.value
                self.settle(value, kinds_below(kinds, key.value), below, (*above, node))

    def _check_keys(self, node: MappingNode) -> None:
        """All keys are text, none is given twice, none is what a decimal comma has left."""
        first: dict[str, Node] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise Misread(problem="this is no key; give a word", problem_mark=key.start_mark)
            if key.tag != _MERGE:
                key.tag = _TEXT
            if key.value in first:
                raise Misread(
                    context=f"the key {key.value!r} is given here",
                    context_mark=first[key.value].start_mark,
                    problem="and here again, so that one of the two would count for nothing; keep one",
                    problem_mark=key.start_mark,
                )
            first[key.value] = key
            alone = isinstance(value, ScalarNode) and value.value == "" and value.style is None
            if alone and re.fullmatch(r"[0-9_.]+(?:[eE][-+]?[0-9]+)?", key.value):
                raise Misread(
                    problem=f"{key.value} stands alone behind a comma; a number has a decimal point, as 0.0001, and no "
                    "comma in between",
                    problem_mark=key.start_mark,
                )

    def _settle_scalar(self, node: ScalarNode, kinds: Kinds, at: str) -> None:
        plain = node.style is None
        if self._loader.resolve(ScalarNode, node.value, (plain, not plain)) != node.tag:  # type: ignore[no-untyped-call]
            raise _tagged(node)
        if "\0" in node.value:
            raise Misread(problem=f"{at}this text holds a NUL character; leave it out", problem_mark=node.start_mark)
        if not plain:
            return
        text, numbers = holds_text(kinds), holds_numbers(kinds)
        word = node.tag == _BOOL and node.value.lower() not in ("true", "false")
        if node.tag in (_INT, _FLOAT) or word:
            if _means_none(node.value, kinds):
                raise Misread(problem=at + _NO_IS_TEXT.format(node.value), problem_mark=node.start_mark)
            if (text and not numbers) or (word and (text or not kinds)):
                node.tag = _TEXT
                return
        elif node.tag == _MERGE:
            node.tag = _TEXT
        if node.tag == _BOOL and numbers and bool not in kinds:
            raise Misread(
                problem=f"{at}{node.value} stands where a number is due; give the number",
                problem_mark=node.start_mark,
            )
        if node.tag == _INT and sum(map(str.isdigit, node.value)) > _LONGEST_NUMBER:
            raise Misread(
                problem=f"{at}this number has more than {_LONGEST_NUMBER} digits; give a smaller one",
                problem_mark=node.start_mark,
            )
        if numbers and _LEADING_ZERO.fullmatch(node.value):
            shown = node.value.replace("_", "")
            raise Misread(
                problem=f"{at}{node.value} begins with a zero; write {int(shown)}, or a decimal point if it is the "
                "end of a number",
                problem_mark=node.start_mark,
            )


def _means_none(word: str, kinds: Kinds) -> bool:
    """Whether a word probably says that there shall be no text."""
    return word.lower() in ("no", "off") and type(None) in kinds and holds_only_text(kinds)


def _too_deep(mark: yaml.Mark) -> Misread:
    return Misread(problem="this is nested too deeply", problem_mark=mark)


def _tagged(node: Node) -> Misread:
    return Misread(problem=f"the tag {node.tag!r} is not read here; leave it out", problem_mark=node.start_mark)
