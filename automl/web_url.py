"""The address of data on the web or in a bucket, as it may be shown: without what lets others in."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

HIDDEN = "***"


def shown(text: str) -> str:
    """The URL with user, password and query hidden: signatures and tokens stand there. A path as it is."""
    if "://" not in text:
        return text
    try:
        parts = urlsplit(text)
    except ValueError:  # no URL, and who knows what is in it
        return HIDDEN
    _, at, host = parts.netloc.rpartition("@")
    query = HIDDEN if parts.query else ""
    return urlunsplit((parts.scheme, f"{HIDDEN}{at}{host}" if at else host, parts.path, query, ""))


def has_secret(text: str) -> bool:
    """Whether something of it is to be hidden, which is not so already."""
    return shown(text) != text
