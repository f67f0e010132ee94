"""The raw routes of ingest."""

from fastapi import FastAPI

from service.ingest.routes import mount_ingest


def test_a_raw_route_says_which_one_it_is_so_that_metrics_can_name_it() -> None:
    app = FastAPI()
    mount_ingest(app)
    for path in ("/v1/predictions", "/v1/labels"):
        scope = {"type": "http", "path": path, "method": "POST", "root_path": "", "headers": []}
        found = [route.matches(scope)[1].get("route") for route in app.routes]
        assert [route.path for route in found if route is not None] == [path]
