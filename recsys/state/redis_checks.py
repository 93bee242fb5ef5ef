"""Whether a Redis keeps what it has acknowledged, and how its events name shoppers."""

from __future__ import annotations

from typing import Final

import redis

from recsys.state import redis_scripts as lua

DURABLE: Final = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
}
"""Settings of a Redis that answers a command only when what it has done is on disk."""


def shortcomings(client: redis.Redis) -> list[str]:
    """In which ways the Redis may lose what it has acknowledged."""
    client.ping()  # what keeps us out is told as that, not as settings that can't be read
    try:
        found = {**client.config_get("*append*"), **client.config_get("maxmemory*")}
    except redis.ResponseError:
        return ["its settings can't be read (CONFIG GET)"]
    lacking = [
        f"{name} is {found.get(name)!r}, not {wanted!r}"
        for name, wanted in DURABLE.items()
        if found.get(name) != wanted
    ]
    policy = str(found.get("maxmemory-policy"))
    if found.get("maxmemory") != "0" and policy.startswith("allkeys"):
        lacking.append(f"maxmemory-policy is {policy!r}, not 'noeviction'")
    return lacking


def named(client: redis.Redis, identity: str, key: str) -> str:
    """By which key events name shoppers ("" for none): by this one, if there are none yet."""
    script = client.register_script(lua.NAME)
    return str(script([lua.META, lua.EVENTS], [identity, key]))
