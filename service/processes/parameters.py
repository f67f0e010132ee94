"""A query parameter that a route does not have is an error: a misspelt one must not be lost."""

from fastapi import Request
from fastapi.routing import APIRoute

from service.errors import InvalidDocumentError
from service.registry.documents import hint, printable


def refuse_unknown_parameters(request: Request) -> None:
    """Raise if the query names a parameter that the route's documentation does not have."""
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute):
        return
    operations = request.app.openapi()["paths"].get(route.path, {})
    parameters = operations.get(request.method.lower(), {}).get("parameters", [])
    known = [parameter["name"] for parameter in parameters if parameter["in"] == "query"]
    for name in request.query_params:
        if name not in known:
            message = f"unknown parameter {printable(name)}{hint(name, known)}"
            raise InvalidDocumentError(message, code="invalid-request")
