"""Parameters of a drawn face, and the CelebA attributes that follow from them.

``TRAITS`` are drawn. Two attributes follow from them: No_Beard and Straight_Hair. CelebA's other attributes are false
for all faces. ``edit_parameters`` sets one trait of a face and keeps the rest.

Traits are independent except for their requirements. Only men have beards and sideburns. The young have no grey hair. A
head has at most one of four hair colours; otherwise its hair is red. A bald head has neither hair nor hat. A hat or
bangs hide a receding hairline. An oval face is not chubby.
"""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

NAMES = tuple(name for line in (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair",
    "Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup",
    "High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose",
    "Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat",
    "Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young",
) for name in line.split())  # fmt: skip
"""CelebA's 40 attributes, in the order of its list."""


class Trait(NamedTuple):
    """An attribute that is present if its parameter lies in the upper of two separate ranges."""

    parameter: str
    probability: float  # given its requirements
    absent: tuple[float, float]
    present: tuple[float, float]
    requires: str = ""  # names of earlier traits, -NAME for an absent one


TRAITS = {
    "Male": Trait("male", 0.54, (0, 0.2), (0.8, 1)),
    "Young": Trait("youth", 0.58, (0, 0.35), (0.75, 1)),
    "Bald": Trait("bald", 0.11, (0, 0), (1, 1)),
    "Pale_Skin": Trait("pallor", 0.2, (0.08, 0.76), (0.93, 1)),
    "Chubby": Trait("chubby", 0.2, (0, 0.2), (0.75, 1)),
    "Oval_Face": Trait("oval", 0.35, (0, 0.25), (0.75, 1), "-Chubby"),
    "Wearing_Hat": Trait("hat", 0.16, (0, 0), (1, 1), "-Bald"),
    "Bangs": Trait("bangs", 0.28, (0, 0), (1, 1), "-Bald"),
    "Receding_Hairline": Trait("receding", 0.25, (0, 0.1), (0.75, 1), "-Bald -Wearing_Hat -Bangs"),
    "Wavy_Hair": Trait("waves", 0.45, (0, 0.1), (0.7, 1), "-Bald"),
    "Gray_Hair": Trait("grey", 0.45, (0, 0), (1, 1), "-Bald -Young"),
    "Black_Hair": Trait("black", 0.32, (0, 0), (1, 1), "-Bald -Gray_Hair"),
    "Brown_Hair": Trait("brown", 0.45, (0, 0), (1, 1), "-Bald -Gray_Hair -Black_Hair"),
    "Blond_Hair": Trait("blond", 0.6, (0, 0), (1, 1), "-Bald -Gray_Hair -Black_Hair -Brown_Hair"),
    "Sideburns": Trait("sideburns", 0.3, (0, 0), (1, 1), "Male -Bald"),
    "Mustache": Trait("moustache", 0.36, (0, 0), (1, 1), "Male"),
    "Goatee": Trait("goatee", 0.36, (0, 0), (1, 1), "Male"),
    "5_o_Clock_Shadow": Trait("stubble", 0.42, (0, 0), (0.6, 1), "Male"),
    "Smiling": Trait("smile", 0.5, (-0.4, -0.02), (0.4, 1)),
    "Mouth_Slightly_Open": Trait("opening", 0.45, (0, 0), (5, 9)),
    "Big_Lips": Trait("lips", 0.3, (0, 0.3), (0.8, 1)),
    "Big_Nose": Trait("nose", 0.3, (0, 0.3), (0.8, 1)),
    "Pointy_Nose": Trait("point", 0.3, (0, 0.2), (0.8, 1)),
    "Narrow_Eyes": Trait("narrow", 0.25, (0, 0.2), (0.8, 1)),
    "Bags_Under_Eyes": Trait("bags", 0.25, (0, 0), (0.6, 1)),
    "Arched_Eyebrows": Trait("arch", 0.3, (0, 0.25), (0.8, 1)),
    "Bushy_Eyebrows": Trait("bushy", 0.3, (0, 0.25), (0.8, 1)),
    "High_Cheekbones": Trait("cheekbones", 0.35, (0, 0.15), (0.75, 1)),
    "Rosy_Cheeks": Trait("blush", 0.25, (0, 0), (0.65, 0.95)),
    "Wearing_Lipstick": Trait("lipstick", 0.3, (0, 0), (0.8, 1)),
    "Heavy_Makeup": Trait("makeup", 0.25, (0, 0), (0.7, 1)),
    "Eyeglasses": Trait("glasses", 0.22, (0, 0), (1, 1)),
    "Wearing_Earrings": Trait("earrings", 0.25, (0, 0), (1, 1)),
}
DRAWN = {*TRAITS, "No_Beard", "Straight_Hair"}
RANGES = {
    (0, 1): "back_hue cloth_hue hat_hue eye_hue hair_length hair_volume rim_tone jewel",
    (0, 6.28): "back_turn hair_phase",
    (-3, 3): "shift_x shift_y",
    (-0.08, 0.08): "roll",
    (0.95, 1.05): "scale",
    (-5, 5): "yaw",
    (-2, 2): "chin",
    (-0.7, 0.7): "light_x",
    (-0.6, 0): "light_y",
    (0.92, 1.06): "exposure",
    (-0.04, 0.04): "warmth",
    (1.5, 4): "grain",
    (0.05, 0.4): "back_saturation",
    (0.3, 0.95): "back_value",
    (0, 0.4): "back_fall",
    (0.1, 0.55): "cloth_saturation",
    (0.2, 0.8): "cloth_value hat_value",
    (-1.5, 1.5): "eye_gap gaze brow_height mouth_width",
    (-0.6, 0.6): "eye_size",
    (-16, 16): "hair_part",
    (-0.12, 0.12): "hair_tone",
    (0.15, 0.4): "hair_glow",
    (-0.06, 0.02): "lip_hue",
    (2, 4): "rim_power",
    (-1, 1): "undertone",
}
"""Range → names of the parameters that vary independently of the traits."""

