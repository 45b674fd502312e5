"""Addresses of databases and servers, whose passwords no message may show."""

import re
from urllib.parse import quote, unquote_to_bytes


def encode_password(address: str) -> str:
    """Return an address with user and password percent-encoded, so that every library finds the same host in it.

    People type passwords with `/`, `@`, `:` and `%` as they are, and libraries take parts of them for host or port.
    The password ends at the last `@`; a `%` that begins an escape, such as `%2F`, stays.
    """
    parts = re.fullmatch(r"([\w+.-]+)://([^:/]*):(.*)@([^@]*)", address, re.DOTALL)
    if parts is None or parts[1].startswith(("sqlite", "file")):  # which have no password
        return address
    user, password = (quote(unquote_to_bytes(part), safe="") for part in parts.group(2, 3))
    return f"{parts[1]}://{user}:{password}@{parts[4]}"


def use_installed_driver(address: str) -> str:
    """Return an address in which a PostgreSQL driver, such as psycopg2, is replaced by the one that is installed."""
    return re.sub(r"^postgresql(\+\w+)?:", "postgresql+psycopg:", address)


def hide_password(text: str) -> str:
    """Replace user and password in all addresses of a text by `***`, also in those that were cut (`...`).

    A password may have blanks, so that all up to the last `@` of a line may belong to it.
    """
    with_password, other = r"[^\s/:@]*:(?:.*(?=@)|.*?(?=\.\.\.))", r"\S*(?=@|\.\.\.)"
    text = re.sub(rf"(?<!sqlite)(?<!file)://(?!\.\.\.)(?:{with_password}|{other})", "://***", text)
    return re.sub(r"([?&]\w*password=)[^&\s'\")]*", r"\1***", text)
