"""Texts that are not ours, as our errors show them."""

from __future__ import annotations

from pydantic import ValidationError


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
