"""The benchmark of fixed descriptors runs, on very little."""


# The benchmark is not installed: it runs from the checkout.
from bench import train_from_features


def test_small(tmp_path):
    found = {"machine": {"processor": "a machine", "load_before": 0.0}}
    found["epochs"] = train_from_features.measure(12, 2, 3.0, (4,), tmp_path)
    rows = found["epochs"]["rows"]
    assert list(rows) == list(train_from_features.ROWS)
    kept, part = (rows[name]["bytes_per_atom"] for name in list(rows)[-2:])
    assert kept == 360 * 4 + 4 and 0 < part < 0.5 * kept
    text = train_from_features.table(found)
    assert all(f"| {name} |" in text for name in train_from_features.ROWS)
    page = tmp_path / "page.md"
    page.write_text("before\n" + train_from_features.MARKS[0] + "old\n" + train_from_features.MARKS[1] + "after\n")
    train_from_features.into_docs(text, page)
    begin, end = train_from_features.MARKS
    assert page.read_text() == f"before\n{begin}{text}{end}after\n"


def test_the_page_has_the_marks_of_the_table():
    page = train_from_features.DOCS.read_text(encoding="utf-8")
    assert [page.count(mark) for mark in train_from_features.MARKS] == [1, 1]
