"""URLs without their passwords: the only form of them that may be shown or logged."""

from __future__ import annotations

import re

#: Up to the last @, for a password that was not percent-encoded may hold any character.
_USER_INFO = re.compile(r"(?<=://)([^/@:]*):.*@")
_QUERY_PASSWORD = re.compile(r"([?&](?:sentinel_)?password=)[^&]*")


def redacted_url(url: str) -> str:
    """``url`` with ``***`` in place of its password. Takes any text, for a URL that is wrong must be shown too."""
    return _QUERY_PASSWORD.sub(r"\1***", _USER_INFO.sub(r"\1:***@", url))
