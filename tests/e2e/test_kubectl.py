"""The stock kubectl against the operators' API: every verb that operators use, on TLS and SQL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgevirt.fleet.api import Tls, create_app, serve
from edgevirt.fleet.keys import KeyRing
from edgevirt.fleet.objects import (
    BY_NAME,
    Condition,
    load_sealer,
    make_event,
    reference_to,
    set_condition,
)
from edgevirt.fleet.objects.kinds import EVENT
from edgevirt.fleet.operators.doors import Doors, Tokens
from edgevirt.fleet.operators.kubeconfig import issue, write_kubeconfig
from edgevirt.fleet.operators.roles import ADMINS, PROJECT, VIEWERS, User
from edgevirt.runtime import RealClock
from edgevirt.runtime.sql import SqlStore
from edgevirt.runtime.store import Store

ROOT = Path(__file__).parents[2]
HELLO = ROOT / "examples" / "hello"
PATIENCE = 90.0
KUBECTL = Path(os.environ.get("KUBECTL", ROOT / "build" / "tools" / "kubectl"))

pytestmark = pytest.mark.e2e


class Fleet:
    """The API on a port of its own, with kubectl beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = RealClock()
        self.ring = KeyRing(directory / "keys", ["127.0.0.1"], self.clock)
        self.tokens = Tokens(directory / "tokens.json")
        self.port = 0
        self.store: Store
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        store = SqlStore(f"sqlite:///{self.directory / 'fleet.db'}")
        await store.open()
        self.store = store
        access = Doors(self.tokens, self.ring.keys.operators.certificate, self.clock)
        app = create_app(store, access, self.clock, load_sealer(self.directory))
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        tls = Tls(self.ring.tls_file, self.ring.operators_file)
        self._serving = asyncio.create_task(
            serve(app, tls=tls, port=self.port, started=ready.set_result)
        )
        self._serving.add_done_callback(lambda _: ready.cancel())
        self.port = await ready
        self.write_config("kubeconfig", User("ada", (ADMINS,)))

    async def stop(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait({self._serving})
            self._serving = None
            await self.store.close()

    def write_config(self, name: str, who: User | str) -> None:
        """For a user with a new certificate, or for a token."""
        credential = (
            issue(self.ring.keys.operators.issuer, who, self.clock.now())
            if isinstance(who, User)
            else who
        )
        url = f"https://127.0.0.1:{self.port}"
        write_kubeconfig(self.directory / name, url, self.ring.keys.root.pem, credential)

    def command(self, *args: str, config: str = "kubeconfig") -> list[str]:
        return [str(KUBECTL), f"--kubeconfig={self.directory / config}", *args]

    def environment(self) -> dict[str, str]:
        return {"HOME": str(self.directory), "PATH": os.environ["PATH"], "EDITOR": "true"}

    async def try_kubectl(
        self,
        *args: str,
        stdin: str = "",
        config: str = "kubeconfig",
        env: dict[str, str] | None = None,
    ) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        process = await asyncio.create_subprocess_exec(
            *self.command(*args, config=config),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**self.environment(), **(env or {})},
        )
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def kubectl(self, *args: str, stdin: str = "", config: str = "kubeconfig") -> str:
        code, out, err = await self.try_kubectl(*args, stdin=stdin, config=config)
        assert code == 0, f"kubectl {' '.join(args)}: {err or out}"
        return out

    async def refused(self, *args: str, stdin: str = "", config: str = "kubeconfig") -> str:
        """What kubectl says of a command that must fail."""
        code, out, err = await self.try_kubectl(*args, stdin=stdin, config=config)
        assert code != 0, f"kubectl {' '.join(args)} was not refused: {out}"
        return err

    async def get(self, *args: str) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(await self.kubectl("get", *args, "-o", "json"))
        return body

    async def hello(self) -> None:
        await self.kubectl("apply", "-f", str(HELLO))


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    assert KUBECTL.exists(), f"no kubectl at {KUBECTL}: make build/tools/kubectl"
    fleet = Fleet(tmp_path)
    await fleet.start()
    yield fleet
    await fleet.stop()


