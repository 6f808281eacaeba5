import struct
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFile

from service.errors import NotAPictureError, PictureTooLargeError, UnreadablePictureError
from service.images import Header, PictureLimits, decode, read_header
from service.images.decoding import _check_jpeg, check_header, decode_reduced
from service.images.headers import exif_orientation, jpeg_segments
from tests.service.hostile_pictures import (
    filled_up,
    foreign,
    frames,
    gif_of_blocks,
    gradient,
    many_chunks,
    many_frames,
    orientation,
    rle_bitmap,
    scans_behind_exif,
    text_named_exif,
    webp_bomb,
    with_frame_marker,
    with_scans,
)
from tests.service.pictures import edited_png, encoded, png_chunk

LIMITS = PictureLimits()
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


@pytest.mark.parametrize("format_", FORMATS)
def test_the_formats(format_: str) -> None:
    data = encoded(gradient(), format_)
    header = read_header(memoryview(data))
    assert header == Header(header.format, 48, 32)
    assert header.format == format_
    assert header.pixels == 48 * 32
    picture = decode(data, LIMITS)
    assert (picture.mode, picture.size) == ("RGB", (48, 32))
    assert np.abs(np.asarray(picture).astype(int) - np.asarray(gradient())).mean() < 12  # JPEG and GIF lose something


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 50}, {"exif": b"Exif\0\0II*\0"}])
def test_every_kind_of_webp(options: dict[str, object]) -> None:
    data = encoded(gradient(), "WEBP", **options)
    assert read_header(data) == Header("WEBP", 48, 32)
    assert decode(data, LIMITS).size == (48, 32)


def test_a_bmp_stored_from_the_top() -> None:
    data = bytearray(encoded(gradient(), "BMP"))
    struct.pack_into("<i", data, 22, -32)
    assert read_header(bytes(data)) == Header("BMP", 48, 32)
    assert decode(bytes(data), LIMITS).size == (48, 32)


def test_a_bmp_with_the_oldest_header() -> None:
    """BITMAPCOREHEADER, of twelve bytes: its sizes are of two bytes each."""
    pixels = np.asarray(gradient())[::-1, :, ::-1].tobytes()  # rows from below, blue first
    data = b"BM" + struct.pack("<IHHI", 26 + len(pixels), 0, 0, 26) + struct.pack("<IHHHH", 12, 48, 32, 1, 24) + pixels
    assert read_header(data) == Header("BMP", 48, 32)
    assert np.array_equal(np.asarray(decode(data, LIMITS)), np.asarray(gradient()))


def test_a_webp_that_asks_to_be_shown_larger() -> None:
    """Two bits above each size are a scale for display, and no size."""
    data = bytearray(encoded(gradient(), "WEBP", quality=50))
    assert data[12:16] == b"VP8 "
    struct.pack_into("<HH", data, 26, 48 | 1 << 14, 32 | 3 << 14)
    assert read_header(bytes(data)) == Header("WEBP", 48, 32)
    assert decode(bytes(data), LIMITS).size == (48, 32)


@pytest.mark.parametrize("name", sorted(foreign()))
def test_other_formats_are_never_opened(name: str) -> None:
    data = foreign()[name]
    with pytest.raises(NotAPictureError, match="JPEG, PNG, WebP, GIF or BMP"):
        read_header(data)
    with pytest.raises(NotAPictureError):
        decode(data, LIMITS)


def test_nothing_sent() -> None:
    with pytest.raises(UnreadablePictureError, match="empty"):
        decode(b"", LIMITS)


