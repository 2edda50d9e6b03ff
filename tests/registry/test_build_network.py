"""CA bundles, proxies and index addresses are found, and told to builds in a form that nothing records."""

from __future__ import annotations

from pathlib import Path

from registry.build.network import BuildNetwork, detect

ONE = b"-----BEGIN CERTIFICATE-----\nQUhPWQ==\n-----END CERTIFICATE-----\n"
TWO = b"-----BEGIN CERTIFICATE-----\nQVJHTw==\n-----END CERTIFICATE-----\n"


def test_every_named_bundle_and_the_systems_are_joined_without_repeats(tmp_path: Path) -> None:
    (tmp_path / "one.pem").write_bytes(b"comment\n" + ONE)
    (tmp_path / "both.pem").write_bytes(ONE + TWO)
    environ = {"SSL_CERT_FILE": str(tmp_path / "one.pem"), "PIP_CERT": str(tmp_path / "absent.pem")}

    network = detect(environ, system_bundles=(str(tmp_path / "both.pem"),))

    assert network.ca_bundle == ONE + TWO


def test_a_private_key_in_a_bundle_file_is_not_taken_along(tmp_path: Path) -> None:
    (tmp_path / "mixed.pem").write_bytes(ONE + b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")

    network = detect({"PIP_CERT": str(tmp_path / "mixed.pem")}, system_bundles=())

    assert network.ca_bundle == ONE


def test_only_named_variables_are_passed_on() -> None:
    environ = {
        "HTTPS_PROXY": "http://proxy:3128",
        "PIP_INDEX_URL": "https://mirror/simple",
        "AWS_SECRET_ACCESS_KEY": "x",
    }

    network = detect(environ, system_bundles=())

    assert network.variables == {"HTTPS_PROXY": "http://proxy:3128", "PIP_INDEX_URL": "https://mirror/simple"}


def test_values_cannot_break_out_of_the_shell_lines() -> None:
    lines = BuildNetwork(variables={"PIP_INDEX_URL": "https://x/'; touch /pwned; '"}).shell("/ca.pem")

    assert lines == b"export PIP_INDEX_URL='https://x/'\"'\"'; touch /pwned; '\"'\"''\n"


def test_a_proxy_cannot_break_out_of_apts_configuration() -> None:
    assert BuildNetwork(variables={"http_proxy": 'http://x"; Dir::Etc "/y'}).apt_conf("/ca.pem") == b""


def test_pip_npm_node_and_openssl_are_all_told_where_the_bundle_is() -> None:
    lines = BuildNetwork(ca_bundle=ONE).shell("/tmp/in/ca.pem").decode().splitlines()

    names = {line.removeprefix("export ").partition("=")[0] for line in lines}
    assert names >= {"PIP_CERT", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "npm_config_cafile", "REQUESTS_CA_BUNDLE"}
    assert BuildNetwork(ca_bundle=ONE).apt_conf("/ca.pem") == b'Acquire::https::CAInfo "/ca.pem";\n'
