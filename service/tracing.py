"""Traces for whoever collects them: a span of each request and each job, sent by OTLP."""

from opentelemetry.trace import NoOpTracerProvider, TracerProvider

from service.errors import ModelwatchSetupError
from service.telemetry import installed_version


def make_tracing(role: str, *, on: bool) -> TracerProvider:
    """Return where a process gets its tracers; the standard OTEL_* variables say where spans go."""
    if not on:
        return NoOpTracerProvider()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        message = "MODELWATCH_TRACES needs the extra `traces`: pip install '.[traces]'"
        raise ModelwatchSetupError(message) from None
    named = {"service.name": f"modelwatch-{role}", "service.version": installed_version()}
    provider = trace.TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def end_tracing(provider: TracerProvider) -> None:
    """Send what has not been sent."""
    shutdown = getattr(provider, "shutdown", None)
    if shutdown is not None:
        shutdown()
