"""The report: every verdict follows its rule, numbers are those of the records, and a missing record is said."""

import re

import build
import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from synthetic import ALDK, LDR, MACHINE, MADE, RCN, of, record

from lddr.errors import InputError
from lddr.record import CostRecord, FigureRecord
from study import claims, overview, records, report
from study.methods import in_words
from study.minutes import minutes
from study.tables import sources

BASE = np.linspace(0.5, 0.8, 30)


def costs(networks: dict[str, dict[str, object]], **more: object) -> CostRecord:
    timed = {name: {"runs": 7, "bytes_moved": 2.5e9} | cost for name, cost in networks.items()}
    return CostRecord(**{**MADE, "device": "cpu", "threads": 1, "size": [128] * 3, "networks": timed, **more})


def figure(**more: object) -> FigureRecord:
    about = {"dataset": "hippocampus", "split": {"test": 2}, "pair_list": "ring", "size": [48] * 3, "plane": "axial"}
    about |= {"drawn_on": [48] * 3, "labels": "linear", "models": {}, "figures": [], "rule": "", "shown": []}
    return FigureRecord(**{**MADE, **about, "slices": {}, "rows": [{"dice": 0.5}], **more})


@pytest.mark.parametrize(("gain", "verdict"), [(0.036, "reproduced"), (0.01, "partly"), (-0.01, "not reproduced")])
def test_the_gain_of_aldk_is_judged_by_its_interval(put, gain, verdict) -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, (6, 30))
    for seed in range(3):
        put(f"hippocampus/a{seed}", record(of(LDR, seed=seed), BASE + noise[seed]))
        put(f"hippocampus/b{seed}", record(of(ALDK, seed=seed), BASE + gain + noise[3 + seed]))
    found = claims.claim_6()
    assert found.verdict == verdict
    assert "30 pairs, 3 runs against 3)" in found.measured
    mean = (noise[3:].mean() - noise[:3].mean()) + gain
    assert f"hippocampus MR, 1 cascade: {mean:+.4f}" in found.measured
    assert "2 cascades: not measured yet" in found.measured


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(16, "reproduced"), (6, "partly"), (1.5, "not reproduced"), (0.9, "not reproduced")]
)
def test_speed_is_judged_by_the_ratio_of_seconds(put, ratio, verdict) -> None:
    networks = {}
    for n in ("1 cascade", "3 cascades"):
        networks |= {f"LDR, {n}": {"seconds": 0.1}, f"VTN, {n}": {"seconds": 0.1 * ratio}}
    put("cost/cost_cpu_1", costs(networks))
    put("cost/cost_gpu", costs({}, device="cuda"))  # the claim is about CPUs
    found = claims.claim_2()
    assert found.verdict == verdict
    assert f"{ratio:.1f} times at 3 cascades" in found.measured


def test_distance_to_the_teacher(put) -> None:
    aldk, rcn = of(ALDK, cascades=3), of(RCN, cascades=3)
    put("hippocampus/student", record(aldk, BASE - 0.004))
    assert claims.claim_1().verdict == "not yet"
    put("hippocampus/adapted", record(of(rcn, adapted=50), BASE + 0.2))  # it is another method
    put("hippocampus/heavy", record(of(rcn, network="voxelmorph"), BASE + 0.2))  # and this another network
    assert claims.claim_1().verdict == "not yet"
    put("hippocampus/teacher", record(rcn, BASE))
    assert claims.claim_1().verdict == "reproduced"  # the same on every pair: the interval is a point above -0.01
    assert claims.claim_4().verdict == "reproduced"  # 0.4 % and no more
    put("hippocampus/softer", record(of(rcn, recipe="softer"), BASE + 0.03))  # the better teacher counts
    assert claims.claim_1().verdict == claims.claim_4().verdict == "not reproduced"
    assert "against RCN, VTN, 3 cascades, softer" in claims.claim_1().measured
    noise = np.random.default_rng(0).normal(0, 0.05, 30)
    put("hippocampus/student", record(aldk, BASE + 0.026 + noise - noise.mean()))
    assert claims.claim_1().verdict == "partly"  # 0.4 % again, but other subjects might say 2 %


