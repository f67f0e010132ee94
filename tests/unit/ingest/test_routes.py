"""The raw routes of ingest."""

from typing import Any

import pytest
from fastapi import FastAPI
from starlette.routing import Match

from service.ingest.routes import mount_ingest


@pytest.mark.parametrize("path", ["/v1/predictions", "/v1/labels"])
def test_a_raw_route_says_which_one_it_is_so_that_metrics_can_name_it(path: str) -> None:
    app = FastAPI()
    mount_ingest(app)
    scope: dict[str, Any] = {"type": "http", "path": path, "method": "POST", "root_path": ""}
    matches = [route.matches(scope) for route in app.routes]
    assert [found["route"].path for match, found in matches if match is Match.FULL] == [path]
