"""Names of models, judges and people that could be mistaken for others. Pure.

A name is refused if it could look like another one without being equal: it must be in the normal
form NFKC, without invisible characters and with single blanks. A name with letters outside Latin
and the East Asian scripts is accepted, and its scripts are shown beside it, because letters such as
the Cyrillic "а" look like Latin ones (Unicode Technical Standard 39, section 5).
"""

import re
import unicodedata

# Marks that are not drawn: joiners, variation selectors (Unicode's Default_Ignorable_Code_Point).
# Format characters, such as those that reverse the direction, have the category Cf.
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_UNMARKED = frozenset(("LATIN", "CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO"))


def name_problem(name: str) -> str | None:
    """Why a name could be mistaken for another; None if it cannot."""
    hidden = next(
        (
            character
            for character in name
            if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")
            or _IGNORABLE.match(character)
        ),
        None,
    )
    if hidden:
        return f"it contains an invisible character (U+{ord(hidden):04X})"
    if (normal := unicodedata.normalize("NFKC", name)) != name:
        return f"it is not in the normal form NFKC: write {normal!r}"
    if (single := " ".join(name.split())) != name:
        return f"its blanks differ from single blanks: write {single!r}"
    return None


def marked_scripts(name: str) -> list[str]:
    """The scripts of a name's letters that a reader should be told about, such as "Cyrillic"."""
    scripts = {
        unicodedata.name(character, "UNKNOWN").split()[0].partition("-")[0]
        for character in name
        if character.isalpha()
    }
    # MODIFIER LETTER and MATHEMATICAL do not name a script
    return sorted(script.capitalize() for script in scripts - _UNMARKED)
