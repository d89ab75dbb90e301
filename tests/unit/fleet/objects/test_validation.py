"""Each rule of each kind: what is refused, at which field, and what passes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edgevirt.fleet.objects.kinds import BY_NAME

APP: dict[str, Any] = {
    "image": "hello",
    "command": ["/bin/x"],
    "env": [{"name": "A", "value": "1"}],
    "resources": {"cpu": 1, "memory": "128Mi"},
    "volumes": [{"name": "data", "size": "1Gi", "mountPath": "/data"}],
    "interfaces": [
        {
            "name": "eth0",
            "networkInstance": "apps",
            "ip": "10.1.0.9",
            "mac": "02:16:3e:00:00:01",
            "ports": [{"protocol": "TCP", "nodePort": 8080, "appPort": 80}],
            "acls": [
                {"match": {"ip": "192.0.2.0/24", "protocol": "TCP", "remotePort": 443}},
                {"match": {"host": "example.com"}, "action": "Drop"},
                {"action": "Limit", "limit": {"rate": 10, "unit": "s", "burst": 5}},
            ],
        }
    ],
}
SPECIAL = {"Machine": "App"}
"""What is an object of some kind under another name here."""
SPECS: dict[str, dict[str, Any]] = {
    "App": APP,
    "Machine": {
        "type": "VM",
        "image": "debian",
        "userData": "#cloud-config",
        "firmware": "BIOS",
        "vnc": {"display": 7, "passwordSecretRef": {"name": "screen"}},
        "virtualization": "Legacy",
        "interfaces": [{"name": "eth0", "networkInstance": "apps"}],
        "interfaceOrder": ["eth0"],
        "volumes": [{"name": "data"}, {"name": "a", "image": "tools", "device": "Floppy"}],
    },
    "AppInstance": {"app": "hello", "edgeNode": "node"},
    "HardwareModel": {
        "adapters": [
            {
                "name": "COM2",
                "type": "Serial",
                "group": "com",
                "addresses": {"serial": "/dev/ttyS1"},
            },
            {"name": "pins", "type": "GPIO", "group": "pins", "addresses": {"gpio": "chip:4,7"}},
            {
                "name": "nic",
                "type": "Ethernet",
                "group": "nic",
                "addresses": {"pci": "0000:03:00.0", "interface": "eth1"},
            },
            {
                "name": "bus",
                "type": "CAN",
                "group": "bus",
                "addresses": {"interface": "can0"},
                "can": {"bitrate": 500000, "dataBitrate": 2000000, "samplePoint": "0.875"},
            },
            {
                "name": "split",
                "type": "EthernetPF",
                "group": "split",
                "addresses": {"interface": "eth2"},
                "virtualFunctions": 4,
            },
        ]
    },
    "EdgeNode": {
        "serial": "s1",
        "properties": {"timer.config.interval": "10"},
        "ports": [{"name": "eth0", "address": "192.0.2.7/24", "gateway": "192.0.2.1"}],
    },
    "Datastore": {"type": "OCIRegistry", "url": "docker://registry:5000", "path": "team/a"},
    "Image": {"datastoreRefs": [{"name": "r"}], "reference": "team/hello:1.0", "maxSize": "1Gi"},
    "OSImage": {
        "version": "edgevirt-0.1.0-abc-kvm-amd64",
        "datastoreRefs": [{"name": "r"}],
        "reference": "os/root.img",
        "sha256": "a" * 64,
        "maxSize": "150Mi",
        "architecture": "amd64",
        "measurements": {"4": ["b" * 64], "8": ["c" * 64, "d" * 64]},
    },
    "AttestationPolicy": {
        "mode": "Report",
        "nodeSelector": {"matchLabels": {"site": "berlin"}},
        "accepted": [{"name": "lab", "registers": {"13": ["e" * 64]}}],
        "learnFrom": {"names": ["os-1"]},
        "requireTPM": True,
    },
    "Volume": {"edgeNode": "till-1", "size": "10Gi", "image": "catalog", "readOnly": True},
    "NetworkInstance": {
        "subnet": "10.1.0.0/24",
        "gateway": "10.1.0.1",
        "dhcpRange": {"first": "10.1.0.10", "last": "10.1.0.20"},
        "dns": {
            "servers": ["192.0.2.53"],
            "staticNames": [{"name": "db", "addresses": ["10.1.0.5"]}],
        },
    },
}
DIGEST = "a" * 64


def problems_of(kind: str, spec: dict[str, Any]) -> dict[str, str]:
    """Message by field."""
    row = BY_NAME[SPECIAL.get(kind, kind)]
    value = msgspec.convert({"metadata": {"name": "x"}, "spec": spec}, row.type)
    return {problem.field: problem.message for problem in row.validate(value)}


def changed(spec: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of `spec` with another value at `a.0.b`."""
    copy: Any = msgspec.json.decode(msgspec.json.encode(spec))
    holder = copy
    *parents, last = [int(p) if p.isdigit() else p for p in path.split(".")]
    for part in parents:
        holder = holder[part] if isinstance(part, int) else holder.setdefault(part, {})
    holder[last] = value
    result: dict[str, Any] = copy
    return result


