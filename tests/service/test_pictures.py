import base64
from collections.abc import Callable, Sequence
from io import BytesIO

import httpx
import numpy as np
import pytest
from PIL import Image, ImageChops, ImageOps

from service.images import Prepared, prepare
from service.manifest import Manifest
from service.preparing import _as_it_is
from service.schemas import ClassifyAnswer, SegmentAnswer
from tests.service.conftest import PNG, Serve, digit_png, encoded, file_parts, grey_png, problem, street_png
from tests.service.tiny_models import brightness_class, metadata


async def test_a_digit(client: httpx.AsyncClient) -> None:
    response = await client.post("/classify", files=file_parts(digit_png()))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    answer = ClassifyAnswer.model_validate(response.json())
    assert (answer.model, answer.version) == ("digits", "1")
    (result,) = answer.results
    assert result.filename == "0.png"
    assert len(result.top) == 3
    assert (result.label, result.probability) == (result.top[0].label, result.top[0].probability)
    left, top, right, bottom = result.box
    assert 0 < left < right < 120
    assert 0 < top < bottom < 160


async def test_a_raw_body_is_answered_alike(client: httpx.AsyncClient) -> None:
    by_form = (await client.post("/classify", files=file_parts(digit_png()))).json()
    for headers in (PNG, {"content-type": "application/octet-stream"}, {"content-type": "image/jpeg"}, {}):
        by_body = (await client.post("/classify", content=digit_png(), headers=headers)).json()
        assert by_body["results"][0].pop("filename") is None
        assert by_body["results"][0] == {k: v for k, v in by_form["results"][0].items() if k != "filename"}


async def test_pictures_are_answered_in_their_order_whatever_their_number(client: httpx.AsyncClient) -> None:
    values = [(7 * i) % 90 for i in range(32)]
    for count in (1, 2, 31, 32):
        parts = file_parts(*(grey_png(value) for value in values[:count]))
        response = await client.post("/classify?model=brightness&top_k=1", files=parts)
        results = ClassifyAnswer.model_validate(response.json()).results
        assert [result.filename for result in results] == [f"{i}.png" for i in range(count)]
        assert [result.label for result in results] == [brightness_class(value) for value in values[:count]]


async def test_large_pictures_go_through_the_threads_in_order_too(client: httpx.AsyncClient) -> None:
    sizes = [(20, 20), (400, 300), (28, 28), (300, 400), (100, 100), (28, 28)]
    parts = file_parts(*(grey_png(10 * i, size) for i, size in enumerate(sizes)))
    response = await client.post("/classify?model=brightness", files=parts)
    results = ClassifyAnswer.model_validate(response.json()).results
    assert [result.label for result in results] == list("012345")
    assert [result.box for result in results] == [(0, 0, *size) for size in sizes]


async def test_top_k(client: httpx.AsyncClient) -> None:
    for top_k, expected in ((1, 1), (10, 10), (11, 10), (10**9, 10)):
        response = await client.post(f"/classify?top_k={top_k}", content=digit_png(), headers=PNG)
        top = response.json()["results"][0]["top"]
        assert len(top) == expected
        assert [guess["probability"] for guess in top] == sorted((guess["probability"] for guess in top), reverse=True)
    assert sum(guess["probability"] for guess in top) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("topk=5", "There is no parameter 'topk' here. There are: model, output, top_k."),
        ("modle=brightness&top_k=1", "There is no parameter 'modle' here."),
        ("n" * 90, f"There is no parameter '{'n' * 40}' here."),
        ("top_k=1&top_k=2", "is given more than once"),
        ("model=&model=brightness", "is given more than once"),
    ],
)
async def test_parameters_that_would_not_count_are_refused(client: httpx.AsyncClient, query: str, said: str) -> None:
    response = await client.post(f"/classify?{query}", content=digit_png(), headers=PNG)
    assert response.status_code == 422
    assert said in response.json()["detail"]


async def test_the_most_parameters(client: httpx.AsyncClient) -> None:
    for separators, status in ((99, 200), (100, 422)):
        query = f"top_k=1{'&' * separators}"
        response = await client.post(f"/classify?{query}", content=digit_png(), headers=PNG)
        assert response.status_code == status, response.text
    problem(response, 422, "invalid-request", "There are more than 100 parameters in the query.")


def stages_ms(response: httpx.Response) -> dict[str, float]:
    stages = (stage.split(";dur=") for stage in response.headers["server-timing"].split(", "))
    return {stage: float(ms) for stage, ms in stages}