@pytest.mark.parametrize("format_", FORMATS)
def test_cut_short(format_: str) -> None:
    data = encoded(gradient(200, 150), format_)
    for length in (3, 11, 17, 25, 40, len(data) // 3, len(data) // 2):
        with pytest.raises((UnreadablePictureError, NotAPictureError)):
            decode(data[:length], LIMITS)


def test_damaged_chunks() -> None:
    data = encoded(gradient(), "PNG")

    def break_data(kind: bytes, content: bytes) -> bytes:
        return png_chunk(kind, content[:10] + b"\xff" * (len(content) - 10) if kind == b"IDAT" else content)

    with pytest.raises(UnreadablePictureError, match="damaged"):
        decode(edited_png(data, break_data), LIMITS)
    with pytest.raises(UnreadablePictureError, match="damaged"):  # the checksum of the header is wrong
        decode(data[:29] + b"\0\0\0\0" + data[33:], LIMITS)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
@pytest.mark.parametrize("last", [False, True])
def test_bombs_in_chunks_beside_the_pixels(kind: bytes, *, last: bool) -> None:
    bomb = zlib.compress(bytes(80_000_000), 9)
    start = {b"zTXt": b"key\0\0", b"iCCP": b"name\0\0", b"iTXt": b"key\0\x01\0\0\0"}[kind]
    place = b"IEND" if last else b"IDAT"

    def add_bomb(name: bytes, content: bytes) -> bytes:
        before = png_chunk(kind, start + bomb) if name == place else b""
        return before + png_chunk(name, content)

    tracemalloc.start()
    with pytest.raises(UnreadablePictureError):
        decode(edited_png(encoded(gradient()), add_bomb), LIMITS)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_pixel_bomb_is_refused_by_its_header() -> None:
    tracemalloc.start()
    with pytest.raises(PictureTooLargeError, match="8192×10760"):
        decode(webp_bomb(), LIMITS)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("width", "height", "error"),
    [
        (20_000, 1, UnreadablePictureError),  # the aspect is judged first
        (1, 20_000, UnreadablePictureError),
        (20_000, 999, UnreadablePictureError),
        (20_000, 1000, PictureTooLargeError),
        (9000, 2000, PictureTooLargeError),
        (6000, 6000, PictureTooLargeError),
        (0xFFFFFFFF, 0xFFFFFFFF, PictureTooLargeError),
        (1, 1, UnreadablePictureError),
        (0, 7, UnreadablePictureError),
    ],
)
def test_sizes(width: int, height: int, error: type[Exception]) -> None:
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    with pytest.raises(error, match=f"{width}×{height}"):
        decode(data + png_chunk(b"IDAT", zlib.compress(bytes(64))) + png_chunk(b"IEND", b""), LIMITS)


def test_the_limits_are_arguments() -> None:
    data = encoded(gradient(48, 32))
    for limits in (PictureLimits(max_pixels=48 * 32 - 1), PictureLimits(max_side=47)):
        with pytest.raises(PictureTooLargeError):
            decode(data, limits)
    with pytest.raises(UnreadablePictureError, match=r"more than 1\.4 times"):
        decode(data, PictureLimits(max_aspect=1.4))
    assert decode(data, PictureLimits(max_pixels=48 * 32, max_side=48, max_aspect=1.5)).size == (48, 32)


def test_a_jpeg_of_a_thousand_scans() -> None:
    assert decode(encoded(gradient(), "JPEG", progressive=True), LIMITS).size == (48, 32)
    data = with_scans(1006)
    assert data.count(b"\xff\xda") == 1006
    with pytest.raises(UnreadablePictureError, match="more than 64 scans"):
        decode(data, LIMITS)


@pytest.mark.parametrize("most", [64, 25])
def test_the_most_scans_that_a_jpeg_may_have(most: int) -> None:
    for scans in (most, most + 1):
        data = with_scans(scans)
        if most == 25:  # which of a picture so large are as much work
            data = data.replace(struct.pack(">HH", 64, 64), struct.pack(">HH", 5000, 5000), 1)
        header = check_header(data, LIMITS)
        if scans == most:
            assert _check_jpeg(data, header, LIMITS)[0] == data
        else:
            with pytest.raises(UnreadablePictureError, match=f"more than {most} scans"):
                _check_jpeg(data, header, LIMITS)


