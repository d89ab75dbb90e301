"""Who must have signed a content tree, in what the EVE API has for it.

`SignatureInfo.signercerturl` is where the signer's certificate is. A `data:` URL (RFC 2397) holds
it itself: here public keys in PEM, one of which must have signed. A URL of another scheme is
nobody's policy here and is left as it is.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from edgevirt.wire.convert.rest import forget
from edgevirt.wire.messages import config

PREFIX: Final = "data:application/x-pem-file;base64,"
MAX_URL: Final = 64 * 1024
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]+-----[^-]+-----END [A-Z0-9 ]+-----\n?", re.ASCII)


def signers(message: config.ContentTree) -> tuple[str, ...]:
    """Keys in PEM. A list that cannot be read is one key that proves nothing: it must not come to
    mean that nobody has to sign.
    """
    url = message.siginfo.signercerturl
    if not url.startswith("data:"):
        return ()
    if not url.startswith(PREFIX) or len(url) > MAX_URL:
        return (url[:200],)
    try:
        text = base64.b64decode(url.removeprefix(PREFIX), validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return (url[:200],)
    keys = tuple(block if block.endswith("\n") else f"{block}\n" for block in _PEM.findall(text))
    return keys or (url[:200],)


def take_signers(rest: config.ContentTree) -> None:
    """Out of the rest what `signers` holds."""
    if rest.siginfo.signercerturl.startswith("data:"):
        forget(rest, ("siginfo",), ("signercerturl",))


def fill_signers(message: config.ContentTree, keys: tuple[str, ...]) -> None:
    if not keys:
        return
    if all(key.startswith("data:") for key in keys):  # one that could not be read
        message.siginfo.signercerturl = keys[0]
        return
    text = "".join(key if key.endswith("\n") else f"{key}\n" for key in keys)
    message.siginfo.signercerturl = PREFIX + base64.b64encode(text.encode("ascii")).decode()
