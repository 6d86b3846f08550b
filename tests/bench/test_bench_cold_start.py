"""The cold start benchmark on its smallest case."""

import json

from bench.cold_start import main


def test_import_compiles_nothing(tmp_path, capsys):
    main(["--cases", "import", "--out", str(tmp_path / "out.json")])
    found = json.loads((tmp_path / "out.json").read_text())["import"]
    assert found["cold"]["kernels"] == [] and found["warm"]["cpu_s"] > 0
    assert capsys.readouterr().out.splitlines()[1].startswith("import ")
