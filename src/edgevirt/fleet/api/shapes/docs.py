"""Reads what the source says below each field, so that `kubectl explain` and the code agree."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap


@functools.cache
def field_docs(struct: type) -> dict[str, str]:
    """Texts of all fields, those of base classes included, by attribute name."""
    texts: dict[str, str] = {}
    for cls in reversed(struct.__mro__):
        if cls.__module__.startswith("edgevirt."):
            texts.update(_own_docs(cls))
    return texts


def struct_doc(struct: type) -> str:
    return _join(inspect.getdoc(struct) or "")


@functools.cache
def _own_docs(cls: type) -> dict[str, str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    texts: dict[str, str] = {}
    name = ""
    for node in tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else ():
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and name:
            texts[name] = _join(str(node.value.value))
            name = ""
        else:
            name = ""
    return texts


def _join(text: str) -> str:
    """One paragraph per paragraph, without the source's line breaks."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(p.split()) for p in paragraphs)