class Following:
    """A kubectl that goes on printing."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self, *words: str) -> str:
        """The next line that has all `words`."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while text := (await self._process.stdout.readline()).decode():
                if all(word in text for word in words):
                    return text
        raise AssertionError(f"kubectl ended before it printed {words}")

    async def end(self) -> int:
        if self._process.returncode is None:
            self._process.terminate()
        return await self._process.wait()


@contextlib.asynccontextmanager
async def following(fleet: Fleet, *args: str) -> AsyncIterator[Following]:
    process = await asyncio.create_subprocess_exec(
        *fleet.command(*args),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=fleet.environment(),
    )
    followed = Following(process)
    try:
        yield followed
    finally:
        await followed.end()


# -- telling what there is --


async def test_discovery_names_every_kind_with_its_short_names(fleet: Fleet) -> None:
    rows = [line.split() for line in (await fleet.kubectl("api-resources")).splitlines()]
    assert ["edgenodes", "en", "edgevirt.io/v1alpha1", "true", "EdgeNode"] in rows
    for kind in ("EdgeNode", "App", "AppInstance", "Image", "Datastore", "NetworkInstance"):
        assert any(row[-3:] == ["edgevirt.io/v1alpha1", "true", kind] for row in rows), kind
    assert "edgevirt.io/v1alpha1\n" in await fleet.kubectl("api-versions")
    assert "Server Version: v1.37" in await fleet.kubectl("version")


async def test_legacy_discovery_serves_clients_without_the_aggregated_form(fleet: Fleet) -> None:
    groups = json.loads(await fleet.kubectl("get", "--raw", "/apis"))
    assert "edgevirt.io" in [group["name"] for group in groups["groups"]]
    resources = json.loads(await fleet.kubectl("get", "--raw", "/apis/edgevirt.io/v1alpha1"))
    names = [resource["name"] for resource in resources["resources"]]
    assert {"edgenodes", "edgenodes/status", "enrollmentrequests/approval"} <= set(names)


async def test_explain_tells_each_field(fleet: Fleet) -> None:
    text = await fleet.kubectl("explain", "appinstance.spec.purgeCounter")
    assert "FIELD: purgeCounter <integer>" in text
    assert "empty volumes" in text
    text = await fleet.kubectl("explain", "app.spec", "--recursive")
    assert "networkInstance\t<string>" in text


# -- apply --


async def test_a_directory_is_applied_in_order_and_again_without_change(fleet: Fleet) -> None:
    first = await fleet.kubectl("apply", "-f", str(HELLO))
    assert first.count(" created\n") == len(list(HELLO.glob("*.yaml")))
    again = await fleet.kubectl("apply", "-f", str(HELLO))
    assert again.count(" unchanged\n") == first.count(" created\n")


async def test_apply_changes_and_removes_what_the_manifest_no_longer_says(fleet: Fleet) -> None:
    await fleet.hello()
    manifest = yaml.safe_load((HELLO / "50-app.yaml").read_text())
    manifest["spec"]["resources"]["memory"] = "128Mi"
    del manifest["spec"]["env"]
    out = await fleet.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(manifest))
    assert out == "app.edgevirt.io/hello configured\n"
    spec = (await fleet.get("app", "hello"))["spec"]
    assert spec["resources"]["memory"] == "128Mi"
    assert "env" not in spec


async def test_server_side_apply_owns_fields_and_refuses_conflicts(fleet: Fleet) -> None:
    await fleet.hello()
    app = HELLO / "50-app.yaml"
    await fleet.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(app))
    await fleet.kubectl(
        "patch", "app", "hello", "--type=merge", "-p", '{"spec":{"resources":{"memory":"96Mi"}}}'
    )
    why = await fleet.refused("apply", "--server-side", "-f", str(app))
    assert 'conflict with "kubectl-patch"' in why
    assert ".spec.resources.memory" in why
    assert (await fleet.get("app", "hello"))["spec"]["resources"]["memory"] == "96Mi"
    await fleet.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(app))
    assert (await fleet.get("app", "hello"))["spec"]["resources"]["memory"] == "64Mi"


