"""TOML to dataclasses: every mistake has one line that says where, what and what else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from musebridge.config import RENAMED, build, read_toml, renamed
from musebridge.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Sound:
    count: int = 1
    rate: float = 0.5
    name: str = "piano"
    loud: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"count must be at least 1, found {self.count}")


@dataclass(frozen=True, kw_only=True)
class Needs:
    name: str


def test_missing_keys_keep_their_defaults():
    assert build(Sound, {"count": 3}, "x.toml") == Sound(count=3)


def test_a_whole_number_is_a_number():
    assert build(Sound, {"rate": 2}, "x.toml").rate == 2


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"colour": 1}, "x.toml: unknown key 'colour'; known are count, extra, loud, name, rate"),
        ({"count": 1.5}, "x.toml: count must be a whole number, found 1.5"),
        ({"count": True}, "x.toml: count must be a whole number, found True"),
        ({"rate": "fast"}, "x.toml: rate must be a number, found 'fast'"),
        ({"rate": False}, "x.toml: rate must be a number, found False"),
        ({"name": 3}, "x.toml: name must be a text, found 3"),
        ({"loud": 1}, "x.toml: loud must be true or false, found 1"),
        ({"extra": []}, "x.toml: extra must be a table, found []"),
        ({"count": 0}, "x.toml: count must be at least 1, found 0"),
        (3, "x.toml: must be a table of keys and values, found 3"),
    ],
)
def test_a_mistake_is_one_line_that_begins_with_its_place(table, message):
    with pytest.raises(ConfigError) as caught:
        build(Sound, table, "x.toml")
    assert str(caught.value) == message


def test_a_required_key_that_is_missing_is_named():
    with pytest.raises(ConfigError, match=r"^x\.toml: .*'name'$"):
        build(Needs, {}, "x.toml")


def test_a_toml_file_becomes_its_tables(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text("[a]\nb = 1\n", encoding="utf-8")
    assert read_toml(path) == {"a": {"b": 1}}


@pytest.mark.parametrize("content", [b"a = ", b"\xff\xfe", b"[a\n"])
def test_what_is_not_toml_is_one_line(tmp_path, content):
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read as TOML") as caught:
        read_toml(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_toml(tmp_path / "none.toml")


def test_an_old_name_is_taken_for_the_new_one_where_only_that_is_known():
    assert renamed({"optimiser": "adamw", "lr": 1}, {"optimizer", "lr"}) == {"optimizer": "adamw", "lr": 1}
    assert renamed({"optimiser": "adamw"}, {"optimiser"}) == {"optimiser": "adamw"}
    assert renamed({"optimiser": "adamw"}, {"lr"}) == {"optimiser": "adamw"}


def test_an_old_name_beside_its_new_one_is_refused():
    with pytest.raises(ConfigError, match="optimiser is now called optimizer; give one of them"):
        renamed({"optimiser": "adamw", "optimizer": "muon"}, {"optimizer"})


def test_no_name_was_changed_twice():
    assert not RENAMED.keys() & set(RENAMED.values())
