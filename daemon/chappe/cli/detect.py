"""``chappe detect``: the hands in pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chappe.cli.common import Commands, add_config_options, add_json_option, load_config, print_json
from chappe.errors import EdgeError, Exit

if TYPE_CHECKING:
    from chappe.vision.hands import Hand, HandPipeline


BACKENDS = ("pillow", "opencv", "numpy")


def register(commands: Commands) -> None:
    parser = commands.add_parser("detect", help="find hands and their gestures in pictures")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a picture in any common format")
    parser.add_argument("--model", metavar="NAME", help="hands-lite or hands-full (default: the configured one)")
    parser.add_argument("--hands", type=int, choices=(1, 2), default=2, help="how many hands to look for (default: 2)")
    parser.add_argument("--backend", choices=("auto", *BACKENDS), help="pre-processing (default: pillow)")
    add_json_option(parser)
    add_config_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print a line per hand, or per picture with ``--json``; exit 74 if a picture could not be read."""
    from chappe.vision.picture import decode

    code = Exit.OK
    with _pipeline(args) as pipeline:
        for name in args.images:
            try:
                frame = decode(_content(name), name=name)
            except EdgeError as error:
                print(f"chappe: {error}", file=sys.stderr)
                code = Exit.IO
                continue
            hands = pipeline.detect(frame)
            if args.json:
                print_json({"file": name, "hands": [as_data(hand) for hand in hands]})
            else:
                print("\n".join(f"{name}: {line}" for line in _lines(hands)))
    return code


def _pipeline(args: argparse.Namespace) -> HandPipeline:
    from chappe.assembly import model_folders
    from chappe.edge import models
    from chappe.vision.hands import HandPipeline, HandSettings

    config = load_config(args).config
    manifest = models.manifest_of(args.model or config.vision.model, models.load_manifests())
    contents = models.read(manifest, model_folders(config))
    settings = HandSettings(
        hands=args.hands,
        palm_score=config.vision.palm_score,
        presence=config.vision.presence,
        # Single pictures need no speed, and so give the same numbers on every device, with OpenCV or without.
        backend=args.backend or "pillow",
        threads=config.vision.threads,
    )
    return HandPipeline(manifest, contents, settings)


def _content(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise EdgeError(f"{name}: {error.strerror or error}", remedy="give the path of a picture file") from error


def as_data(hand: Hand) -> dict[str, Any]:
    """A hand as published by ``detect --json``: probabilities to four places, landmarks to a hundredth of a pixel."""
    return {
        "gesture": hand.gesture,
        "score": round(hand.score, 4),
        "handedness": hand.handedness,
        "box": list(hand.box),
        "landmarks": [[round(value, 2) for value in point] for point in hand.landmarks],
    }


def _lines(hands: list[Hand]) -> list[str]:
    if not hands:
        return ["no hand"]
    return [
        f"{hand.gesture} ({hand.score:.0%}), {hand.handedness} hand, {hand.box[2]}x{hand.box[3]} px at {hand.box[0]},{hand.box[1]}"
        for hand in hands
    ]
