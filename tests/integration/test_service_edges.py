"""The service at its edges: TLS, a full queue, a client that leaves or does not read, traces."""

import datetime
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from served_bentos import serving
from toy_bentos import toy_bento


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bento(tmp_path_factory.mktemp("bento"), "v1")


def certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    file, key_file = folder / "certificate.pem", folder / "key.pem"
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file, key_file


def test_over_tls_it_answers_who_trusts_its_certificate_alone(bento: Path, tmp_path: Path) -> None:
    file, key = certificate(tmp_path)
    options = ("--ssl-certfile", str(file), "--ssl-keyfile", str(key))
    trusting = ssl.create_default_context(cafile=str(file))
    with serving(bento, tmp_path, *options, verify=trusting) as served:
        url = f"https://127.0.0.1:{served.port}/classify"
        answer = httpx.post(url, json={"texts": ["good"]}, verify=trusting)
        assert answer.json()[0]["label"] == "one"
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.post(url, json={"texts": ["good"]})
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.post(f"http://127.0.0.1:{served.port}/classify", json={"texts": ["good"]})


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(
    bento: Path, tmp_path: Path
) -> None:
    # A queue that holds next to nothing: what finds anything ahead of it is refused.
    with serving(bento, tmp_path, EKIBEN_SERVE_QUEUE_TOKENS="1") as served, ExitStack() as stack:
        clients = [stack.enter_context(httpx.Client(base_url=served.url)) for _ in range(16)]
        found: list[httpx.Response] = []

        def ask(client: httpx.Client) -> None:
            body = {"texts": ["good " * 1500] * 8}
            found.extend(client.post("/classify", json=body) for _ in range(40))

        threads = [threading.Thread(target=ask, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {answer.status_code for answer in found} == {200, 503}
        refused = [answer for answer in found if answer.status_code == 503]
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert all("too many texts wait" in answer.json()["error"] for answer in refused)
        metrics = httpx.get(f"{served.url}/metrics").text
        assert f'ekiben_refusals_total{{reason="overload"}} {len(refused):.1f}' in metrics


def test_a_client_that_leaves_disturbs_nobody(bento: Path, tmp_path: Path) -> None:
    with serving(bento, tmp_path) as served:
        body = json.dumps({"texts": ["good " * 1500] * 64}).encode()
        head = (
            "POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", served.port)) as leaving:
                leaving.sendall(head + body)
        assert served.post("/classify", {"texts": ["bad"]}).json()[0]["label"] == "two"
        metrics = httpx.get(f"{served.url}/metrics").text
        assert 'status="500"' not in metrics


def test_a_bulk_client_that_does_not_read_is_not_read_from_on(bento: Path, tmp_path: Path) -> None:
    line = json.dumps({"text": "good", "id": "x" * 2000}).encode() + b"\n"
    with serving(bento, tmp_path) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as silent:
            silent.sendall(
                b"POST /bulk HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/x-ndjson\r\nContent-Length: 1000000000\r\n\r\n"
            )
            silent.settimeout(2)
            assert _sent_until_stuck(silent, line * 100, most=200_000_000) < 100_000_000
        assert served.post("/classify", {"texts": ["good"]}).status_code == 200


def _sent_until_stuck(connection: socket.socket, part: bytes, most: int) -> int:
    """Return how many bytes were taken until the buffers of both sides were full."""
    sent = 0
    while sent < most:
        try:
            sent += connection.send(part)
        except TimeoutError:
            break
    return sent


def test_the_examples_of_the_openapi_document_work_as_they_stand(
    bento: Path, tmp_path: Path
) -> None:
    with serving(bento, tmp_path) as served:
        document = httpx.get(f"{served.url}/docs.json").json()
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                content = operation.get("requestBody", {}).get("content", {"": {}})
                ((kind, body),) = content.items()
                example = body.get("example")
                sent = example if isinstance(example, str) else json.dumps(example)
                answer = httpx.request(
                    method,
                    served.url + path,
                    content=sent if example is not None else None,
                    headers={"Content-Type": kind} if kind else {},
                )
                assert answer.status_code == 200, (path, answer.text)
                (told,) = operation["responses"]["200"]["content"]
                assert answer.headers["content-type"].partition(";")[0] == told


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """Take in what OpenTelemetry's exporter sends; yield its address and the bodies."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_spans_are_sent_where_they_are_asked_for_and_hold_no_text(
    bento: Path, tmp_path: Path
) -> None:
    with (
        collector() as (address, bodies),
        serving(
            bento, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_BSP_SCHEDULE_DELAY="50"
        ) as served,
    ):
        served.post("/classify", {"texts": ["good xyzzy"]}, X_Request_Id="asked-1")
        _wait_for(lambda: b"asked-1" in b"".join(bodies))
    sent = b"".join(bodies)
    assert b"POST /classify" in sent and b"xyzzy" not in sent


def _wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_served_address_is_not_left_open(bento: Path, tmp_path: Path) -> None:
    """`bentoml serve` listens on every interface unless told not to."""
    with serving(bento, tmp_path) as served:
        own = _address_of_this_machine()
        answer = httpx.get(f"http://{own}:{served.port}/model", headers={"Host": own})
        assert answer.status_code == 403
        assert "EKIBEN_SERVE_KEYS_FILE" in answer.json()["error"]
        assert httpx.get(f"http://{own}:{served.port}/livez").status_code == 200


def _address_of_this_machine() -> str:
    """Return an address that is not loopback; where a machine has none, one that the guard sees so."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address: str = probe.getsockname()[0]
        return address
