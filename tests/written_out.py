"""Training written out: objectives, optimizers and random numbers by dense torch in float64.

A test writes the objective of a paper as a function of the weights, of the rows that are given
and those that are learnt, and of what is drawn at random. :func:`assert_trained_as_by_hand` fits
the model and takes the same steps by hand: the same users in the same order, the same dropout and
noise, the same optimizer. So a term, a factor or a draw that is missing in one of the two shows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")

from skorch.callbacks import Callback  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402


def some_users(n_users=30, n_items=12):
    """Return users of whom no two are alike, with values from 1 to 3, one of no and one of 1 item.

    A CSR array of shape (n_users, n_items).
    """
    rng = np.random.default_rng(0)
    x = rng.integers(1, 4, (n_users, n_items)) * (rng.random((n_users, n_items)) < 0.4)
    x[3] = 0
    x[7] = np.eye(n_items)[2]
    assert len(np.unique(x, axis=0)) == n_users
    return sp.csr_array(x.astype(float))


# Random numbers


class Draws:
    """What a fit draws at random, in the order in which it does."""

    def __init__(self, random_state):
        self.seed = int(np.random.RandomState(random_state).randint(2**31 - 1))
        self.generator = torch.Generator()

    def begin_epoch(self, number):
        """Begin anew with the number of the epoch, the first of which is 1."""
        (seed,) = np.random.SeedSequence((self.seed, number)).generate_state(1)
        self.generator.manual_seed(int(seed))

    def order(self, n_users):
        """Return the users in the order in which a pass takes them."""
        return torch.randperm(n_users, generator=self.generator)

    def normal(self, shape):
        """Return standard normal numbers."""
        return torch.empty(shape).normal_(generator=self.generator).double()

    def thinned(self, x, dropout):
        """Return rows of which each entry is left out with a probability, the others grown."""
        at = x.nonzero(as_tuple=True)
        kept = torch.empty(len(at[0])).bernoulli_(1 - dropout, generator=self.generator)
        thinned = torch.zeros_like(x)
        thinned[at] = x[at] * kept.double() / (1 - dropout)
        return thinned

    def halves(self, x):
        """Return two halves of each row; the second has n // 2 of its n entries."""
        rows, items = x.nonzero(as_tuple=True)
        noise = torch.rand(len(rows), dtype=torch.float64, generator=self.generator)
        second = torch.zeros_like(x)
        for row in range(len(x)):
            own = rows == row
            chosen = items[own][noise[own].argsort()[: own.sum() // 2]]
            second[row, chosen] = x[row, chosen]
        return x - second, second


def batches_of_pairs(model, X, draws, candidates=True):
    """Yield lists of a user, an item and negatives, with the random numbers of an epoch.

    Only items that are `candidates`, an array of bool, are negatives.
    """
    seed = torch.randint(2**63 - 1, (), generator=draws.generator)
    rng = np.random.default_rng(int(seed))
    x = X.toarray()
    others = (x == 0) & candidates
    pairs = [(user, item) for user, item in zip(*x.nonzero(), strict=True) if others[user].any()]
    order = np.arange(len(pairs))
    rng.shuffle(order)
    for start in range(0, len(pairs), model.batch_size):
        batch = [pairs[i] for i in np.sort(order[start : start + model.batch_size])]
        uniform = rng.random((len(batch), model.n_negatives))
        yield [
            (user, item, np.flatnonzero(others[user])[(row * others[user].sum()).astype(int)])
            for (user, item), row in zip(batch, uniform, strict=True)
        ]


# Terms of objectives, one number a user


def multinomial_nll(scores, x):
    """Return ``-sum_i x_i log softmax(f)_i``."""
    log_p = scores - scores.exp().sum(dim=1, keepdim=True).log()
    return -(x * log_p).sum(dim=1)


def logistic_nll(scores, x):
    """Return ``-sum_i y_i log s(f_i) + (1 - y_i) log(1 - s(f_i))``, y whether x has an entry."""
    p = torch.sigmoid(scores)
    return -torch.where(x > 0, p, 1 - p).log().sum(dim=1)


def gaussian_nll(confidence):
    """Return the function that has the weight of the entries: ``sum_i c_i / 2 (x_i - f_i)^2``."""
    return lambda scores, x: ((1 + (confidence - 1) * (x > 0)) / 2 * (x - scores) ** 2).sum(dim=1)


def focal_loss(p, x, alpha, gamma):
    """Return ``-sum_i alpha_t (1 - p_t)^gamma log p_t``."""
    p_t = torch.where(x > 0, p, 1 - p)
    alpha_t = torch.where(x > 0, alpha, 1 - alpha)
    return -(alpha_t * (1 - p_t) ** gamma * p_t.log()).sum(dim=1)


def cosine_loss(scores, x):
    """Return ``1 - cos((f, |x|), (x, 0))``; 1 for a user without items."""
    square = (x**2).sum(dim=1)
    unit = torch.where(square > 0, square, 1)
    return 1 - (scores * x).sum(dim=1) / ((scores**2).sum(dim=1) + unit).sqrt() / unit.sqrt()


def kl_to_standard(mu, logvar):
    """Return the KL divergence of N(mu, exp(logvar)) and N(0, I)."""
    return (logvar.exp() + mu**2 - 1 - logvar).sum(dim=1) / 2


def log_normal(z, mu, logvar):
    """Return the log-density of N(mu, exp(logvar)) at z in each dimension."""
    return -0.5 * (np.log(2 * np.pi) + logvar + (z - mu) ** 2 / logvar.exp())


# Layers, from a dict of weights


def unit_rows(x):
    """Return the rows divided by their norms, empty ones as they are."""
    square = (x**2).sum(dim=1, keepdim=True)
    return x / torch.where(square > 0, square, 1).sqrt()


def linear(w, name, h):
    """Return ``W h + b``."""
    return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def hidden_activation(h, gated):
    """Return the tanh, or one half of the outputs times the sigmoid of the other."""
    if not gated:
        return h.tanh()
    first, second = h.chunk(2, dim=1)
    return first * second.sigmoid()


def hidden_layers(w, name, h, gated=False):
    """Return what a series of dense layers makes of h; h itself without any."""
    layer = 0
    while f"{name}.{layer}.weight" in w:
        h = hidden_activation(linear(w, f"{name}.{layer}", h), gated)
        layer += 2
    return h


def encoder(w, name, x, given=0, gated=False):
    """Return the linear output of an encoder whose first layer adds up `given` too."""
    h = x @ w[f"{name}.first.weight"] + w[f"{name}.first.bias"] + given
    layer = 1
    while f"{name}.hidden.{layer}.weight" in w:
        h = linear(w, f"{name}.hidden.{layer}", hidden_activation(h, gated))
        layer += 2
    return h


def swish_and_norm(w, name, a):
    """Return the layer norm of ``a s(a)``."""
    h = a * a.sigmoid()
    h = h - h.mean(dim=1, keepdim=True)
    h = h / ((h**2).mean(dim=1, keepdim=True) + 1e-5).sqrt()
    return h * w[f"{name}.weight"] + w[f"{name}.bias"]


def densely_connected(w, name, h, skipped=0):
    """Return what layers make of h each of which gets the sum of all outputs before it."""
    layer = 0
    while f"{name}.linear.{layer}.weight" in w:
        a = linear(w, f"{name}.linear.{layer}", h) + skipped
        h = swish_and_norm(w, f"{name}.norm.{layer}", a)
        skipped = skipped + h
        layer += 1
    return h


def densely_connected_encoder(w, name, x):
    """Return mean and log-variance."""
    h = x @ w[f"{name}.first.weight"] + w[f"{name}.first.bias"]
    h = swish_and_norm(w, f"{name}.norm", h)
    h = densely_connected(w, f"{name}.rest", h, skipped=h)
    return linear(w, f"{name}.last", h).chunk(2, dim=1)


# Optimizers: from a gradient and the state of a weight to what is subtracted from the weight


def adam(gradient, state):
    """Return the step of Adam at a rate of 1."""
    t, first, second = moments(gradient, state)
    return first / (1 - 0.9**t) / ((second / (1 - 0.999**t)).sqrt() + 1e-8)


def nadam(gradient, state):
    """Return the step of Nesterov's Adam at a rate of 1."""
    t, first, second = moments(gradient, state)
    now, following = (0.9 * (1 - 0.5 * 0.96 ** (0.004 * step)) for step in (t, t + 1))
    product = state["product"] = state.get("product", 1) * now
    first = (1 - now) * gradient / (1 - product) + following * first / (1 - product * following)
    return first / ((second / (1 - 0.999**t)).sqrt() + 1e-8)


def moments(gradient, state):
    """Return the number of the step, and the running means of the gradient and its square."""
    state["t"] = state.get("t", 0) + 1
    state["first"] = 0.9 * state.get("first", 0) + 0.1 * gradient
    state["second"] = 0.999 * state.get("second", 0) + 0.001 * gradient**2
    return state["t"], state["first"], state["second"]


def nesterov(gradient, state):
    """Return the step of gradient descent with Nesterov's momentum of 0.9 at a rate of 1."""
    momentum = state["momentum"] = gradient + 0.9 * state.get("momentum", 0)
    return gradient + 0.9 * momentum


# Training


@dataclass
class PassByHand:
    """One way through the users.

    Parameters
    ----------
    objective : callable
        ``objective(w, given, learnt, draws)`` returns the loss of a batch.
    part : str
        What the names of the weights begin with that are trained.
    halved : bool
        Whether one half of each row is learnt from the other, and the other from the one.
    before : callable
        ``before(w)`` is called before the pass.
    data : Tensor of shape (n_rows, n_columns), float64, or None
        Rows to go through instead of the users.
    batches : callable or None
        ``batches(draws)`` yields batches of something else than rows, the arguments `given` and
        `learnt` of the objective.
    """

    objective: Callable
    part: str = ""
    halved: bool = False
    before: Callable = lambda w: None
    data: torch.Tensor | None = None
    batches: Callable | None = None

    def steps(self, x, batch_size, draws):
        """Yield what is given and what is learnt in each step."""
        if self.batches is not None:
            yield from self.batches(draws)
            return
        rows = x if self.data is None else self.data
        for batch in draws.order(len(rows)).split(batch_size):
            if self.halved:
                first, second = draws.halves(rows[batch])
                yield first, second
                yield second, first
            else:
                yield rows[batch], rows[batch]


class Recorder(Callback):
    """Keeps the weights before the first step and after each, and the losses."""

    def on_train_begin(self, net, **kwargs):
        self.weights, self.losses = [weights_of(net)], []

    def on_batch_end(self, net, loss=None, **kwargs):
        self.weights.append(weights_of(net))
        self.losses.append(loss.item())


def weights_of(net):
    """Return copies of the weights of a net in float64 by their names."""
    return {name: w.detach().double().clone() for name, w in net.module_.named_parameters()}


def train_by_hand(start, x, passes, *, random_state, n_epochs, batch_size, rule, lr, penalty=None):
    """Return the loss of each step, and the weights after it.

    Parameters
    ----------
    start : dict of Tensor
        Weights to begin with.
    x : Tensor of shape (n_users, n_items), float64
        The users.
    passes : list of PassByHand
        Of each epoch.
    rule : callable
        One of the optimizers above.
    lr : float
        The learning rate.
    penalty : callable or None
        ``penalty(name)`` is what to multiply a weight with to get the gradient of the penalty.
    """
    w = {name: weight.clone().requires_grad_() for name, weight in start.items()}
    states = {name: {} for name in w}
    draws = Draws(random_state)
    losses, weights = [], []
    for epoch in range(1, n_epochs + 1):
        draws.begin_epoch(epoch)
        for one in passes:
            one.before(w)
            for given, learnt in one.steps(x, batch_size, draws):
                loss = one.objective(w, given, learnt, draws)
                names = [name for name in w if name.startswith(one.part)]
                unused = one.batches is not None  # then an objective may need a part of w only
                gradients = torch.autograd.grad(
                    loss, [w[name] for name in names], allow_unused=unused
                )
                for name, gradient in zip(names, gradients, strict=True):
                    if gradient is None:
                        continue
                    if penalty is not None:
                        gradient = gradient + penalty(name) * w[name].detach()
                    w[name].data -= lr * rule(gradient, states[name])
                losses.append(loss.item())
                weights.append({name: weight.detach().clone() for name, weight in w.items()})
    return losses, weights


def assert_trained_as_by_hand(
    model, X, passes, *, rule=adam, lr=None, penalty=None, modelled=slice(None), **fit_params
):
    """Fit a model, and compare the loss and the weights of each step with those by hand.

    X_val is given too, and nothing is to be learnt from it. `modelled` are the items that the
    network has, `fit_params` what ``fit`` is given besides.
    """
    recorder = Recorder()
    lr = model.learning_rate if lr is None else lr
    model.set_params(callbacks=[recorder]).fit(X, X_val=X[::-1][:5], **fit_params)
    losses, weights = train_by_hand(
        recorder.weights[0],
        torch.from_numpy(X.toarray()[:, modelled]),
        passes,
        random_state=model.random_state,
        n_epochs=model.max_epochs,
        batch_size=model.batch_size,
        rule=rule,
        lr=lr,
        penalty=penalty,
    )
    assert len(set(losses)) == len(losses) > 2
    assert_allclose(recorder.losses, losses, rtol=1e-5)
    for step, (found, expected) in enumerate(zip(recorder.weights[1:], weights, strict=True)):
        for name in expected:
            # Where a gradient is next to nothing, the step of Adam hangs on its last digits.
            message = f"{name} after step {step + 1}"
            assert_allclose(found[name], expected[name], atol=0.01 * lr, err_msg=message)


# Memory


class LargestTensor(TorchDispatchMode):
    """Remember the size of the largest tensor that an operation returns."""

    n_values = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.n_values = max(self.n_values, leaf.numel())
        return out
