"""The demo's text, from two installed pip packages: Django's message catalogues and Babel's CLDR names.

Both have the same content in about a hundred languages under common keys (the English message; the code of a territory,
language, currency, script or variant). So they give monolingual sentences and, for the keys that are held out of
training, parallel pairs for retrieval. None of this text is stored in the project.
"""

from __future__ import annotations

import difflib
import gettext
import hashlib
import html
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pycountry

from translit_scale.corpus.clean import fold
from translit_scale.errors import ConfigError, DataError
from translit_scale.extras import install_command
from translit_scale.files import read_json, write_bytes, write_json
from translit_scale.languages import WRITTEN_AS, check_language

NAME_KINDS = ("territories", "languages", "currencies", "scripts", "variants")
"""The CLDR name tables that are read, attributes of `babel.Locale`."""

PLURAL_NUMBERS = (1, 2, 5, 3, 7, 0, 11, 100)
"""Numbers for plural messages; each plural form gets the first number that selects it."""

NUMBER = "5"
"""Replaces every other placeholder: in any script a number can be a count, a name or an identifier."""

Key = tuple[str, ...]
"""Common to all translations: ("messages", context, English message) or (kind of name, code)."""
Texts = dict[Key, tuple[str, ...]]
"""The sentences of a language by key; a plural message has several, the first one for `PLURAL_NUMBERS[0]`."""

_PLACEHOLDER = re.compile(
    r"%%"
    r"|%(?:\(\w+\))?[#0+-]*\d*(?:\.\d+)?[diouxXeEfFgGcrsa]"  # %(name)s %s %d %.2f
    r"|\{\w*(?:![rsa])?(?::[^{}]*)?\}"  # {name} {} {0:.2f}
)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")  # all of them within a line of text (a, code, strong, ...)
_LEFT_OVER = re.compile(r"%[\w(]|[{}<>]")
"""Remains of a mistyped placeholder or tag: such a message is dropped."""


@dataclass(frozen=True)
class Sources:
    """The locale of Babel and the folder name of Django's catalogues for a language."""

    babel: str | None = None
    django: str | None = None


def write_demo_text(
    out: Path, pairs: Sequence[tuple[str, str]], held_out: float = 0.2, seed: int = 0
) -> dict[str, Any]:
    """Writes training text and held-out parallel pairs; returns the counts, as in `out/counts.json`.

    `out/text/{lang_Script}.txt` has one sentence per line; `out/heldout/{a}-{b}.tsv` has two columns under
    a header row with the two codes. A key is held out in all languages or in none (by the hash of seed and key), and no
    string of a held-out pair is in any training text of the run, compared by `fold`. The same arguments give the same
    bytes. `counts.json` is written last; files of an earlier run that it lists and this run does not make are removed.

    Raises:
        ConfigError: the extra `demo` is not installed, no pairs, a language paired with itself, or
            `held_out` not between 0 and 1.
        DataError: neither package has one of the languages, or no held-out pair is left.
    """
    if not 0 < held_out < 1:
        raise ConfigError(f"held_out must lie between 0 and 1, found {held_out}")
    if not pairs or any(a == b for a, b in pairs):
        raise ConfigError(f"expected pairs of two different languages, found {list(pairs)}", "--pairs pol-ukr hin-urd")
    languages = sorted({language for pair in pairs for language in pair})
    sources = {language: find_sources(language) for language in languages}
    unusable: dict[str, Counter[str]] = {language: Counter() for language in languages}
    texts = {language: read_texts(sources[language], unusable[language]) for language in languages}
    counts: dict[str, Any] = {
        "packages": {name: version(name) for name in ("babel", "django")},
        "held_out": held_out,
        "seed": seed,
        "languages": {},
        "pairs": {},
    }
    files: dict[str, list[str]] = {}
    forbidden: set[str] = set()
    for a, b in dict.fromkeys(pairs):
        rows, dropped = held_out_pairs(texts[a], texts[b], held_out, seed)
        if not rows:
            raise DataError(
                f"no held-out pair is left for {a} and {b}: {len(texts[a].keys() & texts[b].keys())} common keys",
                "choose languages with more text in both packages or a larger held_out",
            )
        forbidden.update(fold(text) for row in rows for text in row)
        files[f"heldout/{a}-{b}.tsv"] = [f"{x}\t{y}" for x, y in [(a, b), *rows]]
        counts["pairs"][f"{a}-{b}"] = {"pairs": len(rows), "dropped": dict(sorted(dropped.items()))}
    for language in languages:
        lines, of_language = training_lines(texts[language], unusable[language], forbidden, held_out, seed)
        files[f"text/{language}.txt"] = lines
        counts["languages"][language] = asdict(sources[language]) | of_language
    publish(out, files, counts)
    return counts


