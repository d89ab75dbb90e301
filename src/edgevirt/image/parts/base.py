"""The root tree without our code: Debian's packages, less what no node needs, and its settings."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from edgevirt.image.packages.unpack import remove, unpack
from edgevirt.image.parts.bytecode import compile_tree
from edgevirt.image.recipe import PYTHON

_LIBRARY: Final = f"usr/lib/python{PYTHON}"
_USELESS: Final = (
    *("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian"),
    *("usr/share/bash-completion", "usr/share/zsh", "usr/share/bug", "usr/share/doc-base"),
    *(
        "usr/share/initramfs-tools",
        "usr/share/applications",
        "usr/share/pixmaps",
        "usr/share/debconf",
    ),
    *(
        "usr/share/perl5",
        "usr/share/menu",
        "usr/share/gdb",
        "usr/share/binfmts",
        "usr/share/python3",
    ),
    *("usr/include", "usr/lib/systemd", "usr/lib/udev", "usr/lib/sysusers.d", "usr/lib/tmpfiles.d"),
    *("etc/systemd", "etc/init.d", "etc/cron*", "etc/default", "etc/pam.d", "etc/alternatives"),
    *("etc/bash_completion.d", "etc/logrotate.d", "etc/dpkg", "etc/ldap", "etc/apparmor*"),
    *("boot/*", "usr/lib/modules", "usr/lib/*/perl*", "usr/share/keyrings"),
    *(
        "usr/lib/*/engines-3",
        "usr/lib/*/ossl-modules/legacy.so",
        "usr/share/gcc",
        "usr/lib/valgrind",
    ),
    *("usr/bin/perl*", "usr/bin/pdb*", "usr/bin/pydoc*", "usr/bin/pygettext*", "usr/bin/2to3*"),
    *(
        "usr/sbin/cgdisk",
        "usr/bin/scalar",
        "usr/lib/*/libbfd*",
        "usr/share/polkit-1",
        "usr/share/dbus-1",
    ),
    *(f"{_LIBRARY}/{name}" for name in ("test", "idlelib", "lib2to3", "tkinter", "ensurepip")),
    *(f"{_LIBRARY}/{name}" for name in ("turtledemo", "pydoc_data", "distutils", "venv", "curses")),
    *(f"{_LIBRARY}/{name}" for name in ("turtle.py", "config-*", "*/__pycache__", "__pycache__")),
    *(
        "usr/lib/*/vdeplug",
        "usr/lib/qemu",
        "usr/bin/qemu-system-i386",
        "usr/libexec/qemu-system-i386",
        "usr/bin/qemu-system-x86_64-microvm",
    ),
    *(
        "usr/bin/qemu-nbd",
        "usr/bin/qemu-io",
        "usr/bin/qemu-pr-helper",
        "usr/bin/qemu-storage-daemon",
    ),
    *(f"usr/lib/*/qemu/{name}*.so" for name in ("audio", "chardev", "ui", "accel-tcg-i386")),
    *(f"usr/lib/*/qemu/hw-{name}*.so" for name in ("display", "s390x", "usb-re", "usb-smart")),
    *(f"usr/share/qemu/{name}*" for name in ("openbios", "opensbi", "skiboot", "slof", "s390")),
    *(f"usr/share/qemu/{name}*" for name in ("hppa", "palcode", "trace", "keymaps", "firmware")),
    *(
        "usr/share/qemu-efi*",
        "usr/share/ovmf",
        "usr/share/OVMF/*.ms.fd",
        "usr/share/OVMF/*secboot*",
    ),
    *("usr/share/OVMF/*snakeoil*", "usr/share/OVMF/OVMF_CODE.fd", "usr/share/OVMF/OVMF_VARS.fd"),
    *("usr/bin/su", "usr/bin/login", "usr/sbin/agetty", "usr/sbin/sulogin", "usr/bin/newgrp"),
    # these need libraries that nothing else needs
    *("usr/bin/ss", "usr/sbin/arpd", "usr/lib/*/tc", "usr/lib/*/vdeplug"),
    *(f"{_LIBRARY}/lib-dynload/{name}.*" for name in ("_dbm", "nis")),
    *("usr/sbin/getty", "usr/sbin/runuser", "usr/bin/bash", "usr/bin/dash", "usr/bin/sh"),
)
"""Documents, other init systems, the world's languages, other machines' firmware; and every way to
log in."""
_EMPTY: Final = (
    *("proc", "sys", "dev", "run", "tmp", "var", "root", "home", "mnt", "media", "opt", "srv"),
    *("persist", "config", "containers/services"),
)
"""Where others are mounted, or nothing is."""
_ROOT_USER: Final = "root:x:0:0:root:/root:/usr/sbin/nologin\n"
_NOBODY: Final = "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
_FILES: Final = {
    "etc/hostname": "edge-node\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost\n",
    "etc/resolv.conf": "",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    "etc/protocols": "icmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6-icmp 58 IPv6-ICMP\nsctp 132 SCTP\n",
    "etc/fstab": "",
    "etc/ld.so.conf": "",
    "etc/machine-id": "",
    "etc/mtab": None,
    "etc/ssl/openssl.cnf": "",
}
_LINKS: Final = {
    "usr/bin/python3": f"python{PYTHON}",
    "usr/lib/ssl/certs": "/etc/ssl/certs",
    "usr/lib/ssl/cert.pem": "/etc/ssl/certs/ca-certificates.crt",
    "usr/lib/ssl/openssl.cnf": "/etc/ssl/openssl.cnf",
    "etc/mtab": "/proc/self/mounts",
}


def make_base(packages: Iterable[Path], root: Path) -> None:
    """Makes the tree at `root`, which does not exist yet. Raises ProgramError."""
    root.mkdir(mode=0o755)
    unpack(packages, root)
    remove(root, _USELESS)
    _drop_code_pages(root)
    for name in _EMPTY:
        path = root / name
        remove(root, [name])
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o755)
    _write_files(root)
    _join_certificates(root)
    _drop_special(root)
    compile_tree(root, f"/{_LIBRARY}")


def _drop_code_pages(root: Path) -> None:
    """All but the one of names on a FAT, without which mtools does nothing."""
    for path in root.glob("usr/lib/*/gconv/*.so"):
        if path.name != "IBM850.so":
            path.unlink()


def _write_files(root: Path) -> None:
    for name, content in _FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            path.write_text(content)
            path.chmod(0o644)
    for name, target in _LINKS.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)


def _join_certificates(root: Path) -> None:
    """What the package's own script would do."""
    found = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_bytes(b"".join(path.read_bytes() for path in found))
    bundle.chmod(0o644)


def _drop_special(root: Path) -> None:
    """No program gets more rights by being started, and nothing is other people's to write."""
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            wanted = stat.S_IMODE(mode) & ~0o7022
            if wanted != stat.S_IMODE(mode):
                os.chmod(path, wanted)


def write_users(root: Path, users: Mapping[str, int]) -> None:
    """Root, the services, dnsmasq: none of them can log in."""
    named = {"dnsmasq": 64100, **{name: uid for name, uid in users.items() if uid}}
    lines = [f"{n}:x:{i}:{i}:{n}:/nonexistent:/usr/sbin/nologin\n" for n, i in named.items()]
    groups = [f"{name}:x:{uid}:\n" for name, uid in named.items()]
    locked = [f"{name}:!*:::::::\n" for name in ("root", *named, "nobody")]
    for name, text, mode in (
        ("passwd", [_ROOT_USER, *lines, _NOBODY], 0o644),
        ("group", ["root:x:0:\n", "tty:x:5:\n", *groups, "nogroup:x:65534:\n"], 0o644),
        ("shadow", locked, 0o600),
    ):
        path = root / "etc" / name
        path.unlink(missing_ok=True)  # it may be shared with the cache
        path.write_text("".join(text))
        path.chmod(mode)
