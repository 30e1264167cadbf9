"""The command, in process."""

from pathlib import Path

import pytest

import thinkseg
from datamodules import MeViS
from tests.builders import write_mevis
from tests.evaluation.test_submission import write_tree


def test_an_archive_or_a_list_of_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mevis = MeViS(write_mevis(tmp_path / "mevis"), "valid")
    tree = write_tree(tmp_path / "tree", mevis)
    words = ["submit", "--dataset", "MeViS", "--dataset.root", str(mevis.root), "--split", "valid"]
    words += ["--predictions", str(tree), "--out", str(tmp_path / "x.zip")]
    (tree / "extra.txt").write_text("")
    thinkseg.main(words)
    shown = capsys.readouterr().out
    assert "holds        2 videos, 6 expressions, 36 pictures" in shown
    assert "  - left out: " in shown
    (tree / "a/0/00000.png").unlink()
    with pytest.raises(SystemExit, match=r"nothing was written:\n  - a/0: 1 of 6 frames, 00000: "):
        thinkseg.main(words)


def test_a_mistake_is_a_sentence(tmp_path: Path) -> None:
    root, nothing = write_mevis(tmp_path / "mevis"), tmp_path / "nothing"
    for found, out, sentence in [
        (root, tmp_path / "x.zip", "Expected predictions at "),
        (nothing, tmp_path / "x.zip", "MeViS not found in "),
        (root, tmp_path, "Expected the name of a ZIP file to write"),
    ]:
        words = ["--dataset", "MeViS", "--dataset.root", str(found), "--split", "valid"]
        with pytest.raises(SystemExit, match=f"^thinkseg submit: {sentence}"):
            thinkseg.main(["submit", *words, "--predictions", str(nothing), "--out", str(out)])
