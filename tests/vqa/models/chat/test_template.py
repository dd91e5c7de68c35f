"""Chat templates that would take all memory, or for ever: refused with the reason, at once."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

import vlcam
from tests.samples.vqa.chat import QWEN_TEMPLATE, SMOLVLM_TEMPLATE, save
from tests.tools.command_line import REPOSITORY
from vqa.models.chat import template as chat_template
from vqa.models.chat.llava import _TEMPLATE

CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "is it red? " * 30}]},
    {"role": "assistant", "content": [{"type": "text", "text": "x"}]},
]
PUBLISHED_WAYS = """{% set ns = namespace(n=0) %}{% macro image(n) %}<image{{ n }}>{% endmacro %}
{% for message in messages %}{% if message['role'] not in ['user', 'assistant'] %}
{{ raise_exception('unknown role') }}{% endif %}
{{ '<|' + message['role'] + '|>' }}{% for part in message['content'] %}
{% if part['type'] == 'image' or 'image' in part %}{% set ns.n = ns.n + 1 %}{{ image(ns.n) }}
{% elif 'text' in part %}{{ part['text'].split('x')[0].strip() | trim ~ loop.index0 }}{% endif %}
{% endfor %}{% generation %}{{ '\\n' }}{% endgeneration %}{% endfor %}
{% for message in messages[::-1] %}{{ message.role | upper }}{% break %}{% endfor %}
{{ messages | map(attribute='role') | join(',') }}{{ {'a': [1, 'é']} | tojson(indent=2) }}
{{ '%s and %s' % ('a', 'b') }}{{ '{} {}'.format(1, 2) }}{{ bos_token if tools is none else '' }}
{% set whole %}a{{ range(3) | list | length }}{% endset %}{{ whole }}{{ loop is defined }}"""

BOMBS = {
    "doubled": "{% set x = 'a' %}" + "{% set x = x ~ x %}" * 60 + "{{ x }}",
    "added": "{% set x = 'a' %}" + "{% set x = x + x %}" * 60,
    "in a namespace": "{% set n = namespace(x='a') %}{% for i in range(99) %}"
    "{% set n.x = n.x ~ n.x %}{% endfor %}",
    "in blocks": "{% set x = 'aaaa' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60,
    "lists": "{% set x = ['a'] %}" + "{% set x = [x, x] %}" * 60 + "{{ x }}",
    "dictionaries": "{% set x = {} %}" + "{% set x = {'a': x, 'b': x} %}" * 60 + "{{ x|tojson }}",
    "times": "{{ 'a' * 10**10 }}",
    "list times": "{{ ['a'] * 10000000000 }}",
    "squared": "{% set x = 10 %}" + "{% set x = x * x %}" * 60,
    "power": "{{ 10 ** (10 ** 10) }}",
    "range": "{% for i in range(10**9) %}{% endfor %}",
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "loops of a list": "{% set r = range(99999)|list %}"
    "{% for i in r %}{% for j in r %}{% endfor %}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
    "center": "{{ 'a'|center(10000000000) }}",
    "ljust": "{{ 'a'.ljust(10000000000) }}",
    "width": "{{ '%09999999999d' % 1 }}",
    "width of format": "{{ '{:9999999999}'.format(1) }}",
    "given width": "{{ '%*d' % (9999999999, 1) }}",
    "replace": "{% set x = 'a'*999 %}" + "{% set x = x|replace('a', x) %}" * 3,
    "join": "{% set x = 'a'*3000 %}" + "{% set x = range(3000)|join(x) %}" * 2,
    "indent": "{{ 'a\nb'|indent(9999999999) }}",
    "batch": "{{ [1]|batch(999999999, 'x')|list }}",
    "output": "{% for i in range(99999) %}" + "b" * 1000 + "{% endfor %}",
    "search": "{% set x = 'a'*99999 %}{% for i in range(99999) %}{% if 'ab' in x %}{% endif %}"
    "{% endfor %}",
    "width of an entry": "{{ '{0:{1[w]}}'.format('a', {'w': 10**9}) }}",
    "width in a text": "{{ '{0:{1}}'.format('a', '1000000000') }}",
    "width of format_map": "{{ '{a:{b}}'.format_map({'a': 'a', 'b': 10**9}) }}",
    "width of a safe text": "{{ ('{0:{1}}'|safe).format('a', '1000000000') }}",
    "width of many": "{% set f = '{0:{1}}' * 3000 %}{{ f.format('a', 300000) }}",
    "width behind zeros": "{{ '{:>00000000001000000000}'.format('a') }}",
    "width behind zeros, %": "{{ '%00000000001000000000d' % 1 }}",
    "tabs": "{{ ('\t' * 10000).expandtabs(100000) }}",
    "indented lines": "{{ ('\n' * 10000)|indent(100000, blank=true) }}",
    "indented json": "{{ range(5000)|list|tojson(indent=100000) }}",
    "joined by": "{{ range(90000)|map('string')|join('x' * 9000) }}",
    "joined by a method": "{{ ('x' * 9000).join(range(90000)|map('string')) }}",
    "namespaces": "{% set ns = namespace(x=0) %}{% for i in range(60) %}"
    "{% set ns.x = namespace(x=[ns.x, ns.x]) %}{% endfor %}{{ ns.x }}",
    "views": "{% set ns = namespace(x=0) %}{% for i in range(60) %}"
    "{% set ns.x = {'a': [ns.x, ns.x]}.values() %}{% endfor %}{{ ns.x }}",
    "slices": "{% set b = 'x' * 99999 %}{% set ns = namespace(x=b) %}"
    + "".join(f"{{%set a{i}=b[1:]%}}" for i in range(2000)),
    "long": "a" * (chat_template.LONGEST + 1),
}


@pytest.mark.parametrize("template", [QWEN_TEMPLATE, SMOLVLM_TEMPLATE, _TEMPLATE, PUBLISHED_WAYS])
def test_it_says_what_transformers_says(template: str) -> None:
    given = {"messages": CHAT, "tools": None, "documents": None, "bos_token": "<s>"}
    said = chat_template.rendered(template, add_generation_prompt=False, **given)
    expected = render_jinja_template([CHAT], chat_template=template, bos_token="<s>")[0][0]
    assert said == expected


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))


def test_bombs() -> None:
    """Within 4 GiB and a minute of a processor, all of them."""
    script = (
        "import json, sys\nfrom vqa.models.chat.template import TooMuchError, rendered\n"
        "for name, bomb in json.load(sys.stdin).items():\n"
        "    try:\n        rendered(bomb, messages=[], add_generation_prompt=True)\n"
        "    except TooMuchError as error:\n        print(name)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(BOMBS),
        text=True,
        capture_output=True,
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=limited,
        check=True,
    )
    assert ran.stdout.splitlines() == list(BOMBS)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (BOMBS["doubled"], r"chat template cannot be used \(it asks for more than [\d,]* char"),
        ("a" * 300_000, r"chat template cannot be used \(it has 300,000 characters"),
        ("{% for %}", "chat template cannot be used"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{% if lipsum is defined %}" + BOMBS["doubled"] + "{% endif %}", "0 places for a photo"),
        ("{% if 'steps' is filter %}{% else %}" + BOMBS["doubled"] + "{% endif %}", "0 places"),
    ],
)
def test_a_folder_with_one(tmp_path: Path, template: str, message: str) -> None:
    folder = save(tmp_path / "model", "smolvlm")
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ValueError, match=message) as error:
        vlcam.load(folder)
    assert "\n" not in str(error.value)
