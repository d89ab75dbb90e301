"""The ports service under its supervisor and with its row's rights, as on a booted node: in a file
system of its own, but in the network of who starts it. `speaking_agent` is in the agent's place."""

from __future__ import annotations

import sys
from pathlib import Path

from msgspec.structs import replace

from edgevirt.host.rights.namespace import Namespaces, isolate_mounts, unshare
from edgevirt.host.stage import HOME, running_programs, set_stage
from edgevirt.node.given import write_config
from edgevirt.node.paths import Paths
from edgevirt.node.service import Settings
from edgevirt.node.services import row_of
from edgevirt.node.supervisor.start import supervise
from edgevirt.node.supervisor.supervisor import Options

if __name__ == "__main__":
    state, cgroup = Path(sys.argv[1]), sys.argv[2]
    config = {path.name: path.read_bytes() for path in (state / "config").iterdir()}
    (state / "persist").mkdir()
    unshare(Namespaces.MOUNT)
    isolate_mounts()
    set_stage(state / "persist", running_programs())
    paths = Paths(config=HOME / "config", persist=HOME / "persist", run=HOME / "run")
    write_config(config, paths.config)
    settings = Settings(serial="S-1", cgroup=cgroup, host_mode=False)
    agent = replace(row_of("agent"), module="speaking_agent")
    rows = [row_of("supervisor"), row_of("ports"), agent]
    sys.exit(supervise(paths, settings, Options(fresh=True), rows))
