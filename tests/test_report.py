"""The report: every verdict follows its rule, numbers are those of the records, and a missing record is said."""

import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from markdown_it import MarkdownIt

from lddr.errors import InputError
from lddr.infer.evaluate import summarise
from lddr.record import CostRecord, FigureRecord, Machine, Method, Provenance, Record, write_record
from study import claims, records, report
from study.methods import in_words
from study.minutes import minutes

ORGAN = {1: "organ"}
PLAIN_MACHINE = Machine(cpu="a CPU", cores=2, threads=1, gpu=None, system="Linux x86_64", python="3.11", torch="2.4")
MADE = {"command": "lddr train", "commit": "abc", "machine": PLAIN_MACHINE, "date": "2026-01-02T03:04:05+00:00"}
LDR = Method(network="ldr", affine="light", width=16, levels=6, cascades=1, size=[48, 64, 48], objective="none", seed=0)
ALDK = LDR.model_copy(update={"objective": "paper"})
RCN = LDR.model_copy(update={"network": "vtn", "levels": 4})
BASE = np.linspace(0.5, 0.8, 30)


def of(method: Method, **more: object) -> Method:
    return method.model_copy(update=more)


def record(method: Method, dice: Sequence[float], seconds: float = 1.0, **more: object) -> Record:
    rows = [
        {"moving": str(i), "fixed": str(i + 1), "dice": d, "jaccard": d - 0.1, "dice_initial": 0.1, "dice_1": d}
        | {"folding_percent": 0.0, "jacobian_std": 0.1, "seconds": seconds}
        for i, d in enumerate(map(float, dice))
    ]
    about = {"dataset": "hippocampus", "split": {"test": len(rows) + 1}, "pair_list": "ring"}
    return Record(**{**MADE, **about, "method": method, "test": summarise(rows, ORGAN), "rows": rows, **more})


def costs(networks: dict[str, dict[str, object]], **more: object) -> CostRecord:
    timed = {name: {"runs": 7, "bytes_moved": 2.5e9} | cost for name, cost in networks.items()}
    return CostRecord(**{**MADE, "device": "cpu", "threads": 1, "size": [128] * 3, "networks": timed, **more})


def figure(**more: object) -> FigureRecord:
    about = {"dataset": "hippocampus", "split": {"test": 2}, "pair_list": "ring", "size": [48] * 3, "plane": "axial"}
    about |= {"drawn_on": [48] * 3, "labels": "linear", "models": {}, "figures": [], "rule": "", "shown": []}
    return FigureRecord(**{**MADE, **about, "slices": {}, "rows": [{"dice": 0.5}], **more})


Put = Callable[[str, Provenance], None]


@pytest.fixture
def put(tmp_path, monkeypatch) -> Put:
    """A folder of records of our own, and the way to put one there."""
    monkeypatch.setattr(records, "RECORDS", tmp_path)
    return lambda name, content: write_record(tmp_path / f"{name}.json", content)


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
    machine = PLAIN_MACHINE.model_copy(update={"cpu": "<b>fast</b> | *very* [x](y) `z`", "system": "A & B"})
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
