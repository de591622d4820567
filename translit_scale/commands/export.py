"""`translit-scale export`: writes a checkpoint as a Hugging Face folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from translit_scale.commands.arguments import add_command


def add(commands: Any) -> None:
    """Declares the command."""
    parser = add_command(
        commands,
        "export",
        "write a trained model as a Hugging Face folder with a model card",
        "Gathers the weights that all ranks have written into a checkpoint. Checkpoints and exported folders contain "
        "safetensors and text; reading them executes no code.",
        "translit-scale export --run runs/pol-ukr-model5 --license apache-2.0",
    )
    parser.add_argument("--run", dest="run_dir", type=Path, required=True, metavar="DIR", help="run folder; required")
    parser.add_argument(
        "--step", type=_step, metavar="N|best", help="checkpoint to export; best: from best.json (default: the newest)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write (default: export in the run folder)")
    parser.add_argument(
        "--license",
        "--licence",
        metavar="ID",
        help="the hub's name of the licence, such as apache-2.0 (default: unknown)",
    )
    parser.add_argument(
        "--results", type=Path, metavar="DIR",
        help="results of evaluate to put into the card: those of this checkpoint, and of the model from which training "
        "continued (default: none)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace an earlier export")
    parser.set_defaults(run=_run)


def _step(text: str) -> int | str:
    if text != "best" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number of steps or best, found {text!r}")
    return text if text == "best" else int(text)


def _run(args: argparse.Namespace) -> None:
    from translit_scale.export.run import export_run

    out = args.out or args.run_dir / "export"
    step = export_run(args.run_dir, args.step, out, args.license, args.results, args.force)
    print(f"wrote step {step} of {args.run_dir} to {out}")
