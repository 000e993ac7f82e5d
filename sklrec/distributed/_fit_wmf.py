"""Weighted matrix factorization of the users of all blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import scipy.sparse as sp

from ..factorization import WMF
from ..factorization._conjugate_gradients import RidgeSteps
from ..factorization._ridge import RidgeRows
from ..factorization._wmf_solvers import eigenbasis, in_eigenbasis, of_solutions
from ._blocks import Blocks
from ._by_item import read_by_item, write_by_item
from ._tasks import divided, run_tasks, sum_tasks

# Bytes of the factors of users that a task gathers for its items.
_BYTES_OF_A_TASK = 2**28


class Given(NamedTuple):
    """What is fixed in a step."""

    model: WMF
    factors: np.ndarray  # of all items
    gram: np.ndarray  # diagonal
    average: np.ndarray  # see RidgeSteps.improve
    rotation: np.ndarray  # of the factors of users since they were written


class OfUsers(NamedTuple):
    """Sums over the users of a block, whose factors are w and whose confidences sum to c."""

    gram: np.ndarray  # w w'
    weighted: np.ndarray  # c w w'
    penalty: float  # lambda w'w


def fit_wmf(model: WMF, blocks: Blocks, client: Any, folder: Path) -> WMF:
    """Solve for users and items in turn.

    The factors of users stay in a file for each block. Items are solved in strips: a task gathers
    the factors of the users of its items from all blocks.
    """
    objective = model._begin()
    popularity, counts, constant = sum_tasks(
        client, _count, [(model, blocks, i, folder) for i in range(len(blocks))], "counting"
    )
    strips = divided(counts * model.n_components * 4, _BYTES_OF_A_TASK)
    gram, H, _ = in_eigenbasis(model._start(blocks.n_items, np.dtype(np.float32)), objective)
    rotation = np.eye(model.n_components)
    model.loss_curve_ = []
    for iteration in range(model.max_iter):
        average = np.einsum("j,jk,jk->k", popularity, H, H) / popularity.sum()
        file = _write(folder / "users", Given(model, H, gram, average, rotation))
        found = run_tasks(
            client,
            _solve_users,
            [(blocks, i, file, folder, iteration) for i in range(len(blocks))],
            "solving for users",
        )
        of_users = OfUsers(*(sum(of_blocks) for of_blocks in zip(*found, strict=True)))
        gram, rotation = eigenbasis(of_users.gram, objective)
        average = np.einsum("jk,jl,lk->k", rotation, of_users.weighted, rotation)
        average /= popularity.sum()
        file = _write(folder / "items", Given(model, H, gram, average, rotation))
        paths = [folder / f"items-{start}-{iteration}.npy" for start, _ in strips]
        losses = run_tasks(
            client,
            _solve_items,
            [
                (blocks, *strip, file, folder, iteration, path)
                for strip, path in zip(strips, paths, strict=True)
            ],
            "solving for items",
        )
        H = np.concatenate([np.load(path) for path in paths])
        model.loss_curve_.append(float(sum(losses) + of_users.penalty + constant))
        gram, H, Q = in_eigenbasis(H, objective)
        rotation = rotation @ Q
    weight = objective.unobserved_weight * blocks.n_items
    curvature = rotation.T @ (of_users.weighted + weight * of_users.gram) @ rotation
    return model._end(H, gram, curvature, popularity, counts, blocks.n_users)


def _write(path: Path, given: Given) -> Path:
    joblib.dump(given, path)
    return path


def _users_file(folder: Path, i: int, iteration: int) -> Path:
    return folder / f"users-{i}-{iteration}.npy"


def _count(
    model: WMF, blocks: Blocks, i: int, folder: Path
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the confidences and the numbers of users of all items, and the constant loss.

    The confidences are also written by item.
    """
    X = model._confidences(blocks[i])
    write_by_item(folder, i, X)
    popularity = np.bincount(X.indices, weights=X.data, minlength=blocks.n_items)
    counts = np.bincount(X.indices, minlength=blocks.n_items)
    return popularity, counts, model._objective.constant(X)


def _solve_users(blocks: Blocks, i: int, file: Path, folder: Path, iteration: int) -> OfUsers:
    """Write the factors of the users of a block."""
    model, H, gram, average, rotation = joblib.load(file)
    objective = model._objective
    X = model._confidences(blocks[i])
    penalty = objective.penalty(np.diff(X.indptr), blocks.n_items)
    W = None
    if iteration:
        W = np.load(_users_file(folder, i, iteration - 1)) @ rotation.astype(H.dtype)
    W = _solve(model, X, H, penalty, gram, average, W)
    np.save(_users_file(folder, i, iteration), W)
    # Not the previous file, which is read again if this worker is lost.
    _users_file(folder, i, iteration - 2).unlink(missing_ok=True)
    V = W.astype(np.float64)
    confidence = X.sum(axis=1, dtype=np.float64)
    return OfUsers(V.T @ V, (V * confidence[:, None]).T @ V, float((V**2).sum(axis=1) @ penalty))


def _solve_items(
    blocks: Blocks, start: int, end: int, file: Path, folder: Path, iteration: int, out: Path
) -> float:
    """Write the factors of the items from `start` to `end`, and return their part of the loss."""
    model, H, gram, average, rotation = joblib.load(file)
    objective = model._objective
    parts, factors = [], []
    for i in range(len(blocks)):
        users, part = read_by_item(folder, i, np.arange(start, end))
        parts.append(part)
        factors.append(np.load(_users_file(folder, i, iteration), mmap_mode="r")[users])
    C = sp.csr_array(sp.hstack(parts, format="csr"))  # (n_items, n_users)
    W = np.concatenate(factors) @ rotation.astype(H.dtype)
    penalty = objective.penalty(np.diff(C.indptr), blocks.n_users)
    before = H[start:end] @ rotation.astype(H.dtype)
    rows = RidgeRows(C, W, penalty, objective.target(C), gram)
    if model.solver == "cholesky":
        H = rows.solve()
        loss = of_solutions(rows, H)
    else:
        steps = RidgeSteps(C, objective.target(C), penalty, model.n_components)
        H, loss = steps.improve(before, W, gram, model.cg_steps, average=average)
    np.save(out, H)
    return loss


def _solve(
    model: WMF,
    X: sp.csr_array,
    H: np.ndarray,
    penalty: np.ndarray,
    gram: np.ndarray,
    average: np.ndarray,
    W: np.ndarray | None,
) -> np.ndarray:
    target = model._objective.target(X)
    if model.solver == "cholesky":
        return RidgeRows(X, H, penalty, target, gram).solve()
    steps = RidgeSteps(X, target, penalty, model.n_components)
    return steps.improve(W, H, gram, model.cg_steps, average=average)[0]
