"""What the fleet answers, and how it may fail to: told, with what next."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from edgevirt.client.client import Client
from edgevirt.client.errors import ClientError, Refused
from edgevirt.client.kubeconfig import Connection
from edgevirt.client.resources import ResourceType

NODES = ResourceType("EdgeNode", "edgenodes", "edgenode", ("en",), True, "edgevirt.io/v1alpha1", ())


class Answers(BaseHTTPRequestHandler):
    """Says what the test wants; a part of a body when it is to break off."""

    status = 200
    body = b"{}"
    cut = False
    warning = ""

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("content-length", str(len(self.body) + (10 if self.cut else 0)))
        if self.warning:
            self.send_header("warning", self.warning)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture
def answers() -> type[Answers]:
    return type("Answers", (Answers,), {})


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def client(answers: type[Answers], warnings: list[str]) -> Iterator[Client]:
    """In clear: what the transport is does not matter here."""
    with HTTPServer(("127.0.0.1", 0), answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        client = Client(Connection(url, "default", ""), warn=warnings.append)
        yield client
        client.close()
        server.shutdown()
        thread.join()


def test_an_error_without_a_status_object_is_still_an_error(
    client: Client, answers: type[Answers]
) -> None:
    answers.status, answers.body = 502, b"<html>bad gateway</html>"
    with pytest.raises(Refused, match="the fleet answered 502"):
        client.get(NODES, "default", "x")


def test_a_server_that_is_no_fleet_is_told(client: Client, answers: type[Answers]) -> None:
    answers.body = b"<html>welcome</html>"
    with pytest.raises(ClientError, match="it answers, but not with JSON"):
        client.get(NODES, "default", "x")


def test_a_body_that_breaks_off_is_a_client_error(client: Client, answers: type[Answers]) -> None:
    answers.cut = True
    with pytest.raises(ClientError, match="cannot reach the fleet"):
        client.get(NODES, "default", "x")


def test_a_watch_that_breaks_off_tells_what_came_and_then_fails(
    client: Client, answers: type[Answers]
) -> None:
    answers.body, answers.cut = b'{"type": "ADDED", "object": {}}\n', True
    watch = client.watch(NODES, "default")
    assert next(watch)["type"] == "ADDED"
    with pytest.raises(ClientError, match="cannot reach the fleet"):
        next(watch)


def test_a_watch_that_is_too_old_is_refused(client: Client, answers: type[Answers]) -> None:
    answers.body = b'{"type": "ERROR", "object": {"code": 410, "message": "too old"}}\n'
    with pytest.raises(Refused, match="too old") as refused:
        next(client.watch(NODES, "default", since="1"))
    assert refused.value.code == 410


def test_what_the_fleet_says_beside_its_answer_is_heard(
    client: Client, answers: type[Answers], warnings: list[str]
) -> None:
    answers.warning = r'299 - "no image \"x\"", 299 - "again"'
    client.get(NODES, "default", "x")
    assert warnings == ['no image "x"', "again"]


def test_an_empty_refusal_still_says_who_is_not_known(
    client: Client, answers: type[Answers]
) -> None:
    answers.status, answers.body = 401, b""
    with pytest.raises(Refused, match="cannot log in") as refused:
        client.types()
    assert refused.value.hint


def test_a_certificate_that_is_none_is_told_not_thrown() -> None:
    connection = Connection("https://localhost", "default", "", certificate="no pem", key="none")
    with pytest.raises(ClientError, match="cannot use the kubeconfig's certificates"):
        Client(connection)
