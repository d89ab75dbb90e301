"""cloud-init's NoCloud seed: a disk labelled `cidata` that tells a guest what to become.

https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html
"""

from __future__ import annotations

from io import BytesIO

import msgspec

from edgevirt.host.hypervisor import UnfitError

MOST_USER_DATA = 1 << 20
"""Bytes."""


def make_seed(instance: str, hostname: str, user_data: bytes) -> bytes:
    """An ISO 9660 image. cloud-init applies it again when `instance` is another one.

    Raises UnfitError.
    """
    from pycdlib import PyCdlib  # only nodes with such apps pay

    if len(user_data) > MOST_USER_DATA:
        raise UnfitError(f"cannot use user data of {len(user_data)} bytes: {MOST_USER_DATA} fit")
    # JSON is YAML
    meta_data = msgspec.json.encode({"instance-id": instance, "local-hostname": hostname})
    made = PyCdlib()
    made.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="cidata")
    for name, short, content in (
        ("user-data", "USERDATA", user_data),
        ("meta-data", "METADATA", meta_data),
    ):
        made.add_fp(
            BytesIO(content),
            len(content),
            f"/{short}.;1",
            rr_name=name,
            joliet_path=f"/{name}",
        )
    image = BytesIO()
    made.write_fp(image)
    made.close()
    return image.getvalue()
