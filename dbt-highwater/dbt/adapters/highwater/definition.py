"""Whether two definitions say the same: their text, without comments, with one space for each gap."""

import re

# What is kept as it is, then what is left out.
_PART = re.compile(
    r"""(?P<kept>
            [eE]'(?:[^'\\]|''|\\.)*'
          | '(?:[^']|'')*'
          | "(?:[^"]|"")*"
          | (?P<tag>\$[A-Za-z_]*\$).*?(?P=tag)
        )
      | (?P<gap>(?:\s+|--[^\n]*|/\*.*?\*/)+)""",
    re.DOTALL | re.VERBOSE,
)

# The server keeps it apart and writes it in its own way.
_EMIT = re.compile(r"emit on window close$", re.IGNORECASE)

_IDENTIFIER = r'(?:"(?:[^"]|"")+"|\w+)'
_CREATE_SOURCE = re.compile(
    rf"create source (?:if not exists )?(?:{_IDENTIFIER}\.)*{_IDENTIFIER} ?(?P<body>.*)", re.DOTALL | re.IGNORECASE
)


def canonical(sql: str) -> str:
    text = _PART.sub(lambda part: part.group("kept") or " ", sql).strip()
    return _EMIT.sub("EMIT ON WINDOW CLOSE", text.rstrip(";").strip())


def source_body(statement: str) -> str:
    """What stands after the name in CREATE SOURCE name …"""
    found = _CREATE_SOURCE.fullmatch(canonical(statement))
    return found.group("body") if found else canonical(statement)


def same_option(existing: str, wanted: str) -> bool:
    """The server tells a length of time in seconds, however it was given."""
    return existing == wanted or (_seconds(existing) is not None and _seconds(existing) == _seconds(wanted))


_UNITS = {"second": 1, "sec": 1, "minute": 60, "min": 60, "hour": 3600, "day": 86400, "week": 604800}


def _seconds(text: str):
    parts = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+?)s?\s*", text.lower())
    if parts is None or parts.group(2) not in _UNITS:
        return None
    return float(parts.group(1)) * _UNITS[parts.group(2)]
