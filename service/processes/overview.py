"""The routes of the API on one page that loads nothing from anywhere."""

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_METHODS = ("get", "put", "post", "delete")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>modelwatch: routes</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; }}
td, th {{ padding: .2rem 1rem .2rem 0; text-align: left; vertical-align: top; }}
</style>
</head>
<body>
<h1>modelwatch {version}</h1>
<p>Machine-readable: <a href="/openapi.json">/openapi.json</a>. Problems are
<code>application/problem+json</code>.</p>
<table>
<thead><tr>
<th scope="col">Method</th><th scope="col">Route</th><th scope="col">What it does</th>
</tr></thead>
<tbody>
{rows}
</tbody>
</table>
</body>
</html>
"""


def _rows(document: dict[str, Any]) -> list[str]:
    return [
        f"<tr><td>{method.upper()}</td><td>{_link(method, path)}</td>"
        f"<td>{escape(operation.get('summary', ''))}</td></tr>"
        for path, operations in document.get("paths", {}).items()
        for method, operation in operations.items()
        if method in _METHODS
    ]


def _link(method: str, path: str) -> str:
    text = f"<code>{escape(path)}</code>"
    return f'<a href="{escape(path)}">{text}</a>' if method == "get" and "{" not in path else text


@router.get("/")
@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    """List the routes."""
    document = request.app.openapi()
    page = _PAGE.format(
        version=escape(document["info"]["version"]), rows="\n".join(_rows(document))
    )
    return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})
