"""Pseudonyms: keyed, of one documented form, from key files that nobody else may read."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import ConfigurationError
from recsys.pseudonyms import Names, Pseudonyms, erasure_mark

KEY: Final = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
OTHER: Final = "ff" * 31 + "01"
IDS: Final = st.text(min_size=1).filter(lambda text: not text.isspace())


def key_file(folder: Path, *keys: str) -> Path:
    path = folder / "pseudonym.key"
    path.write_text("".join(f"{key}\n" for key in keys))
    path.chmod(0o600)
    return path


def by(*keys: str) -> Pseudonyms:
    return Pseudonyms(tuple(map(bytes.fromhex, keys)))


def expected(key: str, kind: str, name: str) -> str:
    """By another implementation of HMAC, from the documented form."""
    code = HMAC(bytes.fromhex(key), SHA256())
    code.update(f"{kind}\0{name}".encode())
    return "p1_" + base64.b32encode(code.finalize()[:16]).decode().lower().rstrip("=")


@given(IDS)
def test_a_pseudonym_has_the_documented_form(name: str) -> None:
    names = by(KEY)
    assert names.session(name) == expected(KEY, "session", name)
    if not name.startswith("session:"):
        assert names.user(name) == expected(KEY, "user", name)


def test_the_form_stays_the_same_between_releases() -> None:
    names = by(KEY)
    assert names.user("U00042") == "p1_ho63hceyltcqodgemuhzmjzsv4"
    assert names.session("U00042") == "p1_wiq77mbmjsz7ofvlkxfy7v65xm"
    assert names.key == "34fa527b3d233f12"


@given(IDS, IDS)
def test_names_tell_apart_whom_ids_tell_apart(one: str, other: str) -> None:
    names = by(KEY)
    assert (names.user(one) == names.user(other)) == (one == other)
    assert by(OTHER).user(one) != names.user(one)
    assert re.fullmatch(r"(session:)?p1_[a-z2-7]{26}", names.user(one)) or one == "session:"


def test_nobody_stays_nobody_and_without_a_key_all_stay_who_they_are() -> None:
    for nobody in ("", " ", "\t\u2003"):
        assert by(KEY).user(nobody) == by(KEY).session(nobody) == nobody
    assert Pseudonyms().user("U1") == Pseudonyms().session("U1") == "U1"
    assert Pseudonyms().key is None


def test_who_is_known_by_a_visit_alone_keeps_its_name() -> None:
    names = by(KEY)
    assert names.user("session:visit-7") == "session:" + names.session("visit-7")


def test_a_second_key_names_what_the_first_gave(tmp_path: Path) -> None:
    both = Pseudonyms.read(key_file(tmp_path, KEY, OTHER))
    first, second = by(KEY), Names((bytes.fromhex(OTHER),))
    assert both.user("U1") == second.user(first.user("U1"))
    assert both.keys == (None, first.key, both.key)
    assert both.between(first.key, both.key, "it").user(first.user("U1")) == both.user("U1")
    assert both.between(None, first.key, "it") == Names(first.secrets)
    assert both.between(None, None, "it").user("U1") == "U1"
    assert len(str(first.key)) == 16
    assert both.key not in {first.key, by(OTHER).key, by(OTHER, KEY).key}


def test_names_by_an_unknown_key_are_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match=r"shop holds pseudonyms by the key .*key file"):
        by(KEY).between(by(OTHER).key, by(KEY).key, "shop")
    with pytest.raises(ConfigurationError, match=r"shop holds pseudonyms .*--pseudonym-key"):
        Pseudonyms().between(None, by(KEY).key, "shop")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it is empty"),
        (KEY[:62], "line 1 has 62 characters"),
        (KEY + "00", "line 1 has 66 characters"),
        ("-----BEGIN PRIVATE KEY-----", "line 1 has"),
        (f"{KEY}\n{KEY[:-1]}x", "line 2 has 64 characters, expected 64 hexadecimal digits"),
        (f"{KEY}\n{KEY}", "a key is there twice"),
        ("schlüssel", "ascii"),
    ],
)
def test_what_is_no_key_is_refused_with_the_command_to_make_one(
    tmp_path: Path, content: str, reason: str
) -> None:
    path = key_file(tmp_path)
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=reason) as refused:
        Pseudonyms.read(path)
    assert "openssl rand -hex 32" in str(refused.value)
    assert KEY[:16] not in str(refused.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, KEY)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Pseudonyms.read(path)
    path.chmod(0o400)
    assert Pseudonyms.read(path) == by(KEY)


def test_a_missing_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        Pseudonyms.read(tmp_path / "none.key")


def test_a_key_is_not_printed() -> None:
    assert KEY[:8] not in repr(by(KEY)) + repr(Names((bytes.fromhex(KEY),)))
    assert "secrets" not in repr(by(KEY))


def test_what_is_kept_of_the_erased_depends_on_place_and_person() -> None:
    marks = {erasure_mark(salt, user) for salt in ("a", "b") for user in ("u", "v")}
    assert len(marks) == 4
    assert all(len(mark) == 32 for mark in marks)
