"""A video, or a folder of frames, through /segment: `python examples/segment_video.py FRAMES OUT` writes overlays.

Several frames are in flight at once and are written in their order. A folder needs httpx and tqdm alone; a video file
needs OpenCV (`pip install opencv-python-headless`) or imageio (`pip install "imageio[ffmpeg]"`) besides.
"""

import argparse
import io
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
from tqdm import tqdm

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"}


class Refused(Exception):  # noqa: N818 - it is what happened
    """A frame was not answered; `str(error)` says which and why."""


def read_frames(source: Path) -> tuple[int | None, Iterator[tuple[str, bytes]]]:
    """How many frames there are, where that is known, and each one's name and encoded picture.

    Raises:
        FileNotFoundError: there is no `source`, or no picture in it.
        ModuleNotFoundError: `source` is a video, and nothing that reads videos is installed.
    """
    if not source.exists():
        raise FileNotFoundError(f"there is no {source}")
    if source.is_dir():
        paths = sorted(path for path in source.iterdir() if path.suffix.lower() in PICTURES)
        if not paths:
            raise FileNotFoundError(f"{source} holds no pictures ({', '.join(sorted(PICTURES))})")
        frames_named_so = Counter(path.stem for path in paths)
        names = (path.stem if frames_named_so[path.stem] == 1 else path.name for path in paths)
        return len(paths), ((name, path.read_bytes()) for name, path in zip(names, paths, strict=True))
    try:
        import cv2  # noqa: F401, PLC0415 - only where a video is read
    except ModuleNotFoundError:
        try:
            import imageio  # noqa: F401, PLC0415
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                f"{source} is no folder of frames. To read it as a video: pip install opencv-python-headless, or "
                "pip install 'imageio[ffmpeg]'."
            ) from None
        return None, _frames_by_imageio(source)
    return None, _frames_by_opencv(source)


def _frames_by_opencv(source: Path) -> Iterator[tuple[str, bytes]]:
    import cv2  # noqa: PLC0415

    video = cv2.VideoCapture(str(source))
    if not video.isOpened():
        raise OSError(f"{source} is no video that OpenCV reads")
    index = 0
    while True:
        there, frame = video.read()
        if not there:
            break
        yield f"{index:06}", cv2.imencode(".jpg", frame)[1].tobytes()
        index += 1
    video.release()


def _frames_by_imageio(source: Path) -> Iterator[tuple[str, bytes]]:
    import imageio.v3  # noqa: PLC0415

    for index, frame in enumerate(imageio.v3.imiter(source)):
        buffer = io.BytesIO()
        imageio.v3.imwrite(buffer, frame, extension=".jpg")
        yield f"{index:06}", buffer.getvalue()


def ask(client: httpx.Client, name: str, frame: bytes, deadline_s: float) -> bytes:
    """The overlay of one frame, a PNG. Waits as long as a busy service asks for, up to the deadline.

    Raises:
        Refused: naming the frame.
    """
    ends_at = time.monotonic() + deadline_s
    while True:
        left_s = ends_at - time.monotonic()
        if left_s <= 0:
            raise Refused(f"frame {name}: no answer within {deadline_s:g} s")
        # The service stops working on an answer that nobody waits for any more.
        headers = {"Content-Type": "application/octet-stream", "X-Request-Timeout-Ms": str(max(1, int(left_s * 1000)))}
        try:
            response = client.post(
                "/segment", params={"output": "overlay"}, content=frame, headers=headers, timeout=left_s
            )
        except httpx.TimeoutException:
            raise Refused(f"frame {name}: no answer within {deadline_s:g} s") from None
        except httpx.TransportError as error:
            raise Refused(f"frame {name}: {client.base_url}: {error or type(error).__name__}") from error
        if response.status_code == 503:
            pause_s = float(response.headers.get("Retry-After", 1))
            if time.monotonic() + pause_s < ends_at:
                time.sleep(pause_s)
                continue
        if response.is_error:
            raise Refused(f"frame {name}: {problem_of(response)}")
        return response.content


def problem_of(response: httpx.Response) -> str:
    """The service's explanation (RFC 9457), or the bare status where something else answered."""
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"


def segment_all(client: httpx.Client, source: Path, out: Path, *, at_once: int, deadline_s: float) -> int:
    """Write the overlay of every frame into `out`, in order; how many there were."""
    total, frames = read_frames(source)
    out.mkdir(parents=True, exist_ok=True)
    written = 0
    in_flight: deque[tuple[str, Future[bytes]]] = deque()
    with ThreadPoolExecutor(at_once) as threads, tqdm(total=total, unit="frame") as bar:

        def write_first() -> None:
            name, overlay = in_flight.popleft()
            (out / f"{name}.png").write_bytes(overlay.result())
            bar.update()

        for name, frame in frames:
            if len(in_flight) == at_once:  # no further: a long video does not fit into memory
                write_first()
            in_flight.append((name, threads.submit(ask, client, name, frame, deadline_s)))
            written += 1
        while in_flight:
            write_first()
    return written


def main() -> int:
    """Segment, and say how fast."""
    parser = argparse.ArgumentParser(description="Lay the classes of every pixel over the frames of a video.")
    parser.add_argument("source", type=Path, help="a folder of frames, or a video file")
    parser.add_argument("out", type=Path, help="folder for the overlays")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--key", help="where the service wants one")
    parser.add_argument("--at-once", type=int, default=4, help="frames in flight")
    parser.add_argument("--deadline", type=float, default=60, help="seconds for one frame, retries included")
    arguments = parser.parse_args()
    if arguments.at_once < 1:
        parser.error("--at-once is at least 1")
    if not (arguments.key or "").isascii():
        parser.error("a key is ASCII")
    headers = {"Authorization": f"Bearer {arguments.key}"} if arguments.key else {}
    started_at = time.monotonic()
    try:
        with httpx.Client(base_url=arguments.url, headers=headers) as client:
            count = segment_all(
                client, arguments.source, arguments.out, at_once=arguments.at_once, deadline_s=arguments.deadline
            )
    except (Refused, ModuleNotFoundError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    seconds = time.monotonic() - started_at
    print(f"{count} frames in {seconds:.1f} s: {count / seconds:.1f} frames/s, written to {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