@pytest.mark.parametrize("kind", SPECS)
def test_a_full_spec_passes(kind: str) -> None:
    assert problems_of(kind, SPECS[kind]) == {}


REFUSED: list[tuple[str, str, Any, str]] = [
    ("App", "type", "Nonsense", "supported values"),
    ("App", "image", "", "Required"),
    ("App", "virtualization", "Magic", "supported values"),
    ("App", "virtualization", "Legacy", "the node's own kernel"),
    ("App", "userData", "#cloud-config", "of a virtual machine only"),
    ("App", "firmware", "UEFI", "of a virtual machine only"),
    ("App", "ramdisk", "initrd", "of a unikernel only"),
    ("App", "volumes.0.device", "Floppy", "of a virtual machine only"),
    ("Machine", "virtualization", "None", "a container alone"),
    ("Machine", "env", [{"name": "A", "value": "b"}], "of a container only"),
    ("Machine", "command", ["/bin/sh"], "its own disk"),
    ("Machine", "firmware", "Coreboot", "supported values"),
    ("Machine", "bootOrder", "Floppy", "supported values"),
    ("App", "bootOrder", "USB", "of a virtual machine only"),
    ("Machine", "interfaceOrder.0", "eth9", "neither an interface"),
    ("Machine", "userData", "x" * 70_000, "longer than"),
    ("Machine", "volumes.0.device", "Tape", "supported values"),
    ("Machine", "volumes.0.mountPath", "/data", "mounts its disks itself"),
    ("Machine", "volumes.1.image", "", "Required"),
    ("Machine", "vnc.display", 100, "between 0 and 99"),
    ("App", "vnc.display", 1, "only a virtual machine"),
    ("App", "startDelaySeconds", -1, "0 to 86400"),
    ("App", "env.0.name", "", "Required"),
    ("App", "env.0.name", "A=B", "must be letters"),
    ("App", "env.0.value", "a\nb", "one line"),
    ("App", "command.0", "a\nb", "one line"),
    ("App", "resources.cpu", "500m", "whole number"),
    ("App", "resources.cpu", 0, "whole number"),
    ("App", "resources.cpu", "two", "quantity"),
    ("App", "resources.memory", "1", "at least"),
    ("App", "resources.memory", "95Mi", "96Mi at least; one with virtualization None"),
    ("App", "volumes.0.name", "Data", "lower case"),
    ("App", "volumes.0.size", "0", "at least"),
    ("App", "volumes.0.mountPath", "data", "absolute"),
    ("App", "volumes.0.mountPath", "/", "absolute"),
    ("App", "volumes.0.mountPath", "/a/../b", "absolute"),
    ("App", "interfaces.0.name", "", "Required"),
    ("App", "interfaces.0.networkInstance", "", "Required"),
    ("App", "interfaces.0.ip", "10.1", "IP address"),
    ("App", "interfaces.0.mac", "zz", "must be like"),
    ("App", "interfaces.0.ports.0.protocol", "SCTP", "supported values"),
    ("App", "interfaces.0.ports.0.nodePort", 0, "between 1 and 65535"),
    ("App", "interfaces.0.ports.0.appPort", 65536, "between 1 and 65535"),
    ("App", "interfaces.0.acls.0.action", "Maybe", "supported values"),
    ("App", "interfaces.0.acls.0.match.ip", "300.1.1.1", "must be like"),
    ("App", "interfaces.0.acls.0.match.remotePort", 70000, "between 0 and 65535"),
    ("App", "interfaces.0.acls.0.match.host", "example.com", "together with ip"),
    ("App", "interfaces.0.acls.2.limit", None, "Required"),
    ("AppInstance", "app", "", "Required"),
    ("HardwareModel", "adapters.0.name", "", "Required"),
    ("HardwareModel", "adapters.1.name", "COM2", "Duplicate"),
    ("HardwareModel", "adapters.0.name", "a b", "must be letters"),
    ("HardwareModel", "adapters.0.type", "Tape", "supported values"),
    ("HardwareModel", "adapters.0.usage", "Sometimes", "supported values"),
    ("HardwareModel", "adapters.0.parentGroup", "com", "its own group"),
    ("HardwareModel", "adapters.0.addresses", {}, "Required"),
    ("HardwareModel", "adapters.0.addresses.serial", "/etc/passwd", "must be like /dev/ttyS1"),
    ("HardwareModel", "adapters.0.addresses.usbPort", "1-2", "must be a bus and a port"),
    ("HardwareModel", "adapters.0.addresses.usbProduct", "046D:C52B", "must be a vendor"),
    ("HardwareModel", "adapters.0.addresses.gpio", "chip:1", "and no other"),
    ("HardwareModel", "adapters.1.addresses.gpio", "chip", "must be a chip and lines"),
    ("HardwareModel", "adapters.2.addresses.pci", "03:00.0", "must be like 0000:03:00.0"),
    ("HardwareModel", "adapters.2.addresses.interface", "a/b", "name of a network interface"),
    ("HardwareModel", "adapters.2.can", {"bitrate": 125000}, "a CAN bus has it"),
    ("HardwareModel", "adapters.3.can.bitrate", 0, "Required"),
    ("HardwareModel", "adapters.3.can.bitrate", 2_000_000, "at most 1000000"),
    ("HardwareModel", "adapters.3.can.dataBitrate", 9_000_000, "at most 8000000"),
    ("HardwareModel", "adapters.3.can.samplePoint", "87.5 %", "must be like 0.875"),
    ("HardwareModel", "adapters.2.virtualFunctions", 1, "of type EthernetPF only"),
    ("HardwareModel", "adapters.4.virtualFunctions", 256, "at most 255"),
    ("HardwareModel", "adapters.4.virtualFunctions", -1, "at most 255"),
    ("AppInstance", "edgeNode", "", "Required"),
    ("AppInstance", "purgeCounter", -1, "between 0"),
    ("EdgeNode", "serial", "", "softSerial"),
    ("EdgeNode", "rebootCounter", 2**32, "between 0"),
    ("OSImage", "version", "", "Required"),
    ("OSImage", "version", "1 2", "must be letters"),
    ("OSImage", "datastoreRefs", [], "Required"),
    ("OSImage", "reference", "../root.img", "without '..'"),
    ("OSImage", "format", "Qcow2", "supported values"),
    ("OSImage", "sha256", "", "cannot verify"),
    ("OSImage", "sha256", "A" * 64, "lower case hex"),
    ("OSImage", "architecture", "riscv64", "supported values"),
    ("AttestationPolicy", "mode", "Hope", "supported values"),
    ("AttestationPolicy", "accepted.0.name", "", "Required"),
    ("AttestationPolicy", "accepted.0.registers", {}, "accept anything"),
    ("EdgeNode", "ports.0.name", "", "Required"),
    ("EdgeNode", "ports.0.cost", 256, "between 0 and 255"),
    ("EdgeNode", "ports.0.address", "192.0.2.7", "must be like"),
    ("EdgeNode", "ports.0.gateway", "198.51.100.1", "must be an address in"),
    ("Datastore", "type", "", "Required"),
    ("Datastore", "type", "S3", "S3 is not served yet"),
    ("Datastore", "url", "", "Required"),
    ("Datastore", "url", "https://registry", "must be like docker://"),
    ("Datastore", "url", "docker://registry/team", "a path goes into spec.path"),
    ("Datastore", "url", "docker://registry:99999", "must be like"),
    ("Datastore", "path", "/team", "no slash"),
    ("Datastore", "path", "a/../b", "no '..'"),
    ("Volume", "edgeNode", "", "Required"),
    ("Volume", "size", "1k", "at least"),
    ("Volume", "size", "much", "quantity"),
    ("Volume", "purgeCounter", -1, "between 0"),
    ("Image", "datastoreRefs", [], "at least one"),
    ("Image", "reference", "", "Required"),
    ("Image", "reference", "registry.example:5000/hello:1", "the registry's host"),
    ("Image", "reference", "Hello", "must be repository"),
    ("Image", "format", "Tar", "supported values"),
    ("Image", "sha256", "abc", "64 lower case hex"),
    ("Image", "maxSize", "much", "quantity"),
    ("NetworkInstance", "type", "Mesh", "supported values"),
    ("NetworkInstance", "subnet", "", "Required"),
    ("NetworkInstance", "subnet", "10.1.0.7/24", "IPv4 network"),
    ("NetworkInstance", "subnet", "10.1.0.0/30", "from /8 to /29"),
    ("NetworkInstance", "gateway", "10.2.0.1", "in 10.1.0.0/24"),
    ("NetworkInstance", "gateway", "10.1.0.255", "in 10.1.0.0/24"),
    ("NetworkInstance", "gateway", "10.1.0.15", "outside spec.dhcpRange"),
    ("NetworkInstance", "dhcpRange.first", "10.1.0.30", "not be after"),
    ("NetworkInstance", "dhcpRange.last", "nothing", "IPv4 address"),
    ("NetworkInstance", "mtu", 100, "between 1280"),
    ("NetworkInstance", "dns.servers.0", "dns", "IP address"),
    ("NetworkInstance", "dns.staticNames.0.name", "", "Required"),
]


