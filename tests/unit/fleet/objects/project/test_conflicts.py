from __future__ import annotations

from edgevirt.fleet.objects.app.app import App, AppSpec
from edgevirt.fleet.objects.app.instance import AppInstance, AppInstanceSpec
from edgevirt.fleet.objects.app.interface import AppInterface, PortMap
from edgevirt.fleet.objects.base.object import ObjectMeta
from edgevirt.fleet.objects.network_instance import NetworkInstance, NetworkInstanceSpec
from edgevirt.fleet.objects.project.conflicts import check_app, check_instance, check_network
from edgevirt.fleet.objects.project.project import Project
from edgevirt.fleet.objects.project.references import references_of


def app(name: str, port: int = 0, ip: str = "", network: str = "apps") -> App:
    ports = (PortMap(node_port=port, app_port=80),) if port else ()
    interface = AppInterface(name="eth0", network_instance=network, ip=ip, ports=ports)
    spec = AppSpec(image="i", interfaces=(interface,))
    return App(metadata=ObjectMeta(name=name, namespace="default"), spec=spec)


def instance(name: str, of: str, node: str = "n1") -> AppInstance:
    spec = AppInstanceSpec(app=of, edge_node=node)
    return AppInstance(metadata=ObjectMeta(name=name, namespace="default"), spec=spec)


def network(name: str, subnet: str = "10.1.0.0/24", type: str = "Local") -> NetworkInstance:
    spec = NetworkInstanceSpec(type=type, subnet=subnet if type == "Local" else "")
    return NetworkInstance(metadata=ObjectMeta(name=name, namespace="default"), spec=spec)


def project(*objects: App | AppInstance | NetworkInstance) -> Project:
    return Project(
        apps={o.metadata.name: o for o in objects if isinstance(o, App)},
        instances={o.metadata.name: o for o in objects if isinstance(o, AppInstance)},
        networks={o.metadata.name: o for o in objects if isinstance(o, NetworkInstance)},
    )


def test_a_node_port_is_given_once_on_each_node() -> None:
    one, two = instance("one", "a"), instance("two", "b")
    all_of_them = project(app("a", 8080), app("b", 8080), one, two, network("apps"))
    (problem,) = check_instance(two, all_of_them)
    assert problem.field == "spec.app"
    assert 'port 8080/TCP on EdgeNode "n1" is taken by AppInstance "one" (App "a")' in (
        problem.message
    )
    elsewhere = project(app("a", 8080), app("b", 8080), one, instance("two", "b", "n2"))
    assert list(check_instance(elsewhere.instances["two"], elsewhere)) == []


def test_one_app_cannot_run_twice_on_a_node_with_the_same_port() -> None:
    one, two = instance("one", "a"), instance("two", "a")
    assert list(check_instance(two, project(app("a", 8080), one, two)))
    assert not list(check_instance(two, project(app("a"), one, two)))


def test_an_app_that_takes_a_port_later_is_judged_where_it_runs() -> None:
    changed = app("b", 8080)
    all_of_them = project(app("a", 8080), changed, instance("one", "a"), instance("two", "b"))
    (problem,) = check_app(changed, all_of_them)
    assert problem.field == "spec.interfaces[0].ports[0].nodePort"
    assert 'taken by AppInstance "one"' in problem.message


def test_a_static_address_is_given_once_in_each_network() -> None:
    networks = (network("apps"), network("other", "10.2.0.0/24"))
    first, second = app("a", ip="10.1.0.9"), app("b", ip="10.1.0.9")
    both = (instance("one", "a"), instance("two", "b"))
    (problem,) = check_instance(both[1], project(first, second, *both, *networks))
    assert "address 10.1.0.9 in NetworkInstance 'apps'" in problem.message


def test_a_static_address_must_be_of_the_network() -> None:
    for ip, why in (
        ("10.9.0.1", "host's address in 10.1.0.0/24"),
        ("10.1.0.0", "host's address"),
        ("10.1.0.1", "is the gateway"),
    ):
        wrong = app("a", ip=ip)
        (problem,) = check_app(wrong, project(wrong, network("apps")))
        assert problem.field == "spec.interfaces[0].ip"
        assert why in problem.message
    switched = app("a", ip="10.1.0.9")
    (problem,) = check_app(switched, project(switched, network("apps", type="Switch")))
    assert "is a Switch" in problem.message


def test_networks_of_one_node_do_not_overlap() -> None:
    apps = (app("a", network="x"), app("b", network="y"))
    both = (instance("one", "a"), instance("two", "b"))
    networks = (network("x", "10.1.0.0/16"), network("y", "10.1.5.0/24"))
    (problem,) = check_instance(both[1], project(*apps, *both, *networks))
    assert "would overlap" in problem.message
    (problem,) = check_network(networks[1], project(*apps, *both, *networks))
    assert problem.field == "spec.subnet"
    apart = (instance("one", "a", "n1"), instance("two", "b", "n2"))
    assert list(check_network(networks[1], project(*apps, *apart, *networks))) == []


def test_a_network_cannot_leave_the_addresses_of_its_apps() -> None:
    moved = network("apps", "10.7.0.0/24")
    (problem,) = check_network(moved, project(app("a", ip="10.1.0.9"), moved))
    assert 'App "a" has spec.interfaces[0].ip' in problem.message


def test_references_name_field_kind_and_target() -> None:
    found = [(r.field, r.kind, r.name) for r in references_of("App", app("a"))]
    assert found == [
        ("spec.image", "Image", "i"),
        ("spec.interfaces[0].networkInstance", "NetworkInstance", "apps"),
    ]
