"""Traces for whoever collects them: a span of each request and each job, sent by OTLP."""

from collections.abc import Callable
from dataclasses import dataclass

from opentelemetry.trace import NoOpTracerProvider, Tracer

from service.errors import ModelwatchSetupError
from service.telemetry import installed_version

_NAME = "modelwatch"


@dataclass(frozen=True)
class Tracing:
    """What makes a process's spans, and what sends those that have not been sent."""

    tracer: Tracer
    end: Callable[[], None]


def make_tracing(role: str, *, on: bool) -> Tracing:
    """Return how a process is traced; the standard OTEL_* variables say where its spans go."""
    if not on:
        return Tracing(NoOpTracerProvider().get_tracer(_NAME), lambda: None)
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
    return Tracing(provider.get_tracer(_NAME), provider.shutdown)
