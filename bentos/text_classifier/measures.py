"""What Prometheus is told of the service."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Measures:
    """The metrics of one worker; every label has few values, and none comes from a request."""

    def __init__(self, tag: str, kind: str) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "ekiben_requests", "Requests answered.", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "ekiben_request_seconds",
            "Seconds from a request's head to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue_tokens = Gauge("ekiben_queue_tokens", "Tokens that wait.", registry=registry)
        self.batch_rows = Histogram(
            "ekiben_batch_rows", "Texts of a batch.", buckets=_SIZES, registry=registry
        )
        self.batch_tokens = Histogram(
            "ekiben_batch_tokens", "Tokens of a batch.", buckets=_SIZES, registry=registry
        )
        self.tokens = Counter("ekiben_tokens", "Tokens computed.", registry=registry)
        self.predictions = Counter(
            "ekiben_predictions", "Texts answered, by label.", ["label"], registry=registry
        )
        self.unsure = Counter("ekiben_unsure", "Texts answered as unsure.", registry=registry)
        self.refusals = Counter(
            "ekiben_refusals", "Requests refused, by reason.", ["reason"], registry=registry
        )
        self.keys_errors = Counter(
            "ekiben_keys_errors", "Changes of the keys file that were not read.", registry=registry
        )
        self.ready = Gauge("ekiben_ready", "1 while the service is ready.", registry=registry)
        model = Gauge("ekiben_model_info", "The model.", ["tag", "kind"], registry=registry)
        model.labels(tag, kind).set(1)

    def computed(self, rows: int, tokens: int) -> None:
        """Take note of a batch."""
        self.batch_rows.observe(rows)
        self.batch_tokens.observe(tokens)
        self.tokens.inc(tokens)

    def follow(self, queued_tokens: Callable[[], int], is_ready: Callable[[], bool]) -> None:
        """Read these two whenever the metrics are read."""
        self.queue_tokens.set_function(queued_tokens)
        self.ready.set_function(is_ready)

    def text(self) -> bytes:
        """Return the metrics in Prometheus's text form."""
        return generate_latest(self.registry)
