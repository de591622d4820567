"""Cuts a sequence into consecutive parts of about equal cost, many parts at once."""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

CANDIDATES = 32
"""How many of the next elements are considered when a part is filled up."""
_FAR = 1 << 48
"""More than the cost of a sequence."""

Indices = npt.NDArray[np.int64]


def cut_into_parts(cost: Indices, parts: int, least: int) -> tuple[Indices, Indices]:
    """Cuts a sequence into consecutive parts of equal cost.

    A part is first the elements up to its share of the total cost. It is then filled up: of the next elements, it takes
    the one that leaves the smallest gap, or else the one that overfills it least, again and again as long as the gap
    gets smaller. So its cost is within a fraction of an element of the target.

    All parts are filled up at once, as if no part took an element that concerns the next one. Where one does, which is
    rare if parts have many elements, the next part is filled up again.

    Args:
        cost: [n] cost of each element, at least 1; least: smallest number of elements of a part.

    Returns:
        [n] indices of the elements in the order of their parts; [parts] number of elements of each part.

    Raises:
        ValueError: there are fewer than `parts` · `least` elements.
    """
    if len(cost) < parts * least:
        raise ValueError(f"{len(cost)} pairs for {parts} ranks with at least {least} each")
    total, cuts = np.cumsum(cost), np.arange(1, parts)
    target, last = total[-1] * cuts // parts, len(cost) - least * (parts - cuts)
    begin = np.clip(np.searchsorted(total, target, side="right"), least, last)
    cut, taken, gap = _fill_all(cost, begin, last, target - total[begin - 1])
    begin, cut, taken = _fill_again_where_parts_meet(cost, begin, last, target, least, _Filled(cut, taken, gap))
    part = np.repeat(np.arange(parts), np.diff(begin, prepend=0, append=len(cost)))
    part[taken] = cut
    # Small integers are sorted in linear time.
    return np.argsort(part.astype(np.min_scalar_type(parts)), kind="stable"), np.bincount(part, minlength=parts)


class _Filled(NamedTuple):
    """What C parts take from behind their ends."""

    cut: Indices
    """[m] cut before which an element is placed."""
    taken: Indices
    """[m] position of the element."""
    gap: Indices
    """[C] cost that is still missing before each cut; negative if there is too much."""


def _fill_all(cost: Indices, begin: Indices, last: Indices, gap: Indices) -> _Filled:
    """Fills up all parts independently of each other.

    Args:
        begin, last: [C] first position behind each cut, and the position before which the choice ends.
        gap: [C] cost that is missing before each cut.
    """
    cut, column, gap = np.arange(len(begin)), np.arange(CANDIDATES + 1), gap.copy()
    position = begin[:, None] + column  # of the next candidates, and of the one after them
    cuts, taken = [cut[:0]], [begin[:0]]
    while len(cut):
        candidate = position[:, :-1]
        usable = candidate < last[cut, None]
        left = gap[cut, None] - np.where(usable, cost[np.where(usable, candidate, 0)], _FAR)
        best = np.where(left >= 0, left, _FAR - left).argmin(1)[:, None]
        left = np.take_along_axis(left, best, 1)[:, 0]
        better = np.abs(left) < np.abs(gap[cut])
        cut, position, best = cut[better], position[better], best[better]
        gap[cut] = left[better]
        cuts.append(cut)
        taken.append(np.take_along_axis(position, best, 1)[:, 0])
        position[:, :-1] = np.where(column[:-1] < best, position[:, :-1], position[:, 1:])
        position[:, -1] += 1
    return _Filled(np.concatenate(cuts), np.concatenate(taken), gap)


def _fill_again_where_parts_meet(
    cost: Indices, begin: Indices, last: Indices, target: Indices, least: int, filled: _Filled
) -> tuple[Indices, Indices, Indices]:
    """Fills up those parts again, from left to right, whose elements a part before them takes.

    Returns:
        [C] first position behind each cut; [m] cut and [m] position of all elements that are placed before it.
    """
    number = begin + np.bincount(filled.cut, minlength=len(begin))  # of elements before each cut
    reach = begin - 1  # the last position that concerns a part
    np.maximum.at(reach, filled.cut, filled.taken)
    if (reach[:-1] < begin[1:]).all() and (number[:-1] + least <= begin[1:]).all():
        return begin, filled.cut, filled.taken
    costs = np.ascontiguousarray(cost).data  # gives Python's integers, which are faster one by one
    begins, numbers, reached = begin.tolist(), number.tolist(), reach.tolist()
    gaps, targets, lasts = filled.gap.tolist(), target.tolist(), last.tolist()
    ahead: set[int] = set()
    again: dict[int, list[int]] = {}
    for cut in range(1, len(begins)):
        before = cut - 1
        if reached[before] < begins[cut] and numbers[before] + least <= begins[cut]:
            continue
        if before not in again:
            again[before] = filled.taken[filled.cut == before].tolist()
            ahead = set(again[before])
        gap = targets[cut] - targets[before] + gaps[before]
        begins[cut], again[cut], gaps[cut], numbers[cut] = _fill_one(
            costs, ahead, begins[before], numbers[before], numbers[before] + least, lasts[cut], gap
        )
        reached[cut] = max(reached[before], begins[cut] - 1, *again[cut])
        ahead.update(again[cut])
    kept = ~np.isin(filled.cut, list(again))
    cuts = np.repeat(list(again), [len(taken) for taken in again.values()])
    taken = np.array([position for of_cut in again.values() for position in of_cut], np.int64)
    return np.array(begins), np.append(filled.cut[kept], cuts), np.append(filled.taken[kept], taken)


def _fill_one(
    cost: memoryview[int], ahead: Set[int], position: int, number: int, least: int, last: int, gap: int
) -> tuple[int, list[int], int, int]:
    """Fills one part.

    Args:
        ahead: positions that earlier parts have taken.
        position: first position of the part.
        number: elements before it; least, last: smallest and largest number of elements before the cut at its end.
        gap: target of the part's cost.

    Returns:
        first position behind the cut; positions of the elements that the part takes from there; cost that is still
        missing; number of elements before the cut.
    """
    while number < last:
        if position not in ahead:
            if number >= least and cost[position] > gap:
                break
            gap -= cost[position]
            number += 1
        position += 1
    begin, candidates, taken = position, list[int](), list[int]()
    while number < last:
        while len(candidates) < min(CANDIDATES, last - number):
            if position not in ahead:
                candidates.append(position)
            position += 1
        left = [gap - cost[candidate] for candidate in candidates]
        preference = [value if value >= 0 else _FAR - value for value in left]
        best = preference.index(min(preference))
        if abs(left[best]) >= abs(gap):
            break
        gap = left[best]
        taken.append(candidates.pop(best))
        number += 1
    return begin, taken, gap, number
