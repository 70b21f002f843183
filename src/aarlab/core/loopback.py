"""Which hosts are this machine, so that nothing on the way can read what is sent."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether a host of a URL is this machine, by its address or as `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
