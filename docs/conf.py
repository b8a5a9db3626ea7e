"""How Sphinx builds the documentation: ``make docs``. The pages are Markdown that reads well without it, too."""

from __future__ import annotations

import re
from importlib import import_module
from posixpath import dirname, join, normpath
from typing import TYPE_CHECKING, Any

from docutils.nodes import reference
from pygments.lexers.special import TextLexer

import getty_tx

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "getty_tx"
release = version = getty_tx.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
html_theme = "alabaster"
html_theme_options = {"description": "sessions, codecs and listeners for Twisted"}
html_show_copyright = html_show_sourcelink = False
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
#: The pages that list others, each with the folder of the pages that it lists; the innermost folder first.
CONTENTS = {"inside/decisions/index": "inside/decisions/", "inside/index": "inside/", "guide": "guide/", "index": ""}
# Descriptions of endpoints and pictures made of text are no language that Pygments has.
highlight_language = "none"
# Annotations name what is imported for them alone, and Twisted's own pages are not at hand.
nitpick_ignore_regex = [
    ("py:class", r"[A-Za-z]\w*"),
    (r"py:\w+", r"(twisted|zope|OpenSSL|random|json|collections|asyncio|concurrent|enum)(\..*)?"),
]


def addContents(app: Sphinx, page: str, source: list[str]) -> None:
    """
    Make the tables of contents of the links in the pages that list others, so that each page is listed once. Links to
    pages of the project outside this folder lead to their text.
    """
    source[0] = re.sub(r"\]\(((?:\.\./)+[A-Z]+\.md)(?:#[\w-]+)?\)", r"](path:\1)", source[0])
    if page in CONTENTS:
        links = re.findall(r"\]\(([\w./-]+)\.(?:md|rst)(?:#[\w-]+)?\)", source[0])
        pages = [normpath(join(dirname(page), link)) for link in links]
        listed = [f"/{each}" for each in dict.fromkeys(pages) if listedIn(each) == page]
        source[0] += "\n".join(["", ":::{toctree}", ":hidden:", "", *listed, ":::", ""])


def listedIn(page: str) -> str:
    """The page whose table of contents has this page."""
    return next(name for name, folder in CONTENTS.items() if name != page and page.startswith(folder))


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: Element) -> Any:
    """
    Docstrings name things by their modules, and this documentation by where they are imported from: link what is
    documented under another name, and leave as text what exists and is not public. What does not exist is an error.
    """
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    found = {
        entry.docname + "#" + entry.node_id: entry
        for name, entry in env.domains.python_domain.objects.items()
        if name.split(".")[-1] == target.split(".")[-1] and (name.endswith("." + target) or "." in target)
    }
    if len(found) == 1:
        [entry] = found.values()
        uri = app.builder.get_relative_uri(node.get("refdoc"), entry.docname)
        return reference("", "", text, internal=True, refuri=f"{uri}#{entry.node_id}")
    return text if found or exists(target) else None


def tidy(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """
    In signatures, name what Python shows as ``<class 'twisted.web.Some'>``: classes, zope's interfaces; and leave out
    what has no name. Sphinx would take them for text, and the names beside them, too.
    """

    def named(text: str | None) -> str | None:
        if text is None:
            return None
        text = re.sub(r"<(?:InterfaceClass |class ')(?:\w+\.)*(\w+)'?>", r"\1", text)
        return re.sub(r"<[^<>]*>", "...", text)

    return named(signature), named(returns)


def exists(name: str) -> bool:
    """Whether a dotted name of the package means something."""
    module, _, rest = name.rpartition(".")
    try:
        return name.startswith("getty_tx.") and (hasattr(import_module(module), rest) or bool(import_module(name)))
    except ImportError:
        return False


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    # Pygments does not know it, but the tests ask HAProxy itself.
    app.add_lexer("haproxy", TextLexer)
    app.connect("source-read", addContents)
    app.connect("autodoc-process-signature", tidy)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True}