@pytest.mark.parametrize("output", ["json", "input"])
async def test_every_answer_says_where_its_time_went(client: httpx.AsyncClient, output: str) -> None:
    response = await client.post(f"/classify?output={output}", content=digit_png(), headers=PNG)
    stages = stages_ms(response)
    assert list(stages) == [*(["decode", "queue", "run", "draw"] if output == "json" else ["decode"]), "total"]
    assert all(ms >= 0 for ms in stages.values())
    assert stages.pop("total") >= sum(stages.values())


@pytest.mark.parametrize(
    ("path", "content", "status", "stages"),
    [
        ("/classify", grey_png(255, (100, 100)), 422, ["decode", "total"]),
        ("/segment", b"no picture", 415, ["decode", "total"]),
        ("/classify?model=none", digit_png(), 404, ["total"]),
        ("/classify?top_k=0", digit_png(), 422, ["total"]),
    ],
)
async def test_a_refusal_says_so_too(
    client: httpx.AsyncClient, path: str, content: bytes, status: int, stages: list[str]
) -> None:
    response = await client.post(path, content=content, headers=PNG)
    assert response.status_code == status
    assert list(stages_ms(response)) == stages


async def test_the_picture_that_the_network_saw(client: httpx.AsyncClient) -> None:
    response = await client.post("/classify?output=input", content=digit_png(), headers=PNG)
    assert response.headers["content-type"] == "image/png"
    seen = Image.open(BytesIO(response.content))
    assert (seen.size, seen.mode) == ((28, 28), "L")
    assert np.asarray(seen).max() > 200


async def test_a_street(client: httpx.AsyncClient) -> None:
    response = await client.post("/segment", files=file_parts(street_png(90, 70)))
    answer = SegmentAnswer.model_validate(response.json())
    assert (answer.model, answer.version) == ("streets", "1")
    (result,) = answer.results
    assert (result.filename, result.width, result.height) == ("0.png", 90, 70)
    assert [(each.name, each.color) for each in result.classes] == [("red", "#ff0000"), ("blue", "#0000ff")]
    assert sum(each.pixels for each in result.classes) == 90 * 70
    assert sum(each.share for each in result.classes) == pytest.approx(1, abs=1e-5)
    mask = Image.open(BytesIO(base64.b64decode(result.mask)))
    assert (mask.mode, mask.size) == ("P", (90, 70))
    assert set(np.asarray(mask).ravel()) == {0, 2}


async def test_mask_and_overlay(client: httpx.AsyncClient) -> None:
    for size in ((90, 70), (640, 480)):  # below and above what is drawn in threads
        street = street_png(*size)
        body = (await client.post("/segment", content=street, headers=PNG)).json()["results"][0]["mask"]
        mask = await client.post("/segment?output=mask", content=street, headers=PNG)
        assert mask.content == base64.b64decode(body)
        overlay = await client.post("/segment?output=overlay", content=street, headers=PNG)
        for response in (mask, overlay):
            assert response.headers["content-type"] == "image/png"
            assert "draw;dur=" in response.headers["server-timing"]
            assert Image.open(BytesIO(response.content)).size == size