async def test_server_side_apply_removes_what_its_manager_owned_alone(fleet: Fleet) -> None:
    await fleet.hello()
    manifest = yaml.safe_load((HELLO / "50-app.yaml").read_text())
    manifest["metadata"]["name"] = "mine"
    manifest["spec"]["interfaces"][0]["ports"] = []
    apply = ("apply", "--server-side", "-f", "-")
    manifest["spec"]["env"].append({"name": "EXTRA", "value": "1"})
    await fleet.kubectl(*apply, stdin=yaml.safe_dump(manifest))
    env = (await fleet.get("app", "mine"))["spec"]["env"]
    assert [variable["name"] for variable in env] == ["GREETING", "EXTRA"]
    manifest["spec"]["env"].pop()
    await fleet.kubectl(*apply, stdin=yaml.safe_dump(manifest))
    env = (await fleet.get("app", "mine"))["spec"]["env"]
    assert [variable["name"] for variable in env] == ["GREETING"]


async def test_client_side_apply_can_become_server_side(fleet: Fleet) -> None:
    await fleet.hello()
    app = str(HELLO / "50-app.yaml")
    assert "serverside-applied" in await fleet.kubectl("apply", "--server-side", "-f", app)
    body = await fleet.get("app", "hello", "--show-managed-fields")
    entries = [(m["manager"], m["operation"]) for m in body["metadata"]["managedFields"]]
    assert ("kubectl", "Apply") in entries


async def test_dry_run_and_diff_change_nothing(fleet: Fleet) -> None:
    out = await fleet.kubectl("apply", "--dry-run=server", "-f", str(HELLO))
    assert out.count("created (server dry run)") == len(list(HELLO.glob("*.yaml")))
    assert (await fleet.get("edgenodes"))["items"] == []
    code, out, _ = await fleet.try_kubectl("diff", "-f", str(HELLO))
    assert code == 1
    assert "+kind: AppInstance" in out
    await fleet.hello()
    code, out, err = await fleet.try_kubectl("diff", "-f", str(HELLO))
    assert (code, out) == (0, ""), err


# -- create, edit, patch, replace, label --


async def test_create_refuses_a_taken_name(fleet: Fleet) -> None:
    node = str(HELLO / "10-edgenode.yaml")
    assert await fleet.kubectl("create", "-f", node) == "edgenode.edgevirt.io/hello-node created\n"
    assert "AlreadyExists" in await fleet.refused("create", "-f", node)


async def test_replace_with_a_stale_version_is_refused(fleet: Fleet) -> None:
    await fleet.hello()
    stale = await fleet.kubectl("get", "app", "hello", "-o", "json")
    await fleet.kubectl("label", "app", "hello", "a=b")
    assert "the object has been modified" in await fleet.refused("replace", "-f", "-", stdin=stale)
    fresh = await fleet.kubectl("get", "app", "hello", "-o", "json")
    assert "replaced" in await fleet.kubectl("replace", "-f", "-", stdin=fresh)


async def test_edit_saves_what_the_editor_wrote(fleet: Fleet) -> None:
    await fleet.hello()
    editor = fleet.directory / "editor.sh"
    editor.write_text('#!/bin/sh\nsed -i "s/activate: true/activate: false/" "$1"\n')
    editor.chmod(0o755)
    edit = ("edit", "ai", "hello")
    code, out, err = await fleet.try_kubectl(*edit, env={"KUBE_EDITOR": str(editor)})
    assert (code, out) == (0, "appinstance.edgevirt.io/hello edited\n"), err
    assert (await fleet.get("ai", "hello"))["spec"]["activate"] is False


async def test_patch_by_merge_and_by_json_but_not_strategic(fleet: Fleet) -> None:
    await fleet.hello()
    patch = ("patch", "ai", "hello")
    await fleet.kubectl(*patch, "--type=merge", "-p", '{"spec":{"restartCounter":1}}')
    change = '[{"op":"test","path":"/spec/restartCounter","value":1},'
    change += '{"op":"replace","path":"/spec/restartCounter","value":2}]'
    await fleet.kubectl(*patch, "--type=json", "-p", change)
    body = await fleet.get("ai", "hello")
    assert body["spec"]["restartCounter"] == 2
    assert body["metadata"]["generation"] == 3
    assert "not supported" in await fleet.refused(*patch, "-p", "{}")
    assert "test of /spec/restartCounter failed" in await fleet.refused(
        *patch, "--type=json", "-p", change
    )


