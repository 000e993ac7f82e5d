"""The two solvers of SLIM, which find the weights in the scores of a block of items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_random_state

from .._linalg import add_gram, invert_positive_definite
from .._sklearn import sparse_elastic_net

# Factor of the over-relaxation of ADMM, between 0 and 2.
RELAXATION = 1.7

# Weight of the penalty by which ADMM couples its two copies of the weights, relative to the
# curvature of the objective. The number of iterations depends on it, the solution does not.
COUPLING = 2.0


@dataclass(frozen=True)
class Problem:
    """Minimise ``||x_j - X w||^2 / 2 + l1 ||w||_1 + l2 ||w||^2 / 2``, where ``w_j = 0``."""

    l1: float
    l2: float
    positive: bool
    max_iter: int
    tol: float


@dataclass(frozen=True)
class Weights:
    """Weights in the scores of some items: the number of each item, and their rows and values."""

    counts: np.ndarray
    rows: np.ndarray
    values: np.ndarray
    n_iter: int
    n_not_converged: int


class CoordinateDescent:
    """Coordinate descent of scikit-learn, for one item after another.

    It runs on the columns of X that may have a weight, as sparse vectors of users. For sparse data
    this is faster than with X'X, of which no more than some rows are ever computed.
    """

    def __init__(self, X: sp.csr_array, problem: Problem) -> None:
        self.X = X
        self.Xt = X.T.tocsr()
        self.problem = problem

    def solve(self, items: slice) -> Weights:
        """Return the weights in the scores of some items."""
        l1 = self.problem.l1
        gram = self.Xt[items] @ self.X
        rng = check_random_state(0)  # an argument of the solver that is not used
        rows, values, n_iter, n_not_converged = [], [], 0, 0
        for number, item in enumerate(range(items.start, items.stop)):
            stored = slice(gram.indptr[number], gram.indptr[number + 1])
            # The items whose weights the gradient moves away from zero. Positive weights of these
            # lower the gradient of all others, which cannot become positive then.
            moved = np.sort(gram.indices[stored][gram.data[stored] > l1])
            row, value, n, converged = self._solve_item(item, moved[moved != item], rng)
            rows.append(row)
            values.append(value)
            n_iter = max(n_iter, n)
            n_not_converged += not converged
        counts = np.array([len(row) for row in rows])
        return Weights(
            counts, np.concatenate(rows), np.concatenate(values), n_iter, n_not_converged
        )

    def _solve_item(
        self, item: int, chosen: np.ndarray, rng: np.random.RandomState
    ) -> tuple[np.ndarray, np.ndarray, int, bool]:
        """Return rows and values of a column of weights, the number of iterations, and success."""
        problem = self.problem
        y = np.zeros(self.X.shape[0], dtype=self.X.dtype)
        stored = slice(self.Xt.indptr[item], self.Xt.indptr[item + 1])
        y[self.Xt.indices[stored]] = self.Xt.data[stored]
        w = np.zeros(len(chosen), dtype=self.X.dtype)
        n_iter, converged = 0, True
        while chosen.size:
            columns = self.Xt[chosen]
            w, n, converged = sparse_elastic_net(
                columns,
                y,
                w,
                l1=problem.l1,
                l2=problem.l2,
                positive=problem.positive,
                max_iter=problem.max_iter,
                tol=problem.tol,
                rng=rng,
            )
            n_iter = max(n_iter, n)
            if problem.positive:
                break
            # Negative weights raise the gradients of others: those beyond the penalty are added.
            gradient = np.abs(self.Xt @ (y - w @ columns))
            gradient[chosen] = gradient[item] = 0
            added = np.flatnonzero(gradient > problem.l1 * (1 + problem.tol))
            if not added.size:
                break
            everything = np.concatenate([chosen, added])
            order = np.argsort(everything)
            chosen = everything[order]
            w = np.concatenate([w, np.zeros(added.size, dtype=w.dtype)])[order]
        return chosen[w != 0], w[w != 0], n_iter, converged


class ADMM:
    """Alternating direction method of multipliers, for a block of items together.

    One copy of the weights, B, minimises the quadratic part of the objective with a zero diagonal,
    in closed form like EASE. The other, C, is B with small weights set to zero, by the proximal
    operator of the L1 norm. See H. Steck et al., "ADMM SLIM: Sparse Recommendations for Many
    Users", WSDM 2020. Iterations are products with a dense (n_items, n_items) matrix.
    """

    def __init__(self, X: sp.csr_array, problem: Problem) -> None:
        n_items = X.shape[1]
        P = np.zeros((n_items, n_items), dtype=X.dtype)
        add_gram(X, P)
        curvature = np.diag(P) + problem.l2
        mean = curvature.mean() or 1.0
        coupling = COUPLING * np.sqrt(np.maximum(curvature, 1e-3 * mean) * mean)
        self.coupling = coupling.astype(X.dtype)[:, None]
        np.fill_diagonal(P, curvature + coupling)
        invert_positive_definite(P)
        self.P = P
        self.problem = problem

    def solve(self, items: slice) -> Weights:
        """Return the weights in the scores of some items."""
        problem, P, coupling = self.problem, self.P, self.coupling
        of_items = P[:, items]
        itself = (np.arange(items.start, items.stop), np.arange(items.stop - items.start))
        inverse = 1 / of_items[itself]
        V = -of_items * inverse  # EASE, with a larger penalty
        V[itself] = 0
        n_iter, residual, size = 0, np.ones(len(inverse)), np.zeros(len(inverse))
        while n_iter < problem.max_iter and np.linalg.norm(residual) > problem.tol * np.linalg.norm(
            size
        ):
            C = self._proximal(V)
            B = P @ (coupling * (2 * C - V))
            B -= of_items * ((1 + B[itself]) * inverse)
            B[itself] = 0
            B -= C
            V += RELAXATION * B
            residual, size = np.linalg.norm(B, axis=0), np.linalg.norm(C, axis=0)
            n_iter += 1
        C = self._proximal(V)
        weights = sp.csr_array(C.T)
        counts = np.diff(weights.indptr)
        converged = np.linalg.norm(residual) <= problem.tol * np.linalg.norm(size)
        n_not_converged = 0 if converged else int(np.sum(residual > problem.tol * size))
        return Weights(counts, weights.indices, weights.data, n_iter, n_not_converged)

    def _proximal(self, V: np.ndarray) -> np.ndarray:
        """Return the minimiser of the L1 penalty plus the coupling to V."""
        threshold = self.problem.l1 / self.coupling
        if self.problem.positive:
            return np.maximum(V - threshold, 0)
        return np.sign(V) * np.maximum(np.abs(V) - threshold, 0)
