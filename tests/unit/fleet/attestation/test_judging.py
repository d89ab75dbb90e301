"""Whether a node is believed: by its policy alone, and with the reason in words where it is not."""

from __future__ import annotations

from typing import Any

import pytest

from edgevirt.fleet.attestation import judging
from edgevirt.fleet.attestation.judging import Rules, Shown, Verdict
from edgevirt.fleet.objects.base.object import ObjectMeta
from edgevirt.fleet.objects.node.edgenode import EdgeNode, EdgeNodeSpec
from edgevirt.fleet.objects.software.attestation import (
    Accepted,
    AttestationPolicy,
    AttestationPolicySpec,
    LearnFrom,
    NodeSelector,
)
from edgevirt.fleet.objects.software.os_image import OSImage, OSImageSpec
from edgevirt.wire.event_log import Event
from tests.parts.measured import SoftwareTpm, boot

IMAGE = {13: b"root image 1", 14: b"config"}
MEASURED = (4, 8, 9, 13)


def node(labels: dict[str, str] | None = None, **spec: Any) -> EdgeNode:
    meta = ObjectMeta(name="till-1", namespace="shop", labels=labels or {})
    return EdgeNode(metadata=meta, spec=EdgeNodeSpec(serial="s", **spec))


def registers(tpm: SoftwareTpm, *numbers: int) -> dict[str, tuple[str, ...]]:
    return {name: tuple(values) for name, values in tpm.hex(*numbers).items()}


GOOD = SoftwareTpm(boot(), IMAGE)
STATE = Accepted(name="os-1", registers=registers(GOOD, *MEASURED))


def policy(name: str = "all", **spec: Any) -> AttestationPolicy:
    given = {"accepted": (STATE,), **spec}
    return AttestationPolicy(
        metadata=ObjectMeta(name=name, namespace="shop"), spec=AttestationPolicySpec(**given)
    )


def shown(tpm: SoftwareTpm, **more: Any) -> Shown:
    values = {number: tpm.registers[number] for number in range(16)}
    return Shown(values, **{"events": tuple(tpm.events), **more})


def judge(tpm: SoftwareTpm, *policies: AttestationPolicy, **more: Any) -> Verdict:
    return judging.judge_quote(node(), Rules(policies), shown(tpm, **more))


def test_a_node_of_a_project_without_a_policy_is_believed_and_told_so() -> None:
    verdict = judge(GOOD)
    assert (verdict.level, verdict.granted, verdict.policy) == ("Attested", True, "")
    assert "no AttestationPolicy" in verdict.why


def test_the_accepted_state_is_accepted_and_the_rest_pinned() -> None:
    verdict = judge(GOOD, policy())
    assert (verdict.level, verdict.granted) == ("Attested", True)
    assert (verdict.policy, verdict.accepted_as) == ("all", "os-1")
    assert sorted(verdict.pins) == [0, 1, 2, 3, 7, 14]
    assert verdict.pins[7] == GOOD.registers[7]


def test_each_alternative_of_a_register_will_do() -> None:
    state = Accepted(name="a", registers={"8": ("0" * 64, GOOD.registers[8].hex())})
    assert judge(GOOD, policy(accepted=(state,))).granted


@pytest.mark.parametrize("number", [4, 8, 9, 13])
def test_each_listed_register_must_match(number: int) -> None:
    bad = SoftwareTpm(boot(), IMAGE)
    bad.extend(number, bytes(32))
    verdict = judge(bad, policy())
    assert (verdict.level, verdict.granted) == ("Untrusted", False)
    (difference,) = verdict.differences
    assert difference.register == number
    assert difference.got == bad.registers[number].hex()
    assert difference.expected == STATE.registers[str(number)]
    assert f"register {number} differs from the state os-1" in verdict.why
    assert verdict.pins == {}


def test_the_nearest_state_tells_what_differs() -> None:
    far = Accepted(name="far", registers={str(n): ("0" * 64,) for n in MEASURED})
    bad = SoftwareTpm(boot(), {**IMAGE, 13: b"tampered"})
    verdict = judge(bad, policy(accepted=(far, STATE)))
    assert [difference.register for difference in verdict.differences] == [13]


def test_a_report_lets_the_node_go_on() -> None:
    bad = SoftwareTpm(boot(), {**IMAGE, 13: b"tampered"})
    verdict = judge(bad, policy(mode="Report"))
    assert (verdict.level, verdict.granted) == ("Untrusted", True)
    assert "only reports" in verdict.why
    assert len(verdict.differences) == 1


