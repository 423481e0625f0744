"""A database's URL: the driver that is installed for it, and how it is shown without its secrets."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import quote

from automl.errors import UserError

if TYPE_CHECKING:
    from sqlalchemy import URL

# Query keys whose values are secret in one driver or another.
SECRET_WORDS = ("pass", "pw", "secret", "token", "credential")
POSTGRESQL_DRIVERS = ("psycopg", "psycopg2")  # the first one installed is taken
HIDDEN = "***"


def parse(text: str) -> URL:
    """The URL with a driver that is installed and can be waited for. Raises `UserError`, which shows no secret."""
    import sqlalchemy

    url = _url(text)
    if url is None:
        raise UserError(
            "--storage must be a database URL like postgresql://user@host:5432/name, but got something else; in a "
            "password @ is written %40, : %3A and % %25"
        )
    url = _with_driver(url)
    try:
        if (dialect := url.get_dialect()).is_async:
            raise UserError(
                f"--storage {shown(text)}: must name a driver that is not asynchronous, but got {url.drivername}; "
                f"write {url.get_backend_name()}://"
            )
        dialect.import_dbapi()
    except sqlalchemy.exc.NoSuchModuleError:
        raise UserError(
            f"--storage {shown(text)}: '{url.drivername}' is no database that is known here"
        ) from None
    except ImportError as error:
        raise UserError(f"--storage {shown(text)}: {_missing(url, error)}") from None
    return url


def _url(text: str) -> URL | None:
    """None for what is no URL, or one whose password has an @ that moved a part of it into the host."""
    import sqlalchemy

    try:
        url = sqlalchemy.engine.make_url(text)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return None
    return None if "@" in (url.host or "") else url


def _with_driver(url: URL) -> URL:
    """`postgresql://` and `postgres://` with the PostgreSQL driver that is installed."""
    if url.drivername not in ("postgresql", "postgres"):
        return url
    return url.set(drivername=f"postgresql+{(_installed() or POSTGRESQL_DRIVERS)[0]}")


def _missing(url: URL, error: ImportError) -> str:
    if (backend := url.get_backend_name()) != "postgresql":
        return f"the driver of {backend} is not installed ({error}); pip install it"
    if there := _installed():
        named = f"the driver of {url.drivername} is not installed ({error})"
        return f"{named}; {there[0]} is, which postgresql:// takes"
    return "PostgreSQL's driver is not installed; pip install 'psycopg[binary]'"


def _installed() -> list[str]:
    return [name for name in POSTGRESQL_DRIVERS if find_spec(name)]


def shown(text: str) -> str:
    """The URL without its password and the secrets of its query; of what is no URL, nothing."""
    url = _url(text)
    if url is None:
        return HIDDEN
    hidden = {key: HIDDEN if _is_secret(key) else value for key, value in url.query.items()}
    return url.set(query=hidden).render_as_string(hide_password=True).replace("%2A%2A%2A", HIDDEN)


def has_secret(text: str) -> bool:
    return HIDDEN in shown(text)


def without_secrets(message: str, url: str) -> str:
    """A message of the database's driver, in which what is secret in `url` is hidden, as written and as meant."""
    parsed = _url(url)
    if parsed is None:
        return message
    listed = [v if isinstance(v, tuple) else (v,) for key, v in parsed.query.items() if _is_secret(key)]
    for secret in filter(
        None, [str(parsed.password or ""), *(value for values in listed for value in values)]
    ):
        message = message.replace(secret, HIDDEN).replace(quote(secret, safe=""), HIDDEN)
    return message


def _is_secret(key: str) -> bool:
    return any(word in key.lower() for word in SECRET_WORDS)
