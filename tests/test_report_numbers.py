"""Every gain, interval, count, mean and ratio of the report, worked out again from the JSON records by `by_hand`."""

import re
from functools import cache

import pytest
from by_hand import ROOT, costs, digits, gain_interval_p, runs, values

from study import report

TITLES = {"Hippocampus MR": "hippocampus", "Liver MR (CHAOS)": "liver_mr"}
JACCARD = ("jaccard", "jaccard_low", "jaccard_high")
GAIN = re.compile(
    r"- (?P<title>[^:]+): (?:Dice )?(?P<gain>[-+][\d.]+) \[(?P<low>[-+][\d.]+), (?P<high>[-+][\d.]+)\] "
    r"\((?P<pairs>\d+) pairs, (?P<ours>\d+) runs? against (?P<theirs>\d+)\)"
    r"(?:, Jaccard (?P<jaccard>[-+][\d.]+) \[(?P<jaccard_low>[-+][\d.]+), (?P<jaccard_high>[-+][\d.]+)\])?"
)


@cache
def sections() -> dict[str, list[str]]:
    """Claim -> the lines of its section, as the book shows them."""
    page = report.fill((ROOT / "book" / "reproduction_report.md").read_text(encoding="utf-8"))
    return {part[:2]: part.splitlines() for part in re.split(r"^## ", page, flags=re.MULTILINE)[1:]}


def sides_of(claim: str, title: str) -> list:
    """The records behind a line of claim 1, 2, 4, 6 or 8."""
    name = title.partition(",")[0].removeprefix("Dice on ")
    dataset = TITLES[name[0].upper() + name[1:]]
    if "learning rate" in title:
        names = r"schedule_paper_seed\d", r"schedule_released_none_seed\d"
    elif claim == "C8":
        names = r"student_1cas_paper_seed\d", r"student_1cas_none_seed\d" if "LDR alone" in title else "teacher_1cas"
    elif claim == "C2":
        names = r"student_1cas_paper_seed\d", "teacher_1cas"
    elif claim == "C6":
        n = re.search(r"(\d) cascade", title)[1]
        names = rf"student_{n}cas_paper_seed\d", rf"student_{n}cas_none_seed\d"
    else:
        teachers = [name for name in ("teacher_3cas", "teacher_3cas_fine") if runs(dataset, name)]
        names = r"student_3cas_paper_seed\d", max(teachers, key=lambda name: values(runs(dataset, name)).mean())
    return [runs(dataset, name) for name in names]


def test_every_gain_of_the_report() -> None:
    count = 0
    for claim, lines in sections().items():
        for found in filter(None, map(GAIN.match, lines)):
            ours, theirs = sides_of(claim, found["title"])
            where = f"{claim}, {found['title']}"
            counts = [int(found[name]) for name in ("pairs", "ours", "theirs")]
            assert counts == [len(ours[0]), len(ours), len(theirs)], where
            for measure, names in {"dice": ("gain", "low", "high"), "jaccard": JACCARD}.items():
                if found[names[0]]:
                    shown = [float(found[name]) for name in names]
                    assert shown == pytest.approx(gain_interval_p(ours, theirs, measure)[:3], abs=7e-5), where
                    count += 1
    assert count == 25


@pytest.mark.parametrize(("title", "dataset"), TITLES.items())
def test_the_three_means_of_figure_2(title: str, dataset: str) -> None:
    (line,) = [text for text in sections()["C8"] if text.startswith(f"- {title}: ")]
    names = r"student_1cas_none_seed\d", r"student_1cas_paper_seed\d", "teacher_1cas"
    shown = [float(x) for x in re.findall(r"\d\.\d{3}", line)]
    assert shown == pytest.approx([values(runs(dataset, name)).mean() for name in names], abs=5.2e-4)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_ratios_of_seconds(threads: int) -> None:
    (line,) = [text for text in sections()["C2"] if f"[cost_cpu_{threads}]" in text]
    for count in ("1 cascade", "3 cascades"):
        vtn, ldr = (costs(threads)[f"{name}, {count}"]["seconds"] for name in ("VTN", "LDR"))
        assert f"{vtn / ldr:.1f} times at {count} ({vtn:.2f} s against {ldr:.2f} s)" in line


def test_every_cell_of_the_table_of_costs() -> None:
    head, _, *lines = [[cell.strip() for cell in row.split("|")[1:-1]] for row in report.cost_table().splitlines()]
    count = 0
    for name, *cells in lines:
        network, n = name.split(", ")
        of = {threads: costs(threads)[f"{network}, {n} cascade{'s' * (n != '1')}"] for threads in (1, 2)}
        counted = {"weights, millions": of[1]["parameters"] / 1e6, "GMAC": of[1]["macs"] / 1e9}
        counted["GB moved"] = of[1]["bytes_moved"] / 1e9
        for column, text in zip(head[1:], cells, strict=True):
            wanted = counted[column] if column in counted else of[int(re.search(r"\d+", column)[0])]["seconds"]
            assert float(text) == pytest.approx(wanted, abs=digits(text)), f"{name}; {column}"
            count += 1
    assert count == 6 * 5