def test_every_light_network_of_three_cascades_has_its_distance(put) -> None:
    put("hippocampus/teacher", record(of(RCN, cascades=3), BASE))
    lost = {"LDR": (LDR, 0.03), "LDR + ALDK": (ALDK, 0.02), "LDR, best recipe": (of(LDR, recipe="best"), 0.01)}
    for name, (method, loss) in lost.items():
        put(f"hippocampus/{name}", record(of(method, cascades=3), BASE - loss))
    put("hippocampus/short", record(LDR, BASE))
    put("hippocampus/other", record(of(LDR, cascades=3, recipe="best", objective="l2"), BASE))
    found = claims.distances("hippocampus")
    assert {name.removesuffix(", 3 cascades"): one.dice["gain"] for name, one in found.items()} == {
        name: pytest.approx(-loss) for name, (_, loss) in lost.items()
    }
    assert all(one.heavy == "RCN, VTN, 3 cascades" and one.light == name for name, one in found.items())
    assert claims.distances("liver_mr") == {}


@pytest.mark.parametrize(
    ("light", "heavy", "verdict"), [(1.6, 2.5, "reproduced"), (1.6, 0.7, "partly"), (2.2, 2.5, "not reproduced")]
)
def test_about_a_second_and_alone(put, light, heavy, verdict) -> None:
    tools = {"elastix": {"seconds": 41.4, "runs": 1}}
    put(
        "cost/cost_cpu_1",
        costs({"LDR, 3 cascades": {"seconds": light}, "VTN, 1 cascade": {"seconds": heavy}}, tools=tools),
    )
    assert claims.claim_5().verdict == verdict
    assert "classical tools, on one thread: Elastix 41 s" in claims.claim_5().measured


def test_without_records_nothing_is_claimed(put) -> None:
    for name in ("C1", "C2", "C4", "C5", "C6", "C7", "C8"):
        found = claims.CLAIMS[name][1]()
        assert found.verdict == "not yet"
        assert "not measured yet" in found.measured


def test_a_table_of_costs_has_a_column_for_each_number_of_threads(put) -> None:
    assert "not measured yet" in report.cost_table()
    assert report.released_seconds() == "- not measured yet"
    names = [f"{n}, {in_words(k)}" for n in ("LDR", "VTN", "LDR of the released code") for k in (1, 2, 3)]
    for threads in (1, 2):
        networks = {n: {"seconds": 0.25 / threads} for n in names}
        put(f"cost/cost_cpu_{threads}", costs(networks, threads=threads))
    row = next(line for line in report.cost_table().splitlines() if line.startswith("| LDR, 1 "))
    assert [cell.strip() for cell in row.split("|")[4:7]] == ["2.50", "0.25", "0.12"]
    assert "1 thread: LDR of the released code, 1 cascade 0.25 s" in report.released_seconds()


def test_figure_2_in_numbers_has_its_pairs_seeds_and_intervals(put) -> None:
    noise = np.random.default_rng(0).normal(0, 0.002, (2, 30))
    put("hippocampus/alone", record(LDR, BASE - 0.02))
    for seed in range(2):
        put(f"hippocampus/aldk{seed}", record(of(ALDK, seed=seed), BASE + noise[seed]))
    put("hippocampus/rcn", record(RCN, BASE + 0.005))
    found = claims.claim_8()
    assert found.verdict == "reproduced"
    for other, gain in {"LDR alone": 0.02 + noise.mean(), "RCN": noise.mean() - 0.005}.items():
        (line,) = [part for part in found.parts if f"MR, LDR + ALDK over {other}: " in part]
        assert re.search(rf": {re.escape(f'{gain:+.4f}')} \[.+\] \(30 pairs, 2 runs against 1\)$", line)


