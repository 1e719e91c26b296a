"""Render faces from the parameters of face_attributes.py: 178×218 RGB, aligned like CelebA's."""

import colorsys
from dataclasses import dataclass
from math import cos, hypot, sin
from types import SimpleNamespace

import numpy as np
from face_attributes import attributes_of, draw_parameters

HEIGHT, WIDTH, CENTRE = 218, 178, (89.0, 121.0)
VERSION = "vaelab faces 1"
"""Written into every file. Increase it with any change of the drawing."""


@dataclass(frozen=True)
class View:
    """A window of the picture, with coordinates of the face in pixels from its centre: x right, y down."""

    image: np.ndarray  # [3, h, w], 0 to 255
    x: np.ndarray  # coordinate of the head
    s: np.ndarray  # x of the features, which turn with the head
    y: np.ndarray
    edge: np.ndarray  # signed distance to the head's outline, negative inside
    light: np.ndarray  # [3, h, w], brightness of the skin
    grain: np.ndarray

    def crop(self, top: float, bottom: float, half_width: float = 60) -> "View":
        """The part with top <= y <= bottom and abs(s) <= half_width."""
        inside = (self.y >= top) & (self.y <= bottom) & (np.abs(self.s) <= half_width)
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        planes = (self.image, self.x, self.s, self.y, self.edge, self.light, self.grain)
        return View(*(plane[..., *part] for plane in planes))

    def paint(self, colour, mask: np.ndarray, light: np.ndarray | float = 1.0) -> None:
        """Blend a colour, lit by ``light``, into the picture with opacity ``mask``."""
        layer = np.reshape(np.float32(colour), (3, 1, 1)) * light
        self.image[:] += (layer - self.image) * mask


def soft(distance: np.ndarray, width: float = 1.3) -> np.ndarray:
    """Coverage in [0, 1] from a signed distance (negative inside), with an edge ``width`` pixels wide."""
    return np.clip(0.5 - distance / width, 0, 1)


def blob(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    """A Gaussian bump at the origin."""
    return np.exp(-((x / width) ** 2) - (y / height) ** 2)


def ellipse(x: np.ndarray, y: np.ndarray, width: float, height: float, power: float = 2) -> np.ndarray:
    """Approximate signed distance to a superellipse at the origin."""
    return ((np.abs(x / width) ** power + np.abs(y / height) ** power) ** (1 / power) - 1) * min(width, height)


def mix(one, other, amount: float) -> np.ndarray:
    """Linear interpolation between two colours."""
    return np.float32(one) + (np.float32(other) - np.float32(one)) * np.float32(amount)


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """RGB in [0, 255] from hue, saturation and value in [0, 1]."""
    return np.float32(colorsys.hsv_to_rgb(hue % 1, saturation, value)) * 255


def render(p: SimpleNamespace) -> np.ndarray:
    """Render parameters ``p``: uint8 [218, 178, 3]."""
    noise = np.random.default_rng(p.noise).standard_normal((3, HEIGHT, WIDTH), np.float32)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    right, down = columns - CENTRE[0] - p.shift_x, rows - CENTRE[1] - p.shift_y
    x = (right * cos(p.roll) + down * sin(p.roll)) / np.float32(p.scale)
    y = (down * cos(p.roll) - right * sin(p.roll)) / np.float32(p.scale)
    head = shape_head(p, x, y)
    s = x - np.float32(p.yaw) * np.clip(1 - (x / head.width) ** 2, 0, 1)
    view = View(np.empty((3, HEIGHT, WIDTH), np.float32), x, s, y, head.edge, shade_face(p, head, s, y), noise[0])
    colours = choose_colours(p)

    paint_background(view, p)
    hair = shape_hair(p, head, view)
    view.paint(colours.hair * 0.7, hair.back, hair.light)
    paint_body(view, p, head, colours)
    view.paint(colours.skin, soft(view.edge), view.light)
    paint_skin(view, p, head, colours)
    paint_nose(view.crop(-12, 24, 22), p, colours)
    paint_eyes(view.crop(-36, 12, 46), p, colours)
    paint_beard(view.crop(-20, 70), p, head, colours)
    paint_mouth(view.crop(14, 54, 30), p, colours)
    if p.glasses:
        paint_glasses(view.crop(-30, 16), p, head)
    view.paint(colours.skin * 0.35, 0.5 * np.exp(-np.clip(hair.below, 0, None) / 5) * soft(view.edge) * (1 - p.bald))
    view.paint(colours.hair, hair.front, hair.light)
    paint_extras(view, p, head, hair)

    tint = np.float32([1 + p.warmth, 1, 1 - p.warmth]) * p.exposure
    picture = view.image * tint.astype(np.float32)[:, None, None] + noise * np.float32(p.grain)
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)


