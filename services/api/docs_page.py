"""The page about the API for people, made from its OpenAPI document: operations by tag, parameters, answers, examples.

It is one HTML document that loads nothing and needs no script. What it shows is in the document, and nothing else is.
"""

import json
from collections.abc import Iterator
from typing import Any

from services.api.pages import escape, page, prose, table

Operation = tuple[str, str, dict[str, Any]]
"""Method, path, and what the document says of it."""


def docs_page(document: dict[str, Any]) -> bytes:
    """Return the page of an OpenAPI document."""
    info, operations = document["info"], list(_operations(document))
    tags = [tag for tag in document["tags"] if any(tag["name"] in operation["tags"] for *_, operation in operations)]
    contents = " · ".join(f'<a href="#{_anchor(tag["name"])}">{escape(tag["name"])}</a>' for tag in tags)
    sections = "".join(_section(tag, operations) for tag in tags)
    return page(
        info["title"],
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>\n{prose(info['description'])}"
        f'<p>For programs: <a href="openapi.json">openapi.json</a>. <a href="problems?f=html">Problems</a>.</p>\n'
        f"<p>{contents}</p>\n{sections}",
    )


def _operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _anchor(tag: str) -> str:
    return escape(tag.replace(" ", "-"))


def _section(tag: dict[str, str], operations: list[Operation]) -> str:
    shown = "".join(_operation(*one) for one in operations if tag["name"] in one[2]["tags"])
    name = escape(tag["name"])
    return f'<h2 id="{_anchor(tag["name"])}">{name.capitalize()}</h2>\n{prose(tag.get("description", ""))}{shown}'


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    return (
        f'<details id="{escape(operation["operationId"])}">\n<summary><span class="method">{method}</span> '
        f"<code>{escape(path)}</code> {escape(operation['summary'])}</summary>\n"
        f"{prose(operation['description'])}{_security(operation)}{_parameters(operation)}{_body(operation)}"
        f"{_answers(operation)}</details>\n"
    )


def _security(operation: dict[str, Any]) -> str:
    """Say which key is needed; an empty alternative says that none is."""
    needs = operation.get("security", [])
    scopes = ", ".join(f"<code>{escape(scope)}</code>" for need in needs for names in need.values() for scope in names)
    if not scopes:
        return ""
    if {} in needs:
        return f"<p>No key is needed; with one of scope {scopes}, more is shown.</p>\n"
    return f"<p>Needs a key of scope {scopes}.</p>\n"


def _parameters(operation: dict[str, Any]) -> str:
    rows = [
        [
            f"<code>{escape(one['name'])}</code>{' (required)' if one.get('required') else ''}",
            escape(one["in"]),
            _type(one["schema"]),
            prose(one.get("description", "")),
        ]
        for one in operation.get("parameters", [])
    ]
    return table(["parameter", "in", "type", "meaning"], rows)


def _type(schema: dict[str, Any]) -> str:
    """Return a type in words: the name of a model, the values of a list, the bounds of a number."""
    if "$ref" in schema:
        return escape(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(value)}</code>" for value in schema["enum"])
    if "items" in schema:
        return f"list of {_type(schema['items'])}"
    if "minimum" in schema and "maximum" in schema:
        return f"{escape(schema.get('type', ''))}, {schema['minimum']} to {schema['maximum']}"
    return escape(schema.get("type", "any"))


def _body(operation: dict[str, Any]) -> str:
    body = operation.get("requestBody")
    if body is None:
        return ""
    return f"<h3>Body{'' if body.get('required') else ' (may be left out)'}</h3>\n{_content(body['content'])}"


def _answers(operation: dict[str, Any]) -> str:
    shown = "".join(
        f"<h3>{escape(status)}</h3>\n{prose(answer['description'])}{_content(answer.get('content', {}))}"
        for status, answer in sorted(operation["responses"].items())
    )
    return f"<details>\n<summary>Answers: {', '.join(sorted(operation['responses']))}</summary>\n{shown}</details>\n"


def _content(content: dict[str, Any]) -> str:
    return "".join(
        f"<p><code>{escape(media_type)}</code> {_model(shape.get('schema', {}))}</p>\n{_examples(shape)}"
        for media_type, shape in content.items()
    )


def _model(schema: dict[str, Any]) -> str:
    return " or ".join(_type(one) for one in schema.get("anyOf", [schema]))


def _examples(shape: dict[str, Any]) -> str:
    named = {name: example["value"] for name, example in shape.get("examples", {}).items()}
    if "example" in shape:
        named["example"] = shape["example"]
    return "".join(
        f"<pre><code>{escape(value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False))}"
        "</code></pre>\n"
        for value in named.values()
    )