async def test_labels_and_annotations_select_and_do_not_count_as_a_new_spec(fleet: Fleet) -> None:
    await fleet.hello()
    await fleet.kubectl("label", "en", "hello-node", "site=berlin", "--overwrite")
    await fleet.kubectl("annotate", "en", "hello-node", "note=a b")
    body = await fleet.get("en", "hello-node")
    assert body["metadata"]["labels"]["site"] == "berlin"
    assert body["metadata"]["generation"] == 1
    for selector in ("site=berlin", "site in (berlin,rome)", "site,site!=rome", "!color"):
        assert await fleet.kubectl("get", "en", "-l", selector, "-o", "name") == (
            "edgenode.edgevirt.io/hello-node\n"
        )
    assert await fleet.kubectl("get", "en", "-l", "site notin (berlin)", "-o", "name") == ""
    await fleet.kubectl("label", "en", "hello-node", "site-")
    assert "labels" not in (await fleet.get("en", "hello-node"))["metadata"]


# -- get --


async def test_get_prints_tables_and_wide_ones(fleet: Fleet) -> None:
    await fleet.hello()
    plain = await fleet.kubectl("get", "ai")
    assert plain.split() == [
        *("NAME", "APP", "NODE", "STATE", "READY", "RESTARTS", "AGE"),
        *("hello", "hello", "hello-node", "PENDING", "Unknown", "0", plain.split()[-1]),
    ]
    wide = await fleet.kubectl("get", "apps.edgevirt.io", "-A", "-o", "wide")
    assert wide.startswith("NAMESPACE   NAME")
    assert "VIRTUALIZATION" in wide
    everything = await fleet.kubectl("get", "all")
    assert "edgenode.edgevirt.io/hello-node" in everything


async def test_get_by_field_and_in_yaml(fleet: Fleet) -> None:
    await fleet.hello()
    found = await fleet.kubectl("get", "ai", "--field-selector=spec.edgeNode=hello-node", "-oname")
    assert found == "appinstance.edgevirt.io/hello\n"
    none = await fleet.kubectl("get", "ai", "--field-selector=spec.edgeNode!=hello-node", "-oname")
    assert none == ""
    assert "supported for appinstances: metadata.name" in await fleet.refused(
        "get", "ai", "--field-selector=spec.nonsense=x"
    )
    body = yaml.safe_load(await fleet.kubectl("get", "ni", "apps", "-o", "yaml"))
    assert body["kind"] == "NetworkInstance"
    sorted_table = await fleet.kubectl("get", "en", "--sort-by=.metadata.name")
    assert "hello-node" in sorted_table


async def test_long_lists_come_in_chunks(fleet: Fleet) -> None:
    node = yaml.safe_load((HELLO / "10-edgenode.yaml").read_text())
    many = []
    for number in range(7):
        meta = {"name": f"node-{number}"}
        many.append({**node, "metadata": meta, "spec": {"serial": f"s{number}"}})
    await fleet.kubectl("create", "-f", "-", stdin=yaml.safe_dump_all(many))
    names = await fleet.kubectl("get", "en", "--chunk-size=3", "-o", "name")
    assert names.split() == [f"edgenode.edgevirt.io/node-{number}" for number in range(7)]
    path = "/apis/edgevirt.io/v1alpha1/namespaces/default/edgenodes?limit=3"
    page = json.loads(await fleet.kubectl("get", "--raw", path))
    assert len(page["items"]) == 3
    assert page["metadata"]["remainingItemCount"] == 4


async def test_describe_shows_the_events_of_an_object(fleet: Fleet) -> None:
    await fleet.hello()
    kind = BY_NAME["AppInstance"]
    held = await fleet.store.get(kind.store, "default/hello")
    assert held is not None
    about = reference_to(kind, held.value)
    event = make_event(about, "Started", "it runs", fleet.clock.now())
    await fleet.store.put(EVENT, event.key, event)
    described = await fleet.kubectl("describe", "ai", "hello")
    assert "Edge Node:        hello-node" in described
    assert "Started" in described
    assert "it runs" in described
    assert "it runs" in await fleet.kubectl("events", "--for=ai/hello")
    assert "appinstance/hello" in await fleet.kubectl("get", "events")
    assert "it runs" in await fleet.kubectl("get", "events.events.k8s.io", "-o", "yaml")


