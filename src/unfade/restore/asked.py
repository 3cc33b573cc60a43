"""What a caller asked for, made definite."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from unfade.core import Plan, UsageError


def settled(plan: Plan | None, changes: Mapping[str, Any]) -> Plan:
    """The plan, or the usual one, with some of its fields changed by name.

    Raises:
        UsageError: a field is unknown or a value out of range.
    """
    try:
        return replace(plan or Plan(), **changes)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
