"""Units of the accuracy benchmark: one fit, evaluated, and kept in a file of its own."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import scipy
import scipy.sparse as sp
import sklearn
from _metrics import BEYOND, CHOOSE_BY, METRICS
from _speed import cpu_name
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid
from sklearn.utils import Bunch
from threadpoolctl import threadpool_limits

import sklrec
from sklrec.metrics import evaluate
from sklrec.model_selection import (
    split_interactions,
    strong_generalization_split,
    suggested_distributions,
)


@dataclass(frozen=True)
class Dataset:
    """A data set and its splits."""

    name: str
    load: Callable[[Path], sp.csr_array]
    n_heldout: int | float  # test users, and as many validation users; a share of all of them
    splits: Mapping[str, int]  # name and seed
    min_interactions: int = 5
    has_ratings: bool = False  # positive are those above 3.5
    variants: tuple[str, ...] = ("published", "tuned", "fixed")
    published_by: str = ""  # whose the published settings are, where not of each model's own paper
    n_train: int | None = None  # only so many of the training users
    share: float = 1.0  # of each user's interactions that are known; what is to be found is not cut

    def split(self, name: str, folder: Path) -> Bunch:
        """Return a split; its ``ratings`` are all those of the training users, or None."""
        data = self.load(folder)
        X = data.copy()
        if self.has_ratings:
            X.data = (X.data > 3.5).astype(X.dtype)
            X.eliminate_zeros()
        n_heldout = self.n_heldout
        if isinstance(n_heldout, float):
            n_heldout = int(n_heldout * (np.diff(X.indptr) >= self.min_interactions).sum())
        split = strong_generalization_split(
            X,
            n_heldout=n_heldout,
            min_interactions=self.min_interactions,
            random_state=self.splits[name],
        )
        split.ratings = data[split.train_users][:, split.item_indices] if self.has_ratings else None
        if self.n_train is not None or self.share < 1:
            split.ratings = None
        if self.n_train is not None:
            split.train = split.train[: self.n_train]
        if self.share < 1:
            for part in ("train", "valid_fold_in", "test_fold_in"):
                split[part] = split_interactions(split[part], 1 - self.share, random_state=0)[0]
        return split


@dataclass(frozen=True)
class Model:
    """A row of the table of settings."""

    name: str
    estimator: Any
    paper: str = ""
    search: Any = field(default_factory=dict)  # a grid, or a list of grids: the range to search
    search_on: Mapping[str, Any] = field(default_factory=dict)  # another range on a data set
    adapted: Mapping[str, dict] = field(default_factory=dict)  # not searched, on a data set
    published: Mapping[str, dict] = field(default_factory=dict)  # a paper's, on a data set
    skip: tuple[str, ...] = ()  # data sets
    ratings: bool = False  # fitted on all ratings, not on the positives
    group: str = ""  # of an ablation

    def candidates(self, dataset: str) -> dict[str, list[Any]]:
        """Return for each variant the settings to choose from."""
        base = clone(self.estimator).set_params(**self.adapted.get(dataset, {}))
        grid = self.search_on.get(dataset, self.search)
        check_range(base, grid)
        variants = {}
        if dataset in self.published:
            stated = self.published[dataset]
            variants["published"] = [clone(self.estimator).set_params(**stated)]
        if grid:
            variants["tuned"] = [clone(base).set_params(**point) for point in ParameterGrid(grid)]
        elif not variants:
            variants["fixed"] = [base]
        return variants


def check_range(estimator: Any, grid: Any) -> None:
    """Refuse to search where the documentation of the model does not tell users to."""
    distributions = suggested_distributions(estimator)
    for point in ParameterGrid(grid):
        for name, value in point.items():
            if (low_and_high := support(distributions.get(name))) is None:
                continue
            low, high = low_and_high
            if not low <= value <= high:
                raise ValueError(
                    f"{name}={value} is not within the typical range of "
                    f"{type(estimator).__name__}, {low} to {high}."
                )


def support(distribution: Any) -> tuple[float, float] | None:
    """Return the smallest and the largest value of a distribution or a list."""
    if distribution is None:
        return None
    if isinstance(distribution, list):
        return min(distribution), max(distribution)
    return distribution.support()


@dataclass(frozen=True)
class Unit:
    """A fit: of a candidate, seen by validation users alone, or of the chosen, by test users."""

    kind: str  # "candidate" or "final"
    dataset: Dataset
    split: str
    model: Model
    variant: str
    estimator: Any
    checksum: str

    def path(self, runs: Path) -> Path:
        """Return where the unit is kept: its name changes with settings, data and version."""
        what = [self.kind, full_repr(self.estimator), self.model.ratings]
        key = json.dumps([*what, self.checksum, sklrec.__version__, METRICS])
        stem = "".join(c if c.isalnum() else "_" for c in self.model.name)
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        return runs / self.dataset.name / f"{self.split}-{stem}-{self.kind}-{digest}.json"


def seeded(estimator: Any, dataset: Dataset, split: str) -> Any:
    """Return a clone whose seeds are the number of the split, where they are not set."""
    params = estimator.get_params(deep=True)
    seed = list(dataset.splits).index(split)
    names = [n for n, v in params.items() if n.split("__")[-1] == "random_state" and v is None]
    return clone(estimator).set_params(**dict.fromkeys(names, seed))


def shortened(estimator: Any, max_epochs: int) -> Any:
    """Return a clone that trains for fewer epochs, and so do its members."""
    params = estimator.get_params(deep=True)
    names = [name for name in params if name.split("__")[-1] == "max_epochs"]
    return clone(estimator).set_params(**dict.fromkeys(names, max_epochs))


def full_repr(estimator: Any) -> str:
    """Return the estimator with all its parameters."""
    with sklearn.config_context(print_changed_only=False):
        return " ".join(estimator.__repr__(N_CHAR_MAX=100_000).split())


def short_repr(estimator: Any) -> str:
    """Return the estimator with the parameters that are not the default, but for the seed."""
    params = estimator.get_params(deep=True)
    names = [n for n in params if n.split("__")[-1] == "random_state"]
    plain = clone(estimator).set_params(**dict.fromkeys(names))
    return " ".join(plain.__repr__(N_CHAR_MAX=100_000).split())


def checksums(split: Bunch) -> dict[str, str]:
    """Return the checksum of what each kind of unit reads: candidates no test users."""
    known = [split.train, split.valid_fold_in, split.valid_held_out]
    if split.ratings is not None:
        known.append(split.ratings)
    candidate = _sha256(known)
    final = _sha256([*known, split.test_fold_in, split.test_held_out])
    return {"candidate": candidate, "final": final}


def source_digest() -> str:
    """Return a checksum of the code that makes a unit what it is, beside its settings and data."""
    ours = [Path(__file__).with_name(f"{name}.py") for name in ("_metrics", "_runs", "_schedules")]
    paths = [*Path(sklrec.__file__).parent.rglob("*.py"), *ours]
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


SOURCE = source_digest()  # when this process began


def _sha256(matrices: list[sp.csr_array]) -> str:
    digest = hashlib.sha256()
    for X in matrices:
        for part in (np.array(X.shape), X.indptr, X.indices, X.data):
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


_last_split: dict[tuple, Bunch] = {}


def load_split(dataset: Dataset, split: str, folder: Path) -> Bunch:
    """Return a split, the last one from memory."""
    key = (dataset.name, split, str(folder))
    if key not in _last_split:
        _last_split.clear()
        _last_split[key] = dataset.split(split, folder)
    return _last_split[key]


def try_unit(unit: Unit, *args: Any, **options: Any) -> str | None:
    """Run a unit; return what went wrong, so that one failure does not end a night's work."""
    try:
        run_unit(unit, *args, **options)
    except Exception as error:
        where = f"{unit.dataset.name} {unit.split} {unit.model.name}: {short_repr(unit.estimator)}"
        failure = f"{where}: {type(error).__name__}: {error}"
        _say(failure)
        return failure
    return None