# -- refusals --


async def test_an_unknown_field_is_refused_with_its_path(fleet: Fleet) -> None:
    manifest = (HELLO / "10-edgenode.yaml").read_text().replace("serial:", "seriel:")
    why = await fleet.refused("apply", "-f", "-", stdin=manifest)
    assert 'strict decoding error: unknown field "spec.seriel"' in why


async def test_a_wrong_type_and_a_wrong_value_are_refused_with_their_paths(fleet: Fleet) -> None:
    await fleet.hello()
    manifest = (HELLO / "50-app.yaml").read_text().replace("name: hello", "name: other", 1)
    why = await fleet.refused(
        "apply", "--validate=false", "-f", "-", stdin=manifest.replace("8080", '"8080"')
    )
    assert "spec.interfaces[0].ports[0].nodePort" in why
    why = await fleet.refused("apply", "-f", "-", stdin=manifest.replace("64Mi", "lots"))
    assert "spec.resources.memory" in why
    assert "must be a quantity" in why


async def test_a_reference_to_nothing_is_refused_with_the_field(fleet: Fleet) -> None:
    why = await fleet.refused("apply", "-f", str(HELLO / "60-appinstance.yaml"))
    assert "spec.app: Not found" in why
    assert "spec.edgeNode: Not found" in why
    assert "create it first" in why


async def test_two_apps_cannot_share_a_port_of_a_node(fleet: Fleet) -> None:
    await fleet.hello()
    other = (HELLO / "50-app.yaml").read_text().replace("name: hello\n", "name: other\n", 1)
    await fleet.kubectl("apply", "-f", "-", stdin=other)
    instance = (HELLO / "60-appinstance.yaml").read_text()
    instance = instance.replace("name: hello\n", "name: other\n", 1)
    why = await fleet.refused(
        "apply", "-f", "-", stdin=instance.replace("app: hello\n", "app: other\n")
    )
    assert 'port 8080/TCP on EdgeNode "hello-node" is taken by AppInstance "hello"' in why


async def test_what_is_in_use_stays_until_it_is_used_no_more(fleet: Fleet) -> None:
    await fleet.hello()
    async with following(fleet, "delete", "app", "hello") as deleting:
        await deleting.line("deleted")
        assert (await fleet.get("app", "hello"))["metadata"]["deletionTimestamp"]
        await fleet.kubectl("delete", "ai", "hello")
        assert await asyncio.wait_for(deleting._process.wait(), 20) == 0
    assert "NotFound" in await fleet.refused("get", "app", "hello")


async def test_all_of_an_example_is_deleted_in_one_go(fleet: Fleet) -> None:
    await fleet.hello()
    said = await fleet.kubectl("delete", "-f", str(HELLO))
    assert said.count("deleted") == len(list(HELLO.glob("*.yaml")))
    assert await fleet.kubectl("get", "app,ai,img,ds,ni,en", "-o", "name") == ""


# -- delete --


async def test_delete_waits_for_finalizers(fleet: Fleet) -> None:
    await fleet.hello()
    await fleet.kubectl(
        "patch", "ai", "hello", "--type=merge", "-p", '{"metadata":{"finalizers":["x.io/wait"]}}'
    )
    async with following(fleet, "delete", "ai", "hello", "--cascade=foreground") as deleting:
        await deleting.line("deleted")
        body = await fleet.get("ai", "hello")
        assert body["metadata"]["deletionTimestamp"]
        change = '[{"op":"remove","path":"/metadata/finalizers"}]'
        await fleet.kubectl("patch", "ai", "hello", "--type=json", "-p", change)
        assert await asyncio.wait_for(deleting._process.wait(), PATIENCE) == 0
    assert "NotFound" in await fleet.refused("get", "ai", "hello")


async def test_delete_by_selector_and_all_of_a_kind(fleet: Fleet) -> None:
    await fleet.hello()
    assert "deleted" in await fleet.kubectl("delete", "ai", "--all")
    await fleet.kubectl("label", "app", "hello", "old=yes")
    assert "deleted" in await fleet.kubectl("delete", "app", "-l", "old=yes")
    assert (await fleet.get("apps"))["items"] == []


