"""Rules of the house that no other tool checks."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = sorted((ROOT / "orchestrator").rglob("*.py"))
TESTS = sorted(
    path for tier in ("unit", "golden", "contract", "fakes") for path in (ROOT / "tests" / tier).rglob("*.py")
)
ALL = OURS + TESTS
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", ALL, ids=name)
def test_a_file_is_short(path):
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", OURS, ids=name)
def test_a_function_is_short(path):
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, FUNCTIONS)]
    lines = {f.name: (f.end_lineno or 0) - f.lineno + 1 for f in found}
    statements = {f.name: sum(isinstance(node, ast.stmt) for node in ast.walk(f)) - 1 for f in found}
    assert {f: count for f, count in lines.items() if count > 60} == {}
    assert {f: count for f, count in statements.items() if count > 40} == {}


@pytest.mark.parametrize("path", [p for p in OURS if p.read_text().strip()], ids=name)
def test_a_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", ALL, ids=name)
def test_nothing_is_mocked(path):
    tree = ast.walk(ast.parse(path.read_text()))
    imported = {a.name for n in tree if isinstance(n, ast.Import) for a in n.names}
    tree = ast.walk(ast.parse(path.read_text()))
    imported |= {str(n.module) for n in tree if isinstance(n, ast.ImportFrom)}
    assert not [module for module in imported if "mock" in module]


@pytest.mark.parametrize("path", [p for p in TESTS if p.name.startswith("test_")], ids=name)
def test_no_test_is_without_an_assertion(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, FUNCTIONS) and node.name.startswith("test_"):
            body = ast.unparse(node)
            assert "assert" in body or "pytest.raises" in body or "eventually(" in body, f"{node.name} asserts nothing"
