"""The harness of benchmarks/serving without its peers: what it sends, what it reads, what it computes."""

import asyncio
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from benchmarks.serving import bars, measuring, process_tree, sides, tables, wrk
from benchmarks.serving.answers import WrongAnswerError, compare, first_result
from benchmarks.serving.batching import measure_once
from benchmarks.serving.client import BROKEN, Client, Reply
from benchmarks.serving.fixed_engine import FixedEngine
from benchmarks.serving.loop_lag import read_beats
from benchmarks.serving.measuring import Plan, check, measure
from benchmarks.serving.overload import percentile, summarize
from benchmarks.serving.pictures import digit_png
from benchmarks.serving.report import BEGIN, END, replace_between_marks
from benchmarks.serving.results import Results
from benchmarks.serving.running import Request, free_ports
from benchmarks.serving.sides import PEERS, SIDES
from benchmarks.serving.startup import slope
from benchmarks.serving.workloads import CONNECTIONS, WORKLOADS, inference_protocol, multipart
from service.images.digit_rendering import is_mnist_form
from tests.service.conftest import Serve

WRK = """Running 8s test @ http://127.0.0.1:8000/classify
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
Requests/sec:   1000.00
RESULT {"answered": 8000, "seconds": 8.0, "p50_ms": 31.5, "p99_ms": 40.25, "refused": 3, "broken": 0}
"""


def test_the_result_is_read_out_of_what_wrk_prints() -> None:
    outcome = wrk.parse(WRK)
    assert outcome == wrk.Outcome(8000, 8.0, 31.5, 40.25, 3, 0)
    assert outcome.per_second == 1000


def test_no_result_is_an_error_that_shows_what_was_printed() -> None:
    with pytest.raises(wrk.WrkError, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1 Connection refused\n")


@pytest.mark.parametrize("slow", [False, True])
def test_a_slow_workload_has_a_thread_a_connection_and_its_warm_up_in_the_run(slow: bool) -> None:
    words = wrk.command("u", Path("b"), "t", connections=8, seconds=10, slow=slow, warm_up_s=2)
    assert words[words.index("-t") + 1] == ("8" if slow else "1")
    assert words[words.index("-d") + 1] == ("12s" if slow else "10s")
    assert Path(words[words.index("-s") + 1]).is_file()
    assert words[words.index("--") + 1 :] == (["b", "t", "2"] if slow else ["b", "t"])


async def test_the_multipart_body_is_one_that_the_service_takes(serve: Serve) -> None:
    picture = digit_png()
    content_type, body = multipart(picture, field="file", filename="digit.png", content_type="image/png")
    async with serve() as service:
        answer = await service.client.post("/classify", content=body, headers={"content-type": content_type})
        raw = await service.client.post(
            "/classify", content=picture, headers={"content-type": "application/octet-stream"}
        )
    assert answer.status_code == raw.status_code == httpx.codes.OK
    (result,) = answer.json()["results"]
    assert result["filename"] == "digit.png"
    assert raw.json()["results"] == [{**result, "filename": None}]


def test_the_drawn_digit_is_in_the_networks_form() -> None:
    from io import BytesIO  # noqa: PLC0415

    assert is_mnist_form(np.asarray(Image.open(BytesIO(digit_png()))))


def test_the_inference_protocols_body_holds_the_picture() -> None:
    content_type, body = inference_protocol(b"\x89PNG")
    assert content_type == "application/json"
    (entry,) = json.loads(body)["inputs"]
    assert entry["shape"] == [1]
    assert entry["data"] == ["iVBORw=="]


def test_every_side_has_a_request_for_each_of_its_workloads() -> None:
    for side in SIDES.values():
        for name in side.workloads:
            request = Request.of(side, WORKLOADS[name], b"picture")
            assert request.path.startswith("/")
            assert request.body
    assert {"digits-multipart", "phone", "streets-png", "streets-jpeg"} <= set.intersection(
        *(set(SIDES[name].workloads) for name in ("sightline", *PEERS))
    )


def table_row(side: str, round_: int, per_second: float, connections: int = 32, **more: object) -> dict[str, object]:
    return {
        "kind": "table",
        "side": side,
        "workload": "digits-multipart",
        "connections": connections,
        "round": round_,
        "per_second": per_second,
        "p50_ms": 10.0,
        **more,
    }


def filled(path: Path) -> Results:
    results = Results(path)
    for round_, (mine, other) in enumerate([(300, 100), (100, 50), (800, 200)], start=1):
        results.add(table_row("sightline", round_, mine))
        results.add(table_row("fastapi", round_, other))
    return results


def test_a_ratio_is_the_median_of_the_rounds_own_ratios(tmp_path: Path) -> None:
    results = filled(tmp_path / "r.jsonl")
    assert tables.ratio(results, "digits-multipart", 32, "fastapi") == 3  # of 3, 2, 4; the medians' ratio is 3 too
    results.add(table_row("fastapi", 4, 1))  # a round that the other side does not have
    assert tables.ratio(results, "digits-multipart", 32, "fastapi") == 3
    assert tables.ratio(results, "digits-multipart", 32, "ray") is None
    assert tables.middle(results.select(side="sightline"), "per_second") == 300


def test_the_table_says_by_how_much(tmp_path: Path) -> None:
    text = tables.workload_table(filled(tmp_path / "r.jsonl"), "digits-multipart")
    assert "| 32, Sightline | 300 |  | 10.0 |" in text
    assert "| 32, plain FastAPI | 100 | 3.00× | 10.0 |" in text


def test_the_ratios_are_a_line_for_each_number_of_connections(tmp_path: Path) -> None:
    text = tables.ratios(filled(tmp_path / "r.jsonl"))
    assert text.splitlines()[0] == "| Sightline's requests/s over those of | plain FastAPI |"
    assert text.splitlines()[2:] == ["| digits, 28×28 PNG, multipart, 32 | 3.00× |"]


def test_the_report_replaces_the_one_before(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    for text in ("first", "second"):
        replace_between_marks(page, text)
    assert page.read_text(encoding="utf-8") == f"before\n{BEGIN}\n\nsecond\n{END}\nafter\n"
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match="no part between"):
        replace_between_marks(page, "third")


def test_no_measurement_begins_after_the_time(tmp_path: Path) -> None:
    plan = Plan(("sightline", "loop"), ("phone",), (1,), 3, 1, 1, ends_at=time.monotonic())
    results = Results(tmp_path / "r.jsonl")
    measure(plan, {}, results)
    assert results.rows == []


def test_a_side_that_was_not_set_up_takes_no_other_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (measuring, sides):
        monkeypatch.setattr(module, "ENVIRONMENTS", tmp_path / "nothing")
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"")
    pictures = {workload.picture: picture for workload in WORKLOADS.values()}
    lines = check(["fastapi", "litserve"], ["digits-multipart"], pictures)
    assert [line.split(",")[0] for line in lines] == [f"FAILED {SIDES[name].title}" for name in ("fastapi", "litserve")]
    results = Results(tmp_path / "r.jsonl")
    measure(Plan(("loop", "fastapi"), ("digits-multipart",), (1,), 2, 1, 1), pictures, results)
    assert [(row["kind"], row["side"]) for row in results.rows] == [("failure", "loop"), ("failure", "fastapi")]


