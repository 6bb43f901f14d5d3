"""
The placeholder that the simulated provider draws: soft color and line work from the prompt, under a label that cannot
be overlooked. The same arguments give the same pixels.
"""

from __future__ import annotations

import colorsys
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Final

from PIL import Image, ImageDraw, ImageFont

SIDE_MAX: Final = 2_048
_TITLE: Final = "SIMULATED"
# 模拟, stroke by stroke on a square of 100, because no font that comes with Pillow has Chinese.
_STROKES: Final[tuple[tuple[tuple[tuple[int, int], ...], ...], ...]] = (
    (
        ((4, 30), (36, 30)), ((20, 6), (20, 96)), ((20, 32), (14, 50), (4, 66)), ((20, 36), (34, 54)),
        ((42, 16), (98, 16)), ((57, 5), (57, 26)), ((82, 5), (82, 26)),
        ((50, 32), (90, 32), (90, 58), (50, 58), (50, 32)), ((50, 45), (90, 45)),
        ((42, 70), (98, 70)), ((70, 58), (67, 76), (58, 88), (42, 96)), ((71, 72), (80, 86), (97, 96)),
    ),
    (
        ((4, 28), (38, 28)), ((23, 5), (23, 88), (18, 95), (10, 92)), ((4, 62), (38, 50)),
        ((48, 20), (48, 74), (66, 62)), ((58, 22), (67, 38)),
        ((88, 10), (85, 46), (75, 74), (46, 96)), ((78, 70), (98, 94)),
    ),
)  # fmt: skip
_N_COLORS: Final = 5
_MESH: Final = 14  # the color field is drawn this small and stretched: 196 points instead of a million
_LEGIBLE_PX: Final = 8
_INK: Final = (255, 255, 255)
_PANEL: Final = (12, 14, 20)
_PANEL_ALPHA: Final = 176
_WARNING: Final = (255, 196, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """What is drawn. seed: with the prompt the source of every choice; caption: a small line under the label."""

    width: int
    height: int
    prompt: str
    seed: int
    caption: str
    is_transparent: bool = False


def draw(drawing: Drawing, thumbnails: Sequence[bytes]) -> Image.Image:
    """Return the placeholder. thumbnails: encoded reference pictures, shown in a row."""
    dice = _Dice(f"{drawing.prompt}\x00{drawing.seed}")
    picture = _color_field(drawing, dice)
    _draw_lines(picture, dice)
    _draw_thumbnails(picture, thumbnails)
    _draw_label(picture, drawing)
    if drawing.is_transparent:
        picture.putalpha(_rounded(picture.size))
    return picture


class _Dice:
    """Numbers from a text, the same for ever: random.Random promises that for some of its methods only."""

    def __init__(self, text: str) -> None:
        self._bytes = iter(hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(1_024))

    def between(self, low: float, high: float) -> float:
        """Return a number of 65,536 evenly spread ones."""
        return low + (high - low) * (next(self._bytes) << 8 | next(self._bytes)) / 65_535


def _color_field(drawing: Drawing, dice: _Dice) -> Image.Image:
    """Mix a few neighbors on the color wheel, each strongest at its own place."""
    hue = dice.between(0, 1)
    spots = []
    for _ in range(_N_COLORS):
        color = colorsys.hls_to_rgb(
            (hue + dice.between(-0.16, 0.16)) % 1, dice.between(0.22, 0.68), dice.between(0.5, 0.85)
        )
        spots.append((dice.between(-0.1, 1.1), dice.between(-0.1, 1.1), color))
    mesh = bytearray()
    for row in range(_MESH):
        for column in range(_MESH):
            x, y = column / (_MESH - 1), row / (_MESH - 1)
            weights = [1 / (0.02 + (x - at_x) ** 2 + (y - at_y) ** 2) for at_x, at_y, _ in spots]
            total = sum(weights)
            mesh.extend(
                int(255 * sum(weight * spot[2][channel] for weight, spot in zip(weights, spots, strict=True)) / total)
                for channel in range(3)
            )
    small = Image.frombytes("RGB", (_MESH, _MESH), bytes(mesh))
    # Smooth while it is small, then only enlarged: half the time of one step.
    smooth = small.resize((8 * _MESH, 8 * _MESH), Image.Resampling.BICUBIC)
    return smooth.resize((drawing.width, drawing.height), Image.Resampling.BILINEAR)


def _draw_lines(picture: Image.Image, dice: _Dice) -> None:
    """Lay two families of rings and one polygon over the colors, smoothed by drawing them twice as large."""
    scale = 2 if max(picture.size) <= 1_024 else 1
    width, height = picture.width * scale, picture.height * scale
    mask = Image.new("L", (width, height))
    pen = ImageDraw.Draw(mask)
    side = min(width, height)
    stroke = max(1, side // 360)
    for _ in range(2):
        x, y = dice.between(0, 1) * width, dice.between(0, 1) * height
        step = dice.between(0.05, 0.11) * side
        for ring in range(1, 11):
            radius = ring * step
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=110 - 8 * ring, width=stroke)
    x, y, radius = dice.between(0.2, 0.8) * width, dice.between(0.2, 0.8) * height, dice.between(0.2, 0.34) * side
    n_sides, turn = int(dice.between(3, 7.99)), dice.between(0, math.tau)
    for shrink in (1.0, 0.82, 0.64):
        corners = [
            (x + shrink * radius * math.cos(turn + shrink + k * math.tau / n_sides),
             y + shrink * radius * math.sin(turn + shrink + k * math.tau / n_sides))
            for k in range(n_sides)
        ]  # fmt: skip
        pen.polygon(corners, outline=150, width=stroke * 2)
    picture.paste(_INK, (0, 0), mask if scale == 1 else mask.reduce(scale))


def _draw_thumbnails(picture: Image.Image, thumbnails: Sequence[bytes]) -> None:
    side = min(picture.height // 5, picture.width // max(5, len(thumbnails) + 1))
    if side < 8:
        return
    gap = max(2, side // 12)
    for i, data in enumerate(thumbnails):
        with Image.open(BytesIO(data)) as reference:
            reference.draft("RGB", (side, side))
            reference.thumbnail((side, side))
            small = reference.convert("RGBA")
        left, top = gap + i * (side + gap), picture.height - side - gap
        frame = (left - 1, top - 1, left + small.width, top + small.height)
        ImageDraw.Draw(picture).rectangle(frame, outline=_INK, width=1)
        picture.paste(small, (left, top), small)


def _draw_label(picture: Image.Image, drawing: Drawing) -> None:
    """Put the words on a dark band across the middle, as wide as the picture allows."""
    title = _font(max(6, min(picture.width * 10 // 82, picture.height // 4)))
    box = title.getbbox(_TITLE)
    line_height = box[3] - box[1]
    glyph = line_height * 1.25
    is_tall = picture.height >= 5 * line_height
    band = line_height * (5.1 if is_tall else 2.0)
    top = (picture.height - band) / 2
    panel = Image.new("RGB", (picture.width, max(1, int(band))), _PANEL)
    picture.paste(panel, (0, int(top)), Image.new("L", panel.size, _PANEL_ALPHA))
    pen = ImageDraw.Draw(picture)
    rule = max(1, picture.height // 170)
    for y in (top, top + band - rule):
        pen.rectangle((0, y, picture.width, y + rule - 1), fill=_WARNING)
    center = picture.width / 2
    pen.text((center, top + line_height * 1.0), _TITLE, fill=_INK, font=title, anchor="mm")
    if is_tall:
        _draw_chinese(picture, center=center, top=top + line_height * 1.85, side=glyph)
        size = int(min(line_height * 0.36, picture.width / 24))
        if size < _LEGIBLE_PX:
            return
        small = _font(size)
        for i, text in enumerate((drawing.caption, "placeholder, made by no model")):
            pen.text((center, top + line_height * (3.72 + 0.62 * i)), text, fill=_INK, font=small, anchor="mm")


def _draw_chinese(picture: Image.Image, *, center: float, top: float, side: float) -> None:
    """Draw the strokes three times as large and reduce them, which smooths them."""
    large = max(8, round(side)) * 3
    weight = max(2, round(large * 0.085))
    mask = Image.new("L", (large * 2 + large // 5, large * 11 // 10))
    pen = ImageDraw.Draw(mask)
    for i, strokes in enumerate(_STROKES):
        left = i * large * 1.12 + weight
        for stroke in strokes:
            points = [(left + x * large / 104, weight + y * large / 104) for x, y in stroke]
            pen.line(points, fill=255, width=weight, joint="curve")
            for x, y in (points[0], points[-1]):
                pen.ellipse((x - weight / 2, y - weight / 2, x + weight / 2, y + weight / 2), fill=255)
    small = mask.reduce(3)
    picture.paste(_WARNING, (int(center - small.width / 2), int(top)), small)


@lru_cache(maxsize=64)  # loading one takes 1 ms; a size is one entry
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _rounded(size: tuple[int, int]) -> Image.Image:
    alpha = Image.new("L", size)
    ImageDraw.Draw(alpha).rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), radius=min(size) // 8, fill=255)
    return alpha
