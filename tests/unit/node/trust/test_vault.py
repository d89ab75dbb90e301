"""Opening the vault with a real TPM: what opens it, what doesn't, and that nothing is ever lost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgevirt.host.fakes.vault import FakeVault
from edgevirt.host.tpm.module import Tpm, open_tpm
from edgevirt.model.trust import ControllerVaultKey, UnlockMethod, VaultState
from edgevirt.node.trust import module_keys
from edgevirt.node.trust.sealed_keys import SealedKeys
from edgevirt.node.trust.vault import SEALING, Keeper, Outcome
from edgevirt.wire import escrow
from tests.parts.swtpm import Swtpm, swtpm

NOW = 1_800_000_000.0
OLD_IMAGE, NEW_IMAGE = hashlib.sha256(b"old").digest(), hashlib.sha256(b"new").digest()
NO_COPY = ControllerVaultKey(at=NOW)


@dataclass
class Machine:
    """`boot()` is a power cycle into an image; the disk and the TPM's memory stay."""

    directory: Path
    tpm: Swtpm
    module: Tpm | None = None
    supported: bool = True

    def boot(self, image: bytes = OLD_IMAGE, *, tpm: bool = True) -> Keeper:
        self.turn_off()
        self.tpm.restart()
        self.module = open_tpm(self.tpm.socket)
        assert self.module is not None
        self.module.extend(13, image)
        return self.keeper(tpm=tpm)

    def keeper(self, *, tpm: bool = True) -> Keeper:
        """The service starts (again)."""
        assert self.module is not None
        keys = module_keys.load_or_make(self.module, self.directory / "keys", "serial-1", NOW)
        return Keeper(
            self.vault,
            self.sealed,
            self.module if tpm else None,
            keys.agree,
            keys.device_cert,
        )

    def turn_off(self) -> None:
        if self.module is not None:
            self.module.close()
            self.module = None
        self.vault.lock()

    @property
    def vault(self) -> FakeVault:
        return FakeVault(self.directory / "vault", supported=self.supported)

    @property
    def sealed(self) -> SealedKeys:
        return SealedKeys(self.directory / "keys")

    def write(self) -> None:
        """An app's data."""
        (self.directory / "vault" / "data").write_text("dear")

    def read(self) -> str:
        return (self.directory / "vault" / "data").read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    (tmp_path / "keys").mkdir()
    with swtpm(tmp_path / "tpm") as tpm:
        machine = Machine(tmp_path, tpm)
        yield machine
        machine.turn_off()


def copy_of(keeper: Keeper) -> ControllerVaultKey:
    blob = keeper.escrow()
    assert blob
    return ControllerVaultKey(blobs=(blob,), at=NOW, escrowed=hashlib.sha256(blob).digest())


def test_a_new_machine_makes_a_vault_and_opens_it_by_itself_at_the_next_start(
    machine: Machine,
) -> None:
    first = machine.boot().open()
    assert first == Outcome(VaultState.OPEN, UnlockMethod.SEALED, sealed=True)
    machine.write()
    again = machine.boot().open()
    assert again == first
    assert machine.read() == "dear"


def test_the_copy_for_the_controller_is_the_same_at_each_start(machine: Machine) -> None:
    keeper = machine.boot()
    keeper.open()
    before = keeper.escrow()
    keeper = machine.boot()
    keeper.open()
    assert keeper.escrow() == before


def test_another_image_finds_the_vault_closed_and_says_which_registers_differ(
    machine: Machine,
) -> None:
    machine.boot().open()
    machine.write()
    keeper = machine.boot(NEW_IMAGE)
    outcome = keeper.open()
    assert (outcome.state, outcome.mismatching) == (VaultState.CLOSED, (13,))
    assert "registers 13 are not those" in outcome.why
    assert keeper.escrow() == b""


def test_after_an_update_the_controllers_copy_opens_it_and_the_next_start_is_local(
    machine: Machine,
) -> None:
    keeper = machine.boot()
    keeper.open()
    machine.write()
    word = copy_of(keeper)
    keeper = machine.boot(NEW_IMAGE)
    keeper.open()
    assert keeper.hear(word).method is UnlockMethod.CONTROLLER
    assert machine.read() == "dear"
    again = machine.boot(NEW_IMAGE).open()
    assert (again.state, again.method) == (VaultState.OPEN, UnlockMethod.SEALED)


def test_an_update_that_is_taken_back_opens_by_itself_until_another_one_is_kept(
    machine: Machine,
) -> None:
    keeper = machine.boot()
    keeper.open()
    machine.write()
    word = copy_of(keeper)
    keeper = machine.boot(NEW_IMAGE)
    keeper.open()
    keeper.hear(word)
    old = machine.boot(OLD_IMAGE)  # the update failed its test
    assert old.open().state is VaultState.OPEN
    old.settle()
    assert machine.boot(OLD_IMAGE).open().state is VaultState.OPEN

    keeper = machine.boot(NEW_IMAGE)
    keeper.open()
    keeper.hear(word)
    keeper.settle()  # this time it is kept
    assert machine.boot(NEW_IMAGE).open().state is VaultState.OPEN
    assert machine.boot(OLD_IMAGE).open().state is VaultState.CLOSED


def test_without_a_copy_a_used_vault_stays_closed_and_whole(machine: Machine) -> None:
    keeper = machine.boot()
    keeper.open()
    machine.write()
    word = copy_of(keeper)
    for _ in range(2):
        keeper = machine.boot(NEW_IMAGE)
        keeper.open()
        outcome = keeper.hear(NO_COPY)
        assert outcome.state is VaultState.ERROR
        assert "the controller keeps no copy" in outcome.why
    assert keeper.hear(word).state is VaultState.OPEN
    assert machine.read() == "dear"


