"""What conmon and the runtime say, as people read it."""

from __future__ import annotations

from edgevirt.host.domain.monitor import _failure
from edgevirt.host.hypervisor import HypervisorError, UnfitError

LOGGED = (
    'time="2026-05-01T00:11:34Z" level=warning msg="old"\n'
    'time="2026-05-01T00:11:34Z" level=error msg="runc create failed: exec: \\"/bin/nope\\": '
    'stat /bin/nope: no such file or directory"'
)


def test_a_command_that_is_not_in_the_image_is_told_without_the_runtime_s_log_format() -> None:
    failure = _failure("create the container", LOGGED)
    assert isinstance(failure, UnfitError)
    assert str(failure) == (
        'cannot create the container: runc create failed: exec: "/bin/nope": '
        "stat /bin/nope: no such file or directory"
    )


def test_words_in_another_form_stay_as_they_are() -> None:
    failure = _failure("start the container", " cannot do that \n")
    assert not isinstance(failure, UnfitError)
    assert isinstance(failure, HypervisorError)
    assert str(failure) == "cannot start the container: cannot do that"
