"""Formulas as MathML, which browsers draw, from the LaTeX that rules, letters and surfaces print.

It reads the part of LaTeX that formulas are made of: letters, numbers, signs, indices and powers, accents, roots, fractions, brackets,
words and choices by cases. Whatever else it meets is shown as it is written; nothing raises.
"""

from __future__ import annotations

import re
from html import escape

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|'+|\S", re.DOTALL)
_WORD = re.compile(r"\s*\{([^{}]*)\}")


def _named(table: str) -> dict[str, str]:
    """By command what stands behind its name."""
    words = table.split()
    return {f"\\{name}": shown for name, shown in zip(words[::2], words[1::2], strict=True)}


_IDENTIFIERS = _named("""
    alpha α beta β gamma γ delta δ epsilon ϵ varepsilon ε zeta ζ eta η theta θ vartheta ϑ iota ι kappa κ lambda λ mu μ nu ν xi ξ
    pi π rho ρ sigma σ tau τ upsilon υ phi ϕ varphi φ chi χ psi ψ omega ω Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ
    Upsilon Υ Phi Φ Psi Ψ Omega Ω ell ℓ hbar ℏ lnot ¬ neg ¬ ln ln log log sin sin cos cos tan tan tanh tanh exp exp
""")
_OPERATORS = _named("""
    infty ∞ cdot · times × leftarrow ← gets ← rightarrow → to → le ≤ leq ≤ ge ≥ geq ≥ ne ≠ neq ≠ lt < gt > land ∧ wedge ∧ lor ∨
    vee ∨ in ∈ pm ± partial ∂ nabla ∇ odot ⊙ otimes ⊗ circ ∘ approx ≈ sim ~ ll ≪ gg ≫ propto ∝ dots … cdots ⋯ top ⊤ sum ∑
    prod ∏ int ∫ max max min min sup sup inf inf lim lim bmod mod
""")
_OPERATORS |= {"-": "−", **{sign: sign for sign in "+*/=<>,.!?()[]|"}}
_ACCENTS = {
    r"\hat": "<mo>^</mo></mover>",
    r"\bar": '<mo stretchy="true">¯</mo></mover>',
    r"\tilde": '<mo stretchy="false">~</mo></mover>',
    r"\dot": "<mo>˙</mo></mover>",
    r"\vec": '<mo stretchy="true">→</mo></mover>',
}
_SPACES = {r"\,": "0.167em", r"\:": "0.222em", r"\;": "0.278em", r"\quad": "1em", r"\qquad": "2em"}
_BRACKETS = {
    r"\|": "‖", r"\lVert": "‖", r"\rVert": "‖", r"\lvert": "|", r"\rvert": "|", r"\lfloor": "⌊", r"\rfloor": "⌋",
    r"\lceil": "⌈", r"\rceil": "⌉", r"\langle": "⟨", r"\rangle": "⟩", r"\{": "{", r"\}": "}", ".": "",
}  # fmt: skip
_PRIMES = {"'": "′", "''": "″", "'''": "‴"}
_FENCE = '<mo stretchy="true" fence="true" form="{}">{}</mo>'


def mathml(latex: str) -> str:
    r"""A formula as browsers draw it.

    >>> mathml("x^2").partition('"inline">')[2]
    '<mrow><msup><mi>x</mi><mn>2</mn></msup></mrow></math>'
    """
    head = '<math displaystyle="true" xmlns="http://www.w3.org/1998/Math/MathML" display="inline">'
    return f"{head}<mrow>{_Reader(latex).all()}</mrow></math>"


