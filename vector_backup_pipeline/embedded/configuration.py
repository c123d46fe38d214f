"""The embedded server's settings as lines of postgresql.conf."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from vector_backup_pipeline.embedded.cluster import LOOPBACK, Cluster, EmbeddedServerError

SettingValue = str | int | float | bool

# Without TCP nothing listens on it; it is only the suffix of the socket's name.
DEFAULT_PORT: Final = 5432


def render_settings(
    cluster: Cluster, settings: Mapping[str, SettingValue], tcp_port: int | None
) -> str:
    everything: dict[str, SettingValue] = {
        "listen_addresses": LOOPBACK if tcp_port else "",
        "port": tcp_port or DEFAULT_PORT,
        "unix_socket_directories": str(cluster.socket_directory()),
        "logging_collector": False,
        **settings,
    }
    return "".join(f"{_setting_name(k)} = {_setting_value(v)}\n" for k, v in everything.items())


def _setting_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$.]*", name):
        raise EmbeddedServerError(f"{name!r} is no setting's name.")
    return name


def _setting_value(value: SettingValue) -> str:
    text = ("on" if value else "off") if isinstance(value, bool) else str(value)
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