@pytest.mark.parametrize(("kind", "path", "value", "why"), REFUSED)
def test_a_broken_field_is_refused_at_its_path(kind: str, path: str, value: Any, why: str) -> None:
    found = problems_of(kind, changed(SPECS[kind], path, value))
    field = "spec"
    for part in path.split("."):
        field += f"[{part}]" if part.isdigit() else f".{part}"
    assert why in found.get(field, ""), found


@pytest.mark.parametrize(
    ("kind", "part", "value", "field", "why"),
    [
        ("EdgeNode", "os", {"activate": True}, "spec.os.image", "Required"),
        ("EdgeNode", "os", {"image": "a", "retryCounter": -1}, "spec.os.retryCounter", "between"),
        ("EdgeNode", "trustedRegisters", {"16": ["a" * 64]}, "spec.trustedRegisters[16]", "number"),
        ("OSImage", "measurements", {"four": ["b" * 64]}, "spec.measurements[four]", "number"),
        ("OSImage", "measurements", {"4": []}, "spec.measurements[4]", "at least one"),
        ("OSImage", "measurements", {"4": ["zz"]}, "spec.measurements[4][0]", "64 lower case hex"),
        ("OSImage", "measurements", {"4": ["b" * 64] * 2}, "spec.measurements[4][1]", "Duplicate"),
        ("AttestationPolicy", "nodeSelector", {}, "spec.nodeSelector.matchLabels", "default"),
        (
            "AttestationPolicy",
            "learnFrom",
            {"all": True, "names": ["a"]},
            "spec.learnFrom.names",
            "all of them",
        ),
    ],
)
def test_a_broken_part_is_refused_where_it_is_broken(
    kind: str, part: str, value: Any, field: str, why: str
) -> None:
    found = problems_of(kind, {**SPECS[kind], part: value})
    assert why in found.get(field, ""), found


