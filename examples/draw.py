"""Draws the example pictures: `python examples/draw.py` writes them beside this file, the same every time.

They are drawn, not photographed, so that anyone may use them for anything. Needs Pillow and NumPy.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

FOLDER = Path(__file__).resolve().parent
Point = tuple[float, float]
Color = tuple[int, int, int]


def draw_seven(seed: int = 7) -> Image.Image:
    """A seven written with a felt pen on cream paper under uneven light. RGB, 480×640."""
    random = np.random.default_rng(seed)
    size = (480, 640)
    # Bézier curves of one continuous stroke: the bar from left to right, then down in a slight bow, and the cross-bar.
    strokes: list[list[Point]] = [
        [(128, 188), (205, 168), (290, 186), (352, 176)],
        [(352, 176), (318, 268), (262, 366), (232, 505)],
        [(208, 338), (250, 326), (298, 332), (334, 320)],
    ]
    ink = Image.new("L", (size[0] * 2, size[1] * 2), 0)
    pen = ImageDraw.Draw(ink)
    for stroke in strokes:
        for i, (x, y) in enumerate(_bezier(stroke, 260)):
            radius = 21 + 4 * np.sin(i / 37) + random.normal(0, 0.4)
            pen.ellipse([2 * x - radius, 2 * y - radius, 2 * x + radius, 2 * y + radius], fill=255)
    coverage = np.asarray(ink.resize(size, Image.Resampling.LANCZOS), np.float32)[..., None] / 255
    fibres = _smooth_noise(random, size, 3) * 5 + random.normal(0, 2, (size[1], size[0]))
    rows, columns = _grid(size)
    light = 1.02 - 0.22 * columns * rows
    paper = np.array([243, 238, 222], np.float32) + fibres[..., None]
    picture = (paper * (1 - coverage) + np.array([38, 44, 92], np.float32) * coverage) * light[..., None]
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.7))


def _grid(size: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Row and column of every pixel, each from 0 to 1, height×width."""
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]]
    return rows / (size[1] - 1), columns / (size[0] - 1)


def _bezier(points: Sequence[Point], steps: int) -> list[Point]:
    """Points along a cubic Bézier curve."""
    t = np.linspace(0, 1, steps)[:, None]
    a, b, c, d = (np.array(p, np.float64) for p in points)
    curve = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
    return [(float(x), float(y)) for x, y in curve]


def _darker(color: Color, share: float = 0.75) -> Color:
    red, green, blue = color
    return int(red * share), int(green * share), int(blue * share)


def _smooth_noise(random: np.random.Generator, size: tuple[int, int], cell: float) -> NDArray[np.float32]:
    """Noise about 0 with a spread near 1 and blobs of `cell` pixels, height×width."""
    small = random.normal(0, 1, (max(1, round(size[1] / cell)), max(1, round(size[0] / cell)))).astype(np.float32)
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC), np.float32)


