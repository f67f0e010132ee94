"""Only public addresses by https, however an inner one is written; the rest is allowed by name."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ModelwatchSetupError
from service.webhooks.addresses import Allowed, Destination, ForbiddenAddressError, read_url

NOTHING = Allowed()


def permits(url: str, *addresses: str, allow: str = "") -> bool:
    try:
        Allowed.read(allow).require(read_url(url), [ip_address(each) for each in addresses])
    except ForbiddenAddressError:
        return False
    return True


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255"),
        *("192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.192"),
        *("168.63.129.16", "224.0.0.1", "255.255.255.255", "240.0.0.1", "198.18.0.1"),
        *("192.0.2.1", "203.0.113.9", "192.88.99.1"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "64:ff9b::7f00:1"),
        *("64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:4136:e378::1"),
        *("2001:db8::1", "100::1", "fec0::1", "4000::1"),
    ],
)
def test_an_address_that_is_not_known_to_be_public_is_refused(address: str) -> None:
    assert not permits("https://hooks.example.com/x", address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "140.82.112.6", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_public_addresses_are_permitted(address: str) -> None:
    assert permits("https://hooks.example.com/x", address)


@given(st.ip_addresses())
def test_what_python_takes_for_private_is_never_permitted(
    address: IPv4Address | IPv6Address,
) -> None:
    if permits("https://hooks.example.com/", str(address)):
        plain = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        nat64 = address in ipaddress.ip_network("64:ff9b::/96")
        assert (plain or address).is_global or nat64
        assert not address.is_multicast


def test_one_inner_answer_among_outer_ones_refuses_them_all() -> None:
    assert not permits("https://hooks.example.com/", "8.8.8.8", "10.0.0.1")
    assert not permits("https://hooks.example.com/")


def test_without_being_allowed_only_https_on_its_port() -> None:
    assert not permits("http://hooks.example.com/", "8.8.8.8")
    assert not permits("https://hooks.example.com:8443/", "8.8.8.8")
    assert permits("https://hooks.example.com:443/", "8.8.8.8")
    assert permits("https://hooks.example.com:8443/", "8.8.8.8", allow="hooks.example.com:8443")


@pytest.mark.parametrize(
    ("allow", "url", "address", "expected"),
    [
        ("airflow.internal:8080", "http://airflow.internal:8080/", "10.0.0.5", True),
        ("airflow.internal:8080", "http://AIRFLOW.internal.:8080/", "10.0.0.5", True),
        ("airflow.internal:8080", "http://airflow.internal:22/", "10.0.0.5", False),
        ("airflow.internal:8080", "http://airflow.internal.evil.com:8080/", "10.0.0.5", False),
        ("airflow.internal", "http://airflow.internal:22/", "10.0.0.5", True),
        ("airflow.internal:*", "http://airflow.internal:22/", "::1", True),
        # The name is allowed, not whatever it can be made to answer.
        ("airflow.internal", "http://airflow.internal/", "169.254.169.254", False),
        ("airflow.internal", "http://airflow.internal/", "::ffff:169.254.169.254", False),
        ("airflow.internal", "http://airflow.internal/", "fd00:ec2::254", False),
        ("airflow.internal", "http://airflow.internal/", "0.0.0.0", False),
        ("10.0.0.0/8:8080", "http://any.example:8080/", "10.9.9.9", True),
        ("10.0.0.0/8:8080", "http://any.example:8080/", "::ffff:10.9.9.9", True),
        ("10.0.0.0/8:8080", "http://any.example:8080/", "11.9.9.9", False),
        ("[fd12::/16]:443, 10.0.0.0/8", "https://any.example/", "fd12::9", True),
        ("fd12::/16", "https://any.example/", "fd12::9", True),
        ("169.254.169.254", "http://any.example/", "169.254.169.254", True),
        ("127.0.0.1:9000", "http://127.0.0.1:9000/", "127.0.0.1", True),
        ("[::1]:9000", "http://[::1]:9000/", "::1", True),
    ],
)
def test_an_administrator_allows_names_and_networks_at_their_ports(
    allow: str, url: str, address: str, expected: bool
) -> None:
    assert permits(url, address, allow=allow) is expected


@pytest.mark.parametrize("allow", ["http://a", "a b", "10.0.0.0/33:1", "a:port", "*", "a:1:2", "@"])
def test_an_exception_that_cannot_be_read_stops_the_start(allow: str) -> None:
    with pytest.raises(ModelwatchSetupError):
        Allowed.read(allow)


@pytest.mark.parametrize(
    "url",
    [
        # The classic ways to write 127.0.0.1, and to hide who is asked.
        *("https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/", "https://127.1/"),
        *("https://0x7f.0.0.1/", "https://127.0.0.1.:443/x/127.0.0.01", "https://127.0.0.010/"),
        *("https://[::ffff:127.0.0.1", "https://[fe80::1%25eth0]/", "https://[::g]/"),
        *("https://good.example@127.0.0.1/", "https://127.0.0.1\\@good.example/"),
        *("https://good.example#@127.0.0.1/", "https://①②⑦.⓪.⓪.①/", "https://bücher.example/"),
        *("https:///x", "https://", "//good.example/", "file:///etc/passwd", "gopher://a/x"),
        *("https://good.example/\r\nX-Evil: 1", "https://good.example/a b", "https://a\t.example/"),
        *("https://good.example:0/", "https://good.example:65536/", "https://good.example:/"),
        *("https://good.example/\x00", "https://good.example?x=1", "https://-a.example/", ""),
        "https://good.example/" + "x" * 2000,
    ],
)
def test_a_url_with_more_than_one_reading_is_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"must|port"):
        read_url(url)


def test_a_url_is_taken_apart_and_shown_without_its_tokens() -> None:
    read = read_url("HTTPS://Git.Example:8443/api/v4/trigger?token=s3cret&ref=main")
    assert read == Destination(
        "https", "git.example", 8443, "/api/v4/trigger?token=s3cret&ref=main"
    )
    assert read.shown == "https://git.example:8443/api/v4/trigger?token=…&ref=…"
    assert read_url("http://[::1]").shown == "http://[::1]/"
    assert read_url("https://[::1]:9000").authority == "[::1]:9000"
    assert read_url("https://hooks.example:443").authority == "hooks.example"


@given(st.text(), st.text())
def test_no_text_breaks_the_reader(host: str, path: str) -> None:
    for url in (host, f"https://{host}/{path}", f"https://good.example/{path}"):
        try:
            read = read_url(url)
        except ValueError:
            continue
        assert read.target.isascii()
        assert not set("\r\n\t \\@") & set(read.host)
