"""Foreign text on terminals and pictures: shown as text, never obeyed."""

import io
import subprocess
import sys

import pytest
from hostile import HOSTILE
from hypothesis import given
from hypothesis import strategies as st
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from llmrl.terminal import Lasting, Terminal
from llmrl.text import one_line, visible


def harmless(shown):
    """No sign that a terminal obeys or hides, but line breaks."""
    return all(sign.isprintable() or sign == "\n" for sign in shown)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_harmless_however_it_is_printed(name):
    text = HOSTILE[name]
    out = io.StringIO()
    terminal = Terminal(file=out, width=100)
    table = Table("a", escape(text), title=escape(text))
    table.add_row(escape(text), "b")
    terminal.say(text)
    terminal.print(Panel(escape(text), title=escape(text)), table)
    terminal.print(escape(text))
    assert harmless(out.getvalue())


@given(st.text())
def test_any_text_is_made_harmless_and_a_plain_one_is_kept(text):
    assert harmless(visible(text).replace("\t", ""))
    assert "\n" not in one_line(text)
    if text.isprintable():
        assert visible(text) == text


def test_printing_never_ends_a_run():
    class Broken(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    terminal = Terminal(file=Broken())
    terminal.say("to nobody")
    terminal.print(Table("x"))
    closed = io.StringIO()
    closed.close()
    Terminal(file=closed).say("to nobody")


def test_what_an_encoding_lacks_is_escaped():
    raw = io.BytesIO()
    ascii_only = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    Lasting(ascii_only).write("é")
    assert raw.getvalue() == b"\\xe9"


def test_a_standard_output_that_has_gone_leaves_no_error_at_the_end():
    code = (
        "import sys\nfrom llmrl.terminal import Terminal\n"
        "t = Terminal()\nfor i in range(20000): t.say('x' * 100)\n"
        "print('finished', file=sys.stderr)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        run.stdout.close()
        assert run.stderr.read() == b"finished\n"
    assert run.returncode == 0
