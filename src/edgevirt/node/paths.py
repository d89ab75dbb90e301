"""Where a node keeps things. Every path of a node is spelled here and nowhere else."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec


class Paths(msgspec.Struct, frozen=True):
    """`config`: what the node was given, read-only in use. `persist`: survives a restart.
    `run`: gone with the node's processes. `tpm`: the TPM's device; may be missing.
    """

    config: Path
    persist: Path
    run: Path
    tpm: Path = Path("/dev/tpmrm0")

    # -- config: names as of EVE's CONFIG partition (EVE's docs/CONFIG.md) --
    @property
    def server(self) -> Path:
        return self.config / "server"

    @property
    def root_certificate(self) -> Path:
        return self.config / "root-certificate.pem"

    @property
    def tls_roots(self) -> Path:
        """More roots for the controller's TLS certificate; may be missing."""
        return self.config / "v2tlsbaseroot-certificates.pem"

    @property
    def onboarding_certificate(self) -> Path:
        return self.config / "onboard.cert.pem"

    @property
    def onboarding_key(self) -> Path:
        return self.config / "onboard.key.pem"

    @property
    def soft_serial(self) -> Path:
        return self.config / "soft_serial"

    @property
    def hosts(self) -> Path:
        """Names that the node is told, as hosts(5)."""
        return self.config / "hosts"

    @property
    def device_key(self) -> Path:
        """The trust service's: a software key that survives the data's disk; may be missing."""
        return self.config / "device.key.pem"

    @property
    def device_certificate(self) -> Path:
        return self.config / "device.cert.pem"

    @property
    def tpm_credential(self) -> Path:
        """Password of the TPM's owner; may be missing."""
        return self.config / "tpm_credential"

    @property
    def bootstrap_config(self) -> Path:
        """A config that the controller signed for the way to its first contact; may be missing."""
        return self.config / "bootstrap-config.pb"

    @property
    def override(self) -> Path:
        """A port config as JSON; may be missing."""
        return self.config / "DevicePortConfig" / "override.json"

    @property
    def global_config(self) -> Path:
        """Properties for the time before the first config, as JSON; may be missing."""
        return self.config / "GlobalConfig" / "global.json"

    # -- persist --
    @property
    def boot_record(self) -> Path:
        """The supervisor's: the present start of the node (`model.machine.Boot`, JSON)."""
        return self.persist / "boot.json"

    @property
    def end_record(self) -> Path:
        """The supervisor's: why the run ended, until the next start has read it."""
        return self.persist / "end.json"

    @property
    def crashes(self) -> Path:
        """The kernel's last words of crashes before: `<time>/dmesg`."""
        return self.persist / "kcrashes"

    @property
    def kinds(self) -> Path:
        """Persistent kinds: `<Kind>/<key>`."""
        return self.persist / "status"

    @property
    def checkpoint(self) -> Path:
        """The agent's: last config envelope, controller certificates."""
        return self.persist / "checkpoint"

    @property
    def ingested(self) -> Path:
        """The ports service's own: which of the files that it was given it has taken in."""
        return self.persist / "ingested"

    @property
    def keys(self) -> Path:
        """The trust service's own: keys and certificates, and the vault's key, sealed."""
        return self.persist / "keys"

    @property
    def vaults(self) -> Path:
        """The trust service's own: the vault, and those of before that were set aside."""
        return self.persist / "vault"

    @property
    def newlog(self) -> Path:
        """The logs service's own: `collect/`, `devUpload/`, `appUpload/`, `keepSent/`."""
        return self.persist / "newlog"

    # the operating system's images are no secret, and an update has to come through when the vault
    # is closed: it may be the cure
    @property
    def system_downloads(self) -> Path:
        """As `downloads`, of the node's own operating system."""
        return self.persist / "system" / "downloads"

    @property
    def system_blobs(self) -> Path:
        """As `blobs`."""
        return self.persist / "system" / "blobs"

    @property
    def system_layers(self) -> Path:
        """As `layers`."""
        return self.persist / "system" / "layers"

    # -- in the vault: there once it is open --
    @property
    def vault(self) -> Path:
        return self.vaults / "data"

    @property
    def downloads(self) -> Path:
        """The downloader's own; the verifier reads it. `<hex>` whole, `<hex>.part` under way."""
        return self.vault / "downloads"

    @property
    def blobs(self) -> Path:
        """The verifier's own: `<hex>`, verified."""
        return self.vault / "blobs"

    @property
    def layers(self) -> Path:
        """The verifier's own: `<hex of the layer blob>/`, unpacked."""
        return self.vault / "layers"

    @property
    def volumes(self) -> Path:
        """The volumes service's own: `<uuid>#<generation>` (a file or a directory)."""
        return self.vault / "volumes"

    @property
    def firmware(self) -> Path:
        """The domains service's own: `<app id>.fd`, what an app's UEFI firmware keeps."""
        return self.vault / "firmware"

    @property
    def tpms(self) -> Path:
        """The domains service's own: `<app id>/`, what an app's TPM keeps."""
        return self.vault / "tpms"

    @property
    def machine_states(self) -> Path:
        """The domains service's own: `<snapshot id>/`, of both what a snapshot keeps."""
        return self.vault / "machine-states"

    @property
    def console_logs(self) -> Path:
        """`<app id>.log`: an app's console, in conmon's k8s-file format."""
        return self.vault / "consoles"

    @property
    def packed(self) -> Path:
        """The volumes service's own: `<hex>.squashfs`, layers as disks for containers' machines."""
        return self.vault / "packed"

    # -- what came with the program --
    @property
    def guest(self) -> Path:
        """`vmlinux`, `initrd.img`: what containers' virtual machines start with; may be missing."""
        return Path(sys.prefix) / "share/edgevirt/guest"

    # -- run --
    @property
    def measured(self) -> Path:
        """What was measured since the boot loader: lines `register sha256 text`; root's."""
        return self.run.parent / "measured"

    @property
    def firmware_log(self) -> Path:
        """What the firmware and the boot loader measured, in the TCG's form; root's."""
        return self.run.parent / "firmware-log"

    @property
    def sockets(self) -> Path:
        return self.run / "sockets"

    @property
    def netns(self) -> Path:
        """Apps' network namespaces: `<app id>`."""
        return self.run / "netns"

    @property
    def domains(self) -> Path:
        """The domains service's own: `<app id>/` with the bundle, pid and exit files."""
        return self.run / "domains"

    @property
    def machines(self) -> Path:
        """The domains service's own: as `domains`, of virtual machines."""
        return self.run / "machines"

    @property
    def doors(self) -> Path:
        """Where services are handed what they may not open themselves."""
        return self.run / "doors"

    @property
    def consoles_door(self) -> Path:
        """The domains service's own: consoles, for the access service."""
        return self.doors / "consoles"

    @property
    def networks(self) -> Path:
        """The networks service's own: dnsmasq's files by bridge."""
        return self.run / "networks"

    @property
    def ports(self) -> Path:
        """The ports service's own: its DHCP clients' files."""
        return self.run / "ports"

    @property
    def names(self) -> Path:
        """The ports service's own: `resolv.conf` and `hosts`, which those of /etc are links to."""
        return self.run.parent / "etc"

    @property
    def console(self) -> Path:
        """The console service's own."""
        return self.run / "console"

    @property
    def diagnosis(self) -> Path:
        """What the node's screen shows."""
        return self.console / "diagnosis"

    @property
    def devices(self) -> Path:
        return Path("/dev")

    @property
    def device_settings(self) -> Path:
        """Where the kernel has its devices' attributes, a light's among them."""
        return Path("/sys/devices")

    @property
    def service_logs(self) -> Path:
        """`<service>.log`: what a service writes to stderr, one JSON object a line."""
        return self.run / "logs"
