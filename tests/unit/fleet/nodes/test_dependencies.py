"""Which nodes a change concerns: all that it does, and none besides."""

from __future__ import annotations

import msgspec
import pytest

from edgevirt.fleet.nodes.dependencies import Dependencies
from edgevirt.fleet.objects.app.app import App, AppSpec
from edgevirt.fleet.objects.app.instance import AppInstance, AppInstanceSpec, AppInstanceStatus
from edgevirt.fleet.objects.app.interface import AppInterface
from edgevirt.fleet.objects.base.object import ApiObject, LocalRef, ObjectMeta
from edgevirt.fleet.objects.content.datastore import Datastore, DatastoreSpec
from edgevirt.fleet.objects.content.image import Image, ImageSpec
from edgevirt.fleet.objects.core.secret import Secret
from edgevirt.fleet.objects.node.edgenode import EdgeNode, EdgeNodeSpec, EdgeNodeStatus
from edgevirt.fleet.objects.node.os import NodeOS
from edgevirt.fleet.objects.software.os_image import OSImage, OSImageSpec


def meta(name: str, generation: int = 1) -> ObjectMeta:
    return ObjectMeta(name=name, namespace="ns", uid=f"uid-{name}", generation=generation)


def instance(name: str, app: str, node: str) -> AppInstance:
    return AppInstance(metadata=meta(name), spec=AppInstanceSpec(app=app, edge_node=node))


@pytest.fixture
def graph() -> Dependencies:
    """Two nodes run the app `web`, one of them `db` too; a third runs nothing."""
    graph = Dependencies()
    secret_ref = LocalRef(name="password")
    for kind, value in (
        ("EdgeNode", EdgeNode(metadata=meta("one"))),
        ("EdgeNode", EdgeNode(metadata=meta("two"))),
        ("EdgeNode", EdgeNode(metadata=meta("three"))),
        ("AppInstance", instance("web-one", "web", "one")),
        ("AppInstance", instance("web-two", "web", "two")),
        ("AppInstance", instance("db-two", "db", "two")),
        ("App", App(metadata=meta("web"), spec=AppSpec(image="nginx"))),
        (
            "App",
            App(
                metadata=meta("db"),
                spec=AppSpec(
                    image="postgres", interfaces=(AppInterface(name="a", network_instance="lan"),)
                ),
            ),
        ),
        (
            "Image",
            Image(metadata=meta("nginx"), spec=ImageSpec(datastore_refs=(LocalRef(name="hub"),))),
        ),
        (
            "Image",
            Image(
                metadata=meta("postgres"), spec=ImageSpec(datastore_refs=(LocalRef(name="own"),))
            ),
        ),
        ("Datastore", Datastore(metadata=meta("hub"))),
        (
            "Datastore",
            Datastore(metadata=meta("own"), spec=DatastoreSpec(credentials_secret_ref=secret_ref)),
        ),
        ("Secret", Secret(metadata=meta("password"))),
    ):
        graph.put(kind, f"ns/{value.metadata.name}", value, 1)
    return graph


def again(value: ApiObject) -> ApiObject:
    """The object after a change of its spec."""
    changed = msgspec.structs.replace(value.metadata, generation=value.metadata.generation + 1)
    return msgspec.structs.replace(value, metadata=changed)


@pytest.mark.parametrize(
    ("kind", "value", "nodes"),
    [
        ("EdgeNode", EdgeNode(metadata=meta("three")), {"ns/three"}),
        ("App", App(metadata=meta("web"), spec=AppSpec(image="nginx")), {"ns/one", "ns/two"}),
        ("Image", Image(metadata=meta("postgres")), {"ns/two"}),
        ("Datastore", Datastore(metadata=meta("hub")), {"ns/one", "ns/two"}),
        ("AppInstance", instance("web-one", "web", "one"), {"ns/one"}),
        ("AppInstance", instance("web-one", "web", "three"), {"ns/one", "ns/three"}),
    ],
)
def test_a_changed_object_concerns_the_nodes_that_use_it(
    graph: Dependencies, kind: str, value: ApiObject, nodes: set[str]
) -> None:
    assert set(graph.put(kind, f"ns/{value.metadata.name}", again(value), 2)) == nodes


