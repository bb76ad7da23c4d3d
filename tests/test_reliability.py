"""The page Reliability shows what the long tests counted, whatever they say, and says so if they did not run."""

import html
import re

from markdown_it import MarkdownIt

from lddr.record import read_record
from study import records, reliability, report


def cells() -> list[str]:
    page = MarkdownIt().enable("table").render(report.fill("<!-- report: trials -->"))
    return [html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", page)]


def test_what_a_long_test_counted_stands_on_the_page(tmp_path, monkeypatch) -> None:
    for module in (records, reliability):
        monkeypatch.setattr(module, "RECORDS", tmp_path)
    assert cells() == ["not measured yet", "", ""]
    command = ["pytest", "-m", "long", "tests/test_long.py::test_kills"]
    counts = {"kills": 1234, "MB more | <b>": 1.25}
    reliability.keep_trial("kills", "It was <i>killed</i> | and went on.", counts, 90.04, command)
    record = read_record(tmp_path / "reliability" / "kills.json")
    assert record.command == "pytest -m long tests/test_long.py::test_kills"
    assert (record.counts, record.seconds) == (counts, 90.0)
    assert cells() == [
        "It was <i>killed</i> | and went on.",
        "1,234 kills, 1.2 MB more | <b>",
        f"2 min, {record.date[:10]}",
    ]
