"""The operator's file about processes (``BOWERBIRD_PROCESSES_FILE``): which are offered, to whom, under which names.

The file is YAML in the layout of pygeoapi and rs-dpr-service, of which it knows what docs/api.md says. It changes what
it names; without it, every built-in process is offered. Reading goes three ways down: the text to nodes, whose values
may name environment variables; the nodes to plain values; and these to processes. Whatever is wrong stops the start,
and the error has the file, the place in it, and what to do.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError, model_validator
from sqlalchemy import URL

from shared.db.models import KeyScope
from shared.errors import ConfigurationError
from shared.keys import SCOPES
from shared.processes import BUILT_IN, Process
from shared.settings import Settings, environment_variables

ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}")
_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^{}$]*)?\})?")
_TAGS = "tag:yaml.org,2002:"
_TEXT, _MERGE = f"{_TAGS}str", f"{_TAGS}merge"
_VALUES = frozenset(_TAGS + name for name in ("null", "bool", "int", "float"))
_KNOWN = _VALUES | {_TEXT, _MERGE} | {_TAGS + name for name in ("map", "seq", "timestamp", "value")}


@dataclass(frozen=True)
class ProcessesFile:
    """What a file says: the processes to offer, by id, and the database, if it names one."""

    processes: Mapping[str, Process]
    database_url: str | None


def offered(settings: Settings) -> Mapping[str, Process]:
    """Return the processes to offer, by id, in the order in which they are listed.

    :raises ConfigurationError: the settings name a file that is none.
    """
    if settings.processes_file is None:
        return BUILT_IN
    return read_file(settings.processes_file, environment_variables()).processes


def read_file(path: Path, variables: Mapping[str, str]) -> ProcessesFile:
    """Read a file, with the variables that its values may name. Raise :class:`ConfigurationError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}. Correct BOWERBIRD_PROCESSES_FILE, or put the file there."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not in UTF-8 (byte {error.start}). Convert it.") from error
    return parse(text, variables, name=str(path))


def parse(text: str, variables: Mapping[str, str], *, name: str) -> ProcessesFile:
    """Return what a file with this text says. Raise :class:`ConfigurationError`, which begins with its name."""
    try:
        document = _Reader(text, variables, name).document()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigurationError(f"{name}, line {line}: this is no YAML: {error.problem}. Correct it.") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError(f"{name} is no YAML: {' '.join(str(error).split())}. Correct it.") from error
    try:
        file = _File.model_validate(document)
    except ValidationError as error:
        faults = (
            (".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")) for fault in error.errors()
        )
        raise ConfigurationError(f"{name}: {'; '.join(_at(*fault) for fault in faults)}. Correct it.") from error
    connection = file.manager.connection if file.manager is not None else None
    try:
        processes = _configured(file.resources)
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}. Correct it.") from error
    return ProcessesFile(processes, connection.url if connection is not None else None)


def _at(place: str, fault: str) -> str:
    return f"{place}: {fault}" if place else fault


# From text to values


class _Reader:
    """Reads a text of YAML, with values of JSON only, and the variables in them in place."""

    def __init__(self, text: str, variables: Mapping[str, str], name: str) -> None:
        self._loader = yaml.SafeLoader(text)
        self._variables, self._name = variables, name

    def document(self) -> Any:
        """Return the one document that there is."""
        node = self._loader.get_single_node()
        return None if node is None else self._value(node)

    def _value(self, node: yaml.Node) -> Any:
        if node.tag not in _KNOWN:
            self._refuse(node, f"the tag {node.tag.replace(_TAGS, '!!')} is not read here")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(each) for each in node.value]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._refuse(key, "a key is not a text")
            if key.value in seen and key.tag != _MERGE:
                self._refuse(key, f"{key.value!r} is there twice")
            seen.add(key.value)
        self._loader.flatten_mapping(node)  # what << brings comes first, so that what is written here goes before it
        return {key.value: self._value(value) for key, value in node.value}

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        """Return a text, number, true, false or nothing. What has no quotes is judged with its variables filled in."""
        text = _VARIABLE.sub(lambda match: self._filled(node, match), node.value)
        tag = node.tag
        if text != node.value and node.style is None and tag == _TEXT:
            tag = self._loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        if tag not in _VALUES:
            return text
        try:
            value = self._loader.construct_object(yaml.ScalarNode(tag, text))
        except (LookupError, ValueError):
            self._refuse(node, f"{text!r:.100} is no {tag.removeprefix(_TAGS)}")
        if isinstance(value, float) and not math.isfinite(value):
            self._refuse(node, f"{text} is no number that JSON has")
        return value

    def _filled(self, node: yaml.Node, match: "re.Match[str]") -> str:
        if match["dollar"]:
            return "$"
        if match["name"] is None:
            self._refuse(node, "a $ that begins no variable; write ${NAME}, ${NAME:-default}, or $$ for the character")
        value, default = self._variables.get(match["name"]), match["default"]
        if default is not None:
            return value or default.removeprefix(":-")
        if value is None:
            name = match["name"]
            self._refuse(node, f"the variable {name} is not set; set it, or write ${{{name}:-default}}")
        return value

    def _refuse(self, node: yaml.Node, fault: str) -> NoReturn:
        raise ConfigurationError(f"{self._name}, line {node.start_mark.line + 1}: {fault}. Correct it.")


# From values to what they say


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            raise ValueError(f"there should be keys below it: {', '.join(cls.model_fields)}")  # noqa: TRY004
        if unknown := [key for key in given if key not in cls.model_fields]:
            raise ValueError(f"there is no key {unknown[0]!r}; there are: {', '.join(cls.model_fields)}")
        return given


class _Connection(_Part):
    host: StrictStr
    port: StrictInt = Field(default=5432, ge=1, le=65535)
    database: StrictStr
    user: StrictStr
    password: StrictStr | None = None

    @property
    def url(self) -> str:
        parts = URL.create("postgresql", self.user, self.password, self.host, self.port, self.database)
        return parts.render_as_string(hide_password=False)


class _Manager(_Part):
    name: Literal["PostgreSQL"] = "PostgreSQL"
    connection: _Connection | None = None


class _Processor(_Part):
    name: StrictStr


class _Resource(_Part):
    type: Literal["process"] = "process"
    processor: _Processor | None = None
    enabled: StrictBool = True
    title: StrictStr | None = Field(default=None, min_length=1)
    description: StrictStr | None = None
    keywords: list[StrictStr] | None = None
    scope: KeyScope | None = None
    visible: Literal["public", "read", "operate", "admin"] = "public"
    fixed: dict[str, Any] = {}


class _File(_Part):
    manager: _Manager | None = None
    resources: dict[str, _Resource] = {}


# From what it says to processes


def _configured(resources: Mapping[str, _Resource]) -> dict[str, Process]:
    """Return the processes that are offered: the built-in ones, then the others. Raise ValueError with the place."""
    found = dict(BUILT_IN)
    for process_id, resource in resources.items():
        place = f"resources.{process_id}"
        found[process_id] = _process(process_id, resource, place)
        if not resource.enabled:
            del found[process_id]
    return found


def _process(process_id: str, resource: _Resource, place: str) -> Process:
    base = _base(process_id, resource, place)
    if resource.scope is not None and base.scope is not None and not _includes(resource.scope, base.scope):
        raise ValueError(f"{place}.scope: it can be made stricter only; choose {base.scope}, or one that includes it")
    given = {name: getattr(resource, name) for name in ("title", "description", "scope")}
    if resource.keywords is not None:
        given["keywords"] = tuple(resource.keywords)
    return replace(
        base,
        id=process_id,
        base="" if process_id == base.id else base.id,
        fixed={name: _fixed(base, name, value, f"{place}.fixed.{name}") for name, value in resource.fixed.items()},
        visible=None if resource.visible == "public" else KeyScope(resource.visible),
        **{name: value for name, value in given.items() if value is not None},
    )


def _base(process_id: str, resource: _Resource, place: str) -> Process:
    """Return the built-in process that one is, or is a variant of."""
    if not ID.fullmatch(process_id):
        raise ValueError(
            f"{place}: {process_id!r:.110} is no identifier; use letters, digits, -, _ and ., beginning with a letter"
        )
    known = ", ".join(BUILT_IN)
    if resource.processor is None:
        if process_id not in BUILT_IN:
            raise ValueError(f"{place}.processor.name: say which process it is a variant of: {known}")
        return BUILT_IN[process_id]
    name = resource.processor.name
    if name not in BUILT_IN:
        raise ValueError(f"{place}.processor.name: there is no process {name!r:.110}; there are: {known}")
    if process_id in BUILT_IN and name != process_id:
        raise ValueError(f"{place}: this is the name of a built-in process; give a variant of {name} another")
    return BUILT_IN[name]


def _fixed(base: Process, name: str, value: Any, place: str) -> Any:
    """Return the value of an input, as the process takes it. Raise ValueError if there is none, or it does not fit."""
    parameter = base.inputs.get(name)
    if parameter is None:
        raise ValueError(f"{place}: {base.id} has no such input; there are: {', '.join(base.inputs)}")
    try:
        values = parameter.several(value) if parameter.most > 1 else [value]
        for each in values:
            parameter.require(each)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
    return values if parameter.most > 1 else value


def _includes(scope: KeyScope, other: KeyScope) -> bool:
    return SCOPES.index(scope) >= SCOPES.index(other)