def test_the_rates_of_the_released_code_are_compared_with_each_other(put) -> None:
    assert report.rate_gain().endswith(": not measured yet")
    for seed in range(2):
        for schedule, gain in (("paper", 0.02), ("released_none", 0.0)):
            run = record(of(LDR, recipe="schedule", seed=seed), BASE + gain, parameters={"schedule": schedule})
            put(f"hippocampus/{schedule}{seed}", run)
    put("hippocampus/plain", record(LDR, BASE + 0.3, parameters={"schedule": "cosine"}))
    assert report.rate_gain().endswith(": +0.0200 [+0.0200, +0.0200] (30 pairs, 2 runs against 2)")


def test_every_claim_has_a_row_with_its_why(put) -> None:
    assert report.WHY.keys() == claims.CLAIMS.keys()
    rows = report.claims_table({name: claims.Finding("x", "partly", "y") for name in claims.CLAIMS}).splitlines()
    assert {row.count(" |") for row in rows} == {5}
    assert all(report.WHY[name] in row for name, row in zip(claims.CLAIMS, rows[2:], strict=True))


def test_a_set_that_cannot_be_had_is_named_beside_the_verdict() -> None:
    found = claims.Finding("x", "not reproduced", "y")
    assert report.verdict("C6", found) == "**not reproduced** on the nearest sets; on SLIVER it cannot be tested here"
    assert report.verdict("C2", found) == "**not reproduced**"


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (record(LDR, [0.5], training_seconds=610.0), "10 min"),
        (record(LDR, [0.5, 0.6], seconds=60.0), "2 min"),
        (record(LDR, [0.5], seconds=0.1), "under 1 min"),
        (costs({"LDR": {"seconds": 20.0}}), "3 min"),  # two more calls to warm up
        (costs({}, tools={"ants_syn": {"seconds": 70.0, "runs": 1}}), "1 min"),  # none
        (figure(), "not timed"),
    ],
)
def test_minutes_of_a_record(content, wanted) -> None:
    assert minutes(content) == wanted


def test_weights_and_operations_are_counted_not_recorded(put) -> None:
    found = claims.claim_3()
    assert found.verdict == "partly"
    assert "98,922,909" in found.measured  # 3 VTN and their affine stem, as in chapter 05
    assert report.cost_table().count("VTN, ") == 3


@pytest.mark.parametrize("page", ["reproduction_report", "records"])
def test_every_marker_is_filled_and_every_claim_has_its_section(page) -> None:
    source = (records.PROJECT / "book" / f"{page}.md").read_text()
    text = report.fill(source)
    assert "<!-- report" not in text
    assert "<!-- report" in source
    if page == "reproduction_report":
        assert re.findall(r"^## (C\d)$", text, re.MULTILINE) == list(claims.CLAIMS)
        assert text.count("\nVerdict: ") == len(claims.CLAIMS)
        prose = re.sub(r"<!--.*?-->|TensorFlow 1.14|^\*The paper's.*", "", source, flags=re.MULTILINE)
        assert not re.search(r"\d\.\d{2,}", prose), "a measured number typed into the prose"


def test_an_unknown_marker_gets_a_sentence() -> None:
    with pytest.raises(InputError, match="a page can ask for C1, .*, claims, .*, not 'costs'"):
        report.fill("<!-- report: costs -->")


def test_what_a_record_says_cannot_change_the_page(put) -> None:
    machine = MACHINE.model_copy(update={"cpu": "<b>fast</b> | *very* [x](y) `z`", "system": "A & B"})
    evil = "lddr train 'a<script>b' \"it's $x\" 'one\n```\n<b>two</b>'"
    put("hippocampus/student", record(LDR, BASE, machine=machine, command=evil))
    put("hippocampus/figure2", figure(machine=machine))
    put("cost/cost_cpu_1", costs({}))
    render = MarkdownIt().enable("table").render
    table = render(report.machines())
    cells = re.findall(r"<td>(.*?)</td>", table)
    assert cells[0] == "&lt;b&gt;fast&lt;/b&gt; | *very* [x](y) `z`, 2 cores"
    assert cells[2] == "A &amp; B"
    assert cells[4::6] == ["2", "1"]  # the record of a figure counts as one, and those of costs
    (tokens,) = [[t for t in MarkdownIt().parse(report.commands_of("hippocampus")) if t.type != "text"]]
    (block,) = tokens  # one block of code, and nothing after it
    assert block.type == "fence"
    assert block.content.splitlines()[-1] == evil.replace("\n", " ")
    page = render(report.section("C5", claims.Finding("<i>x</i> and [+0.1, +0.2] (3 pairs)", "partly", "rule")))
    assert "<i>" not in page
    assert "[+0.1, +0.2] (3 pairs)" in page


