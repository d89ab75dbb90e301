"""Threads that are the first to read a record do not bring their process down."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import hashlib, importlib, sys, tempfile, threading
from pathlib import Path
from edgevirt.host.content import store as content

sys.setswitchinterval(1e-6)
top = Path(tempfile.mkdtemp())
name = hashlib.sha256(b"x").hexdigest()
for _ in range(60):
    importlib.reload(content)  # its types are new, as in a process that was just started
    store = content.ContentStore(top / "blobs", top / "layers", top / "downloads", "boot")
    store.begin()
    (top / "blobs" / name).write_bytes(b"x")
    layer = {"diff_id": "d", "bytes": 1, "tally": [1, 1]}
    record = content.Record(size=1, layer=content.LayerRecord(**layer))
    (top / "blobs" / f"{name}.json").write_bytes(content.msgspec.json.encode(record))
    begin, found = threading.Barrier(4), []
    def ensure():
        begin.wait()
        found.append(store.ensure(f"sha256:{name}", lambda: False))
    threads = [threading.Thread(target=ensure) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1, 1, 1, 1], found
"""


def test_blobs_are_looked_at_in_several_threads_from_the_start() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