def run_unit(
    unit: Unit, folder: Path, runs: Path, *, threads: int, place: str, bars: bool = False
) -> None:
    """Fit, evaluate and keep a unit; what is kept already is not done again."""
    path = unit.path(runs)
    if path.exists():
        return
    split = load_split(unit.dataset, unit.split, folder)
    name = f"[{place}] {unit.dataset.name} {unit.split} {unit.model.name}"
    _say(f"{name} {unit.kind}: {short_repr(unit.estimator)}")
    with _threads(threads):
        model = clone(unit.estimator)
        if bars:
            _show_progress(model)
        start = time.perf_counter()
        fit_unit(model, unit, split)
        seconds = time.perf_counter() - start
        valid = keep_unit(model, unit, split, runs, seconds=seconds, threads=threads)
    _say(f"{name}: {CHOOSE_BY} {valid:.4f} on validation users, {seconds:.1f} s")


def fit_unit(model: Any, unit: Unit, split: Bunch) -> None:
    """Fit the model of a unit."""
    # The best epoch is that of the validation users.
    validation = {}
    if "X_val" in inspect.signature(model.fit).parameters:
        validation["X_val"] = split.valid_fold_in + split.valid_held_out
        validation["y_val"] = split.valid_held_out
    with _interruptions():
        model.fit(split.ratings if unit.model.ratings else split.train, **validation)


