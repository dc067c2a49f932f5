"""Texts that are not ours, as our errors show them."""

from __future__ import annotations

import re

from pydantic import ValidationError

#: C0 but for tab and newline, DEL, and C1.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def in_words(error: BaseException) -> str:
    """Type and text of a foreign exception; of pydantic's, which repeats what it was given, the problems alone."""
    if isinstance(error, ValidationError):
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        text = "; ".join(f"{'.'.join(map(str, problem['loc'])) or 'value'}: {problem['msg']}" for problem in problems)
    else:
        text = well_formed(str(error)).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def well_formed(text: str) -> str:
    """``text`` as UTF-8 can hold it: names of files come with lone surrogates where they are in another encoding."""
    return text.encode(errors="replace").decode()


def harmless(text: str) -> str:
    """``text`` without what a terminal acts on: what models and tools say may move its cursor or set its title."""
    return _CONTROL.sub("�", text)