def test_what_looks_like_the_end_hides_no_scans() -> None:
    data = with_scans(1006)
    first = data.index(b"\xff\xda")
    hidden = data[:first] + b"\xff\xfe\x00\x06\xff\xd9\xff\xd9" + data[first:]  # a comment that holds two end marks
    with pytest.raises(UnreadablePictureError, match="more than 64 scans"):
        decode(hidden, LIMITS)


def test_no_scan_appears_where_exif_was() -> None:
    """A fill byte before an EXIF block and what follows it would be a marker, were the block cut out."""
    clean, hiding = scans_behind_exif(0), scans_behind_exif(1006)
    assert np.array_equal(np.asarray(decode(hiding, LIMITS)), np.asarray(decode(clean, LIMITS)))
    decoded = _check_jpeg(hiding, check_header(hiding, LIMITS), LIMITS)[0]
    assert sum(segment.marker == 0xDA for segment in jpeg_segments(decoded)) == clean.count(b"\xff\xda")
    assert b"Exif" not in decoded


def test_a_large_jpeg_may_have_fewer_scans() -> None:
    data = with_scans(30)
    assert decode(data, LIMITS).size == (64, 64)
    large = data.replace(struct.pack(">HH", 64, 64), struct.pack(">HH", 5000, 5000), 1)
    with pytest.raises(UnreadablePictureError, match="more than 25 scans"):
        decode(large, LIMITS)


@pytest.mark.parametrize("marker", sorted({0xC3, *range(0xC5, 0xD0)} - {0xC8, 0xCC}))
def test_other_kinds_of_jpeg(marker: int) -> None:
    with pytest.raises(UnreadablePictureError, match="ordinary JPEG"):
        decode(with_frame_marker(marker), LIMITS)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
def test_many_compressed_chunks(kind: bytes) -> None:
    assert decode(many_chunks(kind, 3), LIMITS).size == (48, 32)
    with pytest.raises(UnreadablePictureError, match="more chunks"):
        decode(many_chunks(kind, 65), LIMITS)


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
def test_text_that_is_called_exif(kind: bytes) -> None:
    assert decode(text_named_exif(kind), LIMITS).size == (48, 32)


def test_fill_bytes_in_many_places() -> None:
    data = encoded(gradient(), "JPEG")
    assert decode(filled_up(data, 16), LIMITS).size == (48, 32)
    with pytest.raises(UnreadablePictureError, match="junk"):
        decode(filled_up(data, 17), LIMITS)


def test_comments_of_a_gif_in_many_blocks() -> None:
    assert decode(gif_of_blocks(2, 20_000), LIMITS).size == (48, 32)
    with pytest.raises(UnreadablePictureError, match="no frame"):
        decode(gif_of_blocks(75, 65_000), LIMITS)


def test_runs_of_a_bitmap() -> None:
    assert decode(rle_bitmap(64, 48), LIMITS).size == (64, 48)
    with pytest.raises(UnreadablePictureError, match="megapixel"):
        decode(rle_bitmap(8192, 3000), LIMITS)


def test_scans_in_a_thumbnail_do_not_count() -> None:
    thumbnail = b"\xff\xe2" + struct.pack(">H", 2 + 400) + b"\xff\xda" * 200
    data = encoded(gradient(), "JPEG")
    assert decode(data[:2] + thumbnail + data[2:], LIMITS).size == (48, 32)


def test_junk_between_segments_costs_nothing() -> None:
    data = encoded(gradient(), "JPEG")
    first = 4 + struct.unpack_from(">H", data, 4)[0]
    assert decode(data[:first] + bytes(100) + data[first:], LIMITS).size == (48, 32)
    with pytest.raises(UnreadablePictureError, match="junk"):
        decode(data[:first] + bytes(5_000_000) + data[first:], LIMITS)


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG"])
def test_of_many_frames_the_first(format_: str) -> None:
    single = decode(encoded(gradient(16, 16), format_), LIMITS)
    first = decode(frames(format_, 30), LIMITS)
    assert first.size == (16, 16)
    assert np.abs(np.asarray(first).astype(int) - np.asarray(single)).mean() < 8