@pytest.mark.parametrize("size", [(90, 70), (640, 480)])  # below and above what is drawn in threads
async def test_an_overlay_is_half_the_picture_and_half_the_colour_of_its_class(
    client: httpx.AsyncClient, size: tuple[int, int]
) -> None:
    street = Image.new("RGB", size, (120, 60, 20))
    street.paste((20, 60, 130), (0, size[1] // 2, *size))
    response = await client.post("/segment?output=overlay", content=encoded(street), headers=PNG)
    overlay = Image.open(BytesIO(response.content))
    assert overlay.mode == "RGB"
    pixels = np.asarray(overlay).astype(int)
    for row, color in ((5, (187.5, 30, 10)), (-5, (10, 30, 192.5))):
        assert np.abs(pixels[row] - color).max() < 1


async def test_shares_are_of_all_pixels_and_the_largest_comes_first(client: httpx.AsyncClient) -> None:
    street = Image.new("RGB", (64, 48), "red")
    street.paste("blue", (0, 12, 64, 48))
    response = await client.post("/segment", content=encoded(street), headers=PNG)
    (result,) = SegmentAnswer.model_validate(response.json()).results
    assert [each.name for each in result.classes] == ["blue", "red"]
    assert [each.share for each in result.classes] == pytest.approx([0.75, 0.25], abs=0.03)
    assert [each.share for each in result.classes] == pytest.approx([n.pixels / (64 * 48) for n in result.classes])


async def test_classes_of_one_size_come_by_their_ids(client: httpx.AsyncClient) -> None:
    upside_down = ImageOps.flip(Image.open(BytesIO(street_png())))
    response = await client.post("/segment", content=encoded(upside_down), headers=PNG)
    (result,) = SegmentAnswer.model_validate(response.json()).results
    assert [(each.id, each.pixels) for each in result.classes] == [(0, 64 * 24), (2, 64 * 24)]


async def test_several_streets(client: httpx.AsyncClient) -> None:
    sizes = [(40, 30), (300, 200), (64, 48)]
    parts = file_parts(*(street_png(*size) for size in sizes))
    response = await client.post("/segment", files=parts)
    results = SegmentAnswer.model_validate(response.json()).results
    assert [(result.width, result.height) for result in results] == sizes


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/classify?top_k=0", "top_k"),
        ("/classify?top_k=-1", "top_k"),
        ("/classify?top_k=three", "top_k"),
        ("/classify?output=gif", "output"),
        ("/classify?output=mask", "output"),
        ("/segment?output=gif", "output"),
        ("/segment?output=input", "output"),
    ],
)
async def test_a_wrong_parameter_is_named(client: httpx.AsyncClient, path: str, parameter: str) -> None:
    response = await client.post(path, content=digit_png(), headers=PNG)
    problem(response, 422, "invalid-request", f"{parameter}: ")


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/classify?model=none", "There is no model 'none'. Models for /classify: brightness, digits."),
        ("/classify?model=", "There is no model ''. Models for /classify: brightness, digits."),
        ("/classify?model=streets", "does segmentation, not classification. Models for /classify: brightness, digits."),
        ("/segment?model=digits", "does classification, not segmentation. Models for /segment: streets."),
    ],
)
async def test_a_model_that_is_not_there(client: httpx.AsyncClient, path: str, there: str) -> None:
    problem(await client.post(path, content=digit_png(), headers=PNG), 404, "model-not-found", there)


@pytest.mark.parametrize("path", ["/classify?output=input", "/segment?output=mask", "/segment?output=overlay"])
async def test_one_picture_at_a_time_where_a_picture_is_the_answer(client: httpx.AsyncClient, path: str) -> None:
    response = await client.post(path, files=file_parts(street_png(), street_png()))
    problem(response, 422, "invalid-request", "answers one picture, and 2 were sent")


@pytest.mark.parametrize(
    ("bad", "status", "name"),
    [
        (b"hello, no picture", 415, "not-a-picture"),
        (b"", 422, "unreadable-picture"),
        (grey_png(255, (100, 100)), 422, "unreadable-picture"),
        (digit_png()[:100], 422, "unreadable-picture"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415, "not-a-picture"),
    ],
)
async def test_what_is_no_usable_picture(client: httpx.AsyncClient, bad: bytes, status: int, name: str) -> None:
    problem(await client.post("/classify", content=bad, headers=PNG), status, name, "")
    several = await client.post("/classify", files=file_parts(digit_png(), bad, digit_png()))
    problem(several, status, name, "Picture 2 of 3 ('1.png'): ")


async def test_a_picture_over_the_limits(serve: Serve) -> None:
    async with serve(max_pixels=10_000) as service:
        response = await service.client.post("/segment", content=street_png(200, 100), headers=PNG)
        problem(response, 413, "picture-too-large", "")