# -- parameters and attributes ----------------------------------------------------------------------------------------


def draw_parameters(seed: int, index: int) -> SimpleNamespace:
    """Parameters of image ``index``: one for each trait and each name in ``RANGES``, and the seed of its noise."""
    random = np.random.default_rng((seed, index))
    parameters, present = {}, set()
    for name, trait in TRAITS.items():
        chance, position = random.random(2)
        if chance < trait.probability and _are_met(trait.requires, present):
            present.add(name)
        low, high = trait.present if name in present else trait.absent
        parameters[trait.parameter] = low + (high - low) * float(position)
    for (low, high), names in RANGES.items():
        for name in names.split():
            parameters[name] = random.uniform(low, high)
    return SimpleNamespace(**parameters, noise=int(random.integers(2**63)))


def attributes_of(parameters: SimpleNamespace) -> dict[str, bool]:
    """The 40 attributes of a face with these parameters."""
    shown = {
        name: getattr(parameters, trait.parameter) > (trait.absent[1] + trait.present[0]) / 2
        for name, trait in TRAITS.items()
    }
    shown["No_Beard"] = not (shown["Mustache"] or shown["Goatee"] or shown["5_o_Clock_Shadow"])
    shown["Straight_Hair"] = not (shown["Wavy_Hair"] or shown["Bald"])
    return {name: shown.get(name, False) for name in NAMES}


def edit_parameters(parameters: SimpleNamespace, attribute: str, present: bool) -> SimpleNamespace:
    """The same face with one trait set; KeyError if it is not one. Other traits change only if required."""
    requires = TRAITS[attribute].requires.split() * present
    wanted = {attribute: present, **{name.lstrip("-"): not name.startswith("-") for name in requires}}
    edited = SimpleNamespace(**vars(parameters))
    for name, trait in TRAITS.items():
        shown = attributes_of(edited)
        value = wanted.get(name, shown[name] and _are_met(trait.requires, {key for key in shown if shown[key]}))
        if value != shown[name]:
            setattr(edited, trait.parameter, sum(trait.present if value else trait.absent) / 2)
    return edited


def _are_met(requirements: str, present: set[str]) -> bool:
    return all((need.lstrip("-") in present) != need.startswith("-") for need in requirements.split())
