"""What is sent goes to the address that was judged, and a target cannot make it do otherwise."""

import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service.webhooks.addresses import Address, Allowed, read_url
from service.webhooks.resolving import resolve, resolve_within
from service.webhooks.sending import MAX_REPLY_BYTES, Reply, Sender
from tests.unit.webhooks.targets import NO_CONTENT, listening, resolving, saying, sender


def post(by: Sender, url: str) -> Reply:
    return by.post(read_url(url), {"X-Kind": "test"}, b"{}")


def test_a_request_arrives_whole_and_its_reply_is_a_number() -> None:
    with listening() as target:
        assert post(sender(), f"http://127.0.0.1:{target.port}/hook?a=1") == Reply(204, None)
    head, _, body = target.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /hook?a=1 HTTP/1.1"
    assert [line for line in lines if line.lower().startswith("host:")] == [
        f"Host: 127.0.0.1:{target.port}"
    ]
    assert {"X-Kind: test", "Connection: close"} <= set(lines)
    assert body == b"{}"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "127.0.0.1.nip.example",
        "[64:ff9b::7f00:1]",
    ],
)
def test_loopback_is_not_even_connected_to(host: str) -> None:
    stub, _ = resolving("127.0.0.1")
    with listening() as target:
        by = sender(allow="", resolve=stub if "nip" in host else None)
        assert post(by, f"https://{host}:{target.port}/").error == "forbidden-address"
        assert post(by, f"http://{host}:{target.port}/").error == "forbidden-address"
    assert target.connections == 0


def test_a_name_that_is_answered_differently_the_second_time_is_asked_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, system = ["::1", "127.0.0.1"], socket.getaddrinfo

    def look_up(host: str, port: int, *more: Any, **how: Any) -> list[Any]:
        return system(answers.pop(0) if host == "rebinding.example" else host, port, *more, **how)

    with listening() as inside:
        url = f"http://rebinding.example:{inside.port}/"
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        # Permitted at the first look-up; a second one would lead to the listener.
        reply = post(sender(allow="::1"), url)
        monkeypatch.undo()
    assert inside.connections == 0
    assert reply.error == "unreachable"


def test_a_name_with_an_inner_address_among_outer_ones_is_refused() -> None:
    stub, _ = resolving(["8.8.8.8", "127.0.0.1"])
    with listening() as inside:
        assert post(sender("", stub), "https://mixed.example/").error == "forbidden-address"
    assert inside.connections == 0


def test_an_address_that_does_not_answer_is_followed_by_the_next() -> None:
    stub, _ = resolving(["::1", "127.0.0.1"])
    with listening() as target:
        url = f"http://two.example:{target.port}/"
        assert post(sender("two.example", stub), url) == Reply(204, None)
    assert f"Host: two.example:{target.port}".encode() in target.requests[0]


def test_a_redirect_is_an_answer_and_nothing_more() -> None:
    with listening() as inside:
        away = f"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:{inside.port}/\r\n\r\n".encode()
        with listening(saying(away)) as target:
            reply = post(sender(), f"http://127.0.0.1:{target.port}/")
    assert reply == Reply(307, "refused")
    assert inside.connections == 0


def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as proxy, listening() as target:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert post(sender(), f"http://127.0.0.1:{target.port}/") == Reply(204, None)
    assert proxy.connections == 0


def test_what_a_target_says_is_kept_nowhere() -> None:
    secret = b"HTTP/1.1 500 root:x:0:0\r\nX-Token: hidden\r\nContent-Length: 6\r\n\r\nhidden"
    with listening(saying(secret)) as target:
        assert post(sender(), f"http://127.0.0.1:{target.port}/") == Reply(500, "refused")


def test_an_endless_reply_is_left_after_its_first_part() -> None:
    sent: list[int] = []

    def endless(connection: socket.socket, _: bytes) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)
            sent.append(65536)

    with listening(endless) as target:
        assert post(sender(), f"http://127.0.0.1:{target.port}/") == Reply(200, None)
    # What was read, and what the system's buffers took.
    assert sum(sent) < MAX_REPLY_BYTES + (16 << 20)


@pytest.mark.parametrize(
    "drops",
    [(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), (b"", b"HTTP/1.1 100 Continue\r\n\r\n"), (b"", b"")],
    ids=["headers", "informational", "silence"],
)
def test_a_drop_at_a_time_gains_nothing(drops: tuple[bytes, bytes]) -> None:
    over = threading.Event()

    def drip(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(drops[0])
        for _ in range(1500):
            if over.wait(0.02):
                return
            connection.sendall(drops[1])

    with listening(drip) as target:
        started = time.monotonic()
        reply = post(sender(seconds=0.5), f"http://127.0.0.1:{target.port}/")
        over.set()
    assert reply.error in ("timeout", "broken-connection")
    # All drops take half a minute.
    assert time.monotonic() - started < 25


def test_a_resolver_that_hangs_is_not_waited_for() -> None:
    over = threading.Event()

    def hang(_host: str, _port: int) -> list[Address]:
        over.wait(60)
        return []

    by = sender(resolve=hang, seconds=0.2)
    assert post(by, "https://slow.example/").error == "resolve-timeout"
    over.set()


def test_what_is_no_name_is_an_error_and_no_accident() -> None:
    for host in ("a" * 70 + ".example", "nowhere.invalid", ".".join("a" * 200)):
        with pytest.raises(OSError, match=r".*"):
            resolve_within(resolve, host, 443, 10)
    assert post(sender(), "https://nowhere.invalid/").error in ("unresolved", "resolve-timeout")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert post(sender(), f"http://127.0.0.1:{port}/").error == "unreachable"


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("120", 120), ("9" * 7, None), ("soon", None), ("-5", None), ("", None), ("٣", None)],
)
def test_a_wish_to_wait_is_read(said: str, seconds: int | None) -> None:
    answer = f"HTTP/1.1 503 No\r\nRetry-After: {said}\r\n\r\n".encode()
    with listening(saying(answer)) as target:
        found = post(sender(), f"http://127.0.0.1:{target.port}/").retry_after
    assert found == (None if seconds is None else timedelta(seconds=seconds))


def test_a_wish_to_wait_can_be_a_date() -> None:
    answer = b"HTTP/1.1 503 No\r\nRetry-After: Wed, 21 Oct 2099 07:28:00 GMT\r\n\r\n"
    with listening(saying(answer)) as target:
        found = post(sender(), f"http://127.0.0.1:{target.port}/").retry_after
    assert found is not None
    assert found > timedelta(days=365)


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


def test_tls_proves_the_name_though_the_address_is_connected_to(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "hooks.example")
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(cert, key)
    names: list[str | None] = []
    serving.sni_callback = lambda _socket, name, _context: names.append(name)
    trusting = ssl.create_default_context(cafile=str(cert))
    stub, _ = resolving("127.0.0.1")
    with listening(NO_CONTENT, serving) as target:
        allowed = Allowed.read("127.0.0.1")
        by = Sender(allowed, trusting, stub)
        assert post(by, f"https://hooks.example:{target.port}/") == Reply(204, None)
        assert post(by, f"https://other.example:{target.port}/").error == "tls"
        assert post(sender(resolve=stub), f"https://hooks.example:{target.port}/").error == "tls"
    assert names[0] == "hooks.example"
    assert len(target.requests) == 1
