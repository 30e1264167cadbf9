"""Pictures of what a reasoner saw, said and segmented: pure functions on tensors.

A picture is ``uint8 (3, H, W)`` RGB on the CPU. Pictures are composed by putting them ``beside`` and ``above`` each
other, so that every part can be looked at, and tested, by itself.
"""

import unicodedata
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

Colour = tuple[int, int, int]

PREDICTION: Colour = (0, 208, 255)
TRUTH: Colour = (255, 255, 255)
BOX: Colour = (255, 176, 32)
PAPER: Colour = (24, 26, 31)
INK: Colour = (236, 239, 244)
FAINT: Colour = (158, 166, 178)
CASING: Colour = (0, 0, 0)

LEGEND = {"predicted mask": PREDICTION, "true outline": TRUTH, "keyframe and box": BOX}

# Pillow's built-in font knows little more than ASCII; a missing glyph would be an empty rectangle.
_ASCII = str.maketrans({"–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "×": "x", "→": ">", "−": "-"})
_MOST_CHARACTERS = 2000


def overlay(frame: Tensor, mask: Tensor, colour: Colour, alpha: float = 0.5) -> Tensor:
    """Blend a colour into a frame where a mask is True.

    ``(1 - alpha) * frame + alpha * colour``, rounded.

    Args:
        frame: ``uint8 (3, H, W)``.
        mask: ``bool (H, W)``.
        colour: RGB.
        alpha: opacity of the colour, in [0, 1].

    Returns:
        ``uint8 (3, H, W)``, a new tensor.
    """
    paint = torch.tensor(colour, dtype=torch.float32)[:, None, None]
    blended = ((1 - alpha) * frame.float() + alpha * paint).round().to(torch.uint8)
    return torch.where(mask, blended, frame)


def mask_edge(mask: Tensor, width: int = 2) -> Tensor:
    """Return the pixels of a mask that are at most ``width`` pixels inside its edge, ``bool (H, W)``.

    The border of the picture is an edge too: the line of a mask that fills the frame is its border.
    """
    outside = F.pad(~mask, (width, width, width, width), value=True)
    return mask & _dilate(outside, width)[width:-width, width:-width]


def box_edge(boxes: Tensor, size: tuple[int, int], width: int = 2) -> Tensor:
    """Return the lines of boxes, ``bool (H, W)``.

    Args:
        boxes: ``float (M, 4)`` xyxy in pixels, half-open; what lies outside the picture is cut off.
        size: height and width of the picture.
        width: of the lines in pixels, which lie inside the boxes.
    """
    height, columns = size
    edge = torch.zeros(size, dtype=torch.bool)
    limit = torch.tensor([columns, height, columns, height], dtype=torch.float64)
    for x1, y1, x2, y2 in torch.minimum(boxes.double().clamp_min(0), limit).round().int().tolist():
        inside = torch.zeros(size, dtype=torch.bool)
        inside[y1:y2, x1:x2] = True
        edge |= mask_edge(inside, width)
    return edge


def stroke(frame: Tensor, edge: Tensor, colour: Colour, casing: int = 1) -> Tensor:
    """Paint the pixels of a line, with a dark casing of ``casing`` pixels that keeps it visible on any background."""
    cased = overlay(frame, _dilate(edge, casing) & ~edge, CASING, alpha=0.6)
    return overlay(cased, edge, colour, alpha=1.0)


def outline(frame: Tensor, mask: Tensor, colour: Colour = TRUTH, width: int = 2) -> Tensor:
    """Draw the outline of a mask, ``bool (H, W)``, on a frame."""
    return stroke(frame, mask_edge(mask, width), colour)


def draw_boxes(frame: Tensor, boxes: Tensor, colour: Colour = BOX, width: int = 2) -> Tensor:
    """Draw boxes, ``float (M, 4)`` xyxy in pixels of the frame, half-open."""
    height, columns = frame.shape[-2:]
    return stroke(frame, box_edge(boxes, (height, columns), width), colour)


def resize(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a picture to ``size`` (height, width), bicubic and without aliasing."""
    resized = F.interpolate(picture[None].float(), size, mode="bicubic", antialias=True)
    return resized[0].round().clamp(0, 255).to(torch.uint8)


def annotate(
    frame: Tensor,
    prediction: Tensor | None = None,
    truth: Tensor | None = None,
    boxes: Tensor | None = None,
    side: int = 224,
) -> Tensor:
    """Draw what is known about a frame: predicted mask filled, true mask outlined, boxes.

    Drawn at twice the size and scaled down, so that lines are smooth and equally thick on frames of any size.

    Args:
        frame: ``uint8 (3, H, W)``.
        prediction: ``bool (H, W)``, or None.
        truth: ``bool (H, W)``, or None.
        boxes: ``float (M, 4)`` xyxy in pixels of the frame, half-open, or None.
        side: longer side of the picture in pixels.

    Returns:
        ``uint8 (3, h, w)`` with ``max(h, w) == side`` and the frame's aspect ratio.
    """
    height, width = frame.shape[-2:]
    scale = side / max(height, width)
    small = (max(1, round(height * scale)), max(1, round(width * scale)))
    large = (2 * small[0], 2 * small[1])
    picture = resize(frame, large)
    if prediction is not None:
        mask = _resize_mask(prediction, large)
        picture = outline(overlay(picture, mask, PREDICTION), mask, PREDICTION, width=3)
    if truth is not None:
        picture = outline(picture, _resize_mask(truth, large), TRUTH, width=4)
    if boxes is not None:
        factor = torch.tensor([large[1] / width, large[0] / height] * 2, dtype=torch.float64)
        picture = draw_boxes(picture, boxes.double() * factor, BOX, width=4)
    return resize(picture, small)


def text_block(text: str, width: int | None = None, size: int = 14, colour: Colour = INK, max_lines: int = 3) -> Tensor:
    """Write text on paper, wrapped between words.

    Any string can be written: what the built-in font lacks becomes its ASCII equivalent or a question mark, line
    breaks become spaces.

    Args:
        text: what to write.
        width: of the block in pixels; None for one line as wide as the text.
        size: of the font in pixels.
        colour: of the letters.
        max_lines: lines after these are left out, and the last one ends in three dots.

    Returns:
        ``uint8 (3, h, width)``; the height depends on the number of lines only.
    """
    font = ImageFont.load_default(size=size)
    words = _printable(text)
    lines = [words] if width is None else _wrap(words, width, font, max_lines)
    columns = max(1, round(font.getlength(words)) + 1) if width is None else width
    leading = round(1.35 * size)
    block = Image.new("RGB", (columns, leading * len(lines)), PAPER)
    pen = ImageDraw.Draw(block)
    for number, line in enumerate(lines):
        pen.text((0, number * leading + leading // 2), line, fill=colour, font=font, anchor="lm")
    return torch.from_numpy(np.array(block)).permute(2, 0, 1).contiguous()


def pad(
    picture: Tensor, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0, colour: Colour = PAPER
) -> Tensor:
    """Put margins of one colour around a picture, in pixels."""
    height, width = picture.shape[-2:]
    padded = torch.tensor(colour, dtype=torch.uint8)[:, None, None].repeat(
        1, top + height + bottom, left + width + right
    )
    padded[:, top : top + height, left : left + width] = picture
    return padded


def beside(pictures: Sequence[Tensor], gap: int = 8) -> Tensor:
    """Put pictures next to each other, aligned at the top."""
    height = max(picture.shape[-2] for picture in pictures)
    padded = [
        pad(picture, left=gap if number else 0, bottom=height - picture.shape[-2])
        for number, picture in enumerate(pictures)
    ]
    return torch.cat(padded, dim=2)


def above(pictures: Sequence[Tensor], gap: int = 8) -> Tensor:
    """Put pictures below each other, aligned at the left."""
    width = max(picture.shape[-1] for picture in pictures)
    padded = [
        pad(picture, top=gap if number else 0, right=width - picture.shape[-1])
        for number, picture in enumerate(pictures)
    ]
    return torch.cat(padded, dim=1)


def legend(names: dict[str, Colour] = LEGEND) -> Tensor:
    """Draw a line that says which colour means what."""
    swatches = [
        beside(
            [
                pad(torch.zeros(3, 0, 0, dtype=torch.uint8), 12, 12, colour=colour),
                text_block(name, size=12, colour=FAINT),
            ]
        )
        for name, colour in names.items()
    ]
    return beside(swatches, gap=20)


def caption(picture: Tensor, text: str, size: int = 16, max_lines: int = 2) -> Tensor:
    """Put a sentence below a picture, with a margin around it; equal sentences take equal space."""
    margin = size // 2
    block = text_block(text, picture.shape[-1] - 2 * margin, size, max_lines=max_lines)
    return above([picture, pad(block, margin, margin, margin, margin)], gap=0)


def _dilate(mask: Tensor, radius: int) -> Tensor:
    return F.max_pool2d(mask[None].float(), 2 * radius + 1, stride=1, padding=radius)[0] > 0


def _resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(mask[None, None].float(), size, mode="bilinear", antialias=True)[0, 0] >= 0.5


def _printable(text: str) -> str:
    shown = unicodedata.normalize("NFKD", text[:_MOST_CHARACTERS].translate(_ASCII))
    shown = "".join(character for character in shown if not unicodedata.combining(character))
    shown = shown.encode("ascii", "replace").decode()
    return " ".join("".join(character if character.isprintable() else " " for character in shown).split())


def _wrap(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, max_lines: int) -> list[str]:
    lines: list[str] = []
    rest = text
    while rest and len(lines) < max_lines:
        fits = len(rest)
        while fits > 1 and font.getlength(rest[:fits]) > width:
            # Lengths add up nearly linearly, so this takes a few steps instead of one per letter.
            fits = max(1, min(fits - 1, int(fits * width / font.getlength(rest[:fits])) + 1))
        space = rest.rfind(" ", 0, fits + 1) if fits < len(rest) else -1
        cut = space if space > 0 else fits
        lines.append(rest[:cut])
        rest = rest[cut:].lstrip()
    if rest:
        lines[-1] = f"{lines[-1][: max(0, len(lines[-1]) - 3)]}..."
    return lines or [""]
