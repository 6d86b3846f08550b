"""The featurization benchmark runs, on very little."""


# The benchmark is not installed: it runs from the checkout.
from bench import featurization


def test_small(tmp_path):
    found = {"throughput": featurization.throughput(tmp_path, 12, 3.0, 1)}
    found["memory"] = featurization.memory(tmp_path, (10,))
    found["compressions"] = featurization.compressions(tmp_path, 5, 3.0)
    found["dscribe"] = featurization.dscribe(tmp_path, tmp_path / "nowhere", 5, 3.0, 1)
    assert found["throughput"]["float32"]["hdf5"]["share"] > 0 and found["memory"]["hdf5"]["10"] > 10
    assert found["compressions"]["gzip"]["bytes"] < found["compressions"]["none"]["bytes"]
    text = featurization.table(found)
    assert "12 frames of 48 atoms, 360 features" in text and "run bench/peers/make_env.py" in text
