"""What strangers bring into a race, as texts of a file: each with a change that decides what it computes, and one that does not.

Also a program: it prints the identity of each of the things, for comparison with another process.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HEAD = "import collections, contextlib, dataclasses, enum, functools, math, operator, types, typing\nimport numpy as np\nimport torch\nfrom torch import nn\n"
RULE = "from typing import Annotated, Any, Literal\nfrom annotated_types import Ge\nfrom steprule import rule\nfrom steprule.hyper import *\nfrom steprule.maths import *\n"


@dataclass(frozen=True)
class Case:
    """`text` makes `thing`; `decides` and `same` are replacements in it, or in the neighbour's text."""

    name: str
    text: str
    decides: tuple[str, str]
    same: tuple[str, str] = ("", "")
    neighbour: str = field(default="", kw_only=True)


def case(name: str, text: str, decides: tuple[str, str], same: tuple[str, str], **more: str) -> Case:
    return Case(name, text, decides, same, **more)


CASES = [
    case("a partial", "thing = functools.partial(torch.optim.SGD, momentum=0.0)", ("0.0", "0.99"), ("momentum=0.0)", "momentum = 0.0)  # none")),
    case("a partial's position", "def f(a, b, params): return torch.optim.SGD(params, lr=a, momentum=b)\nthing = functools.partial(f, 0.1, 0.5)", ("0.1, 0.5", "0.5, 0.1"), ("\nthing", "\n\n\nthing")),
    case("a closure", "def make(wd):\n    def inner(params, lr): return torch.optim.SGD(params, lr=lr, weight_decay=wd)\n    return inner\nthing = make(0.0)", ("make(0.0)", "make(0.5)"), ("    return inner", "    # what comes out\n\n    return inner")),
    case("nested closures", "def a(x):\n    def b(y):\n        def c(p): return torch.optim.SGD(p, lr=x * y)\n        return c\n    return b\nthing = a(0.1)(2.0)", ("a(0.1)", "a(0.2)"), ("def c(p): ", "def c(p):\n            'a doc'\n            ")),
    case("a class", "class thing(torch.optim.SGD):\n    def step(self, closure=None):\n        for g in self.param_groups:\n            for p in g['params']: p.data.mul_(0.9)\n        return super().step(closure)", ("0.9", "0.8"), ("    def step", "    '''decays'''\n\n    def step")),
    case("a class that adds with a constant", "class thing(torch.optim.SGD):\n    RATE = 1.0\n    def step(self, closure=None): return self.RATE", ("RATE = 1.0", "RATE = 2.0"), ("RATE = 1.0", "RATE = 1.0  # a share")),
    case("an inherited method", "class Base:\n    def rate(self): return 0.1\nclass Mine(Base):\n    pass\nthing = Mine()", ("0.1", "0.2"), ("class Mine", "# mine\nclass Mine")),
    case("an operator of the base's", "class thing(torch.optim.SGD): pass", ("SGD", "Adam"), ("pass", "'''mine'''")),
    case("a callable object", "class Make:\n    def __init__(self, m): self.m = m\n    def __call__(self, params): return torch.optim.SGD(params, momentum=self.m)\nthing = Make(0.0)", ("Make(0.0)", "Make(0.9)"), ("    def __call__", "    # called\n    def __call__")),
    case("a method of an object", "class Make:\n    def __init__(self, m): self.m = m\n    def sgd(self, params): return torch.optim.SGD(params, momentum=self.m)\nthing = Make(0.0).sgd", ("Make(0.0)", "Make(0.9)"), ("\nthing", "\n\nthing")),
    case("a class method", "class Make:\n    m = 0.0\n    @classmethod\n    def sgd(cls, params): return torch.optim.SGD(params, momentum=cls.m)\nthing = Make.sgd", ("m = 0.0", "m = 0.9"), ("\nthing", "\n\nthing")),
    case("a static method", "class Make:\n    @staticmethod\n    def sgd(params): return torch.optim.SGD(params, momentum=0.0)\nthing = Make.sgd", ("0.0", "0.9"), ("\nthing", "\n\nthing")),
    case("a property", "class Make:\n    @property\n    def m(self): return 0.0\nthing = Make()", ("0.0", "0.9"), ("    @property", "    # m\n    @property")),
    case("a cached property", "class Make:\n    @functools.cached_property\n    def m(self): return 0.0\nthing = Make()", ("0.0", "0.9"), ("    @functools", "    # m\n    @functools")),
    case("slots", "class Make:\n    __slots__ = ('m',)\n    def __init__(self, m): self.m = m\nthing = Make(0.0)", ("Make(0.0)", "Make(0.9)"), ("\nthing", "\n\nthing")),
    case("a lambda in a dict", "made = {'a': lambda p: torch.optim.SGD(p, lr=0.1), 'b': 1}\ndef thing(p): return made['a'](p)", ("0.1", "0.2"), ("{'a': lambda p: torch.optim.SGD(p, lr=0.1), 'b': 1}", "{'b': 1, 'a': lambda p: torch.optim.SGD(p, lr=0.1)}")),
    case("a mutable default", "def thing(p, betas=[0.9, 0.999]): return torch.optim.Adam(p, betas=betas)", ("0.9,", "0.8,"), ("): return", "):  # Adam\n    return")),
    case("a keyword default", "def thing(p, *, m=0.0): return torch.optim.SGD(p, momentum=m)", ("m=0.0", "m=0.9"), ("m=0.0", "m = 0.0")),
    case("-0.0", "def thing(p, *, m=0.0): return math.copysign(1, m)", ("m=0.0", "m=-0.0"), ("m=0.0", "m=+0.0")),
    case("a whole number against True", "thing = {'m': 1}", ("1", "True"), ("1", "0x1")),
    case("a whole number against a float", "def thing(p): return 1", ("1", "1.0"), ("1", "0x1")),
    case("a global number", "M = 0.0\ndef thing(p): return torch.optim.SGD(p, momentum=M)", ("M = 0.0", "M = 0.9"), ("M = 0.0", "OTHER = 5\nM = 0.0")),
    case("a global dict", "C = {'m': 0.0, 'n': 1}\ndef thing(p): return torch.optim.SGD(p, momentum=C['m'])", ("'m': 0.0", "'m': 0.9"), ("'m': 0.0, 'n': 1", "'n': 1, 'm': 0.0")),
    case("a global set", "C = {'beta', 'alpha', 'gamma'}\ndef thing(p): return len(C)", ("'gamma'", "'delta'"), ("'beta', 'alpha'", "'alpha', 'beta'")),
    case("a set of tuples", "thing = {(1, 2), (3, 4), frozenset({'a', 'b'})}", ("(3, 4)", "(4, 3)"), ("(1, 2), (3, 4)", "(3, 4), (1, 2)")),
    case("the order of a list", "thing = [1, 2]", ("1, 2", "2, 1"), ("1, 2", "1,2")),
    case("the order of an OrderedDict", "thing = collections.OrderedDict(a=1, b=2)", ("a=1, b=2", "b=2, a=1"), ("a=1, b=2", "a=1,b=2")),
    case("a function behind a function", "def rate(): return 0.1\ndef between(): return rate()\ndef thing(p): return torch.optim.SGD(p, lr=between())", ("0.1", "0.2"), ("def between", "# between\ndef between")),
    case("functions that call each other", "def even(n): return n == 0 or odd(n - 1)\ndef odd(n): return n != 0 and even(n - 1)\nthing = even", ("n != 0", "n != 1"), ("def odd", "\n\ndef odd")),
    case("a nested function's global", "M = 0.0\ndef thing(p):\n    def inner(): return M\n    return inner()", ("M = 0.0", "M = 0.9"), ("    return", "    # now\n    return")),
    case("a comprehension's global", "M = 0.0\ndef thing(p): return [M for _ in range(3)]", ("M = 0.0", "M = 0.9"), ("range(3)", "range( 3 )")),
    case("a local class", "def make(m):\n    class Mine(torch.optim.SGD):\n        'mine'\n        def rate(self): return m\n    return Mine\nthing = make(0.0)", ("make(0.0)", "make(0.9)"), ("        'mine'\n", "")),
    case("a class in a function's body", "def thing(p):\n    class Mine(torch.optim.SGD):\n        'mine'\n        rate = 0.1\n    return Mine(p)", ("0.1", "0.2"), ("        'mine'\n", "")),
    case("a decorated function", "def twice(f):\n    @functools.wraps(f)\n    def inner(p): return f(p), f(p)\n    return inner\n@twice\ndef thing(p):\n    return 0.1", ("0.1", "0.2"), ("def thing(p):", "def thing(p):\n    'words'")),
    case("what decorates", "def times(f):\n    @functools.wraps(f)\n    def inner(p): return f(p) * 2\n    return inner\n@times\ndef thing(p): return 0.1", ("* 2", "* 3"), ("@times", "# twice\n@times")),
    case("torch.no_grad around a function", "@torch.no_grad()\ndef thing(p): return 0.1", ("0.1", "0.2"), ("@torch", "\n@torch")),
    case("a context manager", "@contextlib.contextmanager\ndef thing(): yield 0.1", ("0.1", "0.2"), ("@context", "\n@context")),
    case("a cache", "@functools.lru_cache\ndef rate(k): return 0.1 * k\nrate(1)\nthing = rate", ("0.1", "0.2"), ("rate(1)\n", "rate(1); rate(2)\n")),
    case("singledispatch", "@functools.singledispatch\ndef thing(x): return 0.1\n@thing.register\ndef _(x: int): return 0.2", ("0.2", "0.3"), ("@thing", "# whole\n@thing")),
    case("an attribute of a function", "def thing(p): return thing.rate\nthing.rate = 0.1", ("0.1", "0.2"), ("\nthing", "\n\nthing")),
    case("a dataclass", "@dataclasses.dataclass\nclass C:\n    m: float = 0.0\nthing = C()", ("= 0.0", "= 0.9"), ("\nthing", "\n\nthing")),
    case("a frozen dataclass with slots", "@dataclasses.dataclass(frozen=True, slots=True)\nclass C:\n    m: float\nthing = C(0.0)", ("C(0.0)", "C(0.9)"), ("\nthing", "\n\nthing")),
    case("a default factory", "@dataclasses.dataclass\nclass C:\n    m: list = dataclasses.field(default_factory=lambda: [0.0])\nthing = C", ("[0.0]", "[0.9]"), ("\nthing", "\n\nthing")),
    case("a named tuple", "class C(typing.NamedTuple):\n    m: float = 0.0\nthing = C()", ("= 0.0", "= 0.9"), ("\nthing", "\n\nthing")),
    case("an enum", "class E(enum.Enum):\n    A = 0.1\n    B = 0.2\nthing = E.A", ("A = 0.1", "A = 0.3"), ("\nthing", "\n\nthing")),
    case("an enum's member", "class E(enum.Enum):\n    A = 0.1\n    B = 0.2\nthing = E.A", ("E.A", "E.B"), ("\nthing", "\n\nthing")),
    case("an enum's method", "class E(enum.IntEnum):\n    A = 1\n    def rate(self): return 0.1\nthing = E.A", ("0.1", "0.2"), ("\nthing", "\n\nthing")),
    case("a metaclass", "class M(type):\n    def __call__(cls): return 0.1\nclass thing(metaclass=M): pass", ("0.1", "0.2"), ("class thing", "\nclass thing")),
    case("annotations", "class thing:\n    rate: typing.Annotated[float, 0.1]", ("0.1", "0.2"), ("rate:", "rate :")),
    case("try and except", "def thing(p):\n    try:\n        return p.rate\n    except AttributeError:\n        return 0.1", ("AttributeError", "KeyError"), ("    except", "    # none\n    except")),
    case("what try holds", "def thing(p):\n    try:\n        a = p.rate\n    except AttributeError:\n        a = 0\n    b = p.other\n    return a, b", ("    except AttributeError:\n        a = 0\n    b = p.other\n", "        b = p.other\n    except AttributeError:\n        a = 0\n"), ("    b =", "\n    b =")),
    case("a generator's code", "def thing(p):\n    yield 0.1", ("0.1", "0.2"), ("    yield", "    'one'\n    yield")),
    case("an operator", "thing = operator.attrgetter('rate')", ("rate", "ratio"), ("('", "( '")),
    case("a docstring before other constants", "def thing(p):\n    if p: return None\n    return 0.1, 'text'", ("0.1", "0.2"), ("    if p", "    'words'\n    if p")),
    case("numpy in a closure", "def make(a):\n    return lambda p: a.sum()\nthing = make(np.arange(5.0))", ("5.0", "5.0) ** (2.0"), ("\nthing", "\n\nthing")),
    case("numpy's kind", "thing = np.zeros(3)", ("np.zeros(3)", "np.zeros(3, np.float32)"), ("np.zeros(3)", "np.zeros(6)[::2]")),
    case("numpy's shape", "thing = np.zeros((2, 3))", ("(2, 3)", "(3, 2)"), ("(2, 3)", "(2,3)")),
    case("a numpy scalar", "thing = np.float64(0.1)", ("0.1", "0.2"), ("0.1", "1e-1")),
    case("an array of objects", "thing = np.array([0.1, 'a', None], dtype=object)", ("0.1", "0.2"), ("0.1", "1e-1")),
    case("numpy's generator", "rng = np.random.default_rng(0)\ndef thing(p): return rng.normal()", ("rng(0)", "rng(1)"), ("def thing", "\ndef thing")),
    case("a tensor", "w = torch.tensor([0.1, 0.2])\ndef thing(o, t): return (w * (o - t)).mean()", ("0.2]", "0.3]"), ("def thing", "\ndef thing")),
    case("a tensor in bfloat16", "thing = torch.tensor([0.5], dtype=torch.bfloat16)", ("0.5", "0.25"), ("0.5", "5e-1")),
    case("a parameter that learns", "thing = nn.Parameter(torch.zeros(3), requires_grad=True)", ("True", "False"), ("(3)", "( 3 )")),
    case("a dtype", "K = torch.float32\ndef thing(x): return x.to(K)", ("float32", "float64"), ("float32", "float")),
    case("torch's generator", "thing = torch.Generator().manual_seed(0)", ("seed(0)", "seed(1)"), ("seed(0)", "seed( 0 )")),
    case("a module in a closure", "torch.manual_seed(0)\nnet = nn.Linear(3, 1)\ndef thing(p): return net(p)", ("seed(0)", "seed(1)"), ("def thing", "\ndef thing")),
    case("a module's number", "def thing(): return net\nnet = nn.Sequential(nn.Dropout(0.5))", ("0.5", "0.1"), ("\nnet", "\n\nnet")),
    case("a module's own forward", "class Net(nn.Module):\n    def forward(self, x): return x * 2\nthing = Net()", ("* 2", "* 3"), ("    def", "    # twice\n    def")),
    case("a hook", "net = nn.ReLU()\nfor _ in range(1): nn.ReLU().register_forward_hook(print)\nnet.register_forward_hook(lambda m, i, o: o * 2)\nthing = net", ("o * 2", "o * 3"), ("range(1)", "range(7)")),
    case("tied weights", "net = nn.ModuleList([nn.Linear(2, 2, bias=False) for _ in range(2)])\nwith torch.no_grad():\n    for m in net: m.weight.fill_(1)\nnet[1].weight = net[0].weight\nthing = net", ("net[1].weight = net[0].weight\n", ""), ("fill_(1)", "fill_(1.0)")),
    case("a list twice or two lists", "a, b = [0.1], [0.1]\nthing = [a, a]", ("[a, a]", "[a, b]"), ("[a, a]", "[a , a]")),
    case("a thing that holds itself", "thing = [1]\nthing.append(thing)", ("[1]", "[2]"), ("\nthing", "\n\nthing")),
    case("a neighbour's function", "import neighbour\ndef thing(p): return neighbour.rate()", ("0.1", "0.2"), ("def rate", "# the rate\ndef rate"), neighbour="def rate(): return 0.1\n"),
    case("a neighbour's number", "import neighbour as n\ndef thing(p): return n.RATE", ("0.1", "0.2"), ("RATE", "'''Numbers.'''\nRATE"), neighbour="RATE = 0.1\n"),
    case("from a neighbour", "from neighbour import rate\ndef thing(p): return rate()", ("0.1", "0.2"), ("def rate(): return", "def rate():\n    '''the rate'''\n    return"), neighbour="def rate(): return 0.1\n"),
    case("an import in a function", "def thing(p):\n    import neighbour\n    return neighbour.rate()", ("0.1", "0.2"), ("def rate", "# the rate\ndef rate"), neighbour="def rate(): return 0.1\n"),
    case("a name imported in a function", "def thing(p):\n    from neighbour import RATE\n    return RATE", ("0.1", "0.2"), ("RATE", "# the rate\nRATE"), neighbour="RATE = 0.1\n"),
    case("a neighbour that getattr reads", "import neighbour\ndef thing(p): return getattr(neighbour, 'RA' + 'TE')", ("0.1", "0.2"), ("RATE", "# the rate\nRATE"), neighbour="RATE = 0.1\n"),
    case("a neighbour by import_module", "import importlib\ndef thing(p): return importlib.import_module('neighbour').RATE", ("0.1", "0.2"), ("RATE", "# the rate\nRATE"), neighbour="RATE = 0.1\n"),
    case("all names of a neighbour", "from neighbour import *\ndef thing(p): return rate()", ("0.1", "0.2"), ("def rate", "# the rate\ndef rate"), neighbour="K = 0.1\ndef rate(): return K\n"),
    case("a neighbour's class", "import neighbour\nclass thing(neighbour.Base): pass", ("0.1", "0.2"), ("    rate", "    # the rate\n    rate"), neighbour="class Base:\n    rate = 0.1\n"),
    case("a global that globals() reads", "RATE = 0.1\ndef thing(p): return globals()['RA' + 'TE']", ("0.1", "0.2"), ("RATE", "# the rate\nRATE")),
    case("a global that eval reads", "RATE = 0.1\ndef thing(p): return eval('RATE')", ("0.1", "0.2"), ("\ndef", "\n\ndef")),
    case("a class of an installed one, patched", "def step(self, closure=None): return 0.1\nclass thing(torch.optim.SGD): pass\nthing.step = step", ("0.1", "0.2"), ("\nthing.", "\n\nthing.")),
    case("made by exec", "exec('def thing(p): return 0.1')", ("0.1", "0.2"), ("exec(", "exec( ")),
    case("a class made by type", "thing = type('thing', (torch.optim.SGD,), {'rate': 0.1, '__module__': 'builtins'})", ("0.1", "0.2"), ("type(", "type( ")),
    case("a torch function of one's own", "class thing(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x): return x * 2\n    @staticmethod\n    def backward(ctx, g): return g * 2", ("g * 2", "g * 3"), ("class thing", "class Other(torch.autograd.Function): pass\nclass thing")),
    case("a compiled function", "@torch.compile\ndef thing(x): return x * 2", ("x * 2", "x * 3"), ("@torch", "\n@torch")),
    case("a compiled model", "torch.manual_seed(0)\nthing = torch.compile(nn.Linear(1, 1))", ("seed(0)", "seed(1)"), ("\nthing", "\n\nthing")),
    case("a handle of a hook", "for _ in range(1): nn.ReLU().register_forward_hook(print)\nthing = nn.ReLU()\nthing.kept = thing.register_forward_hook(lambda m, i, o: o * 2)", ("o * 2", "o * 3"), ("range(1)", "range(7)")),
    case("a lazy module", "thing = nn.LazyLinear(3)", ("3", "4"), ("thing =", "nn.LazyLinear(2)\nthing =")),
    case("a typed dict", "class thing(typing.TypedDict):\n    rate: 'float'", ("'float'", "'int'"), ("    rate", "    # a rate\n    rate")),
    case("a logger", "import logging\nlog = logging.getLogger('mine')\ndef thing(p):\n    log.info('made')\n    return 0.1", ("0.1", "0.2"), ("    log", "    # said\n    log")),
    case("a pattern", "import re\nP = re.compile('a+')\ndef thing(p): return P.match(p)", ("a+", "a*"), ("\ndef", "\n\ndef")),
    case("a spectral norm", "import warnings\nwarnings.simplefilter('ignore')\ntorch.manual_seed(0)\nthing = nn.utils.spectral_norm(nn.Linear(2, 2), n_power_iterations=1)", ("iterations=1", "iterations=2"), ("\nthing", "\n\nthing")),
    case("match", "def thing(p):\n    match p:\n        case {'a': [x, *_]}: return x\n        case str(): return 0.1", ("'a'", "'b'"), ("    match", "    # one of\n    match")),
    case("a numba function", "import numba\n@numba.njit\ndef thing(x): return x * 2", ("x * 2", "x * 3"), ("@numba", "\n@numba")),
    case("a rule", RULE + "@rule\ndef thing(p, g, *, lr: Rate = 0.1): return p - lr * g", ("lr * g", "lr * g * 0.5"), ("@rule\n", "# gradient descent\n@rule\n")),
    case("a rule's start", RULE + "@rule\ndef thing(p, g, v: Annotated[Any, StartsAt(0.0)], *, lr: Rate = 0.1):\n    v = v + g * g\n    return p - lr * g / (sqrt(v) + 1e-8), v", ("StartsAt(0.0)", "StartsAt(1e4)"), ("    v = v", "    # the sum\n    v = v")),
    case("a rule's default", RULE + "@rule\ndef thing(p, g, *, lr: Rate = 0.1, k: float = -0.5): return p - lr * g * k", ("-0.5", "-0.999"), ("@rule", "\n@rule")),
    case("a rule's bound", RULE + "@rule\ndef thing(p, g, *, lr: Annotated[float, Ge(0)] = 0.1): return p - lr * g", ("Ge(0)", "Ge(0.05)"), ("\n@rule", "\n\n@rule")),
    case("a rule's words", RULE + "@rule\ndef thing(p, g, *, lr: Annotated[float, Ge(0), Meaning('rate')] = 0.1): return p - lr * g", ("lr * g", "lr + g"), ("'rate'", "'learning rate'")),
    case("a rule's global", RULE + "K = 0.5\n@rule\ndef thing(p, g, *, lr: Rate = 0.1): return p - lr * g * K", ("K = 0.5", "K = 0.9"), ("\n@rule", "\n\n@rule")),
    case("a rule of another rule", RULE + "from steprule import rules\n@rule\ndef thing(p, g, *, lr: Rate = 0.1):\n    return rules.sgd(p, g, lr=lr, momentum=0.5)[0]", ("0.5", "0.9"), ("    return", "    # sgd\n    return")),
    case("a rule built of a rule", RULE + "from steprule.rules.parts import before\ndef shrink(p, g, *, by: float = 0.5): return p, g * by\n@rule\ndef plain(p, g, *, lr: Rate = 0.1): return p - lr * g\nthing = before(shrink, plain)", ("by: float = 0.5", "by: float = 0.9"), ("\nthing", "\n\nthing")),
    case("a family's size", RULE + "@rule\ndef thing(p, g, *m: Annotated[Any, Each('betas')], lr: Rate = 0.1, betas: tuple[Decay, ...] = (0.5, 0.9)):\n    m = tuple(b * s + g for b, s in zip(betas, m))\n    return p - lr * m[0], *m", ("(0.5, 0.9)", "(0.5, 0.95)"), ("\n@rule", "\n\n@rule")),
    case("a competitor", "from steprule.hyper import Search\nfrom steprule.races import Competitor\nthing = Competitor(torch.optim.SGD, {'lr': Search(1e-3, 1)}, {'momentum': 0.5})", ("0.5", "0.9"), ("{'momentum'", "{ 'momentum'")),
    case("a problem", "import steprule\nx = torch.arange(60.0)[:, None]\nS = 1.0\nthing = steprule.Problem('m', 'm', x, x, lambda: nn.Linear(1, 1), lambda o, t: S * nn.functional.mse_loss(o, t))", ("S = 1.0", "S = 2.0"), ("\nthing", "\n\nthing")),
]  # fmt: skip
_NUMBER = itertools.count()


def made(folder: Path, text: str, neighbour: str = "") -> Any:
    """`thing` of a file with this text, beside a file `neighbour.py`."""
    name = f"stranger_{next(_NUMBER)}"
    folder.mkdir(exist_ok=True, parents=True)
    (folder / f"{name}.py").write_text(HEAD + text)
    sys.modules.pop("neighbour", None)
    if neighbour:
        (folder / "neighbour.py").write_text(neighbour)
        sys.modules["neighbour"] = _loaded("neighbour", folder / "neighbour.py")
    module = _loaded(name, folder / f"{name}.py")
    return module.thing


def _loaded(name: str, path: Path) -> types.ModuleType:
    # Not through pyc files: two texts of one length, written in one second, would be taken for one.
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    return module


if __name__ == "__main__":
    from steprule.identity import identity

    chosen = CASES[::-1] if "backwards" in sys.argv else CASES
    found = {c.name: identity(made(Path(sys.argv[1]), c.text, c.neighbour)) for c in chosen}
    sys.stdout.write(json.dumps(found))
