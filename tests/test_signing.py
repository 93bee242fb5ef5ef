"""With a public key only signed bundles are trusted, and an older one only by signed order."""

from __future__ import annotations

import json
import shutil
from errno import ENOSPC
from pathlib import Path

import publisher
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from recsys.bundle import PublicKey, Registry, SigningKey
from recsys.bundle.signing import RollbackOrder
from recsys.errors import (
    BundleCorruptError,
    BundleDiskError,
    BundleSignatureError,
    ConfigurationError,
)
from serving.cli.main import main


def write_keys(folder: Path) -> tuple[Path, Path]:
    """Files of a new signing key and of its public key, as openssl writes them."""
    key = Ed25519PrivateKey.generate()
    folder.mkdir(exist_ok=True)
    private, public = folder / "signing.pem", folder / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    private.chmod(0o600)
    info = PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, info))
    return private, public


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path / "keys")


@pytest.fixture
def signer(tmp_path: Path, keys: tuple[Path, Path]) -> Registry:
    """A registry of three signed bundles, opened with the signing key."""
    registry = Registry(tmp_path / "registry", signing_key=SigningKey.read(keys[0]))
    for seed in (1, 2, 3):
        publish(registry, seed)
    return registry


@pytest.fixture
def reader(signer: Registry, keys: tuple[Path, Path]) -> Registry:
    """The same registry as a server sees it."""
    return Registry(signer.root, public_key=PublicKey.read(keys[1]))


def publish(registry: Registry, seed: int) -> str:
    with registry.stage() as staged:
        publisher.build(staged, seed)
        return registry.publish(staged, publisher.describe(seed))


def test_a_signed_bundle_is_trusted_with_and_without_a_key(reader: Registry) -> None:
    assert reader.current() == "v000003"
    assert reader.verify("v000003") == Registry(reader.root).verify("v000003")


def test_an_unsigned_bundle_is_refused_and_signing_it_helps(
    signer: Registry, reader: Registry
) -> None:
    publisher.publish(signer.root, 4)
    with pytest.raises(BundleSignatureError, match=r"MANIFEST.sig is missing"):
        reader.verify("v000004")
    signer.sign("v000004")
    assert reader.verify("v000004").seed == 4


def test_another_key_s_signature_is_refused(reader: Registry, tmp_path: Path) -> None:
    stranger = SigningKey.read(write_keys(tmp_path / "others")[0])
    Registry(reader.root, signing_key=stranger).sign("v000003")
    with pytest.raises(BundleSignatureError, match="by the key that is trusted"):
        reader.verify("v000003")


@pytest.mark.parametrize("content", ["", "0" * 128, "not hexadecimal", "\xff\xfe", "ab" * 64])
def test_a_damaged_signature_is_refused(reader: Registry, content: str) -> None:
    path = reader.folder("v000003") / "MANIFEST.sig"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(BundleSignatureError):
        reader.verify("v000003")


def test_a_signature_of_another_bundle_is_refused(reader: Registry) -> None:
    ours, theirs = (reader.folder(v) / "MANIFEST.sig" for v in ("v000003", "v000002"))
    ours.write_bytes(theirs.read_bytes())
    with pytest.raises(BundleSignatureError):
        reader.verify("v000003")


def test_a_signature_behind_a_link_is_refused(reader: Registry) -> None:
    path = reader.folder("v000003") / "MANIFEST.sig"
    path.rename(reader.root / "elsewhere")
    path.symlink_to(reader.root / "elsewhere")
    with pytest.raises(BundleSignatureError):
        reader.verify("v000003")


def test_a_manifest_made_anew_for_altered_files_is_refused(reader: Registry) -> None:
    folder = reader.folder("v000003")
    signature = (folder / "MANIFEST.sig").read_bytes()
    forged = Registry(reader.root.parent / "forged")
    for seed in (8, 8, 9):
        publish(forged, seed)
    publish(forged, 10)
    shutil.rmtree(folder)
    shutil.copytree(forged.folder("v000003"), folder)
    assert Registry(reader.root).verify("v000003").seed == 10
    (folder / "MANIFEST.sig").write_bytes(signature)
    with pytest.raises(BundleSignatureError):
        reader.verify("v000003")


def test_an_older_bundle_put_back_without_an_order_is_a_replay(reader: Registry) -> None:
    (reader.root / "CURRENT").write_text("v000001\n")
    with pytest.raises(BundleSignatureError, match="v000003 is newer and no signed order"):
        reader.current()


def test_hiding_newer_bundles_does_not_hide_a_replay_from_who_has_seen_them(
    reader: Registry,
) -> None:
    for version in ("v000002", "v000003"):
        shutil.rmtree(reader.folder(version))
    (reader.root / "CURRENT").write_text("v000001\n")
    with pytest.raises(BundleSignatureError, match="v000003 is newer"):
        reader.current(seen="v000003")


