"""Text in more than 800 language-scripts out of installed packages, to try the wide path on.

To the messages and names of `translit_scale.demo.text` come the sample texts of the package
`gflanguages`, mostly articles of the Universal Declaration of Human Rights. Nothing is held out: this text
is for trying out preparation, tokenizer and training at the width of Glot500, not for results.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from translit_scale.demo.text import (
    NUMBER,
    Sources,
    Texts,
    available_languages,
    natural_text,
    publish,
    read_texts,
    training_lines,
)
from translit_scale.errors import ConfigError, DataError
from translit_scale.languages import check_language, resolve_language

_FIELDS = ("specimen_16", "specimen_21", "specimen_32", "specimen_36", "specimen_48",
           "tester", "styles", "poster_sm", "poster_md", "poster_lg")  # fmt: skip
"""Fields of a sample text, the long ones first; the two mastheads are single letters."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[\u0589\u061f\u06d4\u0964\u0965\u104b\u1362\u3002\uff01\uff1f])\s*|\n")
"""After `.`, `!` and `?` with white space, and the full stops and question marks of other scripts."""


def write_many_languages(out: Path, languages: Sequence[str] = ()) -> dict[str, Any]:
    """Writes `out/text/{lang_Script}.txt`, one sentence per line; returns the counts, as in `out/counts.json`.

    The same packages give the same bytes. `counts.json` is written last; files of an earlier run that it
    lists and this run does not make are removed, no others.

    Args:
        languages: their codes; without any, every language there is text in.

    Raises:
        ConfigError: the extra `demo` is not installed.
        DataError: a code is malformed, or there is no text in a language.
    """
    embedded, samples = available_languages(), sample_texts()
    available = sorted(embedded.keys() | samples.keys())
    counts: dict[str, Any] = {
        "packages": {name: version(name) for name in ("babel", "django", "gflanguages")},
        "languages": {},
        "pairs": {},
        "without_text": [],
    }
    files: dict[str, list[str]] = {}
    for language in sorted(set(languages)) or available:
        if check_language(language) not in available:
            raise _not_available(language, available)
        unusable: Counter[str] = Counter()
        texts: Texts = read_texts(embedded.get(language, Sources(None, None)), unusable)
        texts |= _read_samples(samples.get(language, []), unusable)
        lines, dropped = training_lines(texts, set(), held_out=0, seed=0)
        dropped += unusable
        if not lines:
            if languages:
                raise _not_available(language, available)
            counts["without_text"].append(language)
            continue
        files[f"text/{language}.txt"] = lines
        counts["languages"][language] = {
            "read": len(lines) + dropped.total(),
            "sentences": len(lines),
            "dropped": dict(sorted(dropped.items())),
        }
    publish(out, files, counts)
    return counts


def summary_line(counts: Mapping[str, Any]) -> str:
    """How many languages and sentences were written, in one line."""
    sentences = sorted(entry["sentences"] for entry in counts["languages"].values())
    return (
        f"{len(sentences)} languages with {sum(sentences):,} sentences: "
        f"at least {sentences[0]}, median {sentences[len(sentences) // 2]}, at most {sentences[-1]:,}"
    )


@lru_cache(maxsize=1)
def sample_texts() -> dict[str, list[Any]]:
    """The sample texts of gflanguages by `lang_Script`; several where it keeps Hans and Hant apart.

    Left out are regional and other variants (`yo_Latn_BJ`), and codes that stand for no single language
    (`sla_Latn`).

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        from gflanguages import LoadLanguages
    except ImportError as error:
        raise ConfigError(
            f"sample texts are read out of the package gflanguages: {error}", "pip install -e '.[demo]'"
        ) from None
    found: dict[str, list[Any]] = {}
    for identifier, language in sorted(LoadLanguages().items()):
        is_variant = identifier != f"{language.language}_{language.script}"
        code = None if is_variant else resolve_language(identifier)
        if code is not None and language.HasField("sample_text"):
            found.setdefault(code, []).append(language.sample_text)
    return found


def _read_samples(samples: Sequence[Any], unusable: Counter[str]) -> Texts:
    """Sentences of sample texts; a field is often a piece of a longer one, which is left out."""
    texts: Texts = {}
    kept: list[str] = []
    fields = [getattr(sample, field) for sample in samples for field in _FIELDS]
    for sentence in (part for field in fields for part in _SENTENCE_END.split(field) if part.strip()):
        text, problem = natural_text(sentence, NUMBER)
        if not problem and any(text in longer for longer in kept):
            problem = "part of another"
        if problem:
            unusable[problem] += 1
        else:
            kept.append(text)
            texts["samples", str(len(kept))] = (text,)
    return texts


def _not_available(language: str, available: Sequence[str]) -> DataError:
    close = [code for code in available if code.startswith(language[:4])]
    close += difflib.get_close_matches(language, available, n=3)
    close = [code for code in dict.fromkeys(close) if code != language]
    return DataError(
        f"no package has text in {language}",
        f"close: {', '.join(close)}" if close else f"{len(available)} languages are available",
    )