def counts_table(counts: Mapping[str, Any]) -> str:
    """The counts as a table, a line for each language and pair."""
    lines = [f"{'':<22}{'kept':>8}  left out"]
    entries = [(name, entry["sentences"], entry["dropped"]) for name, entry in counts["languages"].items()]
    entries += [(name, entry["pairs"], entry["dropped"]) for name, entry in counts["pairs"].items()]
    for name, kept, dropped in entries:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in dropped.items())
        lines.append(f"{name:<22}{kept:>8,}  {reasons or 'nothing'}")
    return "\n".join(lines)


def publish(out: Path, files: Mapping[str, Sequence[str]], counts: Mapping[str, Any]) -> None:
    """Writes the files, then `counts.json`, which lists them; removes other files of an earlier run."""
    marker = out / "counts.json"
    if marker.exists():
        earlier = read_json(marker, "counts of the demo's text", f"remove {marker}, or choose another --out")
        names = [f"text/{language}.txt" for language in earlier["languages"]]
        names += [f"heldout/{pair}.tsv" for pair in earlier["pairs"]]
        for name in set(names) - files.keys():
            (out / name).unlink(missing_ok=True)
        marker.unlink()
    for name, lines in files.items():
        write_bytes(out / name, "".join(f"{line}\n" for line in lines).encode())
    write_json(marker, counts)


# ------------------------------------------------------------------------------------------ which language


def find_sources(language: str) -> Sources:
    """The locales of a language (`lang_Script`), by ISO 639 and CLDR's likely scripts.

    Raises:
        ConfigError: the packages are not installed.
        DataError: the code is malformed, or neither package has the language.
    """
    available = available_languages()
    if check_language(language) in available:
        return available[language]
    raise no_text(f"neither Django nor CLDR (Babel) has text in {language}", language, available)


def no_text(message: str, language: str, available: Collection[str]) -> DataError:
    """The error for a language without text, with similar codes that have some."""
    similar = [code for code in available if code.startswith(language[:4])]
    similar += difflib.get_close_matches(language, available, n=3)
    similar = [code for code in dict.fromkeys(similar) if code != language]
    return DataError(
        message, f"close: {', '.join(similar)}" if similar else f"{len(available)} languages are available"
    )


@lru_cache(maxsize=1)
def available_languages() -> dict[str, Sources]:
    """The sources of every language (`lang_Script`) of either package, without regional variants (`pt_BR`)."""
    with demo_packages():
        import django  # noqa: F401, `_catalogues` imports it
        from babel.localedata import locale_identifiers

    locales, catalogues = _first_by_code(locale_identifiers()), _first_by_code(_catalogues())
    codes = sorted(locales.keys() | catalogues.keys())
    return {code: Sources(locales.get(code), catalogues.get(code)) for code in codes}


def _first_by_code(identifiers: Sequence[str] | Mapping[str, Any]) -> dict[str, str]:
    by_code: dict[str, str] = {}
    for identifier in sorted(identifiers, key=lambda name: (len(name), name)):
        code = _language_of(identifier)
        if code is not None:
            by_code.setdefault(code, identifier)
    return by_code


def _language_of(locale: str) -> str | None:
    """`uk` → `ukr_Cyrl`; None for a regional variant, or a language without ISO 639-3 code or known script."""
    from babel.core import get_global, parse_locale

    iso, territory, script, variant = parse_locale(locale)[:4]
    if territory or variant:
        return None
    language = pycountry.languages.get(**{"alpha_2" if len(iso) == 2 else "alpha_3": iso})
    if script is None:
        script = parse_locale(get_global("likely_subtags").get(iso, iso))[2]
    if language is None or script is None:
        return None
    return f"{language.alpha_3}_{WRITTEN_AS.get(script, script)}"


