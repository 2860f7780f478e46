"""The address of a server: what is had, what is refused, and where it is found."""

import re
import socket

import pytest

from mqsa_jax.errors import SettingError
from mqsa_jax.sockets import bound_socket, listen, url_of


def test_a_free_port_answers_once_it_listens():
    with bound_socket("127.0.0.1", 0) as bound:
        host, port = bound.getsockname()
        assert url_of(bound) == f"http://127.0.0.1:{port}" and port > 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, port))
        listen(bound)
        socket.create_connection((host, port)).close()


def test_ipv6_and_all_addresses():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6")
    with bound_socket("::1", 0) as bound:
        port = bound.getsockname()[1]
        assert url_of(bound) == f"http://[::1]:{port}"
        assert url_of(bound, "::") == f"http://{socket.gethostname()}:{port}"


@pytest.mark.parametrize("host", ["", "0.0.0.0", "localhost"])
def test_hosts_of_this_machine(host):
    with bound_socket(host, 0) as bound:
        listen(bound)
        socket.create_connection(("127.0.0.1", bound.getsockname()[1])).close()


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("127.0.0.1", -1, "--port must be 0 to 65535, got -1"),
        ("127.0.0.1", 65536, "--port must be 0 to 65535, got 65536"),
        ("256.1.1.1", 0, "--host 256.1.1.1: .*; name an address of this machine"),
        ("a..b", 0, "--host a..b: .*; name an address of this machine"),
        ("192.0.2.1", 0, "--port 0 of --host 192.0.2.1 cannot be had: "),
    ],
)
def test_addresses_that_cannot_be_had_are_named_by_their_flags(host, port, message):
    with pytest.raises(SettingError) as caught, bound_socket(host, port):
        pass
    assert "\n" not in caught.value.with_flags
    assert re.match(message, caught.value.with_flags)


def test_a_port_that_another_listens_at_is_refused_even_if_both_were_bound_before():
    with bound_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with (
            pytest.raises(SettingError, match=f"port {port} of host 127.0.0.1 is in use"),
            bound_socket("127.0.0.1", port) as second,
        ):
            listen(first)
            listen(second)
        listen(first)
        with (
            pytest.raises(SettingError, match=f"port {port} of host 127.0.0.1 is in use"),
            bound_socket("127.0.0.1", port),
        ):
            pass
