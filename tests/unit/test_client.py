"""The client: kubeconfigs as kubectl reads them, and failures that say what next."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgevirt.client import Client, ClientError, Connection, Refused, ResourceType, load_connection

NODES = ResourceType("EdgeNode", "edgenodes", "edgenode", ("en",), True, "edgevirt.io/v1alpha1", ())


def kubeconfig(path: Path, name: str = "one", **user: Any) -> Path:
    config = {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.example:6443"}}],
        "users": [{"name": name, "user": user or {"token": f"token of {name}"}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


# -- kubeconfigs --


def test_the_current_context_says_where_and_who(tmp_path: Path) -> None:
    found = load_connection(kubeconfig(tmp_path / "a"))
    assert found == Connection("https://one.example:6443", "default", "", "token of one")


def test_of_several_files_the_first_has_the_word_and_all_are_known(tmp_path: Path) -> None:
    files = (tmp_path / "absent", kubeconfig(tmp_path / "a"), kubeconfig(tmp_path / "b", "two"))
    assert load_connection(*files).server == "https://one.example:6443"
    assert load_connection(*files, context="two").server == "https://two.example:6443"


def test_files_are_found_beside_the_kubeconfig_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "my-token").write_text("secret\n")
    found = load_connection(kubeconfig(tmp_path / "a", tokenFile="my-token"))
    assert found.token == "secret"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is no kubeconfig"),
        ("[]", "it is no kubeconfig"),
        ("{", "cannot read"),
        ("contexts: [{name: a}]", "it is no kubeconfig"),
        ("contexts: []", "it names no current context"),
        ("current-context: a", "it has no context 'a'"),
        ("current-context: a\ncontexts: [{name: a, context: {}}]", "it has no cluster ''"),
    ],
)
def test_a_file_that_says_too_little_is_named_with_what_it_lacks(
    tmp_path: Path, text: str, why: str
) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(ClientError, match="config") as failure:
        load_connection(tmp_path / "config")
    assert why in str(failure.value)


def test_a_password_is_not_sent_in_clear(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "a")
    path.write_text(path.read_text().replace("https://", "http://"))
    with pytest.raises(ClientError, match="no https:// address"):
        load_connection(path)


@pytest.mark.parametrize(
    "user",
    [
        {"client-certificate-data": "%%%"},
        {"client-certificate-data": base64.b64encode(b"\xff").decode()},
        {"client-certificate": "absent.pem"},
    ],
)
def test_unusable_material_is_told_not_thrown(tmp_path: Path, user: dict[str, str]) -> None:
    with pytest.raises(ClientError, match="its client-certificate"):
        load_connection(kubeconfig(tmp_path / "a", **user))


def test_a_certificate_that_is_none_is_told_not_thrown() -> None:
    connection = Connection("https://localhost", "default", "", certificate="no pem", key="none")
    with pytest.raises(ClientError, match="cannot use the kubeconfig's certificates"):
        Client(connection)


# -- answers --


def test_a_name_cannot_leave_its_place_in_the_address(client: Client) -> None:
    path = client.object_path(NODES, "default", "../../secrets", "log")
    root = "/apis/edgevirt.io/v1alpha1/namespaces/default/edgenodes"
    assert path == f"{root}/..%2F..%2Fsecrets/log"


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