async def test_a_project_goes_with_all_that_is_in_it(fleet: Fleet) -> None:
    await fleet.kubectl("create", "namespace", "berlin")
    await fleet.kubectl("apply", "-n", "berlin", "-f", str(HELLO))
    assert "NotFound" in await fleet.refused("apply", "-n", "rome", "-f", str(HELLO))
    await fleet.kubectl("delete", "namespace", "berlin")
    assert (await fleet.get("all", "-A"))["items"] == []
    assert "Forbidden" in await fleet.refused("delete", "namespace", "default")


# -- watch and wait --


async def test_watch_goes_on_across_a_restart_of_the_fleet(fleet: Fleet) -> None:
    await fleet.hello()
    path = "/apis/edgevirt.io/v1alpha1/namespaces/default/appinstances"
    version = json.loads(await fleet.kubectl("get", "--raw", path))["metadata"]["resourceVersion"]
    await fleet.kubectl("label", "ai", "hello", "round=1")
    await fleet.stop()
    await fleet.start()
    watch = ("get", "--raw", f"{path}?watch=1&resourceVersion={version}")
    async with following(fleet, *watch) as watching:
        event = json.loads(await watching.line("round"))
        assert event["type"] == "MODIFIED"
        assert event["object"]["metadata"]["labels"] == {"round": "1"}
        await fleet.kubectl("label", "ai", "hello", "round=2", "--overwrite")
        event = json.loads(await watching.line('"round":"2"'))
        await fleet.kubectl("delete", "ai", "hello")
        assert json.loads(await watching.line("DELETED"))["type"] == "DELETED"


async def test_watch_prints_rows_as_they_change(fleet: Fleet) -> None:
    await fleet.hello()
    async with following(fleet, "get", "ai", "--watch", "--output-watch-events") as watching:
        await watching.line("ADDED", "hello")
        await fleet.kubectl("patch", "ai", "hello", "--subresource=status", "--type=merge",
                            "-p", '{"status":{"state":"RUNNING"}}')  # fmt: skip
        await watching.line("MODIFIED", "RUNNING")
        await fleet.kubectl("delete", "ai", "hello", "--wait=false")
        await watching.line("DELETED", "hello")


async def test_wait_for_a_condition_a_field_and_a_deletion(fleet: Fleet) -> None:
    await fleet.hello()
    kind = BY_NAME["AppInstance"].store
    waits = (
        "--for=condition=Ready",
        "--for=jsonpath={.status.state}=RUNNING",
    )
    async with contextlib.AsyncExitStack() as stack:
        waiting = [
            await stack.enter_async_context(
                following(fleet, "wait", "ai/hello", word, "--timeout=90s")
            )
            for word in waits
        ]
        held = await fleet.store.get(kind, "default/hello")
        assert held is not None
        now = fleet.clock.now()
        ready = set_condition((), Condition(type="Ready", status="True"), now)
        status = type(held.value.status)(state="RUNNING", conditions=ready)
        value = type(held.value)(metadata=held.value.metadata, spec=held.value.spec, status=status)
        await fleet.store.put(kind, "default/hello", value)
        for one in waiting:
            assert "condition met" in await one.line("met")
    async with following(fleet, "wait", "ai/hello", "--for=delete") as gone:
        await fleet.kubectl("delete", "ai", "hello")
        assert await asyncio.wait_for(gone._process.wait(), PATIENCE) == 0


# -- who may --


async def test_a_viewer_reads_but_changes_nothing_and_sees_no_secret(fleet: Fleet) -> None:
    await fleet.hello()
    fleet.write_config("viewer", User("vic", (VIEWERS,)))
    assert "hello-node" in await fleet.kubectl("get", "en", config="viewer")
    assert 'User "vic" cannot delete' in await fleet.refused(
        "delete", "ai", "hello", config="viewer"
    )
    assert "Forbidden" in await fleet.refused("get", "secrets", config="viewer")
    code, out, _ = await fleet.try_kubectl("auth", "can-i", "delete", "apps", config="viewer")
    assert (code, out[:3]) == (1, "no ")
    assert await fleet.kubectl("auth", "can-i", "list", "apps", config="viewer") == "yes\n"
    assert "vic" in await fleet.kubectl("auth", "whoami", config="viewer")
    assert "edgevirt.io" in await fleet.kubectl("auth", "can-i", "--list", config="viewer")