def test_a_counter_cannot_be_said_in_two_ways() -> None:
    spec = {
        "serial": "s",
        "os": {"image": "a", "fallbackCounter": 1},
        "properties": {"force.fallback.counter": "2"},
    }
    assert "already" in problems_of("EdgeNode", spec)["spec.properties[force.fallback.counter]"]


def test_a_policy_that_accepts_nothing_is_refused() -> None:
    assert "nothing would ever" in problems_of("AttestationPolicy", {})["spec.accepted"]
    assert problems_of("AttestationPolicy", {"learnFrom": {"all": True}}) == {}


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("App", "env"),
        ("OSImage", "datastoreRefs"),
        ("AttestationPolicy", "accepted"),
        ("App", "volumes"),
        ("App", "interfaces"),
        ("App", "interfaces.0.ports"),
        ("EdgeNode", "ports"),
        ("Image", "datastoreRefs"),
    ],
)
def test_the_same_twice_in_a_list_is_refused(kind: str, path: str) -> None:
    holder: Any = SPECS[kind]
    for part in path.split("."):
        holder = holder[int(part) if part.isdigit() else part]
    found = problems_of(kind, changed(SPECS[kind], path, [*holder, *holder]))
    assert any("Duplicate value" in message for message in found.values()), found


def test_a_node_without_any_uplink_is_refused() -> None:
    spec = changed(SPECS["EdgeNode"], "ports.0.uplink", False)
    assert "must be an uplink" in problems_of("EdgeNode", spec)["spec.ports"]


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    spec = changed(SPECS["Datastore"], "url", "docker://robot:hunter2@registry")
    found = problems_of("Datastore", spec)
    assert "credentialsSecretRef" in found["spec.url"]
    assert "hunter2" not in str(found)


def test_a_disk_image_needs_its_digest() -> None:
    spec = {**SPECS["Image"], "format": "Raw", "reference": "disks/a.img"}
    assert "verified by it" in problems_of("Image", spec)["spec.sha256"]
    assert problems_of("Image", {**spec, "sha256": DIGEST}) == {}
    escaping = {**spec, "sha256": DIGEST, "reference": "../a.img"}
    assert "without '..'" in problems_of("Image", escaping)["spec.reference"]


