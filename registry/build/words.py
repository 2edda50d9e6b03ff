"""What pip, uv, npm and git print when nobody answers, and when somebody answers that there is no such thing."""

from __future__ import annotations

import re

# pip and urllib3, uv and reqwest, npm and Node's error codes, git and curl
OFFLINE = re.compile(
    r"NewConnectionError|Failed to establish a new connection|Max retries exceeded|name resolution|Name or service not known"
    r"|Could not connect|Couldn't connect|Failed to connect|Could not resolve host|Connection refused|Connection timed out"
    r"|error sending request|dns error|tcp connect error|client error \(Connect\)"
    r"|ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN|ENETUNREACH|ECONNRESET|network (?:is unreachable|request)|unable to access",
    re.IGNORECASE,
)
MISSING = re.compile(
    r"No matching distribution|not found in the package registry|there is no version|E404|ETARGET|404 Not Found"
    r"|No versions? available|notarget|repository .* not found|not our ref|couldn't find remote ref|no such remote ref",
    re.IGNORECASE,
)
CONNECT = "connect to the network, or name a mirror (PIP_INDEX_URL, UV_INDEX_URL, npm_config_registry)"