def test_an_unsigned_newer_bundle_does_not_keep_a_signed_one_from_serving(
    signer: Registry, reader: Registry
) -> None:
    publisher.publish(signer.root, 4)
    (reader.root / "CURRENT").write_text("v000003\n")
    assert reader.current() == "v000003"


def test_going_back_by_signed_order_is_trusted_until_the_next_publication(
    signer: Registry, reader: Registry
) -> None:
    assert signer.rollback() == "v000002"
    assert reader.current() == reader.current(seen="v000003") == "v000002"
    (reader.root / "CURRENT").write_text("v000001\n")
    with pytest.raises(BundleSignatureError):
        reader.current()
    assert publish(signer, 4) == "v000004"
    (reader.root / "CURRENT").write_text("v000002\n")
    with pytest.raises(BundleSignatureError, match="v000004 is newer"):
        reader.current()


def test_an_order_for_another_version_or_by_another_key_counts_for_nothing(
    signer: Registry, reader: Registry, tmp_path: Path
) -> None:
    signer.activate("v000002")
    path = reader.root / "ROLLBACK.json"
    order = json.loads(path.read_text())
    path.write_text(json.dumps(order | {"serve": "v000001"}))
    (reader.root / "CURRENT").write_text("v000001\n")
    with pytest.raises(BundleSignatureError):
        reader.current()
    stranger = SigningKey.read(write_keys(tmp_path / "others")[0])
    RollbackOrder.give("v000003", "v000001", stranger).write(reader.root)
    with pytest.raises(BundleSignatureError):
        reader.current()
    path.write_text("{")
    with pytest.raises(BundleSignatureError):
        reader.current()


def test_an_older_bundle_that_is_unsigned_is_not_activated_with_a_key(signer: Registry) -> None:
    (signer.folder("v000002") / "MANIFEST.sig").unlink()
    with pytest.raises(BundleSignatureError):
        signer.rollback()
    assert Registry(signer.root).current() == "v000003"


def test_publishing_unsigned_content_with_a_key_adds_a_signed_bundle(
    signer: Registry, reader: Registry
) -> None:
    publisher.publish(signer.root, 4)
    assert publish(signer, 4) == "v000005"
    assert reader.verify(reader.current()).seed == 4


def test_a_staged_signature_is_not_published(signer: Registry) -> None:
    plain = Registry(signer.root)
    with plain.stage() as staged:
        publisher.build(staged, 4)
        (staged / "MANIFEST.sig").write_text("0" * 128)
        version = plain.publish(staged, publisher.describe(4))
    assert not (plain.folder(version) / "MANIFEST.sig").exists()


def test_a_damaged_bundle_is_not_signed(signer: Registry) -> None:
    (signer.folder("v000002") / "ranker.txt").write_text("tree\n")
    with pytest.raises(BundleCorruptError, match=r"ranker\.txt"):
        signer.sign("v000002")


def test_signing_that_is_cut_short_leaves_the_bundle_whole(
    signer: Registry, reader: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    (signer.folder("v000002") / "MANIFEST.sig").unlink()

    def refused(_: Path, target: Path) -> Path:
        raise OSError(ENOSPC, "No space left on device", str(target))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refused)
        with pytest.raises(BundleDiskError, match="No space left"):
            signer.sign("v000002")
    assert Registry(signer.root).verify("v000002")
    signer.sign("v000002")
    assert reader.verify("v000002")


def test_what_is_no_ed25519_key_is_refused_with_the_command_to_make_one(
    tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    other = tmp_path / "other.pem"
    key = generate_private_key(SECP256R1())
    other.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for path in (tmp_path / "none.pem", keys[1], other):
        with pytest.raises(ConfigurationError, match="openssl genpkey"):
            SigningKey.read(path)
    for path in (tmp_path / "none.pem", keys[0], other):
        with pytest.raises(ConfigurationError, match="openssl pkey"):
            PublicKey.read(path)


def test_a_signing_key_that_others_may_read_is_refused(keys: tuple[Path, Path]) -> None:
    keys[0].chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        SigningKey.read(keys[0])


def test_the_commands_sign_and_order(
    reader: Registry, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    publisher.publish(reader.root, 4)
    key = ["--registry", str(reader.root), "--signing-key", str(keys[0])]
    run("bundles", "sign", *key, "--json")
    assert json.loads(capsys.readouterr().out) == {"signed": "v000004"}
    assert reader.current() == "v000004"
    run("bundles", "rollback", *key)
    assert reader.current() == "v000003"
    run("bundles", "activate", "v000001", *key)
    assert reader.current() == "v000001"
