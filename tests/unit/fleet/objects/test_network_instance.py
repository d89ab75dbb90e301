from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from edgevirt.fleet.objects.network_instance import DhcpRange, fill_addressing


@given(
    st.integers(min_value=8, max_value=29),
    st.integers(min_value=0, max_value=2**32 - 1),
    st.integers(min_value=0),
)
def test_the_gateway_is_never_among_the_addresses_given_out(
    prefix: int, address: int, which: int
) -> None:
    subnet = ipaddress.IPv4Network((address, prefix), strict=False)
    gateway = subnet.network_address + 1 + which % (subnet.num_addresses - 2)
    for chosen in ("", str(gateway)):
        plan = fill_addressing(subnet, chosen, None)
        hosts = (subnet.network_address + 1, subnet.broadcast_address - 1)
        assert hosts[0] <= plan.first <= plan.last <= hosts[1]
        assert not plan.first <= plan.gateway <= plan.last
        assert int(plan.last) - int(plan.first) + 1 >= (subnet.num_addresses - 3) / 2


def test_a_given_range_is_kept() -> None:
    subnet = ipaddress.IPv4Network("10.1.0.0/24")
    plan = fill_addressing(subnet, "", DhcpRange(first="10.1.0.50", last="10.1.0.60"))
    assert (str(plan.gateway), str(plan.first), str(plan.last)) == (
        "10.1.0.1",
        "10.1.0.50",
        "10.1.0.60",
    )
