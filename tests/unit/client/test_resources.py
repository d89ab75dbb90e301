"""Where objects stand in the API."""

from __future__ import annotations

from edgevirt.client.resources import ResourceType

NODES = ResourceType("EdgeNode", "edgenodes", "edgenode", ("en",), True, "edgevirt.io/v1alpha1", ())


def test_a_name_cannot_leave_its_place_in_the_address() -> None:
    path = NODES.object_path("default", "../../secrets", "log")
    root = "/apis/edgevirt.io/v1alpha1/namespaces/default/edgenodes"
    assert path == f"{root}/..%2F..%2Fsecrets/log"
