"""Addresses that strangers write: which of them a browser or a gateway may be told to visit.

Nothing here opens a connection.  Icons and pages are stored as text and shown as links; a remote server's address is
checked again, name resolution included, by whoever connects.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

MAX_URL_CHARS = 2048
_HOST = re.compile(
    r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.?", re.IGNORECASE
)
_LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".home.arpa", ".intranet", ".corp", ".onion")
_RULE = re.compile(r"(?P<host>\*|(?:\*\.)?[A-Za-z0-9._-]+):(?P<port>\d{1,5}|\*)(?:/(?:tcp|http|https))?")


def refusal(url: str) -> str:
    """Why ``url`` is no public https address; empty when it is one."""
    if len(url) > MAX_URL_CHARS:
        return f"is longer than {MAX_URL_CHARS} characters"
    if not url.isascii() or any(c.isspace() or c in "\"'<>\\^`{|}" for c in url):
        return "holds characters that an address does not have"
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port
    except ValueError:
        return "is not a web address"
    if parts.scheme != "https":
        return f"is not https ({parts.scheme or 'no scheme'})"
    if parts.username or parts.password:
        return "carries a user name or password"
    if port == 0:
        return "names port 0"
    return host_refusal(host)


def host_refusal(host: str) -> str:
    """Why ``host`` is no public name; any IP address is refused: public services have names."""
    if not host:
        return "names no host"
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        pass
    else:
        return "names an IP address instead of a host"
    name = host.lower().rstrip(".")
    if not _HOST.fullmatch(host) or name.rpartition(".")[2].isdigit():
        return "does not name a host"
    if "." not in name or name == "localhost" or name.endswith(_LOCAL_SUFFIXES):
        return "names a host of a private network"
    return ""


def host_rule_refusal(rule: str) -> str:
    """Why ``rule`` is no ``host:port``, ``host:port/tcp`` or ``*.suffix:port`` of an entry's hosts."""
    match = _RULE.fullmatch(rule)
    if not match:
        return "is not host:port"
    if match["host"] == "*":
        return "allows every host"
    if match["port"] == "*" or not 1 <= int(match["port"]) <= 65535:
        return "names no single port"
    suffix = match["host"].removeprefix("*.")
    if match["host"].startswith("*.") and suffix.count(".") == 0:
        return "allows a whole top-level domain"
    return ""


def publisher_of(url: str) -> str:
    """Who stands behind an address: the owner on a code forge, else the host's last two labels."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    host = (parts.hostname or "").lower()
    if host in ("github.com", "gitlab.com", "bitbucket.org", "codeberg.org"):
        return parts.path.strip("/").partition("/")[0]
    labels = host.split(".")
    if len(labels) > 3 and len(labels[-1]) == 2 and len(labels[-2]) <= 3:
        return ".".join(labels[-3:])
    return ".".join(labels[-2:])
