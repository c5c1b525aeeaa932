"""Lists of resources: filters, sorting, pages and the fields of an answer, as Neutron's query parameters say (rim).

Every field that is shown can be filtered by; a parameter that is given more than once means any of its values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request

from bgpvpn.api.boundary import Plain
from bgpvpn.api.neutron.attributes import flag
from bgpvpn.api.neutron.errors import BadRequest

PAGING = ("fields", "sort_key", "sort_dir", "limit", "marker", "page_reverse")
TAGS = {"tags": False, "tags-any": False, "not-tags": True, "not-tags-any": True}
"""Filters by tags, which nothing here has, and whether they let everything through."""

CHEAP = ("id", "name", "network_id")
"""Fields that an object of ours has as they are shown, where it has them."""

ASC, DESC = "asc", "desc"


def likely(things: Iterable[Any], request: Request) -> Iterator[Any]:
    """Yield the objects that may fit the filters: most lists are of one name or network, and to show takes its time."""
    wanted = [(name, set(values)) for name in CHEAP if (values := request.query_params.getlist(name))]
    for thing in things:
        if all(str(getattr(thing, name, "")) in values or not hasattr(thing, name) for name, values in wanted):
            yield thing


def filtered(rows: list[Plain], request: Request, known: Sequence[str]) -> list[Plain]:
    """Return the rows that fit all filters."""
    wanted: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        if name not in PAGING:
            wanted.setdefault("project_id" if name == "tenant_id" else name, []).append(value)
    if unknown := [name for name in wanted if name not in known and name not in TAGS]:
        raise BadRequest(f"{unknown} is invalid attribute for filtering")
    for name, values in wanted.items():
        if name not in TAGS:
            rows = [row for row in rows if _fits_all(row[name], values)]
        elif not TAGS[name]:
            rows = []
    return rows


def _fits_all(value: Any, wanted: Sequence[str]) -> bool:
    """Tell whether a field is any of what filters say; one table of a list must have any of the values of each key."""
    if not isinstance(value, list | tuple) or not value or not isinstance(value[0], dict):
        return any(fits(value, text) for text in wanted)
    by_key: dict[str, list[str]] = {}
    for text in wanted:
        by_key.setdefault(text.partition("=")[0], []).append(text)
    return any(all(any(fits(each, text) for text in texts) for texts in by_key.values()) for each in value)


def fits(value: Any, wanted: str) -> bool:
    """Tell whether a field is, or a list holds, what a filter says; of tables a filter says KEY=VALUE."""
    match value:
        case bool():
            try:
                return value is flag(wanted)
            except ValueError:
                return False
        case list() | tuple():
            return any(fits(each, wanted) for each in value) or (not value and not wanted)
        case dict():
            key, _, text = wanted.partition("=")
            if key.endswith("_substr"):
                return text in str(value.get(key.removesuffix("_substr"), ""))
            return key in value and fits(value[key], text)
        case None:
            return wanted in ("", "None", "null")
    return str(value) == wanted


def page(rows: list[Plain], request: Request, known: Sequence[str]) -> tuple[list[Plain], list[Plain]]:
    """Return the rows of the page that is asked for, in order, and the links to those beside it."""
    query = request.query_params
    for key, descending in reversed(_sorts(request, known)):
        rows = sorted(rows, key=lambda row: (row[key] is None, _order(row[key])), reverse=descending)
    limit = query.get("limit", "0")
    if not limit.isascii() or not limit.isdigit() or len(limit) > 9:
        raise BadRequest(f"Bad limit request: Limit must be an integer 0 or greater and not '{limit}'.", "BadRequest")
    most, marker = int(limit), query.get("marker")
    backwards = query.get("page_reverse", "").lower() == "true"
    if not most and marker is None:
        return rows, []
    ids = [row["id"] for row in rows]
    if marker is not None and marker not in ids:
        raise BadRequest(f"Bad marker request: there is no '{marker}' in the list.", "BadRequest")
    if backwards:
        end = len(rows) if marker is None else ids.index(marker)
        start = max(0, end - most) if most else 0
    else:
        start = 0 if marker is None else ids.index(marker) + 1
        end = start + most if most else len(rows)
    found = rows[start:end]
    links = []
    if most and found and (backwards or end < len(rows)):
        links.append(_link(request, "next", found[-1]["id"]))
    if most and found and start > 0:
        links.append(_link(request, "previous", found[0]["id"]))
    return found, links


def _sorts(request: Request, known: Sequence[str]) -> list[tuple[str, bool]]:
    """Return the keys to sort by, and whether descending; without them it is by id, as pages need an order."""
    keys, directions = (
        [value for value in request.query_params.getlist(name) if value] for name in ("sort_key", "sort_dir")
    )
    if len(keys) != len(directions):
        raise BadRequest("The number of sort_keys and sort_dirs must be same")
    if unknown := [key for key in keys if key not in known]:
        raise BadRequest(f"{unknown} is invalid attribute for sort_keys")
    if wrong := [each for each in directions if each not in (ASC, DESC)]:
        raise BadRequest(f"{wrong} is invalid value for sort_dirs, valid value is '{ASC}' and '{DESC}'")
    found = [(key, direction == DESC) for key, direction in zip(keys, directions, strict=True)]
    if "limit" in request.query_params or "marker" in request.query_params:
        found.append(("id", False))
    return found


def _order(value: Any) -> Any:
    return value if isinstance(value, int) else str(value)


def chosen(rows: list[Plain], request: Request) -> list[Plain]:
    """Return rows with the fields that are asked for; those that are not known are left out, as Neutron does."""
    wanted = {value for value in request.query_params.getlist("fields") if value}
    if wanted & {"tenant_id", "project_id"}:
        wanted |= {"tenant_id", "project_id"}
    return [{name: value for name, value in row.items() if name in wanted} for row in rows] if wanted else rows


def _link(request: Request, way: str, marker: str) -> Plain:
    left = [
        (name, value) for name, value in request.query_params.multi_items() if name not in ("marker", "page_reverse")
    ]
    left.append(("marker", marker))
    if way == "previous":
        left.append(("page_reverse", "True"))
    return {"rel": way, "href": f"{origin(request)}{request.scope['path']}?{urlencode(left)}"}


def origin(request: Request) -> str:
    """Return the scheme and host that the client asked."""
    return f"{request.scope['scheme']}://{request.headers.get('host') or 'localhost'}"
