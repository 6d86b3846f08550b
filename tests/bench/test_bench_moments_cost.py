"""The command that tells what iterations and uncertainties of Gaussian moments cost."""

from bench import moments_cost


def test_a_row_for_each_case(capsys):
    moments_cost.main(["--repeat", "2", "--turns", "1"])
    first, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith("32 Cu, 78 neighbours")
    assert [row[:18].strip() for row in rows] == ["T = 0", "T = 0, local", "T = 0, 8 members", "T = 1"]
    assert rows[0].split()[-1] == "1.00" and all(float(row.split()[-2]) > 0 for row in rows)