def test_a_changed_secret_concerns_the_nodes_whose_datastores_use_it(graph: Dependencies) -> None:
    assert graph.put("Secret", "ns/password", Secret(metadata=meta("password")), 2) == ("ns/two",)


def test_a_status_concerns_nobody(graph: Dependencies) -> None:
    node = EdgeNode(metadata=meta("one"), status=EdgeNodeStatus(phase="Online"))
    assert graph.put("EdgeNode", "ns/one", node, 99) == ()
    web = msgspec.structs.replace(
        instance("web-one", "web", "one"), status=AppInstanceStatus(state="RUNNING")
    )
    assert graph.put("AppInstance", "ns/web-one", web, 99) == ()


def test_what_appears_later_is_missed_before(graph: Dependencies) -> None:
    before = graph.digest_of("ns/two")
    assert graph.put("NetworkInstance", "ns/lan", EdgeNode(metadata=meta("lan")), 1) == ("ns/two",)
    assert graph.digest_of("ns/two") != before


def test_a_removed_object_concerns_its_users(graph: Dependencies) -> None:
    assert set(graph.remove("App", "ns/web")) == {"ns/one", "ns/two"}
    assert graph.remove("AppInstance", "ns/db-two") == ("ns/two",)
    assert graph.remove("Secret", "ns/password") == ()


def test_an_app_that_is_on_one_network_twice_goes_like_any_other(graph: Dependencies) -> None:
    two = tuple(AppInterface(name=name, network_instance="lan") for name in ("a", "b"))
    value = App(metadata=meta("db", 2), spec=AppSpec(image="postgres", interfaces=two))
    graph.put("App", "ns/db", value, 2)
    assert ("NetworkInstance", "ns/lan") in graph.items_of("ns/two")
    assert set(graph.remove("App", "ns/db")) == {"ns/two"}
    assert ("NetworkInstance", "ns/lan") not in graph.items_of("ns/two")


def test_the_digest_follows_all_that_a_config_is_made_of(graph: Dependencies) -> None:
    one, two = graph.digest_of("ns/one"), graph.digest_of("ns/two")
    graph.put("Secret", "ns/password", Secret(metadata=meta("password")), 7)
    assert graph.digest_of("ns/one") == one
    assert graph.digest_of("ns/two") != two
    assert graph.digest_of("ns/one", b"more") != one
    assert graph.digest_of("ns/one", b"a", b"bc") != graph.digest_of("ns/one", b"ab", b"c")


def test_a_recreated_object_is_another_one(graph: Dependencies) -> None:
    before = graph.digest_of("ns/one")
    graph.remove("Datastore", "ns/hub")
    other = ObjectMeta(name="hub", namespace="ns", uid="another", generation=1)
    assert set(graph.put("Datastore", "ns/hub", Datastore(metadata=other), 9)) == {
        "ns/one",
        "ns/two",
    }
    assert graph.digest_of("ns/one") != before


def test_an_os_image_concerns_the_nodes_that_should_run_it(graph: Dependencies) -> None:
    spec = EdgeNodeSpec(os=NodeOS(image="os-2"))
    assert graph.put("EdgeNode", "ns/three", EdgeNode(metadata=meta("three", 2), spec=spec), 9)
    system = OSImage(
        metadata=meta("os-2"), spec=OSImageSpec(datastore_refs=(LocalRef(name="own"),))
    )
    assert graph.put("OSImage", "ns/os-2", system, 10) == ("ns/three",)
    assert ("OSImage", "ns/os-2") in graph.items_of("ns/three")
    assert ("Datastore", "ns/own") in graph.items_of("ns/three")
    assert ("OSImage", "ns/os-2") not in graph.items_of("ns/one")
    assert graph.instances_of("ns/three") == []