def choose_colours(p: SimpleNamespace) -> SimpleNamespace:
    """Skin, hair, brow and lip colours."""
    stops = np.float32([(88, 58, 43), (142, 96, 68), (196, 144, 110), (232, 184, 150), (253, 229, 212)])
    skin = np.float32([np.interp(p.pallor, (0, 0.25, 0.5, 0.75, 1), stops[:, channel]) for channel in range(3)])
    skin *= np.float32([1 + 0.02 * p.undertone, 1, 1 - 0.04 * p.undertone])
    kinds = {"grey": (176, 176, 180), "black": (34, 29, 30), "brown": (96, 60, 36), "blond": (222, 184, 112)}
    hair = np.float32(next((colour for kind, colour in kinds.items() if getattr(p, kind)), (156, 74, 42)))
    hair *= np.float32(1 + p.hair_tone)
    natural = mix(skin, (186, 76, 80), 0.5) * np.float32(0.94)
    lips = mix(natural, hsv(p.lip_hue, 0.82, 0.78), p.lipstick)
    brow = mix(hair * 0.62, skin * 0.4, 0.2)
    return SimpleNamespace(skin=skin, hair=hair, brow=mix(brow, (150, 146, 142), max(0.7 - p.youth, 0)), lips=lips)


def shape_head(p: SimpleNamespace, x: np.ndarray, y: np.ndarray) -> SimpleNamespace:
    """Outline of the head: an ellipse above the eyes and a pointed to square jaw below."""
    width = 46.5 - 5.5 * p.oval + 4.5 * p.chubby + 1.5 * p.male
    chin = 56.5 + 4 * p.oval + 2 * p.male + p.chin
    power = 2.02 + 0.45 * p.male + 0.35 * p.chubby
    below = y + 10 > 0
    half = width * (1 + 0.07 * p.chubby * np.exp(-(((y - 22) / 18) ** 2)))
    half = half - 4.5 * (1 - p.male) * np.clip((y - 2) / 40, 0, 1)
    across, along = np.abs(x) / half, np.abs(y + 10) / np.where(below, np.float32(chin), np.float32(62))
    exponent = np.where(below, np.float32(power), np.float32(2.2))
    radius = (across**exponent + along**exponent) ** (1 / exponent)
    return SimpleNamespace(width=width, chin=chin - 10, radius=radius, edge=(radius - 1) * width)


