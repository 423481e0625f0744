"""A database's URL: the driver that is installed for it, and how it is shown without its secrets."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from automl.errors import UserError

if TYPE_CHECKING:
    from sqlalchemy import URL

# Query keys whose values are secret in one driver or another.
SECRET_WORDS = ("password", "passwd", "pwd", "passfile", "secret", "token", "passphrase", "credential")
POSTGRESQL_DRIVERS = ("psycopg", "psycopg2")  # the first one installed is taken
HIDDEN = "***"


def parse(text: str) -> URL:
    """The URL with a driver that is installed. Raises `UserError`, which shows no secret."""
    import sqlalchemy

    try:
        url = sqlalchemy.engine.make_url(text)
        url = _with_driver(url)
        url.get_dialect().import_dbapi()
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise UserError(
            "--storage must be a database URL like postgresql://user@host:5432/name, but got something else; "
            "special characters of a password are written as %XX"
        ) from None
    except (sqlalchemy.exc.NoSuchModuleError, ImportError) as error:
        raise UserError(f"--storage {shown(text)}: {_missing(url.get_backend_name(), error)}") from None
    return url


def _with_driver(url: URL) -> URL:
    """`postgresql://` and `postgres://` with the PostgreSQL driver that is installed."""
    if url.drivername not in ("postgresql", "postgres"):
        return url
    installed = [name for name in POSTGRESQL_DRIVERS if find_spec(name)]
    return url.set(drivername=f"postgresql+{(installed or POSTGRESQL_DRIVERS)[0]}")


def _missing(backend: str, error: Exception) -> str:
    if backend == "postgresql":
        return "PostgreSQL's driver is not installed; pip install 'detr-automl[postgresql]'"
    return f"the driver of {backend} is not installed ({error}); pip install it"


def shown(text: str) -> str:
    """The URL without its password and the secrets of its query; of what is no URL, nothing."""
    import sqlalchemy

    try:
        url = sqlalchemy.engine.make_url(text)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return HIDDEN
    hidden = {key: HIDDEN if _is_secret(key) else value for key, value in url.query.items()}
    return url.set(query=hidden).render_as_string(hide_password=True).replace("%2A%2A%2A", HIDDEN)


def has_secret(text: str) -> bool:
    return HIDDEN in shown(text)


def without_secrets(message: str, url: str) -> str:
    """A message of the database's driver, in which what is secret in `url` is hidden, as written and as meant."""
    import sqlalchemy

    parsed = sqlalchemy.engine.make_url(url)
    values = [value for key, value in parsed.query.items() if _is_secret(key)]
    secrets = [
        parsed.password,
        *(v for value in values for v in (value if isinstance(value, tuple) else [value])),
    ]
    for secret in filter(None, map(str, filter(None, secrets))):
        message = message.replace(secret, HIDDEN)
    return message


def _is_secret(key: str) -> bool:
    return any(word in key.lower() for word in SECRET_WORDS)