async def test_a_project_member_stays_in_the_project(fleet: Fleet) -> None:
    await fleet.kubectl("create", "namespace", "berlin")
    token = fleet.tokens.add(User("ben", (f"{PROJECT}berlin",)))
    fleet.write_config("member", token)
    await fleet.kubectl("apply", "-n", "berlin", "-f", str(HELLO), config="member")
    assert "Forbidden" in await fleet.refused("get", "en", config="member")
    assert "Forbidden" in await fleet.refused("get", "en", "-A", config="member")


async def test_nobody_comes_in_without_a_certificate_or_token(fleet: Fleet) -> None:
    fleet.write_config("stranger", "not-a-token")
    why = await fleet.refused("get", "en", config="stranger")
    assert "Unauthorized" in why or "must be logged in" in why
    assert fleet.tokens.revoke("nobody") == 0


# -- secrets --


async def test_a_secret_is_kept_sealed_and_serves_a_datastore(fleet: Fleet) -> None:
    await fleet.kubectl(
        "create", "secret", "generic", "registry",
        "--type=kubernetes.io/basic-auth",
        "--from-literal=username=robot", "--from-literal=password=hunter2-hunter2",
    )  # fmt: skip
    manifest = yaml.safe_load((HELLO / "20-datastore.yaml").read_text())
    manifest["spec"]["credentialsSecretRef"] = {"name": "registry"}
    await fleet.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(manifest))
    async with following(fleet, "delete", "secret", "registry") as deleting:
        await deleting.line("deleted")
    data = (await fleet.get("secret", "registry"))["data"]
    assert data["password"] == "aHVudGVyMi1odW50ZXIy"
    files = b"".join(path.read_bytes() for path in fleet.directory.glob("fleet.db*"))
    assert b"aHVudGVyMi1odW50ZXIy" not in files
    assert b"hunter2" not in files


async def test_an_applied_secret_leaves_no_copy_in_clear(fleet: Fleet) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "registry"},
        "stringData": {"username": "robot", "password": "hunter2-hunter2"},
    }
    apply = ("apply", "-f", "-")
    assert "created" in await fleet.kubectl(*apply, stdin=yaml.safe_dump(secret))
    secret["stringData"] = {"username": "robot", "password": "hunter3-hunter3"}
    assert "configured" in await fleet.kubectl(*apply, stdin=yaml.safe_dump(secret))
    files = b"".join(path.read_bytes() for path in fleet.directory.glob("fleet.db*"))
    assert b"hunter" not in files


# -- enrolment --


async def test_an_enrollment_request_is_approved_by_a_patch(fleet: Fleet) -> None:
    certificate = fleet.ring.keys.root.pem.decode()
    request = {
        "apiVersion": "edgevirt.io/v1alpha1",
        "kind": "EnrollmentRequest",
        "metadata": {"name": "r1"},
        "spec": {"serial": "s-1", "deviceCertificate": certificate},
    }
    await fleet.kubectl("create", "-f", "-", stdin=yaml.safe_dump(request))
    assert "Pending" in await fleet.kubectl("get", "er")
    await fleet.kubectl("patch", "er", "r1", "--type=merge", "-p", '{"spec":{"approved":true}}')
    await fleet.kubectl("wait", "er/r1", "--for=condition=Approved", "--timeout=90s")
    conditions = (await fleet.get("er", "r1"))["status"]["conditions"]
    assert conditions[0]["message"] == "by ada"
    why = await fleet.refused(
        "patch", "er", "r1", "--type=merge", "-p", '{"spec":{"serial":"other"}}'
    )
    assert "spec.serial" in why
    assert "immutable" in why


