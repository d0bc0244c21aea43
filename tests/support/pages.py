"""What a page must have, and what it says."""

import html
import re


def check_page(text):
    """Checks that a page stands alone, says what each picture shows, and fits a phone and the dark."""
    sources, alts = re.findall(r'<img[^>]* src="([^"]*)"', text), re.findall(r'<img[^>]* alt="([^"]+)"', text)
    assert len(sources) == len(alts) == text.count("<img") > 0
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"https?:|<link|@import|src=\"(?!data:)", text)
    assert all(part in text for part in ("width=device-width", "prefers-color-scheme: dark", "overflow-x: auto"))


def commands_in(text):
    """The commands that a page shows."""
    shown = re.findall(r"<pre><code>(.*?)</code></pre>", text, re.S)
    return [html.unescape(re.sub("<[^>]*>", "", command)) for command in shown]
