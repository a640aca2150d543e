"""OpenTelemetry spans, where `OTEL_EXPORTER_OTLP_ENDPOINT` asks for them."""

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

from lifecycle import Scope

log = logging.getLogger("ekiben.serve")
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def span_of(scope: Scope, route: str, request: str) -> AbstractContextManager[Any]:
    """Return a span of the request, below that of its caller, or nothing where none is asked for."""
    tracer = _tracer()
    if tracer is None:
        return nullcontext()
    from opentelemetry.propagate import extract

    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    span: AbstractContextManager[Any] = tracer.start_as_current_span(
        f"{scope['method']} {route}",
        context=extract(headers),
        attributes={"http.route": route, "ekiben.request_id": request},
    )
    return span


@cache
def _tracer() -> Any:
    """Return what makes spans, or None."""
    if not os.environ.get(ENDPOINT):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.error(
            "%s is set, but nothing is traced: install opentelemetry-exporter-otlp-proto-http",
            ENDPOINT,
        )
        return None
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer("ekiben.serve")
