"""Folding: texts without accents and case, so that ``sao tome`` finds *São Tomé*.

PostgreSQL does it, with functions that it has itself: an extension such as ``unaccent`` is not to be had everywhere.
Accents are what decomposing (Unicode's NFKD) splits off; some letters do not decompose and have one that people type
for them. What is searched is folded when it is written, into a column of its own, as that is what takes time: over a
thousand collections of 2 kB, half a second for each word, against 20 milliseconds (PostgreSQL 15, one core).
"""

from typing import Any

from sqlalchemy import ColumnElement, func, literal_column

_MARKS = "[\u0300-\u036f]"
_LETTERS = ("øłđħŧı", "oldhti")


def folded(text: Any) -> ColumnElement[str]:
    """Return a text folded, where it is compared with another."""
    bare = func.regexp_replace(func.normalize(text, literal_column("NFKD")), _MARKS, "", "g")
    return func.translate(func.lower(bare), *_LETTERS)


def folded_sql(*texts: str) -> str:
    """Return the same of several texts, with blanks between them, as SQL written as PostgreSQL gives it back.

    Alembic compares it with the database's. Each text is SQL, of type ``text`` and not null.
    """
    together = " || ' '::text || ".join(texts)
    bare = f"regexp_replace(normalize({together}, NFKD), '{_MARKS}'::text, ''::text, 'g'::text)"
    return f"translate(lower({bare}), '{_LETTERS[0]}'::text, '{_LETTERS[1]}'::text)"
