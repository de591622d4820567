"""Strict typed settings, which validate every YAML file of the project (experiments, recipes)."""

from __future__ import annotations

import difflib
import reprlib
import types
import typing
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from translit_scale.errors import ConfigError


class Strict(BaseModel):
    """Base class of all settings: unknown keys are errors, and values cannot change after loading.

    The docstring below each field is its documentation (`Field.description`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


Settings = TypeVar("Settings", bound=Strict)


_MAX_NODES = 100_000
"""Largest number of keys and values in a file after its aliases are expanded."""

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 200, 200


class _CarefulLoader(yaml.SafeLoader):
    """Loads plain values, and reports the position of errors that `SafeLoader` accepts or reports without position.

    These are a duplicate key (YAML would silently keep the last value), a value that does not fit its tag, and aliases
    of aliases that would expand beyond memory.
    """

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None and _expanded_size(node, {}) > _MAX_NODES:
            raise yaml.composer.ComposerError(
                problem=f"more than {_MAX_NODES:,} values when its aliases are written out (is one inside itself?)",
                problem_mark=node.start_mark,
            )
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError) as error:
            problem = f"invalid value: {error}"
            raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, of which no key occurs twice and every key is a plain value."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    problem="a list or mapping cannot be a key", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"duplicate key {key!r}", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _expanded_size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Number of nodes after expanding all aliases; more than `_MAX_NODES` if the tree contains itself."""
    if id(node) not in sizes:
        sizes[id(node)] = _MAX_NODES  # used if the node is met again below itself
        children = () if isinstance(node, yaml.ScalarNode) else node.value
        pairs = ((child,) if isinstance(child, yaml.Node) else child for child in children)
        sizes[id(node)] = 1 + sum(_expanded_size(child, sizes) for pair in pairs for child in pair)
    return sizes[id(node)]


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML file that contains a mapping.

    Raises:
        ConfigError: the file is missing, is not valid YAML (with line and column) or does not contain a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.yaml")], n=1)
        raise ConfigError(
            f"file not found: {path}", f"did you mean {path.with_name(near[0])}?" if near else ""
        ) from None
    except (IsADirectoryError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a YAML file: {error}") from None
    try:
        value = yaml.load(text, Loader=_CarefulLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigError(f"{where}: not valid YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not valid YAML: nested too deeply") from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, found {type(value).__name__}")
    return value


def validate(schema: type[Settings], data: Mapping[str, Any], origin: Mapping[str, str] | str) -> Settings:
    """Validates `data` and returns it as an instance of `schema`.

    Args:
        origin: source of each dotted key (file or command line) for error messages, or one name for all keys.

    Raises:
        ConfigError: one line for each wrong key, with its source, the value found and what was expected.
    """
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        lines = [_explain(schema, problem, origin) for problem in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def _explain(schema: type[BaseModel], problem: Any, origin: Mapping[str, str] | str) -> str:
    location = [str(part) for part in problem["loc"]]
    dotted = ".".join(location)
    source = origin if isinstance(origin, str) else _nearest_origin(location, origin)
    prefix = f"{source}: {dotted}" if source else dotted
    if problem["type"] == "extra_forbidden":
        known = _known_keys(schema, location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1)
        guess = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}" if known else ""
        return f"{prefix}: unknown setting{guess}"
    if problem["type"] == "missing":
        return f"{prefix}: this setting is required"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{prefix}: {message} (found {_SHORT.repr(problem['input'])})"


def _nearest_origin(location: list[str], origin: Mapping[str, str]) -> str:
    """Source of the longest prefix of `location` that has one."""
    for length in range(len(location), 0, -1):
        prefix = ".".join(location[:length])
        for dotted, source in origin.items():
            if dotted == prefix or dotted.startswith(f"{prefix}."):
                return source
    return ""


def _known_keys(schema: Any, location: list[str]) -> list[str]:
    """Field names of the settings class at `location` below `schema`."""
    for part in location:
        candidates = _model_types(schema)
        schema = next((c.model_fields[part].annotation for c in candidates if part in c.model_fields), schema)
    return sorted({name for c in _model_types(schema) for name in c.model_fields})


def _model_types(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes inside an annotation such as `dict[str, list[str | Source]]`."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for argument in typing.get_args(annotation) for model in _model_types(argument)]


def changed_settings(old: Any, new: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """Dotted name, old and new value of every difference between two nested mappings; None for a missing value."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
        return [d for key in keys for d in changed_settings(old.get(key), new.get(key), f"{name}.{key}".strip("."))]
    return [(name, old, new)] if old != new else []


def reference(schema: type[BaseModel], prefix: str = "") -> str:
    """Documents all settings of a schema in Markdown: one table per section, from the docstrings."""
    rows, sections = [], []
    for name, field in schema.model_fields.items():
        inner = [model for model in _model_types(field.annotation) if issubclass(model, Strict)]
        if inner:
            sections.append(reference(inner[0], f"{prefix}{name}."))
            continue
        default = "required" if field.is_required() else f"`{field.get_default(call_default_factory=True)}`"
        rows.append(f"| `{prefix}{name}` | {default} | {' '.join((field.description or '').split())} |")
    title = f"## {prefix.rstrip('.')}\n\n" if prefix else ""
    text = " ".join((schema.__doc__ or "").split())
    table = "\n".join(["", "| setting | default | meaning |", "|---|---|---|", *rows, ""]) if rows else ""
    return "\n".join([f"{title}{text}", table, *sections])
