"""The paper's equations as loops over plain Python numbers: nothing here knows torch or the code under test.

Section 4 of "Cross-Image Context for Single Image Inpainting" (NeurIPS 2022). `look` is the similarity's form of a
feature: the feature itself for the printed equations, unit length (around a centre) for our defaults.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Vector = list[float]
Look = Callable[[Vector], Vector]


def as_is(feature: Vector) -> Vector:
    return feature


def unit(feature: Vector) -> Vector:
    length = max(math.sqrt(sum(x * x for x in feature)), 1e-6)  # nothing has no direction: its cosines are 0
    return [x / length for x in feature]


def unit_around(center: Vector) -> Look:
    return lambda feature: unit([x - c for x, c in zip(feature, center, strict=True)])


def dot(first: Vector, second: Vector) -> float:
    return sum(x * y for x, y in zip(first, second, strict=True))


def equation_1(region: Vector, anchors: Sequence[Vector], look: Look = as_is) -> int:
    """l = argmax over o of F_n . A_o"""
    best, chosen = -math.inf, -1
    for o, anchor in enumerate(anchors):
        if (value := dot(look(region), look(anchor))) > best:
            best, chosen = value, o
    return chosen


def lambdas(region: Vector, contexts: Sequence[Vector], look: Look = as_is, temperature: float = 1.0) -> Vector:
    """lambda_{n,l,k} = exp(F_n . C_{l,k}) / sum over o of exp(F_n . C_{l,o}), for one set l"""
    powers = [math.exp(dot(look(region), look(context)) / temperature) for context in contexts]
    return [power / sum(powers) for power in powers]


def mixed(weights: Vector, contexts: Sequence[Vector]) -> Vector:
    """sum over k of lambda_{m,l,k} C_{l,k}"""
    total = [0.0] * len(contexts[0])
    for weight, context in zip(weights, contexts, strict=True):
        for c, value in enumerate(context):
            total[c] += weight * value
    return total


def equation_4(region: Vector, gamma: float, context: Vector) -> Vector:
    """R_m = gamma_m F_m + (1 - gamma_m) sum over k of lambda_{m,l,k} C_{l,k}"""
    return [gamma * f + (1 - gamma) * c for f, c in zip(region, context, strict=True)]


def equation_2(
    contexts: Sequence[Sequence[Vector]],
    regions: Sequence[Vector],
    sets: Sequence[int],
    weights: Sequence[Vector],
    complete: Sequence[bool],
) -> list[list[Vector]]:
    """C_{l,k} <- C_{l,k} + lambda_{n,l,k} F_n, for each complete region n of set l (weights of the old contexts)"""
    after = [[list(context) for context in members] for members in contexts]
    for region, own, row, whole in zip(regions, sets, weights, complete, strict=True):
        if whole:
            for k, weight in enumerate(row):
                for c, value in enumerate(region):
                    after[own][k][c] += weight * value
    return after


def running_mean(
    contexts: Sequence[Sequence[Vector]],
    mass: Sequence[Vector],
    regions: Sequence[Vector],
    sets: Sequence[int],
    weights: Sequence[Vector],
    complete: Sequence[bool],
    retention: float,
) -> tuple[list[list[Vector]], list[Vector]]:
    """Our default: the mean of what a context held (of weight retention * mass) and of what it received."""
    after, total = [], []
    for index, members in enumerate(contexts):
        after.append([])
        total.append([])
        for k, context in enumerate(members):
            held = retention * mass[index][k]
            numerator, denominator = [held * x for x in context], held
            for region, own, row, whole in zip(regions, sets, weights, complete, strict=True):
                if whole and own == index:
                    denominator += row[k]
                    numerator = [n + row[k] * f for n, f in zip(numerator, region, strict=True)]
            after[-1].append([n / denominator for n in numerator])
            total[-1].append(denominator)
    return after, total


def equation_3(anchors: Sequence[Vector], contexts: Sequence[Sequence[Vector]], beta: float = 0.5) -> list[Vector]:
    """A_l <- beta A_l + (1 - beta) / K sum over k of C_{l,k}"""
    after = []
    for anchor, members in zip(anchors, contexts, strict=True):
        mean = [sum(context[c] for context in members) / len(members) for c in range(len(anchor))]
        after.append([beta * a + (1 - beta) * m for a, m in zip(anchor, mean, strict=True)])
    return after


def equation_7(ratio: Vector, target: Vector) -> float:
    """L_ratio = sum over n of |gamma_n - gamma_n*|^2"""
    return sum((r - t) ** 2 for r, t in zip(ratio, target, strict=True))


def equation_8_inter(anchors: Sequence[Vector]) -> float:
    """L_inter = sum over l, o of A_l . A_o"""
    return sum(dot(a, o) for a in anchors for o in anchors)


def equation_8_intra(anchors: Sequence[Vector], contexts: Sequence[Sequence[Vector]]) -> float:
    """L_intra = sum over l, k of A_l . C_{l,k}"""
    return sum(dot(anchor, context) for anchor, members in zip(anchors, contexts, strict=True) for context in members)


def mean_inter(anchors: Sequence[Vector], look: Look) -> float:
    """Our default: the mean over the pairs l != o; 0 for one set."""
    pairs = [dot(look(a), look(o)) for i, a in enumerate(anchors) for j, o in enumerate(anchors) if i != j]
    return sum(pairs) / len(pairs) if pairs else 0.0


def mean_intra(anchors: Sequence[Vector], contexts: Sequence[Sequence[Vector]], look: Look) -> float:
    """Our default: the mean over l and k."""
    pairs = [dot(look(a), look(c)) for a, members in zip(anchors, contexts, strict=True) for c in members]
    return sum(pairs) / len(pairs)
