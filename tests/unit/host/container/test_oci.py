"""What the OCI runtime is told of a container, without one."""

from __future__ import annotations

from typing import Any, cast

import pytest

from edgevirt.host.container.oci import (
    PATH,
    Surroundings,
    VolumeMount,
    command,
    mount_target,
    resolv_conf,
    runtime_config,
)
from edgevirt.host.container.rootfs import User
from edgevirt.host.container.syscalls import seccomp
from edgevirt.host.hypervisor import UnfitError
from edgevirt.model.content import ImageConfig
from edgevirt.model.domain import Domain
from edgevirt.model.ids import AppId


def config(
    image: ImageConfig | None = None,
    *,
    netns: str = "",
    memory_kib: int = 1024,
    volumes: tuple[VolumeMount, ...] = (),
    limit_swap: bool = True,
    environment: dict[str, str] | None = None,
) -> Any:
    domain = Domain(
        app=AppId("app-1"),
        name="app-1.1.1",
        display_name="web",
        activate=True,
        image=image or ImageConfig(cmd=("serve",)),
        netns=netns,
        memory_kib=memory_kib,
        vcpus=3,
    )
    around = Surroundings(
        root="/r",
        user=User(1, 2, (2, 3)),
        cgroup="eve-user-apps/app-1",
        limit_swap=limit_swap,
        max_files=1024,
        resolv_conf="/b/resolv.conf",
        hosts="/b/hosts",
        volumes=volumes,
    )
    return cast(Any, runtime_config(domain, environment or {}, around))


def test_command_is_entrypoint_and_cmd_unless_overridden() -> None:
    image = ImageConfig(entrypoint=("/init", "-v"), cmd=("serve",))
    assert command(image, {}) == ["/init", "-v", "serve"]
    assert command(image, {"EVE_ECO_CMD": " /bin/sh  -c true "}) == ["/bin/sh", "-c", "true"]
    assert command(image, {"EVE_ECO_CMD": ""}) == ["/init", "-v", "serve"]
    assert command(image, {"EVE_ECO_CMD": "/bin/sh -c 'a; b'"}) == ["/bin/sh", "-c", "a; b"]
    with pytest.raises(UnfitError, match="cannot read EVE_ECO_CMD: No closing quotation"):
        command(image, {"EVE_ECO_CMD": "/bin/sh -c 'a"})


def test_image_without_a_command_is_unfit() -> None:
    with pytest.raises(UnfitError, match="names no command"):
        command(ImageConfig(), {})


@pytest.mark.parametrize(
    "place", ["data", "/", "//", "/a/../..", "/proc", "/proc/x", "/sys", "/dev"]
)
def test_volume_may_not_be_mounted_over_the_system(place: str) -> None:
    with pytest.raises(UnfitError, match="cannot mount a volume"):
        mount_target(place, 1)


def test_volume_s_place_is_normalized() -> None:
    assert mount_target("/var//lib/./data/", 1) == "/var/lib/data"
    assert mount_target("", 3) == "/dev/eve/volumes/by-id/3"


def test_environment_has_a_path_and_user_data_wins() -> None:
    image = ImageConfig(cmd=("x",), env=("A=1", "B=2"))
    process = config(image, environment={"B": "3"})["process"]
    assert process["env"] == [f"PATH={PATH}", "A=1", "B=3"]
    assert config(ImageConfig(cmd=("x",), env=("PATH=/x",)))["process"]["env"] == ["PATH=/x"]


def test_process_gains_nothing_beyond_the_default_capabilities() -> None:
    process = config()["process"]
    assert process["noNewPrivileges"] is True
    assert "inheritable" not in process["capabilities"]
    assert "ambient" not in process["capabilities"]
    assert len(process["capabilities"]["bounding"]) == 14
    assert "CAP_SYS_ADMIN" not in process["capabilities"]["bounding"]
    assert process["user"] == {"uid": 1, "gid": 2, "additionalGids": [2, 3]}


def test_working_directory_is_always_absolute() -> None:
    assert config(ImageConfig(cmd=("x",), workdir="srv"))["process"]["cwd"] == "/srv"
    assert config(ImageConfig(cmd=("x",), workdir=""))["process"]["cwd"] == "/"


def test_network_is_the_given_one_or_an_empty_one_never_the_node_s() -> None:
    def network(netns: str) -> list[dict[str, str]]:
        spaces = config(netns=netns)["linux"]["namespaces"]
        return [space for space in spaces if space["type"] == "network"]

    assert network("/run/netns/a") == [{"type": "network", "path": "/run/netns/a"}]
    assert network("") == [{"type": "network"}]


def test_memory_is_bounded_together_with_swap_where_the_machine_can() -> None:
    resources = config(memory_kib=2048)["linux"]["resources"]
    assert resources["memory"] == {"limit": 2 << 20, "swap": 2 << 20}
    assert config(limit_swap=False)["linux"]["resources"]["memory"] == {"limit": 1 << 20}
    assert resources["cpu"] == {"period": 100_000, "quota": 300_000}
    assert "memory" not in config(memory_kib=0)["linux"]["resources"]


def test_nested_volumes_are_mounted_outer_first() -> None:
    volumes = (VolumeMount("/v/1", "/data/inner"), VolumeMount("/v/2", "/data", readonly=True))
    mounts = config(volumes=volumes)["mounts"][-2:]
    assert [mount["destination"] for mount in mounts] == ["/data", "/data/inner"]
    assert "ro" in mounts[0]["options"]
    assert all({"nosuid", "nodev"} <= set(mount["options"]) for mount in mounts)


def test_resolver_file() -> None:
    assert resolv_conf(("10.0.0.1",)) == "nameserver 10.0.0.1\n"
    assert resolv_conf(()) == ""


def test_system_calls_are_denied_for_every_calling_convention_of_the_machine() -> None:
    profile = cast(Any, seccomp("x86_64"))
    assert profile["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    denied = {name for rule in profile["syscalls"] for name in rule["names"]}
    assert {"mount", "bpf", "kexec_load", "io_uring_setup", "setns", "clone3"} <= denied
    assert "architectures" not in seccomp("riscv64")
