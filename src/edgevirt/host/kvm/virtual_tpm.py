"""A TPM of a virtual machine's own: swtpm plays it, in the cell of its QEMU.

Its state is a directory in the vault, the app's as long as there is the app. swtpm ends when QEMU
does, as the line between both ends.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from edgevirt.host.hypervisor import UnfitError
from edgevirt.host.rights.cell import Companion, OpenFile

PROGRAM: Final = "swtpm"
LINE: Final = 18
"""The descriptor of QEMU's end."""
_OWN: Final = 10
_STATE: Final = 11


def words() -> list[str]:
    """What QEMU is told. A TIS is what systems without CRB know; all know a CRB by now."""
    return [
        *("-chardev", f"socket,id=tpm,fd={LINE}"),
        *("-tpmdev", "emulator,id=tpm0,chardev=tpm"),
        *("-device", "tpm-crb,tpmdev=tpm0"),
    ]


def companion(state: Path, uid: int) -> Companion:
    """`state`: made where it is missing, and given to `uid`. Raises UnfitError, OSError."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise UnfitError(f"cannot run: this node has no {PROGRAM} to make a TPM with")
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in (state, *state.iterdir()):
        os.chown(path, uid, uid, follow_symlinks=False)
    # by its descriptor: nobody but root passes the directories above
    place = f"/proc/self/fd/{_STATE}"
    command = (
        *(program, "socket", "--tpm2", "--terminate"),
        *("--tpmstate", f"dir={place},mode=0600"),
        *("--ctrl", f"type=unixio,clientfd={_OWN}"),
        *("--seccomp", "action=kill"),
    )
    return Companion(
        command, theirs=LINE, ours=_OWN, files=(OpenFile(_STATE, str(state)),), writes=(place,)
    )
