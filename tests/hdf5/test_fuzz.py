"""Damaged files of every kind are read, or refused in one sentence: no crash, no hang, no memory, nothing outside.

`python -m bench.fuzz` tries as many as one likes.
"""

import pytest

# The fuzzer is not installed: it runs from the checkout.
from bench.fuzz import __main__ as command
from bench.fuzz.files import FAULTS, KINDS
from bench.fuzz.run import WRONG, Fuzz

EACH = 20
"""Files of every kind."""


def test_damaged_files_of_every_kind(tmp_path):
    fuzz = Fuzz(tmp_path, seed=1)
    fuzz.run(0, EACH * len(KINDS))
    assert fuzz.wrong == []
    for kind in KINDS:
        outcomes = {outcome: fuzz.counts[kind, outcome] for outcome in ("read", "refused")}
        assert sum(outcomes.values()) == EACH
        assert min(outcomes.values()) > 0, (kind, outcomes)    # damage that is always, or never, told tries nothing


def test_whatever_goes_wrong_is_seen(tmp_path):
    """Readers that do what none may do, in turns."""
    fuzz = Fuzz(tmp_path, kinds=FAULTS, seconds=2.5)
    fuzz.run(0, len(FAULTS))
    assert set(WRONG) == set(FAULTS)
    assert dict(fuzz.counts) == {(kind, kind): 1 for kind in FAULTS}
    assert "in string_at" in next(line for line in fuzz.wrong if "crash" in line)


def test_the_command(tmp_path, capsys, monkeypatch):
    assert command.main(["--n", "4", "--kinds", "model,xyz", "--keep", str(tmp_path / "kept")]) == 0
    out = capsys.readouterr().out
    assert "4 files in" in out and "refused" in out and not (tmp_path / "kept").exists()
    monkeypatch.setattr(command, "KINDS", FAULTS)
    assert command.main(["--n", "2", "--kinds", "exception", "--keep", str(tmp_path / "kept")]) == 1
    assert "0 exception: exception KeyError" in capsys.readouterr().out
    assert (tmp_path / "kept" / "1-exception" / "frames.xyz").read_bytes()
    with pytest.raises(SystemExit):
        command.main(["--kinds", "pdf"])
    assert "unknown kind 'pdf'" in capsys.readouterr().err