@contextmanager
def demo_packages() -> Iterator[None]:
    """Turns the error about a package of the extra `demo` that is not installed into a ConfigError."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"the demo's text is read from installed packages: {error}", install_command("demo")
        ) from None


# --------------------------------------------------------------------------------------------- reading text


def read_texts(sources: Sources, unusable: Counter[str]) -> Texts:
    """All sentences of one language; counts the dropped strings in `unusable`, by reason."""
    texts: Texts = {}
    for key, forms in [*_messages(sources.django), *_names(sources.babel)]:
        kept: list[str] = []
        sentences = [natural_text(form, count) for count, form in forms]
        for text, problem in sentences:
            # Without its first form, a message would be paired with the wrong form of its translation.
            if problem := sentences[0][1] or problem:
                unusable[problem] += 1
            elif text in texts.get(key, ()) or text in kept:
                unusable["repeated"] += 1
            else:
                kept.append(text)
        if kept:
            texts[key] = (*texts.get(key, ()), *kept)
    return texts


def natural_text(string: str, count: str) -> tuple[str, str]:
    """(sentence, reason to drop it or ""): `count` for placeholders, no markup, NFC, one line, single spaces."""
    text = _PLACEHOLDER.sub(lambda match: "%" if match[0] == "%%" else count, string)
    text = html.unescape(_TAG.sub("", text))
    text = " ".join(unicodedata.normalize("NFC", text).split())
    if _LEFT_OVER.search(text):
        return "", "placeholder"
    if sum(character.isalpha() for character in text) < 2:  # "5 %", and the one-letter weekdays of calendars
        return "", "fewer than two letters"
    return text, ""


def _names(locale: str | None) -> Iterator[tuple[Key, list[tuple[str, str]]]]:
    from babel import Locale

    if locale is not None:
        names = Locale.parse(locale)
        for kind in NAME_KINDS:
            for code, name in sorted(getattr(names, kind).items()):
                yield (kind, code), [(NUMBER, name)]


def _messages(locale: str | None) -> Iterator[tuple[Key, list[tuple[str, str]]]]:
    """Keys and translated strings, each with the number for its placeholders."""
    for path in _catalogues()[locale] if locale is not None else ():
        catalogue = _read_catalogue(path)
        form_of = gettext.c2py(catalogue.plural_expr)
        for message in catalogue:
            if not message.id:  # the header
                continue
            singular = message.id if isinstance(message.id, str) else message.id[0]
            context = message.context or ""  # bytes from `read_mo`
            key = ("messages", context.decode() if isinstance(context, bytes) else context, singular)
            # The keys are English, and the English catalogues are empty.
            string = message.id if locale == "en" else message.string
            if isinstance(string, str):
                yield key, [(NUMBER, string)]
            else:
                first_count = {form_of(count): str(count) for count in reversed(PLURAL_NUMBERS)}
                forms = [(first_count[i], form) for i, form in enumerate(string) if i in first_count]
                yield key, sorted(forms, key=lambda form: PLURAL_NUMBERS.index(int(form[0])))


def _read_catalogue(path: Path) -> Any:
    from babel.messages.mofile import read_mo
    from babel.messages.pofile import read_po

    with path.open("rb") as file:
        return read_po(file, ignore_obsolete=True) if path.suffix == ".po" else read_mo(file)


@lru_cache(maxsize=1)
def _catalogues() -> dict[str, list[Path]]:
    """Django's compiled catalogues by locale; for English the source files, because the compiled ones are empty."""
    import django

    catalogues: dict[str, list[Path]] = {}
    for path in sorted(Path(django.__file__).parent.glob("**/locale/*/LC_MESSAGES/*.?o")):
        locale = path.parts[-3]
        if path.suffix == (".po" if locale == "en" else ".mo"):
            catalogues.setdefault(locale, []).append(path)
    return catalogues


# --------------------------------------------------------------------------------------- training, held out


def is_held_out(key: Key, held_out: float, seed: int) -> bool:
    """Whether a key belongs to the held-out fraction; the same in every language."""
    return _hash(seed, *key) < held_out * 2**64


def _hash(seed: int, *parts: str) -> int:
    data = "\x1f".join(parts).encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, key=str(seed).encode()).digest(), "big")


def held_out_pairs(a: Texts, b: Texts, held_out: float, seed: int) -> tuple[list[tuple[str, str]], Counter[str]]:
    """Parallel sentences of the held-out keys in hash order, and the number of dropped ones, by reason.

    Every sentence occurs once on its side (so retrieval has one right answer) and differs from its translation.
    """
    keys = [key for key in a.keys() & b.keys() if is_held_out(key, held_out, seed)]
    rows: list[tuple[str, str]] = []
    seen_a: set[str] = set()
    seen_b: set[str] = set()
    dropped: Counter[str] = Counter()
    for key in sorted(keys, key=lambda key: (_hash(seed, *key), key)):
        x, y = a[key][0], b[key][0]
        if fold(x) == fold(y):
            dropped["same on both sides"] += 1
        elif fold(x) in seen_a or fold(y) in seen_b:
            dropped["occurs in another pair"] += 1
        else:
            seen_a.add(fold(x))
            seen_b.add(fold(y))
            rows.append((x, y))
    return rows, dropped


def training_lines(
    texts: Texts, unusable: Counter[str], forbidden: Set[str] = frozenset(), held_out: float = 0.0, seed: int = 0
) -> tuple[list[str], dict[str, Any]]:
    """Distinct sentences of the keys that are not held out, in hash order, without those whose fold is forbidden.

    Returns:
        The sentences, and the counts of the language; `unusable` are the strings that were dropped before.
    """
    lines: dict[str, None] = {}
    dropped = unusable.copy()
    for key, sentences in texts.items():
        for sentence in sentences:
            if is_held_out(key, held_out, seed):
                dropped["held out"] += 1
            elif fold(sentence) in forbidden:
                dropped["equals a held-out string"] += 1
            elif sentence in lines:
                dropped["repeated"] += 1
            else:
                lines[sentence] = None
    counts = {"read": len(lines) + dropped.total(), "sentences": len(lines), "dropped": dict(sorted(dropped.items()))}
    return sorted(lines, key=lambda line: (_hash(seed, line), line)), counts
