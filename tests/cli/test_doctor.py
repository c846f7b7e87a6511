"""The doctor."""

from emobeam.cli import main as command


def test_a_doctor_finds_all_well_or_says_what_is_broken(archive, tmp_path, tiny_path, capsys):

    flags = ["--model", str(tiny_path), "--input", str(archive), "--output"]
    assert command.main(["doctor", *flags, str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "BROKEN" not in printed
    assert "6 recordings" in printed
    assert "flac" in printed
    assert not (tmp_path / "out" / "_staging").exists()
    assert (
        command.main(["doctor", *flags, str(tiny_path), "--input", str(tmp_path / "no"), "--output", "ftp://x/y"]) == 1
    )
    broken = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BROKEN")]
    assert len(broken) == 2
    assert "nothing is at" in broken[0]
    assert "scheme" in broken[1]
    assert command.main(["doctor", "--model", str(archive / "0.wav"), "--output", str(archive / "0.wav")]) == 1
    broken = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BROKEN")]
    assert ["model" in broken[0], "cannot write" in broken[1]] == [True, True]