def test_many_connections_are_measured_longer_and_warmed_up_longer() -> None:
    slow, fast = WORKLOADS["phone"], WORKLOADS["digits-raw"]
    assert [slow.seconds(connections, 4) for connections in CONNECTIONS] == [2, 2, 4, 6]
    assert [slow.warm_up_s(connections, 4) for connections in CONNECTIONS] == [1, 1, 2, 3]
    assert {fast.seconds(connections, 4) for connections in CONNECTIONS} == {4}


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (0.1234, "0.12"), (12.34, "12.3"), (4321.0, "4,321")])
def test_numbers_have_the_figures_that_matter(value: float | None, text: str) -> None:
    assert tables.number(value) == text


def test_bars_hold_are_missed_or_were_not_measured(tmp_path: Path) -> None:
    by_what = {bar.what: bar for bar in bars.bars(filled(tmp_path / "r.jsonl"))}
    plain = by_what["digits, multipart, 32 connections: requests/s over plain FastAPI's"]
    assert plain.measured == 3
    assert plain.verdict == "holds"
    assert by_what["start to ready, all models"].verdict == "not measured"
    assert bars.Bar("x", 2.0, 1.0, at_least=False).verdict == "**missed**"


def test_results_survive_a_restart_and_are_measured_once(tmp_path: Path) -> None:
    again = Results(filled(tmp_path / "r.jsonl").path)
    assert again.has(kind="table", side="fastapi", round=3)
    assert not again.has(kind="table", side="fastapi", round=4)


def test_other_wrappings_of_the_same_result_are_unwrapped() -> None:
    result = {"label": "7", "top": [{"label": "7", "probability": 0.9}]}
    wrapped = [
        {"model": "digits", "results": [result]},
        [result],
        result,
        {"outputs": [{"name": "results", "data": [json.dumps(result)]}]},
    ]
    for answer in wrapped:
        assert compare(result, first_result(json.dumps(answer).encode())).equal_share == 1
    other = {"label": "1", "top": [{"label": "1", "probability": 0.9}]}
    with pytest.raises(WrongAnswerError, match="label is 1, not 7"):
        compare(result, other)


