import pytest

from mammoscope.network import CallerRules


@pytest.mark.parametrize(
    ("networks", "address", "allowed"),
    [
        ((), "203.0.113.9", True),
        (("10.0.0.7",), "10.0.0.7", True),
        (("10.0.0.7",), "10.0.0.8", False),
        (("10.0.0.0/24", "192.168.1.0/30"), "192.168.1.3", True),
        (("10.0.0.0/24", "192.168.1.0/30"), "192.168.1.4", False),
        (("10.0.0.0/24",), "::ffff:10.0.0.5", True),
        (("10.0.0.0/24",), "::1", False),
        (("fe80::/10",), "fe80::1%eth0", True),
    ],
)
def test_addresses(networks: tuple[str, ...], address: str, allowed: bool) -> None:
    assert CallerRules(networks=networks).may_connect(address) is allowed