async def test_every_header_is_checked_before_the_first_picture_is_decoded(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[int] = []

    def count(picture: Image.Image, *_: object) -> Prepared:
        prepared.append(picture.width)
        raise ZeroDivisionError

    monkeypatch.setattr("service.preparing.prepare", count)
    noise = Image.effect_noise((400, 400), 50)  # many bytes, whose headers are looked at in a thread
    for good in (digit_png(), encoded(noise)):
        for bad, status, name in (
            (b"hello", 415, "not-a-picture"),
            (grey_png(0, (2000, 50)), 422, "unreadable-picture"),
        ):
            response = await client.post("/classify", files=file_parts(good, good, bad))
            problem(response, status, name, "Picture 3 of 3 ('2.png'): ")
    assert prepared == []


async def test_a_large_jpeg_is_answered_at_its_own_size(client: httpx.AsyncClient) -> None:
    """It is decoded at a quarter of it, turned upright, and nothing of that is to be seen."""
    turned = Image.Exif()
    turned[0x0112] = 6
    stored = Image.open(BytesIO(street_png(640, 480))).transpose(Image.Transpose.ROTATE_90)
    buffer = BytesIO()
    stored.save(buffer, "JPEG", quality=95, exif=turned)
    response = await client.post("/segment", content=buffer.getvalue(), headers=PNG)
    (result,) = SegmentAnswer.model_validate(response.json()).results
    assert (result.width, result.height) == (640, 480)
    mask = np.asarray(Image.open(BytesIO(base64.b64decode(result.mask))))
    assert (mask[:230] == 0).all()
    assert (mask[250:] == 2).all()


async def test_the_box_in_a_large_jpeg_is_in_its_own_pixels(client: httpx.AsyncClient) -> None:
    large = encoded(Image.new("L", (640, 480), 50), "JPEG")  # decoded at an eighth of it
    response = await client.post("/classify?model=brightness", content=large, headers=PNG)
    (result,) = ClassifyAnswer.model_validate(response.json()).results
    assert (result.label, result.box) == ("5", (0, 0, 640, 480))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("negative", [False, True])
def test_what_is_in_mnists_form_is_taken_as_the_search_would_take_it(mode: str, *, negative: bool) -> None:
    picture = (ImageOps.invert(mnist_like()) if negative else mnist_like()).convert(mode)
    manifest = Manifest.model_validate(metadata())
    taken, found = _as_it_is(picture, manifest), prepare(picture, manifest.input, manifest.preparation)
    assert taken is not None
    assert np.array_equal(taken.pixels, found.pixels)
    assert (taken.width, taken.height, taken.region) == (found.width, found.height, found.region)


async def test_too_many_pictures(client: httpx.AsyncClient) -> None:
    response = await client.post("/classify", files=file_parts(*[digit_png()] * 33))
    problem(response, 413, "too-many-pictures", "more than 32 pictures")


async def test_a_network_that_fails_is_a_problem_of_its_batch(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve() as service:
        engine = service.pipeline.models.by_name["digits"].engine
        session = engine._session  # type: ignore[attr-defined]

        class Broken:
            def run(self, *_: object) -> None:
                raise RuntimeError("secret details")

        monkeypatch.setattr(engine, "_session", Broken())
        response = await service.client.post("/classify", content=digit_png(), headers=PNG)
        problem(response, 500, "inference-failed", "The network failed")
        assert "secret" not in response.text
        monkeypatch.setattr(engine, "_session", session)
        assert (await service.client.post("/classify", content=digit_png(), headers=PNG)).status_code == 200
        assert (await service.client.get("/readyz")).status_code == 200


async def test_a_mistake_in_the_service_is_a_problem_too(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Prepared:
        raise ZeroDivisionError("secret details")

    monkeypatch.setattr("service.preparing.prepare", fail)
    async with serve() as service:
        response = await service.client.post("/classify", content=digit_png(), headers=PNG)
        problem(response, 500, "internal-error", "The service failed")
        assert "secret" not in response.text


async def test_formats_are_told_by_the_bytes(client: httpx.AsyncClient) -> None:
    for format_ in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
        data = encoded(Image.new("L", (40, 40), 50), format_)
        response = await client.post("/classify?model=brightness", content=data, headers=PNG)
        assert response.json()["results"][0]["label"] == "5", format_


def mnist_like() -> Image.Image:
    """A bar in MNIST's form: 20 pixels high, white on black, its centre of mass in the middle."""
    picture = Image.new("L", (28, 28), 0)
    picture.paste(255, (13, 4, 16, 24))
    return picture


async def test_only_what_needs_no_work_stays_on_the_loop(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    hops: list[int] = []
    async with serve() as service:
        workers = service.pipeline._workers
        run_all = workers.run_all

        async def count(calls: Sequence[Callable[[], object]]) -> list[object]:
            hops.append(len(calls))
            return await run_all(calls)

        monkeypatch.setattr(workers, "run_all", count)
        ready, negative = encoded(mnist_like()), encoded(ImageOps.invert(mnist_like()))
        elsewhere = encoded(ImageChops.offset(mnist_like(), 5, 0))
        for pictures, expected in (
            ([ready], []),
            ([negative] * 20, []),
            ([elsewhere], [1]),
            ([ready] * 32, [2]),
            ([ready, digit_png(), digit_png()], [2]),
        ):
            hops.clear()
            response = await service.client.post("/classify", files=file_parts(*pictures))
            assert response.status_code == 200, response.text
            assert hops == expected