def test_the_tree_of_this_process_has_cpu_time_and_memory() -> None:
    import os  # noqa: PLC0415

    assert os.getpid() in process_tree.tree(os.getpid())
    assert process_tree.cpu_s(os.getpid()) > 0
    assert process_tree.memory_bytes(os.getpid()) > 1_000_000


def test_a_commands_name_may_hold_anything() -> None:
    line = "42 (a) b (c)) S 7 1 1 0 -1 0 0 0 0 0 100 50 20 30 20 0 1 0 5 0 0"
    stat = process_tree.parse_stat(line)
    ticks = process_tree._TICKS_PER_S
    assert stat == process_tree.Stat(7, 150 / ticks, 50 / ticks)


def test_what_each_thread_used_is_told_apart() -> None:
    """A thread that works, in a process whose main thread waits for it; both read their own clocks."""
    program = """if True:
        import sys, threading, time
        def work():
            while time.thread_time() < 0.3: pass
            print(threading.get_native_id(), flush=True)
            sys.stdin.readline()
        worker = threading.Thread(target=work)
        worker.start(); worker.join()
    """
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        worker = int(process.stdout.readline())
        used = process_tree.thread_cpu_s(process.pid)
        process.communicate("\n")
    assert set(used) == {process.pid, worker}
    assert 0.25 <= used[worker] < 0.6
    assert used[process.pid] < 0.2, "the main thread only waits"


def test_percentiles_and_slopes() -> None:
    ascending = [float(value) for value in range(1, 101)]
    assert [percentile(ascending, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert percentile([], 0.5) is None
    assert math.isclose(slope([(0, 1), (10, 2), (20, 3)]), 0.1)
    assert slope([(0, 1)]) == 0


def test_goodput_counts_what_came_in_time_while_requests_were_offered() -> None:
    replies = [
        Reply(0.0, 0.5, 200),
        Reply(0.0, 0.9, 200),
        Reply(0.5, 1.5, 200),  # after the offer's second
        Reply(0.5, 0.51, 503),
        Reply(0.5, 0.6, BROKEN),
    ]
    row = summarize(replies, peak=2, started_at=0.0, seconds=1.0)
    assert row["goodput_share"] == 1
    assert (row["accepted"], row["refused"], row["broken"], row["other_statuses"]) == (3, 1, 1, 0)
    assert math.isclose(row["refused_p99_ms"], 10)


def test_the_longest_delay_is_that_of_the_time_asked_for() -> None:
    beats = [(1.0, 90.0), (2.0, 5.0), (3.0, 7.0), (9.0, 80.0)]
    text = "".join(json.dumps({"at": at, "longest_ms": ms, "own_cpu_ms": ms / 2}) + "\n" for at, ms in beats)
    row = read_beats(text + '{"at": 9.5, "lon', 1.5, 8.0)
    assert row == {"longest_ms": 7.0, "own_cpu_ms": 3.5, "median_of_seconds_ms": 7.0}


async def test_the_batcher_on_an_engine_of_ten_milliseconds() -> None:
    row = await measure_once(0.05)
    assert 0 < row["share"] <= 1.01


async def test_the_fixed_engine_answers_as_the_pipeline_expects(serve: Serve) -> None:
    async with serve() as service:
        manifests = [model.manifest for model in service.pipeline.models.by_name.values()]
    for manifest in manifests:
        engine = FixedEngine(manifest, 2)
        size = manifest.input
        picture = np.zeros((size.height, size.width, size.channels), np.uint8)
        outputs = await engine.run([picture, picture])
        assert len(outputs) == 2
        assert outputs[0].shape == (
            (size.height, size.width) if manifest.task == "segmentation" else (len(manifest.classes),)
        )
        engine.close()


async def test_the_client_reads_answers_and_counts_broken_connections() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\nbody")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        await writer.drain()
        writer.close()

    port = free_ports(1)
    server = await asyncio.start_server(answer, "127.0.0.1", port)
    client, request = Client(port), Request("/classify", "image/png", b"body")
    assert (await client.post(request)).status == 503
    server.close()
    await server.wait_closed()
    assert (await client.post(request)).status == BROKEN
    await client.close()


def test_connections_are_those_of_the_promise() -> None:
    assert CONNECTIONS == (1, 8, 32, 128)
