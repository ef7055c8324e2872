"""The interface explained, as one HTML page made of its OpenAPI description; it loads nothing from anywhere else."""

from __future__ import annotations

from html import escape
from typing import Any

EXAMPLE = """\
curl -F image=@photo.jpg -F mask=@mask.png http://127.0.0.1:8080/api/v1/inpaint -o repaired.jpg
curl -F image=@photo.jpg -F 'boxes=[[10, 20, 110, 80]]' -F fill=exemplar -F seed=2 \\
  http://127.0.0.1:8080/api/v1/inpaint -o repaired.jpg
curl -F image=@photo.jpg -F mask=@mask.png -F album=@other1.jpg -F album=@other2.jpg \\
  http://127.0.0.1:8080/api/v1/inpaint -o repaired.jpg"""


def reference_page(schema: dict[str, Any]) -> str:
    """The page.

    Args:
        schema: an OpenAPI description.
    """
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        "<title>cicm: the REST interface</title><link rel=icon href=/page/icon.svg>",
        "<link rel=stylesheet href=/page/reference.css><main><h1>The REST interface</h1>",
        f"<p>{escape(schema['info'].get('summary', ''))} Version {escape(schema['info']['version'])}. ",
        "Machine-readable: <a href=/openapi.json>openapi.json</a>. <a href=/>Back to the page</a>.</p>",
        f"<pre tabindex=0>{escape(EXAMPLE)}</pre>",
    ]
    if schema.get("components", {}).get("securitySchemes"):
        parts.append("<p>Send the header <code>Authorization: Bearer TOKEN</code> with every call.</p>")
    for path, verbs in schema["paths"].items():
        for verb, operation in verbs.items():
            parts.append(f"<section><h2><b>{escape(verb.upper())}</b> <code>{escape(path)}</code></h2>")
            parts.append(f"<p>{escape(operation.get('summary', ''))}. {escape(operation.get('description', ''))}</p>")
            parts.append(_body(operation))
            parts.append(_answers(operation))
            parts.append("</section>")
    return "".join([*parts, "</main></html>"])


def _body(operation: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {})
    rows: list[tuple[str, ...]] = []
    for kind, media in content.items():
        schema = media["schema"]
        for name, part in schema["properties"].items():
            needed = "required" if name in schema.get("required", ()) else ""
            takes = "files" if "items" in part else "a file" if "format" in part else part["type"]
            takes = " | ".join(part["enum"]) if "enum" in part else takes
            rows.append((f"<code>{escape(name)}</code>", escape(takes), needed, escape(part.get("description", ""))))
        return _table(f"Parts, {kind}", ("part", "takes", "", "meaning"), rows)
    return ""


def _answers(operation: dict[str, Any]) -> str:
    rows: list[tuple[str, ...]] = []
    for status, answer in operation["responses"].items():
        kinds = ", ".join(answer.get("content", {}))
        rows.append((escape(status), escape(answer.get("description", "")), escape(kinds)))
    table = _table("Answers", ("status", "when", "body"), rows)
    headers = operation["responses"].get("200", {}).get("headers", {})
    if headers:
        notes: list[tuple[str, ...]] = [
            (f"<code>{escape(name)}</code>", escape(about["description"])) for name, about in headers.items()
        ]
        table += _table("Headers of a good answer", ("header", "meaning"), notes)
    return table


def _table(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    top = "".join(f"<th scope=col>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(title)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