def test_a_policy_learns_from_os_images() -> None:
    image = OSImage(
        metadata=ObjectMeta(name="one", namespace="shop"),
        spec=OSImageSpec(version="os-1", measurements=registers(GOOD, *MEASURED)),
    )
    unmeasured = OSImage(metadata=ObjectMeta(name="two", namespace="shop"))
    for learn in (LearnFrom(all=True), LearnFrom(names=("one",))):
        rules = Rules([policy(accepted=(), learn_from=learn)], [unmeasured, image])
        verdict = judging.judge_quote(node(), rules, shown(GOOD))
        assert verdict.accepted_as == "osimage/one"
    rules = Rules([policy(accepted=(), learn_from=LearnFrom(names=("two",)))], [unmeasured, image])
    verdict = judging.judge_quote(node(), rules, shown(GOOD))
    assert (verdict.granted, verdict.reason) == (False, "NothingAccepted")


# -- trust on first use --


def test_firmware_that_changed_is_refused_until_somebody_accepts_it() -> None:
    first = judge(GOOD, policy())
    changed = SoftwareTpm(boot(secure_boot=False), IMAGE)
    verdict = judge(changed, policy(), pins=first.pins, accepted=tuple(boot()))
    assert not verdict.granted
    (difference,) = verdict.differences
    assert difference.register == 7
    assert "EFI variable SecureBoot is another one" in difference.why
    assert verdict.pins == first.pins
    approved = node(trusted_registers={"7": (changed.registers[7].hex(),)})
    again = judging.judge_quote(approved, Rules([policy()]), shown(changed, pins=first.pins))
    assert again.granted
    assert again.pins[7] == changed.registers[7]


def test_what_is_not_pinned_may_change() -> None:
    first = judge(GOOD, policy())
    changed = SoftwareTpm(boot(secure_boot=False), {**IMAGE, 14: b"other config"})
    assert judge(changed, policy(pin_firmware=False, pin_config=False), pins=first.pins).granted
    config = judge(changed, policy(pin_firmware=False), pins=first.pins)
    assert [difference.register for difference in config.differences] == [14]


def test_a_listed_register_is_not_pinned() -> None:
    first = judge(GOOD, policy())
    changed = SoftwareTpm(boot(secure_boot=False), IMAGE)
    state = Accepted(name="b", registers=registers(changed, 7, *MEASURED))
    verdict = judge(changed, policy(accepted=(state,)), pins=first.pins)
    assert verdict.granted
    assert verdict.pins[7] == changed.registers[7]


# -- reasons --


def explain(tpm: SoftwareTpm, **more: Any) -> str:
    (difference,) = judge(tpm, policy(pin_firmware=False), **more).differences
    return difference.why


def test_a_difference_is_explained_as_far_as_the_log_can_be_believed() -> None:
    other = SoftwareTpm(boot(), IMAGE)
    other.extend(9, bytes(32))
    assert "another story" in explain(other)
    assert "no event log" in explain(other, events=None)
    lying = tuple(boot("2"))
    assert "another story" in explain(other, events=lying)
    events: list[Event] = boot()
    events[-1:] = boot("2")[-1:]
    updated = SoftwareTpm(events, IMAGE)
    assert "/boot/vmlinuz is another one" in explain(updated, accepted=tuple(boot()))
    assert "1 event made it, the last of /boot/vmlinuz" in explain(updated)
    unmeasured = SoftwareTpm(boot(), {14: b"config"})
    assert explain(unmeasured) == "nothing was measured into it"


def test_a_register_that_was_not_quoted_differs() -> None:
    partial = Shown({number: GOOD.registers[number] for number in (4, 8, 9)})
    verdict = judging.judge_quote(node(), Rules([policy()]), partial)
    assert verdict.differences[0].why == "it was not quoted"


# -- which policy --


def test_a_policy_that_picks_the_node_comes_before_the_default() -> None:
    strict = Accepted(name="none", registers={"0": ("0" * 64,)})
    picking = policy(
        "berlin", accepted=(strict,), node_selector=NodeSelector(match_labels={"site": "berlin"})
    )
    rules = Rules([policy(), picking])
    assert judging.judge_quote(node(), rules, shown(GOOD)).granted
    there = judging.judge_quote(node({"site": "berlin"}), rules, shown(GOOD))
    assert (there.granted, there.policy) == (False, "berlin")


def test_two_policies_for_one_node_let_nobody_in() -> None:
    verdict = judge(GOOD, policy("a"), policy("b"))
    assert (verdict.granted, verdict.reason) == (False, "Ambiguous")
    assert not judging.judge_software(node(), Rules([policy("a"), policy("b")])).granted


# -- without a security module --


def test_a_node_without_a_security_module_is_marked_or_refused() -> None:
    marked = judging.judge_software(node(), Rules([policy()]))
    assert (marked.level, marked.granted, marked.policy) == ("SoftwareKey", True, "all")
    refused = judging.judge_software(node(), Rules([policy(require_tpm=True)]))
    assert (refused.level, refused.granted) == ("Untrusted", False)
    assert judging.judge_software(node(), Rules()).granted
