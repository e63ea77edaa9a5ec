"""New people from known ones: the inner face of one person moved part of the way towards another's.

Piecewise-affine morphing over a Delaunay triangulation of 68 landmarks: hair, neck and background stay those of the
first person; shape and colour of the inner face lie between both.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.kit.crops import Pixels, Points


def _similarity(source: Points, target: Points) -> NDArray[np.float64]:
    """The 2x3 rotation, scaling and shift that best moves `source` onto `target` (least squares, Umeyama 1991)."""
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    source_centred, target_centred = source - source_mean, target - target_mean
    left, singular, right = np.linalg.svd(target_centred.T @ source_centred)
    signs = np.array([1.0, np.sign(np.linalg.det(left @ right))])
    rotation = left @ np.diag(signs) @ right
    scale = float((singular * signs).sum() / (source_centred**2).sum())
    linear = scale * rotation
    return np.column_stack([linear, target_mean - linear @ source_mean])


def _anchors(size: int) -> Points:
    """Points on the border that no morph may move, [8, 2]."""
    low, middle, high = 0.0, (size - 1) / 2, size - 1.0
    points = [(x, y) for x in (low, middle, high) for y in (low, middle, high) if (x, y) != (middle, middle)]
    return np.array(points)


def _triangles(points: Points, size: int) -> list[tuple[int, int, int]]:
    """Delaunay triangulation of points inside a square image, as indices."""
    subdivision = cv2.Subdiv2D((-1, -1, size + 2, size + 2))
    index_of: dict[tuple[float, float], int] = {}
    for index, (x, y) in enumerate(points):
        key = (round(float(x), 2), round(float(y), 2))
        index_of[key] = index
        subdivision.insert(key)
    known = np.array(list(index_of))
    indices = np.array(list(index_of.values()))
    result = []
    for corners in np.asarray(subdivision.getTriangleList()).reshape(-1, 3, 2):
        gaps = np.linalg.norm(known[None] - corners[:, None], axis=-1)
        if (gaps.min(axis=1) < 0.02).all():
            first, second, third = indices[gaps.argmin(axis=1)]
            result.append((int(first), int(second), int(third)))
    return result


def _warp(pixels: Pixels, source: Points, target: Points, triangles: list[tuple[int, int, int]]) -> Pixels:
    """The picture with every triangle of `source` moved onto the same triangle of `target`."""
    size = pixels.shape[0]
    maps = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1).astype(np.float32)
    for triangle in triangles:
        corners = target[list(triangle)].astype(np.float32)
        left, top, width, height = cv2.boundingRect(corners)
        right, bottom = min(left + width, size), min(top + height, size)
        left, top = max(left, 0), max(top, 0)
        if right <= left or bottom <= top:
            continue
        backwards = cv2.getAffineTransform(corners, source[list(triangle)].astype(np.float32))
        inside = np.zeros((bottom - top, right - left), dtype=np.uint8)
        cv2.fillConvexPoly(inside, np.round(corners - [left, top]).astype(np.int32), 1)
        columns, rows = np.meshgrid(np.arange(left, right), np.arange(top, bottom))
        where = np.stack([columns, rows, np.ones_like(columns)], axis=-1) @ backwards.T
        patch = maps[top:bottom, left:right]
        patch[inside > 0] = where[inside > 0]
    warped = cv2.remap(pixels, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(warped, dtype=np.uint8)


def inner_face_mask(landmarks: Points, size: int) -> NDArray[np.float32]:
    """1 inside jaw and brows, fading out over the rim; [size, size]."""
    centre = landmarks.mean(axis=0)
    brows = landmarks[17:27] + 0.22 * (landmarks[17:27] - centre)
    hull = cv2.convexHull(np.vstack([landmarks[:17] * 0.95 + centre * 0.05, brows]).astype(np.float32))
    mask = np.zeros((size, size), dtype=np.float32)
    cv2.fillConvexPoly(mask, np.round(hull).astype(np.int32), 1.0)
    return np.asarray(cv2.GaussianBlur(cv2.erode(mask, np.ones((5, 5), np.uint8)), (0, 0), size / 45), dtype=np.float32)


def _match_colour(pixels: Pixels, reference: Pixels, mask: NDArray[np.float32], share: float) -> Pixels:
    """`pixels` with mean and spread of Lab moved towards the reference's inside the mask (Reinhard et al. 2001)."""
    source = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB).astype(np.float32)
    target = cv2.cvtColor(reference, cv2.COLOR_RGB2LAB).astype(np.float32)
    inside = mask > 0.5
    source_mean, source_spread = source[inside].mean(axis=0), source[inside].std(axis=0) + 1e-3
    target_mean, target_spread = target[inside].mean(axis=0), target[inside].std(axis=0) + 1e-3
    matched = (source - source_mean) * (target_spread / source_spread) + target_mean
    mixed = np.clip(source + share * (matched - source), 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(mixed, cv2.COLOR_LAB2RGB), dtype=np.uint8)


def morph(
    head: Pixels, head_points: Points, donor: Pixels, donor_points: Points, weight: float
) -> tuple[Pixels, Points]:
    """The head's picture with its inner face moved by `weight` (0 = unchanged, 1 = the donor's), and its landmarks.

    Both pictures are square and of one size.
    """
    size = head.shape[0]
    aligned_points = (
        np.column_stack([donor_points, np.ones(len(donor_points))]) @ _similarity(donor_points, head_points).T
    )
    anchors = _anchors(size)
    between = (1 - weight) * head_points + weight * aligned_points
    # The head's own outline moves only half as far, or hair and ears would be dragged along.
    between[:17] = (1 - weight / 2) * head_points[:17] + weight / 2 * aligned_points[:17]
    between = np.clip(between, 1, size - 2)
    target = np.vstack([between, anchors])
    triangles = _triangles(target, size)
    head_warped = _warp(head, np.vstack([head_points, anchors]), target, triangles)
    donor_warped = _warp(donor, np.vstack([donor_points, anchors]), target, triangles)
    mask = inner_face_mask(between, size)
    donor_warped = _match_colour(donor_warped, head_warped, mask, share=0.9)
    alpha = (mask * min(1.0, weight * 1.15))[..., None]
    blended = head_warped * (1 - alpha) + donor_warped * alpha
    return np.asarray(np.clip(blended + 0.5, 0, 255), dtype=np.uint8), between