def test_a_copy_that_the_controller_confirmed_ends_the_right_to_begin_anew(
    machine: Machine,
) -> None:
    keeper = machine.boot()
    keeper.open()
    keeper.hear(copy_of(keeper))
    keeper = machine.boot(NEW_IMAGE)
    keeper.open()
    assert keeper.hear(NO_COPY).state is VaultState.ERROR


def test_a_vault_that_held_nothing_is_made_anew_beside_the_old_one(machine: Machine) -> None:
    machine.boot().open()
    keeper = machine.boot(NEW_IMAGE)
    keeper.open()
    assert keeper.hear(NO_COPY).method is UnlockMethod.RECREATED
    assert (machine.directory / "vault.1").is_dir()
    machine.write()
    assert machine.boot(NEW_IMAGE).open().state is VaultState.OPEN


def test_a_marker_that_outlived_its_reason_wipes_nothing(machine: Machine) -> None:
    machine.boot().open()
    machine.write()
    assert machine.sealed.is_new
    keeper = machine.boot(NEW_IMAGE)
    keeper.open()
    assert keeper.hear(NO_COPY).state is VaultState.ERROR
    assert machine.boot(OLD_IMAGE).open().state is VaultState.OPEN
    assert machine.read() == "dear"
    assert not machine.sealed.is_new


@pytest.mark.parametrize("damage", [b"", b"garbage"])
def test_a_damaged_sealed_key_is_had_from_the_controller(machine: Machine, damage: bytes) -> None:
    keeper = machine.boot()
    keeper.open()
    machine.write()
    word = copy_of(keeper)
    (machine.directory / "keys" / "vault.sealed").write_bytes(damage)
    keeper = machine.boot()
    outcome = keeper.open()
    assert (outcome.state, outcome.mismatching) == (VaultState.CLOSED, ())
    assert "missing or damaged" in outcome.why
    assert keeper.hear(word).state is VaultState.OPEN
    assert machine.boot().open().method is UnlockMethod.SEALED


def test_copies_that_are_damaged_or_of_another_key_open_nothing(machine: Machine) -> None:
    keeper = machine.boot()
    keeper.open()
    machine.write()
    good = copy_of(keeper).blobs[0]
    other = escrow.wrap(keeper._wrapping_key(), b"o" * 32)
    keeper = machine.boot(NEW_IMAGE)
    keeper.open()
    for blob, why in (
        (good[:-1] + b"\0", "wrong key or altered block"),
        (b"garbage", "cannot use the controller's copy"),
        (other, "of another key"),
    ):
        outcome = keeper.hear(ControllerVaultKey(blobs=(blob,), at=NOW))
        assert outcome.state is VaultState.ERROR
        assert why in outcome.why
    assert keeper.hear(ControllerVaultKey(blobs=(b"garbage", good), at=NOW)).state is (
        VaultState.OPEN
    )


def test_a_service_that_starts_again_finds_the_vault_open(machine: Machine) -> None:
    keeper = machine.boot()
    keeper.open()
    machine.write()
    word = copy_of(keeper)
    assert machine.keeper().open().state is VaultState.OPEN
    assert machine.module is not None
    machine.module.extend(14, b"x" * 32)  # something was measured since
    keeper = machine.keeper()
    assert keeper.open().state is VaultState.OPEN
    assert keeper.hear(word).state is VaultState.OPEN


def test_a_machine_without_a_tpm_has_an_open_vault_that_is_not_encrypted(
    machine: Machine,
) -> None:
    outcome = machine.boot(tpm=False).open()
    assert outcome == Outcome(VaultState.DISABLED, UnlockMethod.NO_MODULE)


def test_data_from_a_time_without_a_tpm_stays_as_it_is_and_that_is_said(machine: Machine) -> None:
    machine.boot(tpm=False).open()
    machine.write()
    outcome = machine.boot().open()
    assert outcome.state is VaultState.DISABLED
    assert "holds data from a time without a TPM" in outcome.why
    assert machine.read() == "dear"


def test_an_encrypted_vault_whose_tpm_is_gone_is_not_taken_for_an_empty_one(
    machine: Machine,
) -> None:
    machine.boot().open()
    machine.write()
    keeper = machine.boot(tpm=False)
    assert keeper.open().state is VaultState.ERROR
    assert keeper.hear(NO_COPY).state is VaultState.ERROR
    assert machine.boot().open().state is VaultState.OPEN
    assert machine.read() == "dear"


def test_a_disk_without_encryption_is_used_and_that_is_said(machine: Machine) -> None:
    machine.supported = False
    outcome = machine.boot().open()
    assert outcome.state is VaultState.DISABLED
    assert "its file system has no encryption" in outcome.why


def test_a_tpm_that_fails_is_tried_again_and_nothing_is_decided_meanwhile(
    machine: Machine,
) -> None:
    keeper = machine.boot()
    keeper.open()
    machine.write()
    machine.vault.lock()
    keeper = machine.keeper()
    machine.tpm.stop()
    outcome = keeper.open()
    assert (outcome.state, outcome.again) == (VaultState.ERROR, True)
    assert "with the TPM" in outcome.why
    assert keeper.hear(NO_COPY).again
    assert machine.boot().open().state is VaultState.OPEN
    assert machine.read() == "dear"


def test_a_changed_partition_table_does_not_close_the_vault() -> None:
    """Firmware measures it into 5, and the kernel a digest of 5 and others into 10."""
    assert not {5, 10} & set(SEALING)