class Street:
    """A street seen from a car, drawn from far to near. RGB, 960×720; the road vanishes at (470, 330)."""

    size = (960, 720)
    vanishing: Point = (470, 330)

    def __init__(self, seed: int = 3) -> None:
        self.random = np.random.default_rng(seed)
        self.picture = Image.new("RGB", self.size)

    def draw(self) -> Image.Image:
        """Draw everything."""
        self.sky()
        self.ground()
        self.row_of_buildings(side=-1)
        self.row_of_buildings(side=1)
        for x, depth, height in ((-1.55, 0.24, 0.36), (1.5, 0.2, 0.34), (1.62, 0.42, 0.6)):
            self.tree(x, depth, height)
        for x, depth in ((-1.22, 0.22), (1.22, 0.3), (-1.24, 0.62), (1.26, 0.75)):
            self.pole(x, depth)
        self.pedestrian(-1.4, 0.4, (52, 48, 60))
        self.pedestrian(1.42, 0.52, (120, 52, 46))
        for x, depth, color in (
            (-0.85, 0.17, (60, 64, 72)),
            (0.9, 0.2, (150, 152, 156)),
            (-0.86, 0.34, (112, 24, 26)),
            (0.42, 0.24, (34, 44, 74)),
            (0.92, 0.5, (84, 98, 124)),
        ):
            self.car(x, depth, color)
        return self.finish()

    def at(self, x: float, depth: float, height: float = 0.0) -> Point:
        """Where a point of the scene is in the picture.

        `x` is across the road (−1 and 1 are its edges), `depth` how near (0 at the vanishing point, 1 at the picture's
        lower border), `height` above the ground in units of the road's half width.
        """
        half_width, drop = 560 * depth, 390 * depth
        return self.vanishing[0] + x * half_width, self.vanishing[1] + drop - height * half_width

    def polygon(self, points: list[Point], color: Color, grain: float = 5, cell: float = 2) -> None:
        """A polygon with grain, so that surfaces are not flat as only drawn ones are."""
        mask = Image.new("L", self.size, 0)
        ImageDraw.Draw(mask).polygon(points, fill=255)
        noise = _smooth_noise(self.random, self.size, cell) * grain
        surface = (np.array(color, np.float32) + noise[..., None]).clip(0, 255).astype(np.uint8)
        self.picture.paste(Image.fromarray(surface), (0, 0), mask)

    def sky(self) -> None:
        """An overcast sky, brighter towards the horizon."""
        rows, _ = _grid(self.size)
        clouds = _smooth_noise(self.random, self.size, 160) * 5
        base = np.stack([196 + 60 * rows, 206 + 50 * rows, 220 + 40 * rows], axis=-1) + clouds[..., None]
        self.picture.paste(Image.fromarray(base.clip(0, 255).astype(np.uint8)))

    def ground(self) -> None:
        """Pavements, kerbs, the road and its markings."""
        far, near = 0.012, 1.25
        for side in (-1, 1):
            corners = [self.at(side * 0.98, far), self.at(side * 3.4, far), self.at(side * 3.4, near)]
            self.polygon([*corners, self.at(side * 0.98, near)], (132, 126, 122), 6)
        road = [self.at(-1, far), self.at(1, far), self.at(1, near), self.at(-1, near)]
        self.polygon(road, (92, 92, 96), 5)
        for side in (-1, 1):
            kerb = [self.at(side, far), self.at(side * 1.04, far), self.at(side * 1.04, near), self.at(side, near)]
            self.polygon(kerb, (158, 156, 152), 4)
        depth = 0.06
        while depth < near:
            end = depth * 1.3
            dash = [self.at(-0.02, depth), self.at(0.02, depth), self.at(0.02, end), self.at(-0.02, end)]
            self.polygon(dash, (205, 205, 200), 4)
            depth *= 1.75

    def row_of_buildings(self, side: int) -> None:
        """Terraced houses along one side, from far to near."""
        colors: list[Color] = [(164, 112, 88), (206, 192, 166), (150, 98, 80), (188, 176, 152), (140, 108, 92)]
        depths = [0.03, 0.09, 0.17, 0.3, 0.52, 0.9, 1.5]
        for i, (far, near) in enumerate(pairwise(depths)):
            wall = side * 1.85
            height = 1.35 + 0.35 * float(self.random.random())
            color = colors[(i + (side > 0) * 2) % len(colors)]
            middle = float(np.sqrt(far * near))
            self.polygon(self.front(wall * 1.04, middle, middle * 1.12, height, height + 0.34), (132, 90, 74), 6)
            self.polygon(self.front(wall * 1.02, far, near, height, height + 0.14), (92, 80, 78), 7)
            self.polygon(self.front(wall, far, near, 0, height), color, 9)
            self.polygon(self.front(wall, far, near, 0, 0.1), _darker(color), 6)
            self.windows(wall, far, near, height)
            gutter = [self.at(wall, far, height), self.at(wall, near, height)]
            ImageDraw.Draw(self.picture).line(gutter, fill=(214, 212, 206), width=max(1, round(10 * near)))

    def front(self, wall: float, far: float, near: float, low: float, high: float) -> list[Point]:
        """The corners of what stands in the plane of a wall along the road."""
        return [self.at(wall, far, high), self.at(wall, near, high), self.at(wall, near, low), self.at(wall, far, low)]

    def windows(self, wall: float, far: float, near: float, height: float) -> None:
        """Rows of windows in one front, and its door."""

        def pane(color: Color, left: float, right: float, low: float, high: float) -> None:
            a, b = (far * (near / far) ** (column / 4) for column in (left, right))
            self.polygon(self.front(wall, a, b, low, high), color, 6, 6)

        frame, glass, door = (222, 220, 214), (70, 80, 92), (44, 62, 52)
        for floor in range(3):
            low = 0.2 + floor * (height - 0.1) / 3
            high = low + height / 5.5
            for column in range(4):
                if (floor, column) == (0, 1):
                    pane(frame, column + 0.2, column + 0.7, 0, high)
                    pane(door, column + 0.27, column + 0.63, 0, high - 0.03)
                    continue
                pane(frame, column + 0.2, column + 0.75, low - 0.03, high + 0.03)
                pane(glass, column + 0.26, column + 0.46, low, high)
                pane(glass, column + 0.5, column + 0.69, low, high)

    def tree(self, x: float, depth: float, height: float) -> None:
        """A trunk and a crown of many leaves."""
        foot, top = self.at(x, depth), self.at(x, depth, height)
        ImageDraw.Draw(self.picture).line([foot, top], fill=(62, 50, 40), width=max(2, round(34 * depth)))
        crown = 210 * depth
        pen = ImageDraw.Draw(self.picture)
        for _ in range(900):
            angle, radius = self.random.uniform(0, 2 * np.pi), crown * np.sqrt(self.random.random())
            cx, cy = top[0] + radius * np.cos(angle), top[1] - 0.4 * crown + 0.85 * radius * np.sin(angle)
            leaf = max(1.5, crown * 0.05 * self.random.uniform(0.5, 1.5))
            shade = self.random.uniform(0.55, 1.15) * (1.1 - 0.3 * (cy - top[1] + crown) / (2 * crown))
            color = (int(62 * shade), int(82 * shade), int(44 * shade))
            pen.ellipse([cx - leaf, cy - leaf, cx + leaf, cy + leaf], fill=color)

    def pole(self, x: float, depth: float) -> None:
        """A street lamp."""
        foot, top = self.at(x, depth), self.at(x, depth, 1.25)
        arm = (top[0] - np.sign(x) * 90 * depth, top[1] - 8 * depth)
        pen = ImageDraw.Draw(self.picture)
        pen.line([foot, top], fill=(74, 78, 80), width=max(2, round(13 * depth)))
        pen.line([top, arm], fill=(74, 78, 80), width=max(1, round(8 * depth)))

    def pedestrian(self, x: float, depth: float, color: Color) -> None:
        """Somebody standing on the pavement."""
        unit = 560 * depth
        cx, ground = self.at(x, depth)
        pen = ImageDraw.Draw(self.picture)
        for leg in (-0.035, 0.035):
            pen.line(
                [(cx + leg * unit, ground), (cx, ground - 0.24 * unit)], fill=(38, 38, 46), width=round(0.05 * unit)
            )
        body = [cx - 0.075 * unit, ground - 0.46 * unit, cx + 0.075 * unit, ground - 0.2 * unit]
        pen.rounded_rectangle(body, 0.04 * unit, fill=color)
        head = [cx - 0.035 * unit, ground - 0.55 * unit, cx + 0.035 * unit, ground - 0.46 * unit]
        pen.ellipse(head, fill=(178, 140, 118))

    def car(self, x: float, depth: float, color: Color) -> None:
        """A car from behind, with its shadow."""
        unit = 560 * depth
        cx, ground = self.at(x, depth)
        pen = ImageDraw.Draw(self.picture)

        def box(left: float, low: float, right: float, high: float) -> list[float]:
            return [cx + left * unit, ground - high * unit, cx + right * unit, ground - low * unit]

        pen.ellipse(box(-0.33, -0.04, 0.33, 0.05), fill=(46, 46, 50))
        for wheel in (-0.25, 0.17):
            pen.rounded_rectangle(box(wheel, -0.01, wheel + 0.08, 0.12), 0.02 * unit, fill=(20, 20, 22))
        pen.rounded_rectangle(box(-0.29, 0.06, 0.29, 0.29), 0.05 * unit, fill=color)
        cabin = [(-0.26, 0.27), (-0.2, 0.46), (0.2, 0.46), (0.26, 0.27)]
        pen.polygon([(cx + a * unit, ground - b * unit) for a, b in cabin], fill=_darker(color, 0.9))
        glass = [(-0.215, 0.29), (-0.175, 0.43), (0.175, 0.43), (0.215, 0.29)]
        pen.polygon([(cx + a * unit, ground - b * unit) for a, b in glass], fill=(44, 52, 60))
        for light in (-0.28, 0.21):
            pen.rectangle(box(light, 0.19, light + 0.07, 0.25), fill=(150, 30, 28))
        pen.rectangle(box(-0.06, 0.13, 0.06, 0.165), fill=(216, 206, 120))

    def finish(self) -> Image.Image:
        """What a camera adds: a soft lens, light from above, noise."""
        soft = np.asarray(self.picture.filter(ImageFilter.GaussianBlur(1.0)), np.float32)
        rows, columns = _grid(self.size)
        vignette = 1.03 - 0.16 * ((columns - 0.5) ** 2 + (rows - 0.45) ** 2)
        shade = 1 + 0.05 * _smooth_noise(self.random, self.size, 90)
        noise = self.random.normal(0, 2.5, (self.size[1], self.size[0], 3))
        return Image.fromarray((soft * (vignette * shade)[..., None] + noise).clip(0, 255).astype(np.uint8))


def main() -> None:
    """Write the pictures."""
    draw_seven().save(FOLDER / "seven.png", optimize=True)
    Street().draw().save(FOLDER / "street.jpg", quality=88, optimize=True)


if __name__ == "__main__":
    main()
