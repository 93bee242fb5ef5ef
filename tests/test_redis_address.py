"""Where a Redis is and who may use it: no text has the password, certificates are checked."""

from __future__ import annotations

import secrets
from contextlib import closing
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from state_stores import redis_store

from recsys.errors import ConfigurationError, StateError, StateUnavailableError
from recsys.state import EventRecord
from serving.bench.redis_process import RedisProcess, redis_process
from serving.bench.tcp_proxy import tcp_proxy
from serving.redis_url import redis_address

SECRET = "s3cret"  # noqa: S105 (not one)
EVENT = EventRecord("e1", "u1", "i1", "view", 1_001)


def test_the_password_is_in_no_text(redis_url: str) -> None:
    url = redis_url.replace("redis://", f"redis://:{SECRET}@")
    address = redis_address(url)
    assert SECRET not in f"{address} {address!r}"
    with closing(redis_store(url)) as store, pytest.raises(StateError) as refused:
        store.open()
    assert not isinstance(refused.value, StateUnavailableError)
    assert SECRET not in str(refused.value)


def test_a_server_that_quotes_the_password_is_not_quoted(redis_server: RedisProcess) -> None:
    quoting = b"-ERR unknown command 'AUTH', with args beginning with: '%s'\r\n" % SECRET.encode()
    with tcp_proxy(redis_server.port) as proxy:
        proxy.answer(quoting)
        url = f"redis://:{SECRET}@127.0.0.1:{proxy.port}"
        with closing(redis_store(url)) as store, pytest.raises(StateError) as refused:
            store.open()
    assert "unknown command" in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}/x@host:6379/0",
        f"redis://:{SECRET}#x@host",
        f"redis://:{SECRET}?x@host",
        f"redis://user:{SECRET}@",
        f"redis://:{SECRET}@host:port",
        f"redis://:{SECRET}@host/{SECRET}",
        f"redis://:{SECRET}@host?socket_timeout=9",
        f"redis://:{SECRET}@host?ssl_ca_certs=x",
        f"rediss://:{SECRET}@[host",
        f"https://:{SECRET}@host",
    ],
)
def test_an_address_that_is_none_is_not_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError, match="has the form") as refused:
        redis_address(url)
    assert SECRET not in str(refused.value)
    assert refused.value.__suppress_context__


def test_an_address_has_all_its_parts() -> None:
    found = redis_address("rediss://me:a%2Fb@cache.shop:7000/3?ssl_ca_certs=%2Fca.pem")
    assert (found.user, found.password) == ("me", "a/b")
    assert str(found) == "rediss://cache.shop:7000/3"
    assert found.authorities == Path("/ca.pem")
    assert str(redis_address("redis://[::1]")) == "redis://[::1]:6379/0"
    assert redis_address("redis://h").with_password("p").password == "p"  # noqa: S105
    assert found.with_password("p").password == "a/b"  # noqa: S105


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for this machine and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "redis")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


def test_an_encrypted_redis_has_to_prove_who_it_is(
    tmp_path: Path, redis_server: RedisProcess, certificate: tuple[Path, Path]
) -> None:
    assert redis_server  # skips where there is no Redis
    file, key = certificate
    tls = ["--tls-cert-file", str(file), "--tls-key-file", str(key), "--tls-auth-clients", "no"]
    password = secrets.token_hex()
    with redis_process(tmp_path, "--requirepass", password, *tls) as process:
        with redis.Redis(port=process.port, password=password) as client:
            port = process.port + 1
            try:
                client.config_set("tls-port", port)
            except redis.ResponseError as error:
                pytest.skip(f"this redis-server knows no TLS: {error}")
        url = f"rediss://:{password}@127.0.0.1:{port}/0"
        with closing(redis_store(url)) as store, pytest.raises(StateError) as refused:
            store.open()
        with closing(redis_store(f"{url}?ssl_ca_certs={file}")) as store:
            assert store.append_events([EVENT], 9, 0).recorded == 1
    assert "certificate that is not trusted" in str(refused.value)
    assert password not in str(refused.value)
