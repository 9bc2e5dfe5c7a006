"""The sources of a result as BibTeX: steprule itself, the papers of the rules, those of the statistics."""

from __future__ import annotations

import re
from collections.abc import Iterable

from steprule.provenance import Made
from steprule.races.citing.writing import tex
from steprule.rules.rule import Paper

TITLE, AUTHORS = "steprule: an optimizer is one function", "The steprule founders"
"""As CITATION.cff has them."""
HOLM = Paper(
    "Holm", 1979, "A Simple Sequentially Rejective Multiple Test Procedure", "https://www.jstor.org/stable/4615733"
)
WELCH = Paper(
    "Welch",
    1947,
    "The Generalization of 'Student's' Problem when Several Different Population Variances Are Involved",
    "https://doi.org/10.1093/biomet/34.1-2.28",
)
SATTERTHWAITE = Paper(
    "Satterthwaite",
    1946,
    "An Approximate Distribution of Estimates of Variance Components",
    "https://doi.org/10.2307/3002019",
)
HOEFFDING = Paper(
    "Hoeffding",
    1948,
    "A Class of Statistics with Asymptotically Normal Distribution",
    "https://doi.org/10.1214/aoms/1177730196",
)
LAN = Paper(
    "Lan and DeMets",
    1983,
    "Discrete Sequential Boundaries for Clinical Trials",
    "https://doi.org/10.1093/biomet/70.3.659",
)
EFRON = Paper("Efron and Stein", 1981, "The Jackknife Estimate of Variance", "https://doi.org/10.1214/aos/1176345462")
SMYTH = Paper(
    "Smyth",
    2004,
    "Linear Models and Empirical Bayes Methods for Assessing Differential Expression in Microarray Experiments",
    "https://doi.org/10.2202/1544-6115.1027",
)
OWEN = Paper("Owen", 1998, "Scrambling Sobol' and Niederreiter-Xing Points", "https://doi.org/10.1006/jcom.1998.0487")
SCHUIRMANN = Paper(
    "Schuirmann",
    1987,
    "A Comparison of the Two One-Sided Tests Procedure and the Power Approach for Assessing the Equivalence of Average Bioavailability",
    "https://doi.org/10.1007/BF01068419",
)
KENDALL = Paper("Kendall", 1938, "A New Measure of Rank Correlation", "https://doi.org/10.1093/biomet/30.1-2.81")
NOETHER = Paper(
    "Noether",
    1987,
    "Sample Size Determination for Some Common Nonparametric Tests",
    "https://doi.org/10.1080/01621459.1987.10478478",
)
FRIEDMAN = Paper(
    "Friedman",
    1937,
    "The Use of Ranks to Avoid the Assumption of Normality Implicit in the Analysis of Variance",
    "https://doi.org/10.1080/01621459.1937.10503522",
)
WILCOXON = Paper("Wilcoxon", 1945, "Individual Comparisons by Ranking Methods", "https://doi.org/10.2307/3001968")


def bibtex(made: Made, papers: Iterable[Paper]) -> str:
    """An entry for steprule as it made the result, and one per paper, each once."""
    note = f"commit {made.commit}" if made.commit else ""
    own = {
        "author": f"{{{AUTHORS}}}",
        "title": TITLE,
        "year": made.date[:4],
        "version": made.versions["steprule"],
        "note": note,
    }
    entries = {"steprule": own}
    for paper in dict.fromkeys(papers):
        key = _key(paper)
        while key in entries:
            key += "b"
        authors = re.sub(r" et al\.?$", ", others", paper.authors)
        entries[key] = {
            "author": " and ".join(tex(name) for name in re.split(r", | and ", authors)),
            "title": tex(paper.title), "year": str(paper.year), "url": paper.url,
        }  # fmt: skip
    return "\n".join(_entry(key, fields) for key, fields in entries.items())


def cited(paper: Paper) -> str:
    """A paper as prose names it.

    >>> cited(HOLM), cited(Paper("Kingma, Ba", 2015, "", "")), cited(Paper("A, B, C", 2020, "", ""))
    ('Holm, 1979', 'Kingma and Ba, 2015', 'A and others, 2020')
    """
    first, *more = re.split(r", | and ", re.sub(r" et al\.?$", ", others", paper.authors))
    if not more:
        return f"{first}, {paper.year}"
    return f"{first} and {more[0] if len(more) == 1 else 'others'}, {paper.year}"


def _key(paper: Paper) -> str:
    """A name for an entry: who, when, and the title's first long word.

    >>> _key(Paper("Kingma, Ba", 2015, "Adam: A Method for Stochastic Optimization", ""))
    'kingma2015adam'
    """
    words = [w for w in re.findall(r"[A-Za-z0-9]+", paper.title) if len(w) > 3] or ["paper"]
    who = re.sub(r"[^a-z]", "", re.split(r"[ ,]", paper.authors.lower())[0]) or "anonymous"
    return f"{who}{paper.year}{words[0].lower()}"


def _entry(key: str, fields: dict[str, str]) -> str:
    kept = {name: text for name, text in fields.items() if text}
    if "title" in kept:
        kept["title"] = f"{{{kept['title']}}}"  # large letters stay large
    width = max(map(len, kept))
    lines = ",\n".join(f"  {name:{width}} = {{{text}}}" for name, text in kept.items())
    return f"@misc{{{key},\n{lines},\n}}\n"
