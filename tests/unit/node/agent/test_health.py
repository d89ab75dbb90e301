"""What a node tells of its hardware's health."""

from __future__ import annotations

from edgevirt.host.machine.ecc import Errors, MemoryController
from edgevirt.node.agent.metrics import health_message


def test_memory_errors_are_told_by_controller_and_rank() -> None:
    controller = MemoryController(Errors("mc0", 3, 1), (Errors("DIMM_A1", 3, 0),))
    message = health_message("node-1", 7.0, [controller])
    assert (message.dev_id, message.at_time_stamp.seconds) == ("node-1", 7)
    (told,) = message.mr.memory_controllers
    assert (told.controller_name, told.ce_count, told.ue_count) == ("mc0", 3, 1)
    assert [(r.rank_name, r.ce_count, r.ue_count) for r in told.ranks] == [("DIMM_A1", 3, 0)]


def test_a_machine_without_ecc_sends_a_report_without_errors() -> None:
    message = health_message("node-1", 7.0, [])
    assert not message.HasField("mr")