class _Reader:
    """Reads from left to right; each method returns the MathML of what it has read."""

    def __init__(self, latex: str) -> None:
        self.latex, self.at = latex, 0

    def all(self) -> str:
        """Everything; a bracket that closes nothing is shown."""
        shown = self.row()
        while (stray := self.take()) is not None:
            shown += f"<mi>{escape(stray)}</mi>" + self.row()
        return shown

    def peek(self) -> str | None:
        """The next token; None at the end."""
        found = _TOKEN.match(self.latex, self._next())
        return found[0] if found else None

    def take(self) -> str | None:
        """The same, and go on behind it."""
        found = _TOKEN.match(self.latex, self._next())
        if found is None:
            return None
        self.at = found.end()
        return found[0]

    def _next(self) -> int:
        return self.at + len(self.latex[self.at :]) - len(self.latex[self.at :].lstrip())

    def row(self, *ends: str) -> str:
        """Terms up to one of `ends` or a closing brace, which stays."""
        shown = ""
        while (token := self.peek()) is not None and token != "}" and token not in ends:
            shown += self.term()
        return shown

    def term(self) -> str:
        """One atom with its primes, index and power."""
        base = "<mi></mi>" if self.peek() in ("_", "^") else self.atom()
        prime = low = high = ""
        while (token := self.peek()) is not None:
            if token[0] == "'" and not prime:
                prime = f"<mi>{_PRIMES.get(token, token)}</mi>"
                self.take()
            elif token == "_" and not low:
                self.take()
                low = self.atom()
            elif token == "^" and not high:
                self.take()
                high = self.atom()
            else:
                break
        if prime:
            high = f"<mrow>{prime}{high}</mrow>" if high else prime
        if low and high:
            return f"<msubsup>{base}{low}{high}</msubsup>"
        if low:
            return f"<msub>{base}{low}</msub>"
        return f"<msup>{base}{high}</msup>" if high else base

    def atom(self) -> str:
        """What an index may belong to: a letter, a number, a sign, a group, a command with what it takes."""
        token = self.peek()
        if token is None or token == "}":
            return "<mrow></mrow>"  # an argument that is missing
        self.take()
        if token == "{":
            return f"<mrow>{self._group()}</mrow>"
        if token[0].isdigit():
            return f"<mn>{token}</mn>"
        if token in _OPERATORS:
            brackets = ' stretchy="false"' if token in "()[]|" else ""
            return f"<mo{brackets}>{escape(_OPERATORS[token], quote=False)}</mo>"
        if token in _SPACES:
            return f'<mspace width="{_SPACES[token]}" />'
        return self._command(token)

    def _group(self) -> str:
        shown = self.row()
        self.take()  # its closing brace
        return shown

    def _command(self, token: str) -> str:
        if token in _ACCENTS:
            accent = ' accent="true"' if token == r"\hat" else ""
            return f"<mover{accent}>{self.atom()}{_ACCENTS[token]}"
        if token == r"\frac":
            return f"<mfrac>{self.atom()}{self.atom()}</mfrac>"
        if token == r"\sqrt":
            return f"<msqrt>{self.atom()}</msqrt>"
        if token == r"\left":
            return self._bracketed()
        if token in (r"\mathrm", r"\mathbf"):
            return self._letters("bold" if token == r"\mathbf" else "normal")
        if token in (r"\text", r"\operatorname"):
            tag = "mtext" if token == r"\text" else "mo"
            return f"<{tag}>{escape(self._word(), quote=False).replace(' ', chr(0xA0))}</{tag}>"
        if token == r"\begin" and self.latex.startswith("{cases}", self._next()):
            return self._cases()
        if token in _BRACKETS and token != ".":
            return f'<mo fence="false" stretchy="false">{_BRACKETS[token]}</mo>'
        plain = token[1:] if re.fullmatch(r"\\[^A-Za-z]", token) else token
        return f"<mi>{escape(_IDENTIFIERS.get(token, plain), quote=False)}</mi>"

    def _bracketed(self) -> str:
        """Brackets as high as what they hold."""
        opened = self._bracket()
        shown = self.row(r"\right")
        self.take()
        return f"<mrow>{_FENCE.format('prefix', opened)}{shown}{_FENCE.format('postfix', self._bracket())}</mrow>"

    def _bracket(self) -> str:
        token = self.take() or "."
        return escape(_BRACKETS.get(token, token))

    def _word(self) -> str:
        """The text of a group, spaces included."""
        found = _WORD.match(self.latex, self.at)
        if found is None:
            return self.take() or ""
        self.at = found.end()
        return found[1].replace(r"\_", "_")

    def _letters(self, look: str) -> str:
        """A word in upright letters, or bold ones."""
        shown = ""
        for part in re.findall(r"\d+(?:\.\d+)?|\S", self._word()):
            tag = "mn" if part[0].isdigit() else "mi"
            upright = tag == "mn" and look == "normal"
            shown += f"<{tag}>{part}</{tag}>" if upright else f'<{tag} mathvariant="{look}">{escape(part)}</{tag}>'
        return f"<mrow>{shown}</mrow>"

    def _cases(self) -> str:
        """Lines behind one brace: a value, then when it holds."""
        self._word()
        lines, cells = "", ""
        while True:
            cells += f'<mtd columnalign="left">{self.row("&", _NEXT_LINE, _END)}</mtd>'
            ending = self.take()
            if ending == "&":
                continue
            lines, cells = f"{lines}<mtr>{cells}</mtr>", ""
            if ending != _NEXT_LINE:
                break
        self._word()
        return f"<mrow>{_FENCE.format('prefix', '{')}<mtable>{lines}</mtable></mrow>"


_NEXT_LINE, _END = r"\\", r"\end"
