"""Evidently's page made safe for text that comes from outside."""

import json
import re

_EMBEDDED = re.compile(r"var (?:additional_graphs_)?metric_[0-9a-f]+ = (?=[{\[])")
# Characters that turn the text around them, as JSON of ASCII has them; an even number of
# backslashes before them is text.
_BIDI = re.compile(r"(?<!\\)((?:\\\\)*)\\u(061c|200[ef]|202[a-e]|206[6-9])")
_MARKUP = {"<": r"\u003c", ">": r"\u003e", "&": r"\u0026"}


def without_markup(html: str) -> str:
    r"""Escape the markup inside the embedded JSON, the only place where text of the data stands.

    Evidently writes it into a script element as it is, which ``</script>`` in a category ends.
    What would turn text around is shown by its code instead, as ``\u202e``.

    Parameters
    ----------
    html
        A page of Evidently's.

    Returns
    -------
    str
        The same page: JSON reads the escapes as the characters that they stand for.

    Raises
    ------
    ValueError
        If the data does not stand where Evidently 0.7 puts it; better no page than an open one.

    Examples
    --------
    >>> page = 'var metric_1 = {"a": "</script>"};var additional_graphs_metric_1 = {};'
    >>> without_markup(page)
    'var metric_1 = {"a": "\\u003c/script\\u003e"};var additional_graphs_metric_1 = {};'
    >>> page = r'var metric_1 = ["\u202e", "\\u202e"];var additional_graphs_metric_1 = {};'
    >>> without_markup(page).split(";")[0]
    'var metric_1 = ["\\\\u202e", "\\\\u202e"]'
    """
    decoder = json.JSONDecoder()
    parts, at = [], 0
    for _ in ("the dashboard", "its additional graphs"):
        found = _EMBEDDED.search(html, at)
        if found is None:
            message = "Evidently's page no longer embeds its data as this module expects"
            raise ValueError(message)
        _, end = decoder.raw_decode(html, found.end())
        embedded = html[found.end() : end]
        for character, escaped in _MARKUP.items():
            embedded = embedded.replace(character, escaped)
        embedded = _BIDI.sub(r"\1\\\\u\2", embedded)
        parts += [html[at : found.end()], embedded]
        at = end
    return "".join([*parts, html[at:]])