def test_of_200_000_frames_the_first_in_no_more_time() -> None:
    for data in (many_frames("GIF", 200_000), many_frames("PNG", 100_000)):
        started = time.thread_time()
        assert decode(data, LIMITS).size == (16, 16)
        assert time.thread_time() - started < 0.3  # walking them takes seconds


def test_a_damaged_animation_header() -> None:
    def damage(kind: bytes, content: bytes) -> bytes:
        return png_chunk(kind, bytes(8) if kind == b"acTL" else content)

    with pytest.raises(UnreadablePictureError, match="animation"):
        decode(edited_png(frames("PNG", 3), damage), LIMITS)


def test_a_gif_frame_that_sticks_out_of_its_screen() -> None:
    data = bytearray(encoded(gradient(16, 16), "GIF"))
    frame = data.index(b"\x2c", 13 + 768)
    struct.pack_into("<HHHH", data, frame + 1, 0, 0, 65_535, 65_535)
    with pytest.raises(PictureTooLargeError):
        decode(bytes(data), LIMITS)


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_exif_turns_a_picture_upright(value: int, format_: str) -> None:
    upright = Image.new("RGB", (48, 32), "black")
    upright.paste("red", (0, 0, 16, 16))
    upright.paste("blue", (32, 16, 48, 32))
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright if value == 1 else upright.transpose(back[value])
    options: dict[str, object] = {"quality": 95, "subsampling": 0} if format_ == "JPEG" else {"lossless": True}
    for order in "<>":
        picture = decode(encoded(stored, format_, exif=orientation(value, order), **options), LIMITS)
        assert picture.size == (48, 32)
        assert np.abs(np.asarray(picture).astype(int) - np.asarray(upright)).mean() < 5


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0" + bytes(40),
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        orientation(0),
        orientation(9),
        orientation(6)[:-10],
        b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 4, 1, 6, 0),  # of four bytes, and it has two
        b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 3, 2, 6, 0),  # two orientations
        b"Exif\0\0II*\0" + struct.pack("<IH", 8, 0xFFFF) + b"\xff" * 60,
        b"Exif\0\0MM\0*" + struct.pack(">IHHHII", 8, 1, 0x011A, 5, 1, 0xFFFFFFF0),  # a resolution outside the file
        b"Exif\0\0II+\0" + bytes(20),
    ],
)
def test_bad_exif_is_ignored(exif: bytes) -> None:
    assert exif_orientation(exif) == 1
    data = encoded(gradient(), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    assert decode(data[:2] + segment + data[2:], LIMITS).size == (48, 32)

    def add(kind: bytes, content: bytes) -> bytes:
        return (png_chunk(b"eXIf", exif[6:]) if kind == b"IDAT" else b"") + png_chunk(kind, content)

    assert decode(edited_png(encoded(gradient()), add), LIMITS).size == (48, 32)


def test_16_bits_are_scaled() -> None:
    levels = np.linspace(0, 65_535, 1024).astype(np.uint16).reshape(32, 32)
    picture = decode(encoded(Image.fromarray(levels)), LIMITS)
    assert picture.mode == "L"
    assert np.array_equal(np.asarray(picture), np.rint(levels / 257).astype(np.uint8))


def test_16_bits_of_more_than_a_megapixel() -> None:
    """They are scaled strip by strip."""
    levels = np.linspace(0, 65_535, 1300 * 1100).astype(np.uint16).reshape(1300, 1100)
    picture = decode(encoded(Image.fromarray(levels)), LIMITS)
    assert np.array_equal(np.asarray(picture), np.rint(levels / 257).astype(np.uint8))


def test_16_bits_with_one_transparent_level() -> None:
    levels = np.full((4, 8), 4000, np.uint16)
    levels[:, 4:] = 60_000

    def add(kind: bytes, content: bytes) -> bytes:
        return (png_chunk(b"tRNS", struct.pack(">H", 4000)) if kind == b"IDAT" else b"") + png_chunk(kind, content)

    picture = decode(edited_png(encoded(Image.fromarray(levels)), add), LIMITS)
    assert picture.mode == "RGBA"
    assert np.asarray(picture)[0, :, 3].tolist() == [0] * 4 + [255] * 4


def _png(kind: int, depth: int, rows: bytes, width: int, transparent: bytes) -> bytes:
    """A PNG of two rows, which Pillow does not write so: `rows` are those as they are packed, each filter included."""
    header = struct.pack(">IIBBBBB", width, 2, depth, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"tRNS", transparent), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


@pytest.mark.parametrize(("depth", "level"), [(1, 0), (1, 1), (2, 0), (2, 1), (2, 3), (4, 3), (4, 15), (8, 51)])
def test_a_transparent_grey_of_any_depth(depth: int, level: int) -> None:
    levels = [level, 1 - level if depth == 1 else (level + 1) % (1 << depth)] * 4
    packed = 0
    for value in levels:
        packed = packed << depth | value
    row = b"\0" + packed.to_bytes(depth, "big")
    picture = decode(_png(0, depth, row * 2, 8, struct.pack(">H", level)), LIMITS)
    assert picture.mode == "RGBA"
    assert np.asarray(picture)[0, :, 3].tolist() == [0, 255] * 4


def test_a_transparent_colour_of_16_bits() -> None:
    hidden, shown = (0x3000, 0x0080, 0xFFFF), (0x0030, 0x8000, 0x00FF)
    row = b"\0" + (struct.pack(">3H", *hidden) + struct.pack(">3H", *shown)) * 4
    picture = decode(_png(2, 16, row * 2, 8, struct.pack(">3H", *hidden)), LIMITS)
    assert np.asarray(picture)[0, :, 3].tolist() == [0, 255] * 4


def test_a_gif_whose_frame_leaves_a_part_of_the_screen() -> None:
    data = bytearray(encoded(gradient(16, 16), "GIF"))
    struct.pack_into("<HH", data, 6, 40, 30)  # the screen
    frame = data.index(b"\x2c", 13 + 768)
    struct.pack_into("<HH", data, frame + 1, 10, 5)  # where the frame is on it
    picture = np.asarray(decode(bytes(data), LIMITS))
    visible = np.zeros((30, 40), np.uint8)
    visible[5:21, 10:26] = 255
    assert np.array_equal(picture[..., 3], visible)
    alone = np.asarray(decode(encoded(gradient(16, 16), "GIF"), LIMITS))
    assert np.array_equal(picture[5:21, 10:26, :3], alone)


def test_a_grey_gif_frame_beside_which_there_is_screen() -> None:
    """Its own palette is plain grey, and the screen's is not: the frame's colours are its own."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0x91, 0, 0) + bytes((255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9))
    own = b"".join(bytes((level,) * 3) for level in range(256))
    indices = bytes((1, 2, 1, 2))
    codes, bits = [256, *indices, 257], 0
    for place, code in enumerate(codes):
        bits |= code << (9 * place)
    packed = bits.to_bytes((9 * len(codes) + 7) // 8, "little")
    image = b"," + struct.pack("<HHHHB", 1, 1, 2, 2, 0x87) + own + b"\x08" + bytes((len(packed),)) + packed + b"\0;"
    picture = np.asarray(decode(screen + image, LIMITS))
    assert picture[1:3, 1:3].tolist() == [[[1, 1, 1, 255], [2, 2, 2, 255]]] * 2
    assert picture[0, 0, 3] == 0


@pytest.mark.parametrize(
    ("mode", "format_", "expected"),
    [
        ("1", "PNG", "L"),
        ("L", "PNG", "L"),
        ("P", "PNG", "RGB"),
        ("LA", "PNG", "RGB"),  # opaque everywhere
        ("RGBA", "PNG", "RGB"),
        ("CMYK", "JPEG", "RGB"),
        ("P", "GIF", "RGB"),
        ("RGBA", "WEBP", "RGB"),
        ("1", "BMP", "L"),
    ],
)
def test_modes(mode: str, format_: str, expected: str) -> None:
    original = gradient().convert(mode)
    picture = decode(encoded(original, format_), LIMITS)
    assert picture.mode == expected
    difference = np.asarray(picture.convert("L")).astype(int) - np.asarray(original.convert("RGB").convert("L"))
    assert np.abs(difference).mean() < 8


def test_transparency_is_kept() -> None:
    clear = gradient().convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    for data in (encoded(clear), encoded(clear, "WEBP", lossless=True), encoded(clear.convert("LA"))):
        assert decode(data, LIMITS).mode == "RGBA"
    palette = gradient().quantize(8)
    for transparency in (0, bytes(range(0, 240, 30))):
        assert decode(encoded(palette, transparency=transparency), LIMITS).mode == "RGBA"
    assert decode(encoded(gradient(), transparency=(0, 0, 0)), LIMITS).mode == "RGBA"


@pytest.mark.parametrize(
    ("size", "least_size", "expected"),
    [
        ((640, 480), (160, 120), (160, 120)),
        ((640, 480), (161, 120), (320, 240)),
        ((1920, 1080), (480, 360), (960, 540)),
        ((640, 480), (641, 10), (640, 480)),
        ((642, 482), (10, 10), (321, 241)),  # a quarter would not keep the proportions
        ((641, 480), (10, 10), (641, 480)),
    ],
)
def test_a_jpeg_decoded_at_a_part_of_its_size(
    size: tuple[int, int], least_size: tuple[int, int], expected: tuple[int, int]
) -> None:
    picture = gradient(*size)
    reduced, own_size = decode_reduced(encoded(picture, "JPEG", quality=95), LIMITS, least_size)
    assert (reduced.size, own_size) == (expected, size)
    small = np.asarray(picture.resize(expected, Image.Resampling.BOX), np.int16)
    near = np.abs(np.asarray(reduced, np.int16) - small).mean(axis=2) < 4
    assert near.mean() > 0.97  # but for where the gradient's blue begins anew


def test_only_jpegs_are_reduced() -> None:
    for format_ in ("PNG", "WEBP", "BMP"):
        picture, own_size = decode_reduced(encoded(gradient(64, 48), format_), LIMITS, (8, 6))
        assert picture.size == own_size == (64, 48)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_reduced_jpeg_is_upright_too(turn: int) -> None:
    """The least size is the upright picture's, and so is the size that is told."""
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encoded(gradient(64, 160), "JPEG", quality=95, exif=exif)
    upright = (160, 64) if turn >= 5 else (64, 160)
    reduced, own_size = decode_reduced(data, LIMITS, (upright[0] // 2, upright[1] // 2))
    assert own_size == upright
    assert reduced.size == (upright[0] // 2, upright[1] // 2)
    whole = np.asarray(decode(data, LIMITS).resize(reduced.size, Image.Resampling.BOX), np.int16)
    assert np.abs(np.asarray(reduced, np.int16) - whole).mean() < 4


def test_many_threads() -> None:
    files = [encoded(gradient(40 + i, 40), format_) for i, format_ in enumerate(FORMATS * 8)]
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(lambda data: decode(data, LIMITS).size, files))
    assert sizes == [(40 + i, 40) for i in range(len(files))]


def test_nothing_global_is_changed() -> None:
    assert Image.MAX_IMAGE_PIXELS == 1024 * 1024 * 1024 // 4 // 3
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
