"""Licence identifiers that the Hugging Face hub accepts in a model card."""

from __future__ import annotations

from difflib import get_close_matches

from translit_scale.errors import ConfigError

_NAMES = """
afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0
cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0
creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research intel-research isc lgpl
lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by
ofl-1.1 openmdw-1.0 openmdw-1.1 openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib
"""
HUB_LICENCES = frozenset(_NAMES.split())
"""From https://huggingface.co/docs/hub/repositories-licenses. Where SPDX knows the licence, it is mostly the SPDX
identifier in lower case."""


def check_licence(identifier: str) -> str:
    """The identifier as the hub writes it; upper and lower case are the same (`Apache-2.0` of SPDX → `apache-2.0`).

    Raises:
        ConfigError: the hub does not know it; the hint has similar ones.
    """
    plain = identifier.strip().lower().replace(" ", "-")
    if plain in HUB_LICENCES:
        return plain
    similar = get_close_matches(plain, sorted(HUB_LICENCES), n=3, cutoff=0.5)
    similar += [known for known in sorted(HUB_LICENCES) if known.startswith(plain) and known not in similar][:5]
    meant = f"did you mean {' or '.join(similar)}? " if similar else ""
    raise ConfigError(
        f"--license {identifier!r}: the Hugging Face hub has no licence of this name",
        f"{meant}All names: https://huggingface.co/docs/hub/repositories-licenses ('other' for any other licence)",
    )