def test_a_deleted_record_leaves_a_hole_and_not_an_error(put, tmp_path) -> None:
    for seed in range(2):
        put(f"hippocampus/student_1cas_none_seed{seed}", record(of(LDR, seed=seed), BASE))
    put("hippocampus/student_1cas_paper_seed0", record(ALDK, BASE))
    assert "hippocampus MR, 1 cascade: not measured yet" not in claims.claim_6().measured
    assert "# student_1cas_paper_seed0: under 1 min, 2026-01-02\nlddr train\n" in report.commands_of("hippocampus")
    (tmp_path / "hippocampus" / "student_1cas_paper_seed0.json").unlink()
    assert "hippocampus MR, 1 cascade: not measured yet" in claims.claim_6().measured
    assert "# student_1cas_paper" not in report.commands_of("hippocampus")
    assert "# no records yet" in report.commands_of("liver_mr")


@pytest.mark.filterwarnings("ignore:left out")
def test_a_file_that_is_no_record_is_left_out_with_a_warning_and_the_build_fails(put, tmp_path, monkeypatch) -> None:
    put("hippocampus/sound", record(LDR, BASE))
    put("cost/cost_cpu_1", costs({}))
    whole = (tmp_path / "hippocampus" / "sound.json").read_text()
    bad = [tmp_path / "hippocampus" / name for name in ("short.json", "other.json", "figure2.json")]
    for path, text in zip(bad, (whole[:-200], "{}", "\0"), strict=True):
        path.write_text(text)
    monkeypatch.setattr(records, "broken", {})
    with pytest.warns(UserWarning, match=r"left out: .*short\.json: not a record of schema version"):
        page = report.fill("<!-- report: commands hippocampus -->\n<!-- report: machines -->")
    assert page.count("# sound: under 1 min") == 1
    assert not [path.stem for path in bad if path.stem in page]
    assert sorted(records.broken) == sorted(bad)
    for name in ("fill_pages", "call"):
        monkeypatch.setattr(build, name, lambda *_: None)
    for name in ("rmtree", "copytree"):
        monkeypatch.setattr(build.shutil, name, lambda *_, **__: None)
    with pytest.raises(SystemExit) as left:
        build.render()
    assert str(left.value).splitlines()[0] == "failed: these records were left out; make them again:"
    assert all(str(path) in str(left.value) for path in bad)
    monkeypatch.setattr(records, "broken", {})
    build.render()


def test_a_processor_with_a_script_in_its_name_is_only_a_name(put) -> None:
    machine = MACHINE.model_copy(update={"cpu": "<script>alert(1)</script>"})
    put("cost/cost_cpu_1", costs({}, machine=machine))
    shown = overview.overview_page(pd.DataFrame({"a": ["b"]}, index=["c"])).data
    assert "&lt;script&gt;alert(1)" in shown
    assert "<script>alert" not in shown
    assert "<script>alert" not in MarkdownIt().enable("table").render(report.machines())


def test_a_date_and_a_command_with_html_in_them_stay_text(put) -> None:
    put("hippocampus/student", record(LDR, BASE, date="<b>2026", command="````"))
    put("cost/cost_cpu_1", costs({}))
    page = f"{report.commands_of('hippocampus')}\n\n{report.machines()}"
    tokens = MarkdownIt().enable("table").parse(page)
    assert tokens[0].type == "fence"
    assert "<b>" in tokens[0].content
    assert "<b>" not in MarkdownIt().enable("table").render(report.machines())
    assert "&lt;b&gt;2026" in sources("hippocampus")
    assert "<b>2026" not in sources("hippocampus")
