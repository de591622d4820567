"""Puts the page together: sections, templates, Vega-Embed's code, and the files of the figures beside it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from translit_scale.charts import Chart, write_chart
from translit_scale.errors import ConfigError, DataError
from translit_scale.extras import install_command
from translit_scale.files import write_bytes
from translit_scale.progress import Progress
from translit_scale.report.page.association import association
from translit_scale.report.page.curves import curves
from translit_scale.report.page.inputs import Inputs
from translit_scale.report.page.languages import language_table
from translit_scale.report.page.provenance import provenance, settings_of
from translit_scale.report.page.scores import measure, papers, scores
from translit_scale.report.page.similarities import dynamics, similarities
from translit_scale.report.page.summary import summary
from translit_scale.report.page.vocabulary import vocabulary
from translit_scale.report.page.words import words
from translit_scale.romanize.table_cache import cache_folder

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


@dataclass(frozen=True)
class Options:
    """What the command line says about a page."""

    out: Path
    profile: str
    families: Path | None
    seen: Path | None
    command: str


def write_page(inputs: Inputs, options: Options) -> int:
    """Writes the page and, into a folder of the same name beside it, its figures; returns the bytes of the page.

    Raises:
        ConfigError: vl-convert, which draws the charts, is not installed.
        DataError: `families` or `seen` cannot be read, or the disk is full.
    """
    if find_spec("vl_convert") is None:
        raise ConfigError("the page needs vl-convert for its charts", install_command("plots"))
    measured = measure(inputs, options.profile, options.families, options.seen)
    languages = language_table(inputs, measured, options.families)
    sections = [curves(inputs.runs), scores(inputs, measured), papers(inputs, options.profile)]
    sections += [association(inputs, options.profile, options.families), similarities(inputs), dynamics(inputs)]
    sections += [words(inputs), vocabulary(inputs)]
    sections = [section for section in sections if section.has_content]
    sections_after = [settings_of(inputs.runs), provenance(inputs, options.command)]
    folder = options.out.with_suffix("")
    _write_charts([chart for section in sections for chart in section.charts], folder)
    page = render(
        title=f"Report on {', '.join(run.name for run in inputs.runs)}",
        summary=summary(inputs, measured, languages, sections),
        inputs=inputs,
        sections=sections,
        sections_after=sections_after,
        languages=languages,
        folder=quote(folder.name),
    ).encode()
    write_bytes(options.out, page)
    return len(page)


def _write_charts(charts: Sequence[Chart], folder: Path) -> None:
    with Progress("drawing", len(charts), "figures") as progress:
        for chart in charts:
            write_chart(chart, folder)
            progress.advance(1)


def render(**content: Any) -> str:
    """The HTML of a page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("translit_scale.report.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["chart"] = lambda chart: inline_json(chart.spec)
    environment.filters["commands"] = _commands
    texts = files("translit_scale.report.page").joinpath("templates")
    scripts = [vega_code(), texts.joinpath("page.js").read_text(encoding="utf-8")]
    style = texts.joinpath("page.css").read_text(encoding="utf-8")
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return environment.get_template("page.html").render(
        **content, style=Markup(style), scripts=[Markup(script) for script in scripts], script_sources=Markup(hashes)
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _finalize(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def visible(text: str) -> str:
    """Text whose control characters are shown as `‹U+202E›`, because they could rearrange or hide what follows."""
    return _CONTROL.sub(lambda match: f"‹U+{ord(match[0]):04X}›", text)


def _visible_values(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {visible(str(name)): _visible_values(inner) for name, inner in value.items()}
    return [_visible_values(inner) for inner in value] if isinstance(value, list | tuple) else value


def inline_json(value: Any) -> Markup:
    """JSON for a `<script type="application/json">`: nothing in it can end the element."""
    text = json.dumps(_visible_values(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _commands(sentence: str) -> Markup:
    """A sentence whose parts between backticks are shown as code."""
    parts = visible(sentence).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part) for number, part in enumerate(parts)
    )


def vega_code() -> str:
    """Vega-Embed with Vega and Vega-Lite as one minified script, which defines `vegaEmbed`.

    Bundling takes several seconds, so the user's cache folder keeps the script of each version of vl-convert.
    """
    import vl_convert

    path = cache_folder() / f"vega-embed-{version('vl-convert-python')}.js"
    with suppress(OSError, UnicodeDecodeError):
        status = path.stat()
        if status.st_uid == os.getuid() and not status.st_mode & 0o022:
            return path.read_text(encoding="utf-8")
    code: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub alone requires an argument
    with suppress(OSError, DataError):  # a cache that cannot be written only costs time
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_bytes(path, code.encode())
        path.chmod(0o600)
    return code
