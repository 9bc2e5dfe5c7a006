"""The documentation: every sample runs, the build refuses what it must, and the site opens without a network."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from by_path import module_at
from chromium_page import chromium, needs_chromium

from steprule import rules
from steprule.cli import main

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(p.relative_to(ROOT).as_posix() for p in DOCS.rglob("*.md") if "dev" not in p.relative_to(DOCS).parts)


def hooks() -> ModuleType:
    return module_at("docs/hooks.py")


STAND_INS = ("wandb", "mlflow")
"""Packages that are not installed here: test_logging.py runs these samples with stand-ins."""
FRAMEWORKS = "docs/how-to/in-your-framework.md"
"""Its samples run where the frameworks are: tests/frameworks/test_page.py."""


@pytest.mark.long  # `make test-docs`, which CI always runs
@pytest.mark.parametrize("page", [page for page in PAGES if page != FRAMEWORKS])
def test_every_sample_runs(page: str, in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Python as it stands, each block by itself; then the commands, beside the rules that the page has defined."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        if any(re.search(rf"^import .*\b{name}\b", block, re.MULTILINE) for name in STAND_INS):
            continue
        if found := re.search(r"@rule(?:\(.*\))?\ndef (\w+)", block):
            Path(f"{found[1]}.py").write_text(block)
        exec(compile(block, page, "exec"), {"__name__": "__main__"})
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ steprule "):
                assert main(shlex.split(line, comments=True)[2:]) == 0, line
    capsys.readouterr()


def test_samples_are_there() -> None:
    assert len(PAGES) >= 14
    assert sum((ROOT / p).read_text().count("```python\n") for p in PAGES) >= 8


@pytest.mark.parametrize(
    "typed", ["so $$p - lr g$$ it is", "so $p - lr g$ it is", "<math><mi>x</mi></math>", r"\[ x \]", r"\begin{align}"]
)
def test_a_typed_formula_is_refused(typed: str) -> None:
    assert hooks().typed_formula(f"# A page\n\n{typed}\n")
    assert not hooks().typed_formula(f"# A page\n\n`{typed}`\n")


def test_a_step_typed_in_the_lesson_is_refused() -> None:
    found = hooks().step_formula
    for typed in (r"$\theta_{t-1} - \eta g_t$", r"so $p \leftarrow p - g$", r"$m_t$"):
        assert found(typed)
    assert not found(r"after $1-\beta_1^t$ and $\eta = 0.4$, in `g_t`, at $(-5, -2)$")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_lesson_begins_with_one_file_and_what_it_prints(language: str) -> None:
    built, where = hooks(), f"lesson/{language}/microrule.md"
    page = SimpleNamespace(file=SimpleNamespace(generated_by=None, src_uri=where))
    shown = built.on_page_markdown((DOCS / where).read_text(encoding="utf-8"), page, None, None)
    assert f"```python\n{(ROOT / 'microrule.py').read_text()}```" in shown
    assert re.search(r"```text\nWalks .*u is \(-0\.943467, .*No linear model is below 0\.2417", shown, re.DOTALL)
    assert re.search(r"- Lesson:\n.*lesson/en/microrule.md\n", (ROOT / "mkdocs.yml").read_text())
    with pytest.raises(Exception, match=r"nowhere\.py"):
        built.output("nowhere.py")


def test_a_chapters_page_leads_with_its_picture() -> None:
    """Its code, and the solutions, unfold; figures and formulas are elements of the page; the neighbours are linked."""
    name = "3_adagrad.ipynb"
    for language, words in (
        ("en", ("The code of this picture", "Solution 1", "Solution 2")),
        ("zh", ("这幅图的代码", "解答 1", "解答 2")),
    ):
        page = hooks().chapter_page((DOCS / "lesson" / language / name).read_text(encoding="utf-8"), language, name)
        assert page.startswith("---\ntitle: 3. AdaGrad\n---")
        assert page.index("<svg ") < page.index("```python") < page.index('class="rule-formula"')
        assert re.findall("<summary>(.*)</summary>", page) == list(words)
        assert "<img" not in page
        assert "$" not in re.sub("```.*?```", "", page, flags=re.DOTALL), "every formula is drawn"
        assert re.search(r"← \[2\. \w+\]\(2_momentum\.md\) · \[4\. RMSProp\]\(4_rmsprop\.md\) →$", page)
        assert re.search(r'href="../../play.html#(lang=zh&amp;)?rule=adagrad_eps_inside', page)


def test_a_public_name_without_a_docstring_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import steprule

    built = hooks()
    assert list(built.undocumented()) == []
    monkeypatch.setattr(steprule.trace, "__doc__", None)
    assert list(built.undocumented()) == ["steprule.trace"]
    monkeypatch.setattr(steprule, "__all__", [*steprule.__all__, "surprise"])
    with pytest.raises(Exception, match="surprise"):
        built.on_pre_build(None)


def test_every_rules_page_says_everything() -> None:
    built = hooks()
    known = json.loads((built.RESULTS / "parity.json").read_text(encoding="utf-8"))["rules"]
    for rule in rules.CATALOGUE.values():
        page = built.rule_page(rule)
        heads = re.findall(r"^## (.*)$", page, re.MULTILINE)
        assert heads == ["Hyperparameters", "States", "Paths", "Parity", "Speed", "Walk it"], rule.name
        assert "<math" in page
        parity, speed = (part.partition("\n## ")[0] for part in page.split("\n## Parity")[1].split("\n## Speed"))
        assert ("Not measured yet" not in parity) == (rule.name in known)
        assert ("Not measured yet" not in speed) == (speed.count("x |") >= 5), "a ratio for each workload"
        for slot in rule.states:
            assert re.search(rf"`{slot.name}` .*\| (always|with `\w+`|for (large )?matrices|for vectors) \|", page), (
                rule.name,
                slot.name,
            )


def build(root: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(root / "mkdocs.yml"), "-d", str(target)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.long
@needs_chromium
def test_the_site_opens_from_the_file_system(tmp_path: Path) -> None:
    """Every page without an error and without the network; search finds; each rule's page walks its rule."""
    done = build(ROOT, tmp_path)
    assert done.returncode == 0, done.stderr
    pages = [p for p in tmp_path.rglob("*.html") if p.name not in ("404.html", "play.html")]
    assert len(pages) >= 40
    with chromium() as browser:
        complaints: list[str] = []
        page = browser.new_page()
        page.on("pageerror", lambda e: complaints.append(str(e)))
        # What is still loading when the next page is opened is aborted, and no failure.
        page.on("requestfailed", lambda r: complaints.append(r.url) if r.failure != "net::ERR_ABORTED" else None)
        page.on(
            "request", lambda r: complaints.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None
        )
        for found in pages:
            page.goto(found.as_uri())
        for found, language in (("lesson/zh/6_adam.html", "zh-Hans"), ("lesson/en/6_adam.html", "en")):
            page.goto((tmp_path / found).as_uri())
            assert page.evaluate("document.documentElement.lang") == language
        page.goto((tmp_path / "index.html").as_uri())
        # Key by key: the search listens to keys, so what fill() sets is found only where it comes before the index.
        page.locator("input.md-search__input").press_sequentially("bias correction")
        page.wait_for_selector(".md-search-result__item", state="attached")
        page.goto((tmp_path / "rules" / "lion.html").as_uri())
        frame = page.locator("iframe.playground")
        frame.scroll_into_view_if_needed()
        inside = frame.element_handle().content_frame()
        assert inside
        inside.wait_for_selector("#legend li")
        assert "Lion" in inside.inner_text("#legend")
        inside.wait_for_function("document.documentElement.dataset.theme === 'light'")
        page.locator("label[for=__palette_1]").click()
        inside.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    assert complaints == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("spoilt", "said"), [("[away](nowhere.md)", "nowhere.md"), ("$$x$$", "a formula that was typed")]
)
def test_the_build_fails(spoilt: str, said: str, tmp_path: Path) -> None:
    """On a broken link and on a typed formula."""
    copy = tmp_path / "copy"
    for name in ("docs", "benchmarks/results", "src"):
        shutil.copytree(ROOT / name, copy / name)
    for name in ("mkdocs.yml", "pyproject.toml", "microrule.py"):
        shutil.copy(ROOT / name, copy)
    page = copy / "docs" / "peers.md"
    page.write_text(page.read_text() + f"\n\n{spoilt}\n")
    done = build(copy, tmp_path / "site")
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
