"""Hostile layers, and honest ones. The unpacker gives files away, so this needs root."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevirt.host.content.stream import HEADER_BYTES, CannotUnpack, NoRoom
from edgevirt.host.content.unpack import OPAQUE, Limits, Unpacked, unpack_layer

pytestmark = pytest.mark.root

LIMITS = Limits(bytes=64 * 1024 * 1024, files=1000)

Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, content: bytes = b"", **fields: object) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def directory(name: str, mtime: float = 0) -> Member:
    return member(name, type=tarfile.DIRTYPE, mode=0o755, mtime=mtime)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Member:
    return member(name, type=kind, linkname=target)


def tar_of(members: Iterable[Member]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def unpack(where: Path, data: bytes, limits: Limits = LIMITS) -> Unpacked:
    layer, root = where / "layer", where / "root"
    layer.write_bytes(data)
    root.mkdir(exist_ok=True)
    return unpack_layer(layer, root, limits)


def is_whiteout(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


# -- honest layers ------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd.compress])
def test_a_layer_is_unpacked_whatever_its_compression(tmp_path: Path, compress: object) -> None:
    tar = tar_of([directory("etc"), member("etc/motd", b"hello\n", mode=0o640)])
    assert callable(compress)
    done = unpack(tmp_path, compress(tar))
    assert done == Unpacked(f"sha256:{hashlib.sha256(tar).hexdigest()}", bytes=6, files=2)
    assert (tmp_path / "root/etc/motd").read_bytes() == b"hello\n"
    assert stat.S_IMODE((tmp_path / "root/etc/motd").stat().st_mode) == 0o640


def test_several_gzip_streams_in_a_row_are_one_tar(tmp_path: Path) -> None:
    tar = tar_of([member("big", bytes(range(256)) * 4096)])
    unpack(tmp_path, gzip.compress(tar[:1000]) + gzip.compress(tar[1000:]) + bytes(512))
    assert (tmp_path / "root/big").read_bytes() == bytes(range(256)) * 4096


def test_owners_setuid_bits_and_times_are_kept(tmp_path: Path) -> None:
    unpack(
        tmp_path,
        tar_of(
            [
                directory("d", mtime=1_000_000_000),
                member("d/su", b"#!", mode=0o4755, uid=0, gid=42, mtime=1_100_000_000.5),
                link("d/ln", "/nowhere"),
            ]
        ),
    )
    program = (tmp_path / "root/d/su").stat()
    assert stat.S_IMODE(program.st_mode) == 0o4755
    assert (program.st_uid, program.st_gid) == (0, 42)
    assert program.st_mtime_ns == 1_100_000_000_500_000_000
    assert (tmp_path / "root/d").stat().st_mtime == 1_000_000_000
    assert os.readlink(tmp_path / "root/d/ln") == "/nowhere"


def test_the_unpacker_agrees_with_gnu_tar_on_a_real_tree(tmp_path: Path) -> None:
    source = Path(os.__file__).parent / "json"
    subprocess.run(["tar", "-C", source, "-czf", tmp_path / "layer", "."], check=True)
    (tmp_path / "root").mkdir()
    unpack_layer(tmp_path / "layer", tmp_path / "root", LIMITS)
    (tmp_path / "gnu").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "gnu", "-xpf", tmp_path / "layer"], check=True)
    assert listing(tmp_path / "root") == listing(tmp_path / "gnu")
    assert listing(tmp_path / "root")


def listing(root: Path) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for path in sorted(root.rglob("*")):
        found = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(found.st_mode) else b""
        name = str(path.relative_to(root))
        rows.append((name, found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, content))
    return rows


def test_file_capabilities_are_kept_and_other_attributes_are_not(tmp_path: Path) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw=ep
    info, _ = member("ping", mode=0o755)
    info.pax_headers = {
        "SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape"),
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.user.overlay.opaque": "y",
    }
    unpack(tmp_path, tar_of([(info, b"")]))
    assert os.listxattr(tmp_path / "root/ping") == ["security.capability"]
    assert os.getxattr(tmp_path / "root/ping", "security.capability") == capability


def test_a_later_member_of_the_same_name_wins(tmp_path: Path) -> None:
    unpack(
        tmp_path,
        tar_of(
            [
                directory("x"),
                member("x/deep", b"1"),
                member("x", b"2"),
                member("y", b"3"),
                directory("y"),
                member("y/z", b"4"),
            ]
        ),
    )
    assert (tmp_path / "root/x").read_bytes() == b"2"
    assert (tmp_path / "root/y/z").read_bytes() == b"4"


def test_devices_are_left_out_and_the_rest_is_there(tmp_path: Path) -> None:
    unpack(
        tmp_path,
        tar_of(
            [
                member("dev/sda", type=tarfile.BLKTYPE, devmajor=8, devminor=0),
                member("dev/mem", type=tarfile.CHRTYPE, devmajor=1, devminor=1),
                member("pipe", type=tarfile.FIFOTYPE),
                member("after", b"1"),
            ]
        ),
    )
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == ["after", "pipe"]


# -- what overlayfs must know ---------------------------------------------------------------------


def test_a_whiteout_becomes_the_device_that_overlayfs_takes_for_one(tmp_path: Path) -> None:
    unpack(tmp_path, tar_of([member("etc/.wh.passwd"), member("etc/.wh..wh.plnk")]))
    assert is_whiteout(tmp_path / "root/etc/passwd")
    assert [path.name for path in (tmp_path / "root/etc").iterdir()] == ["passwd"]


def test_a_directory_over_its_whiteout_is_opaque_in_either_order(tmp_path: Path) -> None:
    members = [member(".wh.a"), directory("a"), directory("b"), member(".wh.b")]
    unpack(tmp_path, tar_of([*members, directory("c"), member("c/.wh..wh..opq")]))
    for name in "abc":
        assert os.getxattr(tmp_path / "root" / name, OPAQUE) == b"y"


def test_a_file_of_the_layer_survives_a_whiteout_of_its_name(tmp_path: Path) -> None:
    unpack(tmp_path, tar_of([member("f", b"1"), member(".wh.f"), member(".wh.g"), member("g")]))
    assert (tmp_path / "root/f").read_bytes() == b"1"
    assert (tmp_path / "root/g").is_file()


def test_overlayfs_hides_what_the_upper_layer_whites_out(tmp_path: Path) -> None:
    for name, members in {
        "low": [member("gone"), member("d/old"), member("kept", b"1")],
        "high": [member(".wh.gone"), directory("d"), member("d/.wh..wh..opq"), member("d/new")],
    }.items():
        (tmp_path / name).mkdir()
        unpack(tmp_path / name, tar_of(members))
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()
    layers = f"lowerdir={tmp_path}/high/root:{tmp_path}/low/root"
    options = f"{layers},upperdir={tmp_path}/upper,workdir={tmp_path}/work,userxattr"
    subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, tmp_path / "merged"], check=True
    )
    try:
        seen = sorted(
            str(p.relative_to(tmp_path / "merged")) for p in tmp_path.rglob("merged/**/*")
        )
    finally:
        subprocess.run(["umount", tmp_path / "merged"], check=True)
    assert seen == ["d", "d/new", "kept"]


# -- hostile layers -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/../evil", "a/.."])
def test_a_name_with_dot_dot_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CannotUnpack, match=r"«\.\.»"):
        unpack(tmp_path, tar_of([member(name, b"x")]))
    assert not (tmp_path / "evil").exists()


def test_an_absolute_name_lands_inside(tmp_path: Path) -> None:
    name = f"{tmp_path}/evil"
    unpack(tmp_path, tar_of([member(name, b"x")]))
    assert not (tmp_path / "evil").exists()
    assert (tmp_path / "root" / name.lstrip("/")).read_bytes() == b"x"


@pytest.mark.parametrize("target", ["../..", "/", "../outside", "{tmp}/outside"])
def test_a_symbolic_link_never_leads_a_write_outside(tmp_path: Path, target: str) -> None:
    (tmp_path / "outside").mkdir()
    target = target.format(tmp=tmp_path)
    unpack(tmp_path, tar_of([link("d/way", target), member("d/way/evil", b"x")]))
    assert not (tmp_path / "evil").exists()
    assert list((tmp_path / "outside").iterdir()) == []
    landed = [path for path in (tmp_path / "root").rglob("evil") if not path.is_symlink()]
    assert len(landed) == 1


def test_a_member_replaces_a_symbolic_link_instead_of_following_it(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_bytes(b"safe")
    unpack(tmp_path, tar_of([link("f", str(canary)), member("f", b"evil", mode=0o777)]))
    assert canary.read_bytes() == b"safe"
    assert stat.S_IMODE(canary.stat().st_mode) != 0o777
    assert (tmp_path / "root/f").read_bytes() == b"evil"


@pytest.mark.parametrize("target", ["/etc/passwd", "../canary", "missing", "d", "f"])
def test_a_hard_link_to_anything_but_a_file_of_the_layer_is_refused(
    tmp_path: Path, target: str
) -> None:
    (tmp_path / "canary").write_bytes(b"safe")
    with pytest.raises(CannotUnpack):
        unpack(tmp_path, tar_of([directory("d"), link("f", target, tarfile.LNKTYPE)]))


def test_a_hard_link_to_a_symbolic_link_links_the_link(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_bytes(b"safe")
    hard = link("g", "f", tarfile.LNKTYPE)
    unpack(tmp_path, tar_of([link("f", str(canary)), hard, member("g", b"evil")]))
    assert canary.read_bytes() == b"safe"
    assert canary.stat().st_nlink == 1


def test_a_hard_link_makes_two_names_of_one_file(tmp_path: Path) -> None:
    unpack(tmp_path, tar_of([member("a/f", b"1"), link("b/g", "a/f", tarfile.LNKTYPE)]))
    assert (tmp_path / "root/a/f").samefile(tmp_path / "root/b/g")


@pytest.mark.parametrize("name", [".wh.", ".wh...", "d/.wh.."])
def test_a_whiteout_of_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CannotUnpack):
        unpack(tmp_path, tar_of([member(name)]))


def test_a_bomb_ends_at_its_bound(tmp_path: Path) -> None:
    piece = 4 * 1024 * 1024
    info = tarfile.TarInfo("piece")
    info.size = piece
    bomb = gzip.compress(b"".join([info.tobuf(), bytes(piece)] * 64), compresslevel=1)
    assert len(bomb) < piece
    with pytest.raises(CannotUnpack, match="more than 8388608 bytes"):
        unpack(tmp_path, bomb, Limits(bytes=8 * 1024 * 1024))
    assert used(tmp_path / "root") <= 8 * 1024 * 1024


def used(root: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in root.rglob("*"))


def test_a_file_that_claims_too_many_bytes_is_refused_before_it_is_written(tmp_path: Path) -> None:
    info, _ = member("bomb")
    info.size = 100 * 1024**3
    with pytest.raises(CannotUnpack, match="has 107374182400 bytes"):
        unpack(tmp_path, info.tobuf(tarfile.PAX_FORMAT) + bytes(1024 * 1024))
    assert used(tmp_path / "root") == 0


def test_a_header_bomb_costs_no_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type = tarfile.GNUTYPE_LONGNAME
    info.size = 60 * 1024 * 1024
    with pytest.raises(CannotUnpack, match=f"a header of more than {HEADER_BYTES} bytes"):
        unpack(tmp_path, info.tobuf(tarfile.GNU_FORMAT) + b"a" * (HEADER_BYTES + 65536))


def test_more_files_than_allowed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotUnpack, match="more than 10 files"):
        unpack(tmp_path, tar_of(member(str(n)) for n in range(11)), Limits(bytes=1 << 20, files=10))


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 40)
    subprocess.run(
        ["tar", "-C", tmp_path, "--sparse", "-cf", tmp_path / "layer", "sparse"], check=True
    )
    (tmp_path / "root").mkdir()
    with pytest.raises(CannotUnpack, match="unknown type"):
        unpack_layer(tmp_path / "layer", tmp_path / "root", LIMITS)


def test_a_full_disk_is_no_fault_of_the_layer(tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(tar_of([member("f", os.urandom(20 * 1024 * 1024))]))
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", root], check=True)
    try:
        with pytest.raises(NoRoom, match="bytes are free after"):
            unpack_layer(tmp_path / "layer", root, LIMITS)
    finally:
        subprocess.run(["umount", root], check=True)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(gzip.compress(tar_of([member("f", b"x" * 9999)]))[:-20], id="gzip"),
        pytest.param(tar_of([member("f", b"x" * 9999)])[:5000], id="tar"),
        pytest.param(zstd.compress(tar_of([member("f", os.urandom(9999))]))[:5000], id="zstd"),
        pytest.param(b"BZh91AY&SY", id="other"),
    ],
)
def test_a_layer_that_is_cut_off_or_no_tar_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(CannotUnpack):
        unpack(tmp_path, data)


def test_directories_deeper_than_a_path_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotUnpack, match="the bound is 4096"):
        unpack(tmp_path, tar_of([directory("a/" * 3000)]))


def test_unpacking_ends_when_it_is_no_longer_wanted(tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(tar_of([member("f")]))
    (tmp_path / "root").mkdir()
    with pytest.raises(CannotUnpack, match="no longer wanted"):
        unpack_layer(tmp_path / "layer", tmp_path / "root", LIMITS, cancelled=lambda: True)


# -- properties -----------------------------------------------------------------------------------

parts = st.sampled_from(["a", "b", "c", "..", ".", "", ".wh.a", ".wh..wh..opq", "\xff", "a" * 300])
paths = st.lists(parts, max_size=4).map("/".join) | st.just("/outside/canary")
targets = paths | st.sampled_from(["../outside", "/outside", "../../outside/canary", "a", "."])
kinds = st.sampled_from(
    [
        tarfile.REGTYPE,
        tarfile.DIRTYPE,
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.FIFOTYPE,
    ]
)
members = st.builds(
    lambda name, kind, target, numbers: member(
        name, type=kind, linkname=target, uid=numbers[0], mode=numbers[1], mtime=numbers[2]
    ),
    paths,
    kinds,
    targets,
    st.tuples(
        st.sampled_from([0, 1000, -1, 2**32]),
        st.sampled_from([0o644, 0o4755, 0]),
        st.sampled_from([0, -5, 1e30, float("inf")]),
    ),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(members, min_size=1, max_size=8))
def test_no_layer_whatever_touches_anything_outside(
    tmp_path_factory: pytest.TempPathFactory, layer: list[Member]
) -> None:
    where = tmp_path_factory.mktemp("property")
    (where / "outside").mkdir()
    (where / "outside/canary").write_bytes(b"safe")
    before = listing(where)
    try:
        data = tar_of(layer)
    except (ValueError, OverflowError, tarfile.TarError):  # no tar can say this
        return
    with contextlib.suppress(CannotUnpack):
        unpack(where, data)
    after = [row for row in listing(where) if not str(row[0]).startswith(("root", "layer"))]
    assert after == before


WHOLE = tar_of([directory("d"), member("d/f", b"x" * 700), link("l", "d"), member("n" * 150, b"y")])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_layer_is_refused_and_is_no_bug(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    where = tmp_path_factory.mktemp("damaged")
    damaged = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, 4095))
        some = data.draw(st.binary(min_size=1, max_size=12))
        damaged[at : at + len(some)] = some
    if data.draw(st.booleans()):  # a right checksum lets the damage through to what follows it
        field = sum(damaged[:148]) + sum(damaged[156:512]) + 8 * 32
        damaged[148:156] = b"%06o\0 " % field
    with contextlib.suppress(CannotUnpack):  # anything else would be a bug
        unpack(where, bytes(damaged))
    assert {path.name for path in where.iterdir()} == {"layer", "root"}
