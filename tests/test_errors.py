"""The error tree, and what a failure leaves on disk and in a report's place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from musebridge import errors
from musebridge.errors import CheckpointError, ModelError, MuseBridgeError, ReportError, one_line
from musebridge.files import replacing
from musebridge.report import report_in, table


def test_the_picture_shows_the_whole_tree():
    drawn = re.findall(r"── (\w+)", errors.__doc__)
    assert sorted(drawn) == sorted(error.__name__ for error in MuseBridgeError.__subclasses__())


def test_a_message_of_many_lines_becomes_one_that_is_not_long():
    assert one_line(ValueError(" two\n\tlines ")) == "two lines"
    assert len(one_line(ValueError("word " * 100))) <= 200


def test_a_file_is_replaced_in_one_step(tmp_path):
    path = tmp_path / "new" / "file"
    for text in ("one", "two"):
        with replacing(path, ModelError) as partial:
            partial.write_text(text)
            assert not path.exists() or path.read_text() == "one"
        assert path.read_text() == text
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize("failure", [ModelError("bad"), KeyboardInterrupt(), OSError("full"), RuntimeError("torch's")])
def test_a_failure_leaves_the_old_file_and_no_part_of_the_new_one(tmp_path, failure):
    path = tmp_path / "file"
    path.write_text("old")

    def write() -> None:
        with replacing(path, CheckpointError, RuntimeError) as partial:
            partial.write_text("half")
            raise failure

    is_of_writing = isinstance(failure, OSError | RuntimeError)
    with pytest.raises(CheckpointError if is_of_writing else type(failure)) as caught:
        write()
    if is_of_writing:
        assert str(caught.value) == f"{path}: cannot be written ({failure}); choose another place"
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_a_place_that_cannot_be_written_is_an_error_of_who_writes(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="cannot be written"), replacing(tmp_path / "file" / "m.onnx", ModelError):
        pass
    with pytest.raises(ReportError, match=r"file: cannot be written \(.*\); choose another place"):
        write_report(tmp_path / "file")


def write_report(folder: Path) -> None:
    with report_in(folder):
        (folder / "report.md").write_text("never")


def test_a_table_is_lines_of_markdown():
    assert table(("a", "b"), [("x", "1"), ("y", "2")], numbers=True) == [
        "| a | b |",
        "|---|---:|",
        "| x | 1 |",
        "| y | 2 |",
    ]
    assert table(("a", "b"), []) == ["| a | b |", "|---|---|"]
