"""What comes after what in an attestation, whatever happens."""

from __future__ import annotations

import itertools

import pytest

from edgevirt.node.agent.attest_steps import BELIEVED, Event, Known, Step, after

SOFTWARE = Known()
TPM = Known(module=True)
TPM_AND_KEY = Known(module=True, key=True)
CLOSED = Known(module=True, vault_waits=True)


def way(known: Known, start: Step = Step.CERTIFICATES, length: int = 8) -> list[Step]:
    """The steps when each goes well."""
    steps = [start]
    while len(steps) < length and steps[-1] not in BELIEVED:
        steps.append(after(steps[-1], Event.DONE, known))
    return steps


def test_a_machine_without_a_module_attests_without_a_quote() -> None:
    assert way(SOFTWARE) == [Step.CERTIFICATES, Step.NONCE, Step.ATTEST, Step.COMPLETE]


def test_a_machine_with_one_quotes_and_leaves_the_key_of_its_vault() -> None:
    assert way(TPM) == [Step.CERTIFICATES, Step.NONCE, Step.QUOTE, Step.ATTEST, Step.COMPLETE]
    assert way(TPM_AND_KEY)[-2:] == [Step.ATTEST, Step.ESCROW]
    assert after(Step.ESCROW, Event.DONE, TPM) is Step.COMPLETE


def test_a_closed_vault_keeps_nothing_else_waiting() -> None:
    """It has its token, and goes on when the controller's copy has opened the vault."""
    assert way(CLOSED)[-1] is Step.OWN_KEY
    assert Step.OWN_KEY in BELIEVED
    assert after(Step.OWN_KEY, Event.NEWS, CLOSED) is Step.OWN_KEY
    assert after(Step.OWN_KEY, Event.NEWS, TPM_AND_KEY) is Step.ESCROW
    assert after(Step.OWN_KEY, Event.NEWS, TPM) is Step.COMPLETE


def test_a_new_key_is_left_with_the_controller_later_too() -> None:
    assert after(Step.COMPLETE, Event.NEWS, TPM_AND_KEY) is Step.ESCROW


@pytest.mark.parametrize("step", Step)
def test_any_failure_pauses_and_then_begins_anew(step: Step) -> None:
    assert after(step, Event.FAILED, TPM_AND_KEY) is Step.RESTART
    assert after(Step.RESTART, Event.DONE, TPM_AND_KEY) is Step.CERTIFICATES


@pytest.mark.parametrize("step", Step)
def test_a_controller_that_asks_again_is_obeyed_unless_one_is_under_way(step: Step) -> None:
    expected = Step.CERTIFICATES if step in BELIEVED else step
    assert after(step, Event.ASKED, TPM) is expected


@pytest.mark.parametrize("step", [step for step in Step if step not in BELIEVED])
def test_news_do_not_disturb_an_attestation_under_way(step: Step) -> None:
    assert after(step, Event.NEWS, TPM_AND_KEY) is step


def test_nobody_is_believed_without_a_quote_who_could_have_one() -> None:
    for step, event in itertools.product(Step, Event):
        if after(step, event, TPM) is Step.ATTEST:
            assert (step, event) in {
                (Step.QUOTE, Event.DONE),
                (Step.ATTEST, Event.ASKED),
                (Step.ATTEST, Event.NEWS),
            }