def test_two_digests_of_one_image_must_agree() -> None:
    pinned = {**SPECS["Image"], "reference": f"hello@sha256:{DIGEST}"}
    assert problems_of("Image", {**pinned, "sha256": DIGEST}) == {}
    assert (
        "must be the digest" in problems_of("Image", {**pinned, "sha256": "b" * 64})["spec.sha256"]
    )


def test_a_switch_takes_no_addresses() -> None:
    spec = {"type": "Switch", "subnet": "10.1.0.0/24"}
    assert "Forbidden" in problems_of("NetworkInstance", spec)["spec.subnet"]
    assert problems_of("NetworkInstance", {"type": "Switch"}) == {}


def devices_of(kind: str, *devices: dict[str, Any], **more: Any) -> dict[str, str]:
    return problems_of(kind, {**SPECS[kind], "devices": list(devices), **more})


def test_devices_that_an_app_cannot_have_are_refused() -> None:
    com = {"name": "port", "type": "Serial", "adapter": "com"}
    tpm = {"name": "tpm", "type": "TPM"}
    bare = {"virtualization": "None"}
    assert devices_of("App", com, **bare) == {}
    assert devices_of("Machine", com, tpm, virtualization="FML", firmware="") == {}
    lan = {"type": "EthernetVF", "adapter": "eth1vf0", "mac": "02:16:3E:00:00:01", "vlan": 7}
    assert devices_of("App", {"name": "lan", **lan}, **bare) == {}
    assert devices_of("Machine", {"name": "lan", **lan}) == {}
    refused = (
        ("App", {**com, "type": "Radio"}, "type", "supported values"),
        ("App", {**com, "type": "PCI"}, "type", "of a virtual machine only"),
        ("App", {**com, "adapter": ""}, "adapter", "Required"),
        ("App", tpm, "type", "of a virtual machine only"),
        ("Machine", tpm, "type", "no legacy one"),
        ("Machine", {**com, "type": "GPIO"}, "type", "cannot have GPIO lines"),
        ("Machine", {**tpm, "adapter": "com"}, "adapter", "no part of the node"),
        ("Machine", {**com, "vlan": 7}, "vlan", "a device of type EthernetVF has it"),
        ("Machine", {**com, "mac": "02:00:00:00:00:01"}, "mac", "a device of type EthernetVF"),
        ("Machine", {**com, "type": "EthernetVF", "vlan": 4095}, "vlan", "must be 1 to 4094"),
        ("Machine", {**com, "type": "EthernetVF", "mac": "01:00:5e:00:00:01"}, "mac", "one device"),
    )
    for kind, device, field, why in refused:
        found = devices_of(kind, device, **(bare if kind == "App" else {}))
        assert why in found.get(f"spec.devices[0].{field}", ""), (device, found)
    assert (
        "Duplicate"
        in devices_of("App", com, {**com, "name": "b"}, **bare)["spec.devices[1].adapter"]
    )


def test_a_gpio_line_is_one_devices_only() -> None:
    pins = [
        {"name": n, "type": "GPIO", "group": n, "addresses": {"gpio": f"chip:{lines}"}}
        for n, lines in (("a", "1,4"), ("b", "4"))
    ]
    found = problems_of("HardwareModel", {"adapters": pins})
    assert "line 4 of chip is 'a' already" in found["spec.adapters[1].addresses.gpio"]


def test_what_a_volume_says_an_app_that_names_it_does_not() -> None:
    named = {"name": "data", "volume": "books", "mountPath": "/data"}
    assert problems_of("App", {**APP, "volumes": [named]}) == {}
    sized = problems_of("App", {**APP, "volumes": [{**named, "size": "1Gi"}]})
    assert "Volume 'books' says it" in sized["spec.volumes[0].size"]
    machine = {**SPECS["Machine"], "volumes": [{"name": "cd", "volume": "iso", "device": "CDROM"}]}
    assert problems_of("Machine", machine) == {}


def test_a_blank_volume_has_a_size_and_is_written() -> None:
    assert "Required" in problems_of("Volume", {"edgeNode": "n"})["spec.size"]
    blank = {"edgeNode": "n", "size": "1Gi", "readOnly": True}
    assert "stays empty" in problems_of("Volume", blank)["spec.readOnly"]
    assert problems_of("Volume", {"edgeNode": "n", "image": "catalog"}) == {}


def test_a_screen_at_a_port_asks_for_a_password() -> None:
    spec = {**SPECS["Machine"], "vnc": {"display": 1}}
    assert "whole network" in problems_of("Machine", spec)["spec.vnc.passwordSecretRef.name"]
