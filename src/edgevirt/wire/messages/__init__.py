"""The EVE API's messages under short names: one module for each of its packages.

`from edgevirt.wire.messages import auth, config` loads these two and what they build on, no more.
Importing any of them fails at once where protobuf has no upb back end: the pure Python one is two
hundred times slower, which is better learnt at start-up than under load. So it is left out, with
all that it imports.
"""

from google.protobuf.internal import api_implementation

from edgevirt.runtime.imports import without

if api_implementation.Type() != "upb":
    raise ImportError(
        f"cannot use protobuf's {api_implementation.Type()!r} back end: upb is needed, "
        "install a binary wheel of protobuf and unset PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"
    )

with without("google.protobuf.internal.python_message"):
    from google.protobuf.internal import builder as builder