async def test_an_enrollment_request_is_denied_through_its_subresource(fleet: Fleet) -> None:
    request = {
        "apiVersion": "edgevirt.io/v1alpha1",
        "kind": "EnrollmentRequest",
        "metadata": {"name": "r1"},
        "spec": {"serial": "s-1", "deviceCertificate": fleet.ring.keys.root.pem.decode()},
    }
    await fleet.kubectl("create", "-f", "-", stdin=yaml.safe_dump(request))
    path = "/apis/edgevirt.io/v1alpha1/namespaces/default/enrollmentrequests/r1/approval"
    body = await fleet.get("er", "r1")
    body["spec"]["approved"] = False
    await fleet.kubectl("replace", "--raw", path, "-f", "-", stdin=json.dumps(body))
    assert "Denied" in await fleet.kubectl("get", "er")


async def test_a_namespace_can_be_applied_and_labelled_as_a_core_kind(fleet: Fleet) -> None:
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "berlin"}}
    apply = ("apply", "-f", "-")
    assert "created" in await fleet.kubectl(*apply, stdin=yaml.safe_dump(space))
    space["metadata"] = {"name": "berlin", "labels": {"a": "b"}}
    assert "configured" in await fleet.kubectl(*apply, stdin=yaml.safe_dump(space))
    space["metadata"] = {"name": "berlin"}
    assert "configured" in await fleet.kubectl(*apply, stdin=yaml.safe_dump(space))
    assert "labels" not in (await fleet.get("ns", "berlin"))["metadata"]
    assert "Active" in await fleet.kubectl("describe", "ns", "berlin")


# -- the OS, and what is proved of it --

OS_IMAGE = """
apiVersion: edgevirt.io/v1alpha1
kind: OSImage
metadata: {name: os-2}
spec:
  version: edgevirt-2-kvm-amd64
  datastoreRefs: [{name: local-registry}]
  reference: os/root.squashfs
  sha256: "DIGEST"
  architecture: amd64
  measurements: {"4": ["DIGEST"], "13": ["DIGEST"]}
---
apiVersion: edgevirt.io/v1alpha1
kind: AttestationPolicy
metadata: {name: default}
spec:
  mode: Report
  learnFrom: {names: [os-2]}
""".replace("DIGEST", "a" * 64)


async def test_versions_of_the_os_and_policies_are_objects_like_others(fleet: Fleet) -> None:
    await fleet.hello()
    said = await fleet.kubectl("apply", "-f", "-", stdin=OS_IMAGE)
    assert "osimage.edgevirt.io/os-2 created" in said
    assert "attestationpolicy.edgevirt.io/default created" in said
    header, row = (await fleet.kubectl("get", "osi", "os-2")).splitlines()
    assert header.split()[:4] == ["NAME", "VERSION", "ARCHITECTURE", "MEASURED"]
    assert row.split()[:4] == ["os-2", "edgevirt-2-kvm-amd64", "amd64", "4,13"]
    assert "Report" in await fleet.kubectl("get", "attestationpolicies")
    assert "exactly as a node that runs it reports it" in await fleet.kubectl(
        "explain", "osimage.spec.version"
    )
    change = '{"spec":{"os":{"image":"os-2"}}}'
    await fleet.kubectl("patch", "en", "hello-node", "--type=merge", "-p", change)
    other = '{"spec":{"sha256":"' + "b" * 64 + '"}}'
    assert "field is immutable" in await fleet.refused(
        "patch", "osi", "os-2", "--type=merge", "-p", other
    )


async def test_a_second_default_policy_is_refused(fleet: Fleet) -> None:
    await fleet.hello()
    await fleet.kubectl("apply", "-f", "-", stdin=OS_IMAGE)
    other = OS_IMAGE.partition("---")[2].replace("name: default", "name: other")
    why = await fleet.refused("apply", "-f", "-", stdin=other)
    assert 'AttestationPolicy "default" is the default of the project' in why


async def test_an_os_image_that_nodes_and_policies_use_goes_last(fleet: Fleet) -> None:
    await fleet.hello()
    await fleet.kubectl("apply", "-f", "-", stdin=OS_IMAGE)
    async with following(fleet, "delete", "osi", "os-2") as deleting:
        await deleting.line("in use by AttestationPolicy")
        await fleet.kubectl("delete", "ap", "default")
        assert await asyncio.wait_for(deleting._process.wait(), 20) == 0
