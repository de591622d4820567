"""Text in more than 800 language-scripts from installed packages, to try a run with as many languages as Glot500.

It combines the messages and names of `translit_scale.demo.text` with the sample texts of the package `gflanguages`,
mostly articles of the Universal Declaration of Human Rights. Nothing is held out: this text is for trying out
preparation, tokenizer and training, not for results.
"""

from __future__ import annotations

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
    demo_packages,
    natural_text,
    no_text,
    publish,
    read_texts,
    training_lines,
)
from translit_scale.languages import check_language, resolve_language

_FIELDS = ("specimen_16", "specimen_21", "specimen_32", "specimen_36", "specimen_48",
           "tester", "styles", "poster_sm", "poster_md", "poster_lg")  # fmt: skip
"""Fields of a sample text, the long ones first, without the two mastheads, which are single letters."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[\u0589\u061f\u06d4\u0964\u0965\u104b\u1362\u3002\uff01\uff1f])\s*|\n")
"""After `.`, `!` and `?` with white space, and the full stops and question marks of other scripts."""


def write_many_languages(out: Path, languages: Sequence[str] = ()) -> dict[str, Any]:
    """Writes `out/text/{lang_Script}.txt`, one sentence per line; returns the counts, as in `out/counts.json`.

    The same packages give the same bytes. `counts.json` is written last; files of an earlier run that it lists and this
    run does not make are removed.

    Args:
        languages: their codes; if empty, all languages with text.

    Raises:
        ConfigError: the extra `demo` is not installed.
        DataError: a code is malformed, or there is no text in a language.
    """
    sources, samples = available_languages(), sample_texts()
    available = sorted(sources.keys() | samples.keys())
    counts: dict[str, Any] = {
        "packages": {name: version(name) for name in ("babel", "django", "gflanguages")},
        "languages": {},
        "pairs": {},
        "without_text": [],
    }
    files: dict[str, list[str]] = {}
    for language in sorted(set(languages)) or available:
        unusable: Counter[str] = Counter()
        texts = read_texts(sources.get(check_language(language), Sources()), unusable)
        texts |= _read_samples(samples.get(language, []), unusable)
        lines, of_language = training_lines(texts, unusable)
        if lines:
            files[f"text/{language}.txt"] = lines
            counts["languages"][language] = of_language
        elif languages:
            raise no_text(f"no package has text in {language}", language, available)
        else:
            counts["without_text"].append(language)
    publish(out, files, counts)
    return counts


def summary_line(counts: Mapping[str, Any]) -> str:
    """The numbers of languages and sentences, in one line."""
    sentences = sorted(entry["sentences"] for entry in counts["languages"].values())
    return (
        f"{len(sentences)} languages with {sum(sentences):,} sentences: "
        f"at least {sentences[0]}, median {sentences[len(sentences) // 2]}, at most {sentences[-1]:,}"
    )


@lru_cache(maxsize=1)
def sample_texts() -> dict[str, list[Any]]:
    """The sample texts of gflanguages by `lang_Script`; several where it distinguishes Hans and Hant.

    Without regional and other variants (`yo_Latn_BJ`) and codes of groups of languages (`sla_Latn`).
    """
    with demo_packages():
        from gflanguages import LoadLanguages
    samples: dict[str, list[Any]] = {}
    for identifier, language in sorted(LoadLanguages().items()):
        is_variant = identifier != f"{language.language}_{language.script}"
        code = None if is_variant else resolve_language(identifier)
        if code is not None and language.HasField("sample_text"):
            samples.setdefault(code, []).append(language.sample_text)
    return samples


def _read_samples(samples: Sequence[Any], unusable: Counter[str]) -> Texts:
    """Sentences of sample texts, without those that are part of a longer one, as fields often are."""
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
