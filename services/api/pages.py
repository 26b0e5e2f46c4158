"""Pages for people: one self-contained HTML document each, which loads nothing and runs nothing.

The policy sent with them (CSP) has the browser hold them to that: only the style that is written here applies.
"""

import base64
import hashlib
import html
import re

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: #0a6b4f }
@media (prefers-color-scheme: dark) { :root { --accent: #5fd3ad } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
a { color: var(--accent) }
h1, h2, h3 { line-height: 1.2 }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line) }
code, pre { font: 0.9em/1.4 ui-monospace, monospace; background: var(--soft); border-radius: 3px }
code { padding: 0.1em 0.25em }
pre { padding: 0.75rem; overflow: auto; max-height: 24rem }
pre code { background: none; padding: 0 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 0.6rem; border-bottom: 1px solid var(--line) }
details { border: 1px solid var(--line); border-radius: 4px; margin: 0.5rem 0; padding: 0.5rem 0.75rem }
summary { cursor: pointer }
.method { display: inline-block; min-width: 4.5rem; font-weight: 700; color: var(--accent) }
"""

_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""What is sent with every page."""
MEDIA_TYPE = "text/html; charset=utf-8"


def page(title: str, body: str) -> bytes:
    """Return a page. ``body`` is HTML, made with :func:`escape` and :func:`prose`."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n{body}\n</body>\n</html>\n"
    ).encode()


def escape(text: object) -> str:
    """Return a text as HTML shows it."""
    return html.escape(str(text))


def prose(text: str) -> str:
    """Return a description as HTML: code between backticks, and paragraphs between blank lines."""
    paragraphs = (re.sub("`([^`]+)`", r"<code>\1</code>", escape(part)) for part in text.split("\n\n"))
    return "".join(f"<p>{paragraph}</p>\n" for paragraph in paragraphs)


def table(headings: list[str], rows: list[list[str]]) -> str:
    """Return a table of cells that are HTML; nothing if it has no rows."""
    if not rows:
        return ""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for row in rows)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"
