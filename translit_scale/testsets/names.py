"""What test sets call a language where they do not use its code of ISO 639.

WikiAnn uses the names of Wikipedia's editions. The table states which language an edition is written in; where the text
has several scripts, it states the usual one.
"""

from __future__ import annotations

import re

WORD_PREFIX = re.compile(r"^[a-z][a-z-]+:")
"""What words of WikiAnn begin with (`zh-yue:`); its letters are not those of the language."""
WIKIANN: dict[str, str] = {
    "als": "gsw_Latn",  # Alemannic; `als` of ISO 639-3 is Tosk Albanian, which is `sq` here
    "bat-smg": "sgs_Latn",
    "bh": "bho_Deva",
    "cbk-zam": "cbk_Latn",
    "cdo": "cdo_Latn",
    "fiu-vro": "vro_Latn",
    "hak": "hak_Latn",
    "ku": "kmr_Latn",
    "kv": "kpv_Cyrl",
    "mo": "ron_Cyrl",
    "no": "nob_Latn",
    "roa-rup": "rup_Latn",
    "sh": "hbs_Latn",
    "zh-classical": "lzh_Hani",
    "zh-min-nan": "nan_Latn",
    "zh-yue": "yue_Hani",
}
"""Edition of Wikipedia → language, for the names that are not the language's code of ISO 639."""

WIKIANN_VARIANTS: dict[str, str] = {
    "be-x-old": "bel_Cyrl",  # in the orthography of before 1933
    "map-bms": "jav_Latn",  # Banyumasan
    "nds-nl": "nds_Latn",  # in the orthography of the Netherlands
    "roa-tara": "nap_Latn",  # Tarantino
    "simple": "eng_Latn",  # in simple words
}
"""Editions in a variety of a language that has another edition; read only where that one is missing."""

TREEBANKS: dict[str, str] = {"no_bokmaal": "nob_Latn", "no_nynorsk": "nno_Latn", "no_nynorsklia": "nno_Latn"}
"""Treebanks of Universal Dependencies whose code stands for two languages."""