def shade_face(p: SimpleNamespace, head: SimpleNamespace, s: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Brightness of the lit surface: the dome of the head plus the relief of the face."""
    a = np.abs(s)
    height = 44 * np.sqrt(np.clip(1 - head.radius**2 * 0.93, 0.001, 1))
    tip, wing = 13 - 2 * p.point + 1.5 * p.nose, 4.2 + 2.4 * p.nose - 1.4 * p.point
    height += (4 + p.nose) * blob(s, np.maximum(tip - 2 - y, 5 * (y - tip + 2)), wing, 17)  # bridge
    height += (4.5 + 3 * p.nose + 2.5 * p.point) * blob(s, y - tip, 5 + 3.5 * p.nose - 2 * p.point, 5 + p.nose)
    height += (2 + 2 * p.nose) * blob(a - 7 - 5 * p.nose + 2 * p.point, y - 14, 3.5 + p.nose, 3.5)
    height -= 4.5 * blob(a - 19, y + 9, 11, 8)  # eye sockets
    height += (2 + 2 * p.male) * blob(a - 17, y + 24, 16, 5)
    cheek = 3 + 3 * p.smile * (p.smile > 0) + 3 * p.chubby
    height += cheek * blob(a - 26, y - 11, 12, 10)
    height += p.cheekbones * (7 * blob(a - 33, y - 3, 10, 5) - 11 * blob(a - 31, y - 23, 9, 11))
    height += 3.5 * blob(s, y - head.chin + 6, 11, 6) - 3 * blob(s, y - 40, 12, 3)
    height += 2 * blob(s, y - 32, 18, 8)
    down, across = np.gradient(height)
    facing = (1 - p.light_x * across - p.light_y * down) / np.sqrt(1 + across**2 + down**2)
    lamp = 1 / hypot(1, p.light_x, p.light_y)
    shade = 0.5 - 0.56 * np.clip(facing * lamp, 0, 1.2)
    return 1 - np.float32([0.8, 1, 1.1])[:, None, None] * shade  # warm shadows


def shape_hair(p: SimpleNamespace, head: SimpleNamespace, view: View) -> SimpleNamespace:
    """Masks of the hair behind and in front of the face, and the brightness of its strands."""
    x, y = view.x, view.y
    length = max(p.hair_length * (0.85 - 0.4 * p.male) + 0.15 - 0.25 * p.male, 0) * (1 - p.sideburns)
    bottom, width = -6 + 100 * length, head.width + 4 + 5 * p.hair_volume + 2 * p.waves
    strand = np.arctan2(x - p.hair_part, y + 100) * 44
    swing = p.waves * np.sin(y * 0.24 + p.hair_phase + np.abs(x) * 0.05)
    strand = strand + 3.5 * swing
    texture = 0.6 * np.sin(strand * 0.55 + p.hair_phase) + 0.4 * np.sin(strand * 1.27 + 2 * p.hair_phase)
    flare = (10 * length - 4) / 60
    side = np.abs(x) - width - flare * (y + 10) + 2.4 * swing
    outline = np.where(y < -10, ellipse(x, y + 10, width, 67 + 5 * p.hair_volume, 2.2) + swing, side)
    outline = np.maximum(outline, y - bottom - 1.5 * np.sin(x * 0.4 + p.hair_phase))
    inward = 7 * (np.clip(y + 10, 0, 60) / 60) ** 2 * (length > 0.2) + 1.5 * swing
    side = np.clip(((np.abs(view.s) + inward) / head.width - 0.5) / 0.47, 0, 1.1)
    away = np.sqrt((view.s - p.hair_part) ** 2 + 100)
    line = -46 - 0.22 * away * (1 - p.bangs) - 4 * p.receding - 12 * p.receding * blob(np.abs(view.s) - 22, 0, 9, 1)
    line += p.bangs * (21 + 1.6 * np.sin(strand * 0.6) - 0.12 * away)
    line += side**3.2 * (bottom - line)
    down = (y - line) / np.sqrt(1 + np.gradient(line, axis=1) ** 2)
    shine = 0.84 + 0.1 * texture + 0.25 * (p.light_x * x / width - p.light_y * np.minimum(y + 10, 0) / -67)
    shine += p.hair_glow * blob(x - 20 * p.light_x, y + 56, 30, 7)
    there = 1 - p.bald
    front = soft(np.maximum(outline, down), 1.8) * there
    return SimpleNamespace(back=soft(outline, 1.8) * there, front=front, light=np.float32(shine), below=down)


def paint_background(view: View, p: SimpleNamespace) -> None:
    """Paint a wall that darkens in one direction."""
    colour = hsv(p.back_hue, p.back_saturation, p.back_value)
    slope = (cos(p.back_turn) * view.x + sin(p.back_turn) * view.y) / 110
    view.image[:] = colour[:, None, None] * np.float32(1 + p.back_fall * np.clip(slope, -1, 1))


def paint_body(view: View, p: SimpleNamespace, head: SimpleNamespace, colours: SimpleNamespace) -> None:
    """Paint neck, clothes and ears."""
    x, y = view.x, view.y
    neck = 20 + 7 * p.male + 3 * p.chubby
    lit = 0.9 + 0.2 * p.light_x * x / 40
    under = 1 - 0.5 * np.exp(-np.clip(view.edge - 0.1 * p.light_x * x, 0, None) / 11)
    flare = np.clip(y - 58, 0, None) ** 1.6 * 0.12
    view.paint(colours.skin, soft(np.maximum(np.abs(x) - neck - flare, 20 - y)), lit * under)
    cloth = hsv(p.cloth_hue, p.cloth_saturation, p.cloth_value)
    shoulder = 70 + (np.abs(x) / (7.5 + p.male)) ** 1.6 * 0.35 - 14 * blob(np.abs(x) - neck - 6, 0, 12, 1)
    collar = ellipse(x, y - 66, neck - 2, 18)
    view.paint(cloth, soft(np.maximum(shoulder - y, -collar)), 0.9 + 0.25 * p.light_x * x / 80)
    for side in (-1, 1):
        ear = ellipse(x - side * (head.width + 1), y - 1, 6.5, 12)
        view.paint(colours.skin * 0.9, soft(ear), 0.85 + 0.2 * p.light_x * side)
        view.paint(colours.skin * 0.62, 0.7 * soft(ellipse(x - side * (head.width + 1.5), y, 3, 7.5), 4))


def paint_skin(view: View, p: SimpleNamespace, head: SimpleNamespace, colours: SimpleNamespace) -> None:
    """Paint blush, stubble and wrinkles."""
    s, y, a = view.s, view.y, np.abs(view.s)
    inside = soft(view.edge)
    rose = mix(colours.skin, (226, 70, 80), 0.55)
    view.paint(rose, inside * (0.1 + 0.9 * p.blush) * blob(a - 28, y - 12, 14, 11), view.light)
    age = max(0.7 - p.youth, 0) * 1.4
    creases = sum(blob(s, 0, 26, 1) * blob(0, y - row + 0.004 * s**2, 1, 1.4) for row in (-42, -35, -28))
    fold = 12 + 0.3 * (y - 10) + 0.004 * (y - 10) ** 2
    creases = creases + 1.3 * blob(a - fold, y - 22, 1.9, 12) + 1.1 * blob(a - 18 - 0.1 * (y - 40), y - 42, 1.9, 6)
    for slope in (-0.45, 0, 0.45):
        creases = creases + blob(a - 37, 0, 4, 1) * blob(0, y + 8 - slope * (a - 31), 1, 1.1)
    smile_fold = 0.25 * max(p.smile, 0) * blob(a - fold - 1, y - 22, 1.8, 9)
    view.paint(colours.skin * 0.6, inside * np.clip(0.8 * age * creases + smile_fold, 0, 1), view.light)
    if p.stubble:
        jaw = np.clip((y - 14) / 10, 0, 1) * np.clip((a + 1.4 * y - 44) / 14, 0, 1)
        jaw = np.maximum(jaw, np.clip((y - 17) / 4, 0, 1) * np.clip((30 - y) / 3, 0, 1) * (a < 40))
        speckle = np.clip(0.42 + 0.12 * view.grain, 0, 1) * p.stubble
        view.paint(mix(colours.skin * 0.45, (62, 66, 76), 0.5), inside * jaw * speckle, view.light)


def paint_nose(view: View, p: SimpleNamespace, colours: SimpleNamespace) -> None:
    """Paint nostrils, wings and the highlight of the tip; the rest of the nose is shading."""
    a, y = np.abs(view.s), view.y
    wing = 8 + 6 * p.nose - 2.5 * p.point
    drop = 3.5 * p.point
    curve = np.abs(ellipse(a - wing + 3.5, y - 13, 4, 4.2)) - 0.5
    view.paint(colours.skin * 0.55, 0.45 * soft(curve, 1.6) * (a > wing - 2) * (y > 9.5), view.light)
    view.paint(colours.skin * 0.6, (0.1 + 0.3 * p.nose) * blob(a - wing - 1.5, y - 11, 2.5, 7), view.light)
    nostril = ellipse(
        a - wing * 0.48, y - 16 + 0.25 * (a - wing * 0.48), 2.1 + 1.5 * p.nose - 0.5 * p.point, 1.4 + 0.5 * p.nose
    )
    view.paint(colours.skin * 0.3, 0.85 * soft(nostril, 1.6))
    under = np.abs(y - 17.5 - drop + (0.16 + 0.35 * p.point) * a) - 0.6
    view.paint(colours.skin * 0.6, 0.6 * soft(under, 2) * soft(a - wing * 0.55, 4), view.light)
    gleam = blob(view.s - 2 * p.light_x, y - 10 + p.point, 3 - 1.4 * p.point, 2.6)
    view.paint(mix(colours.skin, (255, 250, 244), 0.6), 0.45 * gleam)


def paint_eyes(view: View, p: SimpleNamespace, colours: SimpleNamespace) -> None:
    """Paint both eyes with lids, lashes, shadow, bags and brows."""
    y, side = view.y + 10, np.sign(view.s)
    e = np.abs(view.s) - 19.5 - p.eye_gap  # outward from the centre of the eye
    half, tall = 9.6 + p.eye_size, (5.6 + p.eye_size - 0.5 * p.male) * (1 - 0.55 * p.narrow)
    arch = np.clip(1 - (e / half) ** 2, 0, 1)
    upper, lower = -tall * arch**0.8 - 0.06 * e, tall * 0.72 * arch - 0.06 * e
    inside = np.maximum(np.maximum(upper - y, y - lower), np.abs(e) - half)
    paint = hsv(p.lip_hue + 0.85 * p.jewel, 0.6, 0.55)
    view.paint(
        mix(colours.skin, paint, 0.75), 0.9 * p.makeup * blob(e - 1, y - upper + 1, 12, 6.5) * soft(y - upper - 1, 3)
    )
    if p.bags:
        below = y - lower - 3.5
        view.paint(mix(colours.skin * 0.55, (92, 62, 92), 0.3), 0.75 * p.bags * blob(e, below, 8, 2.4), view.light)
        view.paint(colours.skin * 0.45, 0.8 * p.bags * soft(np.abs(below - 2.6 * arch) - 0.5, 1.8) * arch**0.5)
    crease = np.abs(y - upper + 3.2) - 0.4
    view.paint(colours.skin * 0.5, 0.55 * soft(crease, 1.6) * arch**0.4, view.light)
    cover = soft(inside)
    view.paint((240, 236, 230), cover, np.clip(0.8 + 0.16 * (y - upper) / tall, 0.6, 1))
    i = e - side * p.gaze
    iris = np.hypot(i, y + 0.6)
    hue = np.interp(p.eye_hue, (0, 0.5, 0.7, 0.85, 1), (0.07, 0.08, 0.25, 0.56, 0.6))
    eye = hsv(hue, 0.55, 0.42 + 0.2 * (p.eye_hue > 0.6))
    view.paint(eye, cover * soft(iris - 4.9), 0.55 + 0.5 * np.clip(iris / 5 + 0.08 * y, 0, 1.3))
    view.paint((14, 12, 12), cover * soft(iris - 2.2))
    view.paint((255, 255, 255), cover * soft(np.hypot(side * i - 1.6 * np.sign(p.light_x), y + 2.4) - 1.1, 1.2))
    lash = np.abs(y - upper + 0.3) - (0.75 + 0.5 * (1 - p.male) + 0.8 * p.makeup) * (
        0.7 + 0.3 * np.clip(e / half, -1, 1)
    )
    reach = half + 0.5 + 2 * (1 - p.male) + p.makeup
    view.paint((34, 24, 22), soft(np.maximum(lash, np.maximum(e - reach, -e - half)), 1.5))
    view.paint(colours.skin * 0.5, (0.5 + 0.4 * p.makeup) * soft(np.abs(y - lower) - 0.4, 1.4) * (arch > 0))
    paint_brows(view, p, colours, e, y)


def paint_brows(view: View, p: SimpleNamespace, colours: SimpleNamespace, e: np.ndarray, y: np.ndarray) -> None:
    """Paint the eyebrows; ``e`` points outward from the centre of the eye and ``y`` down."""
    t = e / 13
    middle = -14 + p.brow_height + 1.8 * p.male + 0.8 * p.narrow
    line = middle - (0.5 + 5.5 * p.arch) * (1 - (t - 0.15) ** 2 * 1.2) + 3.5 * p.arch - 0.2 * t
    thick = (1.3 + 2 * p.bushy + 0.4 * p.male) * np.clip(1.1 - 0.55 * np.clip(t + 0.1, 0, None), 0.15, 1)
    rough = 0.35 * p.bushy * np.sin(e * 1.7 + 1.2 * y)
    shape = np.maximum(np.abs(y - line) - thick + rough, np.abs(t - 0.06) * 13 - 14)
    view.paint(colours.brow, 0.92 * soft(shape, 1.8))


def paint_mouth(view: View, p: SimpleNamespace, colours: SimpleNamespace) -> None:
    """Paint lips, the line between them, and teeth if they part."""
    s, y = view.s, view.y
    half = 15.5 + p.mouth_width + 3 * max(p.smile, 0)
    arch = np.clip(1 - (s / half) ** 2, 0, 1)
    middle = 31 + p.smile * 6.5 * (arch - 0.6)
    top, bottom = middle - 0.35 * p.opening * arch, middle + 0.65 * p.opening * arch
    thick = 0.95 + 1.4 * p.lips + 0.15 * (1 - p.male)
    bow = 1 - 0.3 * blob(s, 0, 3.2, 1) + 0.12 * blob(np.abs(s) - 5, 0, 3, 1)
    above, below = top - 3.2 * thick * arch**0.8 * bow, bottom + 4.3 * thick * arch**0.7
    ends = np.abs(s) - half
    cover = soft(np.maximum(np.maximum(above - y, y - below), ends))
    glow = (0.86 + 0.2 * soft(bottom - y)) * view.light
    view.paint(colours.lips, cover, glow)
    gleam = blob(s - 3 * p.light_x, y - bottom - 1.8 * thick, 6, 1.2 * thick)
    view.paint(mix(colours.lips, (255, 240, 236), 0.6), (0.3 + 0.25 * p.lipstick) * cover * gleam)
    if p.opening:
        gap = soft(np.maximum(np.maximum(top - y, y - bottom), ends))
        view.paint((72, 22, 26), gap)
        teeth = np.maximum(y - top - 0.48 * p.opening * arch, ends + 3)
        view.paint((238, 233, 224), gap * soft(teeth), 1 - 0.5 * (s / half) ** 2)
    line = soft(np.maximum(np.abs(y - top) - 0.5, ends - 1), 1.5)
    view.paint(colours.lips * 0.4, 0.8 * line)
    corner = blob(np.abs(s) - half, y - middle, 2, 2)
    view.paint(colours.skin * 0.5, 0.5 * corner, view.light)


def paint_beard(view: View, p: SimpleNamespace, head: SimpleNamespace, colours: SimpleNamespace) -> None:
    """Paint moustache, goatee and sideburns in a darker shade of the hair."""
    s, y, a = view.s, view.y, np.abs(view.s)
    lit = view.light * (0.95 + 0.05 * np.sin(s * 1.7 + y * 0.5) + 0.04 * view.grain)
    colour = colours.hair * 0.85
    if p.moustache:
        line = 24.5 + (0.016 - 0.008 * p.smile) * s**2
        shape = np.maximum(np.abs(y - line) - 4.2 * np.clip(1.1 - (a / 21) ** 2, 0, 1), a - 20)
        view.paint(colour, 0.95 * soft(shape, 2), lit)
    if p.goatee:
        patch = np.maximum(ellipse(s, y - 46, 15, 12), 34.5 + 0.4 * p.opening - y)
        view.paint(colour, 0.95 * soft(np.maximum(patch, view.edge - 2), 2.4), lit)
    if p.sideburns:
        inner = head.width - 9 + 0.2 * np.clip(y + 10, 0, None)
        strip = np.maximum(inner - np.abs(view.x), np.maximum(y - 19 - 0.3 * (np.abs(view.x) - head.width), -22 - y))
        view.paint(colour, 0.95 * soft(np.maximum(strip, view.edge - 1), 2.4), lit)


def paint_glasses(view: View, p: SimpleNamespace, head: SimpleNamespace) -> None:
    """Paint rims, bridge, temples and glare."""
    y, e = view.y + 8, np.abs(view.s) - 20 - 0.6 * p.eye_gap
    frame = mix((28, 24, 26), hsv(p.cloth_hue + 0.4, 0.6, 0.4), p.rim_tone)
    lens = ellipse(e, y, 15.5, 12.5, p.rim_power)
    view.paint((235, 242, 250), 0.13 * soft(lens))
    view.paint((255, 255, 255), 0.3 * soft(np.maximum(lens + 2, np.abs(e * np.sign(view.s) + y + 3) - 2.2), 2))
    bridge = np.maximum(np.abs(y + 3 - 0.08 * view.s**2) - 1.3, np.abs(view.s) - 5.5)
    temple = np.maximum(np.abs(y + 4) - 1.3, np.maximum(15 - e, np.abs(view.x) - head.width - 1))
    view.paint(frame, soft(np.minimum(np.minimum(np.abs(lens) - 1.35, bridge), temple)))


def paint_extras(view: View, p: SimpleNamespace, head: SimpleNamespace, hair: SimpleNamespace) -> None:
    """Paint earrings and hat."""
    x, y = view.x, view.y
    if p.earrings:
        part = view.crop(8, 40, 80)
        metal = mix((236, 190, 70), (226, 230, 238), p.jewel)
        ring = np.abs(np.hypot(np.abs(part.x) - head.width - 3, part.y - 21) - 5)
        part.paint(metal * 0.4, 0.6 * soft(ring - 1.9, 2))
        part.paint(metal, soft(ring - 1.1), 0.9 + 0.2 * (22 - part.y) / 8)
    if p.hat:
        wide = head.width + 8 + 4 * p.hair_volume
        dome = np.maximum(ellipse(x, y + 22, wide, 62 + 4 * p.hair_volume, 2.5), y + 50 - 0.004 * x**2)
        band = np.hypot(np.maximum(np.abs(x) - wide + 4, 0), np.maximum(np.abs(y + 52 - 0.004 * x**2) - 3, 0)) - 5
        felt = hsv(p.hat_hue, 0.55, p.hat_value)
        lit = 0.88 + 0.3 * p.light_x * x / wide + 0.05 * np.sin(x * 1.1)
        view.paint(felt, soft(dome), lit)
        view.paint(felt * 0.78, soft(band), lit)


def draw_face(seed: int, index: int) -> tuple[np.ndarray, dict[str, bool]]:
    """Picture uint8 [218, 178, 3] and attributes of image ``index``, counted from 1 like CelebA's files."""
    parameters = draw_parameters(seed, index)
    return render(parameters), attributes_of(parameters)