def keep_unit(
    model: Any, unit: Unit, split: Bunch, runs: Path, *, seconds: float, threads: int
) -> float:
    """Evaluate the fitted model of a unit, keep what is found, and return the validation score."""
    path = unit.path(runs)
    found = evaluate(model, split.valid_fold_in, split.valid_held_out, CHOOSE_BY)
    result = {
        "dataset": unit.dataset.name,
        "split": unit.split,
        "model": unit.model.name,
        "kind": unit.kind,
        "all_settings": full_repr(unit.estimator),
        "valid": found.mean[CHOOSE_BY],
        "fit_s": seconds,
        "n_epochs": getattr(model, "n_iter_", None),
        "best_epoch": getattr(model, "best_epoch_", None),
        "date": time.strftime("%Y-%m-%d"),
        "threads": threads,
        "cpu": cpu_name(),
        "device": str(model.net_.device) if hasattr(model, "net_") else "cpu",
        "versions": _versions(),
        "source": SOURCE,
    }
    if unit.kind == "final":
        test = evaluate(
            model,
            split.test_fold_in,
            split.test_held_out,
            [*METRICS, *BEYOND],
            interactions=split.train,
        )
        values = {name: test.per_user[name] for name in METRICS}
        write_whole(
            path.with_suffix(".npz"),
            lambda file: np.savez_compressed(file, users=split.test_users, **values),
        )
        result["test"] = test.mean
    write_whole(path, lambda file: file.write(json.dumps(result, indent=1).encode()))
    return result["valid"]


def read_unit(unit: Unit, runs: Path) -> dict | None:
    """Return what is known of a unit, with the values of each user, or None."""
    path = unit.path(runs)
    if not path.exists():
        return None
    result = json.loads(path.read_text())
    result["settings"] = short_repr(unit.estimator)  # defaults may have changed since the fit
    if unit.kind == "final":
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as kept:
            counts = ~np.isnan(kept[METRICS[0]])  # users with something held out
            result["per_user"] = {name: kept[name][counts] for name in kept.files}
    return result


def write_whole(path: Path, write: Callable[[Any], Any]) -> None:
    """Write a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        write(file)
    temporary.replace(path)


@contextmanager
def _threads(n: int) -> Iterator[None]:
    torch = sys.modules.get("torch")  # a model of torch has imported it
    before = torch.get_num_threads() if torch else None
    if torch:
        torch.set_num_threads(n)
    try:
        with threadpool_limits(n):
            yield
    finally:
        if torch:
            torch.set_num_threads(before)


@contextmanager
def _interruptions() -> Iterator[None]:
    """Let Ctrl-C end the run: a neural model returns from it with a warning, trained halfway."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Training was interrupted")
        try:
            yield
        except UserWarning as warning:
            if not str(warning).startswith("Training was interrupted"):
                raise
            raise KeyboardInterrupt from warning


def _show_progress(model: Any) -> None:
    """Show a bar of the steps of the fit, where scikit-learn has them."""
    try:
        from sklearn.callback import ProgressBar
    except ImportError:  # before 1.9
        return
    model.set_callbacks(ProgressBar())


def _versions() -> str:
    modules = {"sklrec": sklrec, "numpy": np, "scipy": scipy, "scikit-learn": sklearn}
    modules |= {name: sys.modules[name] for name in ("skorch", "torch") if name in sys.modules}
    found = [f"{name} {module.__version__}" for name, module in modules.items()]
    return "; ".join(
        [f"python {platform.python_version()}", *found, f"joblib {joblib.__version__}"]
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
