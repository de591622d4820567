"""Strict typed settings: what every YAML file of the project (experiments, recipes) is checked with."""

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
    """Base of all settings: unknown keys are refused, values cannot change after loading.

    The docstring under each field is its documentation (`Field.description`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


Settings = TypeVar("Settings", bound=Strict)


_MAX_NODES = 100_000
"""Keys and values of a file with all aliases written out."""

_FOUND = reprlib.Repr()
_FOUND.maxlevel, _FOUND.maxstring, _FOUND.maxother = 3, 200, 200


class _CarefulLoader(yaml.SafeLoader):
    """Plain values only, and what `SafeLoader` lets through refused with its place.

    A key that stands twice (YAML would silently keep the last one), values that are not what their tag says, and
    aliases that repeat aliases until nothing could hold the result.
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
            problem = f"a value that cannot be: {error}"
            raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    problem="a list or mapping cannot be a key", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key!r} is there twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _expanded_size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Nodes of a tree in which every alias is the tree it stands for; more than `_MAX_NODES` if it contains itself."""
    if id(node) not in sizes:
        sizes[id(node)] = _MAX_NODES  # met again before it is known: it contains itself
        children = () if isinstance(node, yaml.ScalarNode) else node.value
        pairs = ((child,) if isinstance(child, yaml.Node) else child for child in children)
        sizes[id(node)] = 1 + sum(_expanded_size(child, sizes) for pair in pairs for child in pair)
    return sizes[id(node)]


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads one YAML file that holds a mapping.

    Raises:
        ConfigError: missing file, YAML syntax (with line and column) or not a mapping.
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
    except yaml.YAMLError as error:  # characters that YAML does not allow
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, found {type(value).__name__}")
    return value


def validate(schema: type[Settings], data: Mapping[str, Any], origin: Mapping[str, str] | str) -> Settings:
    """Checks `data` against `schema`.

    Args:
        origin: where a dotted key came from (file or command line), for the error; or one name for all keys.

    Raises:
        ConfigError: one line per wrong key: where it stands, what was found, what was expected.
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
    return f"{prefix}: {message} (found {_FOUND.repr(problem['input'])})"


def _nearest_origin(location: list[str], origin: Mapping[str, str]) -> str:
    """The source of the longest prefix of `location` that some source has set."""
    for length in range(len(location), 0, -1):
        prefix = ".".join(location[:length])
        for dotted, source in origin.items():
            if dotted == prefix or dotted.startswith(f"{prefix}."):
                return source
    return ""


def _known_keys(schema: Any, location: list[str]) -> list[str]:
    """Field names of the settings class that stands at `location` below `schema`."""
    for part in location:
        candidates = _model_types(schema)
        schema = next((c.model_fields[part].annotation for c in candidates if part in c.model_fields), schema)
    return sorted({name for c in _model_types(schema) for name in c.model_fields})


def _model_types(annotation: Any) -> list[type[BaseModel]]:
    """All settings classes inside an annotation such as `dict[str, list[str | Source]]`."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for argument in typing.get_args(annotation) for model in _model_types(argument)]


def changed_settings(old: Any, new: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """Dotted names of what differs between two nested mappings, with both values (None where there is none)."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
        return [d for key in keys for d in changed_settings(old.get(key), new.get(key), f"{name}.{key}".strip("."))]
    return [(name, old, new)] if old != new else []


def reference(schema: type[BaseModel], prefix: str = "") -> str:
    """All settings of a schema as Markdown: one table a section, from the docstrings of class and fields."""
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
