"""The benchmark of ensembles runs, and has a line for each way and what is asked for."""

from bench import ensemble


def test_four_lines(capsys):
    ensemble.main(["--members", "2", "--cells", "2", "--repeats", "1", "--dtypes", "float32"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and [("together" in line) for line in lines] == [False, True] * 2
    assert all(float(line.split(":")[1].split()[0]) > 0 for line in lines)
