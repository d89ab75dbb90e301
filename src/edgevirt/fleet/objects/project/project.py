"""The objects of one namespace that an object is judged among."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgevirt.fleet.objects.app.app import App
from edgevirt.fleet.objects.app.instance import AppInstance
from edgevirt.fleet.objects.content.volume import Volume
from edgevirt.fleet.objects.network_instance import NetworkInstance
from edgevirt.fleet.objects.node.edgenode import EdgeNode
from edgevirt.fleet.objects.node.hardware_model import HardwareModel


@dataclass(frozen=True)
class Project:
    """Objects of one namespace, by name, as they would be: at least all that is on the nodes in
    question."""

    apps: Mapping[str, App]
    instances: Mapping[str, AppInstance]
    networks: Mapping[str, NetworkInstance]
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    nodes: Mapping[str, EdgeNode] = field(default_factory=dict)
    models: Mapping[str, HardwareModel] = field(default_factory=dict)

    def on_node(self, node: str) -> Sequence[tuple[AppInstance, App]]:
        return self._by_node.get(node, ())

    def model_of(self, node: str) -> HardwareModel | None:
        found = self.nodes.get(node)
        return self.models.get(found.spec.hardware_model) if found is not None else None

    @functools.cached_property
    def _by_node(self) -> Mapping[str, list[tuple[AppInstance, App]]]:
        found: dict[str, list[tuple[AppInstance, App]]] = {}
        for instance in self.instances.values():
            app = self.apps.get(instance.spec.app)
            if app is not None:
                found.setdefault(instance.spec.edge_node, []).append((instance, app))
        return found
