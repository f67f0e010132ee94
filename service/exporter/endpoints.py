"""What Prometheus scrapes."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from service import telemetry
from service.db.visibility import visible_models
from service.errors import DatabaseAwayError, NotReadyError
from service.exporter.exposition import only_of

router = APIRouter(tags=["metrics"], default_response_class=Response)

# Coroutines, because neither waits for anything: in the thread pool a scrape would queue behind
# requests that wait for the database.


@router.get("/metrics")
async def process_metrics() -> Response:
    """Metrics of this process, in Prometheus' text format."""
    return Response(generate_latest(telemetry.REGISTRY), media_type=CONTENT_TYPE_PLAIN_0_0_4)


@router.get("/metrics/models")
async def model_metrics(request: Request) -> Response:
    """Newest results of every live version, in Prometheus' text format.

    A key that is bound to models gets their series alone.
    """
    results = request.app.state.results
    exposition = await results.exposition()
    if exposition is None:
        message = "the first rendering takes its time; scrape again"
        raise DatabaseAwayError if results.failing else NotReadyError(message)
    models = visible_models()
    content = exposition.content if models is None else only_of(exposition, models)
    return Response(content, media_type=CONTENT_TYPE_PLAIN_0_0_4)
