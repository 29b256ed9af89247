"""Atomic writes of files and folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner import files


@pytest.mark.parametrize("moment", ["sealed", "moved away"])
def test_interruption_between_two_renames_is_repaired(tmp_path, monkeypatch, moment):
    folder, content = tmp_path / "best", "file"

    def write(text: str) -> None:
        with files.replace_folder(folder, 10) as partial:
            (partial / content).write_text(text)

    write("old")
    rename, done = Path.rename, []

    def stop(self, target):
        done.append(1)
        if len(done) == ("sealed", "moved away").index(moment) + 1:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        write("new")
    monkeypatch.undo()
    assert folder.exists() == (moment == "sealed")
    files.restore_folder(folder)
    assert (folder / content).read_text() == {"sealed": "old", "moved away": "new"}[moment]
    assert not files.find_damage(folder)
    write("newest")
    assert [p.name for p in tmp_path.iterdir()] == ["best"]
